// export_kafka_test.cpp - at least once, in order, whatever the broker does; librdkafka's mock
// broker. SPDX-License-Identifier: Apache-2.0
#include "export/kafka.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <librdkafka/rdkafka_mock.h>

#include <map>
#include <set>

#include "export_fixture.hpp"

namespace gopher {
namespace {

using std::chrono::milliseconds;
using test::eventually;
using test::kProbe;
using test::note;
using test::TempDir;

constexpr int16_t kProduce = 0;  // the protocol's number of the request

TEST(AckWindowTest, OnlyTheContiguousPrefixCounts) {
  AckWindow w(10);
  for (uint64_t seq : {11, 12, 15, 16}) w.add(seq, 100);
  EXPECT_EQ(w.in_flight(), 4u);
  EXPECT_TRUE(w.ack(12));
  EXPECT_FALSE(w.ack(12));
  EXPECT_FALSE(w.ack(13));
  EXPECT_EQ(w.position(), 10u);
  EXPECT_TRUE(w.ack(11));
  EXPECT_EQ(w.position(), 12u);
  EXPECT_TRUE(w.fail(15));
  EXPECT_FALSE(w.fail(15));
  EXPECT_TRUE(w.ack(16));
  EXPECT_EQ(w.position(), 12u);
  EXPECT_EQ(w.in_flight(), 0u);
  EXPECT_EQ(w.bytes(), 0u);
  EXPECT_FALSE(w.empty());
  w.skip_to(20);
  EXPECT_EQ(w.position(), 12u);
  w.reset();
  EXPECT_EQ(w.position(), 12u);
  EXPECT_TRUE(w.empty());
  w.skip_to(20);
  EXPECT_EQ(w.position(), 20u);
}

// A broker in this process.
class MockBroker {
 public:
  MockBroker() {
    rd_kafka_conf_t* conf = rd_kafka_conf_new();
    char text[256];
    rd_kafka_conf_set(conf, "bootstrap.servers", "127.0.0.1:1", text, sizeof text);
    rd_kafka_conf_set_log_cb(conf, [](const rd_kafka_t*, int, const char*, const char*) {});
    handle_ = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    cluster_ = rd_kafka_mock_cluster_new(handle_, 1);
    for (const char* topic : {"m", "e", "d"}) rd_kafka_mock_topic_create(cluster_, topic, 1, 1);
  }
  ~MockBroker() {
    rd_kafka_mock_cluster_destroy(cluster_);
    rd_kafka_destroy(handle_);
  }
  std::string address() const { return rd_kafka_mock_cluster_bootstraps(cluster_); }
  void down() { rd_kafka_mock_broker_set_down(cluster_, 1); }
  void up() { rd_kafka_mock_broker_set_up(cluster_, 1); }
  void slow(int ms) { rd_kafka_mock_broker_set_rtt(cluster_, 1, ms); }
  void refuse(rd_kafka_resp_err_t error, int times) {
    for (int i = 0; i < times; ++i) rd_kafka_mock_push_request_errors(cluster_, kProduce, 1, error);
  }
  void topic_error(const char* topic, rd_kafka_resp_err_t error) {
    rd_kafka_mock_topic_set_error(cluster_, topic, error);
  }

 private:
  rd_kafka_t* handle_;
  rd_kafka_mock_cluster_t* cluster_;
};

struct Message {
  std::string key, value;
};

// Everything in a topic, until nothing more comes or `enough` are there.
class Consumer {
 public:
  Consumer(const std::string& brokers, const char* topic) {
    char text[256];
    rd_kafka_conf_t* conf = rd_kafka_conf_new();
    for (auto [name, value] :
         {std::pair<const char*, const char*>("bootstrap.servers", brokers.c_str()),
          {"group.id", "test"},
          {"auto.offset.reset", "earliest"}})
      rd_kafka_conf_set(conf, name, value, text, sizeof text);
    handle_ = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    rd_kafka_poll_set_consumer(handle_);
    auto* list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(handle_, list);
    rd_kafka_topic_partition_list_destroy(list);
  }
  ~Consumer() {
    rd_kafka_consumer_close(handle_);
    rd_kafka_destroy(handle_);
  }
  // Polls once; adds to messages.
  void poll() {
    rd_kafka_message_t* m = rd_kafka_consumer_poll(handle_, 50);
    if (!m) return;
    if (!m->err)
      messages.push_back(
          {{static_cast<char*>(m->key), m->key_len}, {static_cast<char*>(m->payload), m->len}});
    rd_kafka_message_destroy(m);
  }
  std::vector<Message> messages;

 private:
  rd_kafka_t* handle_;
};

std::string id_of(const std::string& json) { return json.substr(7, 26); }

class KafkaTest : public ::testing::Test {
 protected:
  class Text : public TextSource {
    void append(gopher_type, const gopher_value& v, std::string* out) const override {
      *out += std::to_string(v.num);
    }
  };

  void SetUp() override { open(); }
  void open() {
    queue_ = std::make_unique<EventQueue>(100'000);
    auto history = History::open(dir_.path(), "node", *queue_, limits_);
    ASSERT_TRUE(history) << history.error().text;
    history_ = *std::move(history);
  }
  KafkaSettings settings() const {
    KafkaOptions o = {};
    o.brokers = "127.0.0.1:1";
    o.metrics_topic = o.events_topic = o.metadata_topic = "";
    o.metrics_interval_s = o.metadata_interval_s = 3600;
    KafkaSettings s(o);
    s.brokers = broker_.address();
    s.topics = {"", "e", ""};
    s.properties = {"retry.backoff.ms=20", "reconnect.backoff.max.ms=100",
                    "reconnect.backoff.ms=20"};
    return s;
  }
  KafkaSources sources() {
    return {.history = *history_,
            .store = store_,
            .own = {},
            .node = this_node("node", "1"),
            .probes = [this] { return probes(); },
            .schema = "{}"};
  }
  std::unique_ptr<KafkaExporter> start(const KafkaSettings& s) {
    auto kafka = KafkaExporter::start(s, sources());
    EXPECT_TRUE(kafka) << kafka.error().text;
    return kafka ? *std::move(kafka) : nullptr;
  }
  std::vector<ProbeInfo> probes() {
    std::lock_guard lock(mutex_);
    return probes_;
  }
  void push(uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) queue_->push(note(pushed_++));
    ASSERT_TRUE(eventually([&] { return history_->last_seq() == pushed_; }));
  }
  std::vector<std::string> stored_ids() {
    std::vector<std::string> ids;
    auto rows = History::Reader(*history_).after(0, 1'000'000, 1 << 30);
    EXPECT_TRUE(rows);
    for (const auto& r : *rows) ids.push_back(id_of(r.json));
    return ids;
  }
  // The topic has every event of the store; first deliveries are in order.
  void expect_all_delivered(size_t may_repeat = 0) {
    const auto ids = stored_ids();
    Consumer consumer(broker_.address(), "e");
    std::set<std::string> seen;
    std::vector<std::string> firsts;
    size_t counted = 0;
    ASSERT_TRUE(eventually([&] {
      consumer.poll();
      for (; counted < consumer.messages.size(); ++counted)
        if (std::string id = id_of(consumer.messages[counted].value); seen.insert(id).second)
          firsts.push_back(id);
      return firsts.size() >= ids.size();
    })) << firsts.size()
        << " of " << ids.size();
    EXPECT_EQ(firsts, ids);
    EXPECT_LE(consumer.messages.size() - firsts.size(), may_repeat);
    EXPECT_EQ(consumer.messages[0].key, "node");
  }

  MockBroker broker_;
  TempDir dir_;
  HistoryLimits limits_;
  Text text_;
  Store store_{{}, text_};
  std::mutex mutex_;
  std::vector<ProbeInfo> probes_ = {
      {.name = "disk", .version = "1", .state = "running", .reason = "", .hooks = {}}};
  std::unique_ptr<EventQueue> queue_;
  std::unique_ptr<History> history_;
  uint64_t pushed_ = 0;
};

TEST_F(KafkaTest, EventsInOrderOnceAndPositionKept) {
  push(500);
  auto kafka = start(settings());
  push(1000);
  ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; }));
  EXPECT_EQ(kafka->stats().events, 1500u);
  EXPECT_TRUE(kafka->stats().connected);
  kafka.reset();
  EXPECT_EQ(*history_->add_sink("kafka"), 1500u);
  kafka = start(settings());  // nothing is sent twice
  push(10);
  ASSERT_TRUE(eventually([&] { return kafka->stats().events == 10; }));
  kafka.reset();
  expect_all_delivered();
}

TEST_F(KafkaTest, StopSendsWhatIsStored) {
  auto kafka = start(settings());
  push(3000);
  kafka->stop();
  EXPECT_EQ(kafka->stats().events, 3000u);
  EXPECT_EQ(*history_->add_sink("kafka"), 3000u);
}

TEST_F(KafkaTest, AnOutageBlocksNobodyAndLosesNothing) {
  auto kafka = start(settings());
  push(100);
  ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; }));
  broker_.down();
  push(2000);
  ASSERT_TRUE(eventually([&] { return !kafka->stats().connected; }));
  EXPECT_GT(kafka->stats().lag, 0u);
  EXPECT_LE(kafka->stats().queued, 1000u);  // bounded: the rest waits on disk
  push(100);
  broker_.up();
  ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; }));
  EXPECT_TRUE(kafka->stats().connected);
  EXPECT_EQ(kafka->stats().events_lost, 0u);
  kafka.reset();
  expect_all_delivered();
}

TEST_F(KafkaTest, StopWithoutABrokerIsQuickAndTheNextRunGoesOn) {
  auto kafka = start(settings());
  push(100);
  ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; }));
  broker_.down();
  push(2000);
  ASSERT_TRUE(eventually([&] { return !kafka->stats().connected; }));
  const auto begin = std::chrono::steady_clock::now();
  kafka.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4));
  history_.reset();
  open();  // another run
  broker_.up();
  kafka = start(settings());
  ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; }));
  kafka.reset();
  expect_all_delivered();
}

TEST_F(KafkaTest, ErrorsThatPassAreRetried) {
  auto kafka = start(settings());
  push(10);
  ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; }));
  for (auto error :
       {RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR__TRANSPORT}) {
    broker_.refuse(error, 2);
    push(300);
    ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; })) << rd_kafka_err2str(error);
  }
  EXPECT_EQ(kafka->stats().events_lost, 0u);
  kafka.reset();
  expect_all_delivered(2000);
}

// librdkafka gives these up at once; we begin again behind the position.
TEST_F(KafkaTest, ARefusalIsRetriedFromThePosition) {
  auto kafka = start(settings());
  push(10);
  ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; }));
  broker_.refuse(RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, 1);
  push(300);
  ASSERT_TRUE(eventually([&] { return kafka->stats().errors > 0; }));
  ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; }));
  EXPECT_EQ(kafka->stats().events_lost, 0u);
  kafka.reset();
  expect_all_delivered(1000);
}

TEST_F(KafkaTest, ABatchThatIsTooLargeIsSentOneByOne) {
  auto kafka = start(settings());
  push(10);
  ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; }));
  broker_.refuse(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 1);
  push(50);
  ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; }));
  EXPECT_GE(kafka->stats().errors, 1u);
  EXPECT_EQ(kafka->stats().events_lost, 0u);
  kafka.reset();
  expect_all_delivered(100);
}

TEST_F(KafkaTest, AnEventThatNoBrokerTakesIsCountedAndTheRestGoesOn) {
  auto s = settings();
  s.properties.push_back("message.max.bytes=2000");
  s.properties.push_back("batch.size=2000");
  auto kafka = start(s);
  push(10);
  Event e = note(pushed_++);
  e.process->cgroup = std::string(3000, 'x');
  queue_->push(std::move(e));
  push(10);
  ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; }));
  EXPECT_EQ(kafka->stats().events_lost, 1u);
  EXPECT_EQ(kafka->stats().events, 20u);
  EXPECT_EQ(kafka->stats().lost(), 1u);
}

TEST_F(KafkaTest, EventsThatHadToGoAreSkipped) {
  limits_.max_bytes = 1 << 20;
  history_.reset();
  open();
  auto s = settings();
  broker_.down();
  auto kafka = start(s);
  for (int i = 0; i < 20; ++i) push(500);
  EXPECT_GT(history_->stats().lost, 0u);
  broker_.up();
  ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; }));
  EXPECT_GE(kafka->stats().events + history_->stats().lost, pushed_);
  push(10);
  ASSERT_TRUE(eventually([&] { return kafka->stats().lag == 0; }));
}

TEST_F(KafkaTest, SnapshotsComeWholeAndAreSkippedWithoutABroker) {
  Shard& shard = store_.shard(kProbe);
  gopher_value labels[2] = {};
  for (uint32_t i = 0; i < 3000; ++i) {
    labels[0].num = i;
    shard.apply(
        {.labels = labels, .buckets = nullptr, .value = 1, .sum = 0, .metric = 0, .op = GOPHER_ADD},
        1);
  }
  auto s = settings();
  s.topics = {"m", "", ""};
  s.metrics_interval_ns = 200'000'000;
  auto kafka = start(s);
  ASSERT_TRUE(eventually([&] { return kafka->stats().snapshots >= 3; }));
  broker_.down();
  ASSERT_TRUE(eventually([&] { return kafka->stats().snapshots_skipped >= 3; }));
  EXPECT_LE(kafka->stats().queued, 6u);  // one snapshot, not one per interval
  // What is on its way is given up after 5 s, so that it does not arrive as if it were new.
  ASSERT_TRUE(eventually([&] { return kafka->stats().snapshots_failed >= 1; }));
  broker_.up();
  const uint64_t before = kafka->stats().snapshots;
  ASSERT_TRUE(eventually([&] { return kafka->stats().snapshots >= before + 2; }));
  kafka->stop();
  const auto st = kafka->stats();
  EXPECT_LE(st.snapshots + st.snapshots_failed + st.snapshots_skipped, st.snapshots_due);
  EXPECT_GE(st.snapshots + st.snapshots_failed + st.snapshots_skipped + 1, st.snapshots_due);
  EXPECT_EQ(st.lost(), st.snapshots_failed + st.snapshots_skipped);

  // Each whole snapshot has each series once, and a last part.
  Consumer consumer(broker_.address(), "m");
  std::map<std::string, size_t> series, last;
  ASSERT_TRUE(eventually([&] {
    const size_t n = consumer.messages.size();
    consumer.poll();
    if (consumer.messages.size() == n) return last.size() >= st.snapshots;
    const Message& m = consumer.messages.back();
    EXPECT_EQ(m.key, "node/gopher_disk_requests_total");
    const size_t at = m.value.find("\"snapshot\":\"") + 12;
    const std::string id = m.value.substr(at, 26);
    for (size_t p = 0; (p = m.value.find("\"labels\"", p)) != std::string::npos; ++p) ++series[id];
    if (m.value.find("\"last\":true") != std::string::npos) ++last[id];
    return false;
  }));
  size_t whole = 0;
  for (const auto& [id, n] : series) whole += n == 3000 && last[id] == 1;
  EXPECT_GE(whole, st.snapshots);
}

TEST_F(KafkaTest, MetadataAtStartAndOnChange) {
  auto s = settings();
  s.topics = {"", "", "d"};
  auto kafka = start(s);
  ASSERT_TRUE(eventually([&] { return kafka->stats().metadata == 1; }));
  {
    std::lock_guard lock(mutex_);
    probes_[0].state = "failed";
    probes_[0].reason = "no BTF";
  }
  ASSERT_TRUE(eventually([&] { return kafka->stats().metadata == 2; }));
  kafka.reset();
  Consumer consumer(broker_.address(), "d");
  ASSERT_TRUE(eventually([&] {
    consumer.poll();
    return consumer.messages.size() == 2;
  }));
  EXPECT_EQ(consumer.messages[0].key, "node");
  EXPECT_THAT(consumer.messages[0].value, ::testing::HasSubstr("\"state\":\"running\""));
  EXPECT_THAT(consumer.messages[1].value, ::testing::HasSubstr("\"reason\":\"no BTF\""));
}

TEST_F(KafkaTest, AWrongPropertyIsNamedWithItsPlace) {
  auto check = [&](std::vector<std::string> properties) {
    auto s = settings();
    s.properties = std::move(properties);
    auto r = check_kafka(s);
    if (r) return std::string("fine");
    auto started = KafkaExporter::start(s, sources());
    EXPECT_FALSE(started);
    EXPECT_THAT(started.error().text, ::testing::HasSubstr(r.error().text));
    return r.error().text;
  };
  EXPECT_EQ(check({"security.protocol=ssl", "compression.codec=zstd", "client.id=a=b"}), "fine");
  EXPECT_THAT(check({"client.id=x", "no.such=1"}),
              ::testing::AllOf(::testing::HasSubstr("properties[1] (no.such)"),
                               ::testing::HasSubstr("No such configuration property")));
  EXPECT_THAT(check({"linger.ms=soon"}), ::testing::HasSubstr("properties[0] (linger.ms)"));
  EXPECT_THAT(check({"client.id"}), ::testing::HasSubstr("name=value"));
  EXPECT_THAT(check({"=x"}), ::testing::HasSubstr("name=value"));
  EXPECT_THAT(check({"acks=1"}), ::testing::HasSubstr("no event is lost"));
  EXPECT_THAT(check({"bootstrap.servers=x"}), ::testing::HasSubstr("properties[0]"));
  EXPECT_THAT(check({"ssl.ca.location=/nonexistent", "security.protocol=ssl"}),
              ::testing::HasSubstr("librdkafka: "));
  // A value is not shown: it may be a password.
  EXPECT_THAT(check({"sasl.passwordd=secret"}), ::testing::Not(::testing::HasSubstr("=secret")));
}

}  // namespace
}  // namespace gopher
