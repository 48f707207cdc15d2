// export_prometheus_test.cpp - the metrics page: numbers, both formats, pieces, concurrency.
// SPDX-License-Identifier: Apache-2.0
#include "export/prometheus.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "bus/instrumentation.hpp"
#include "page_fixture.hpp"

namespace gopher {
namespace {

using namespace store_test;  // NOLINT(google-build-using-namespace)
using prometheus::MetricType;
using ::testing::ElementsAre;
using ::testing::Pair;

std::string text_of(double value) {
  char text[kNumberSize];
  return {text, put_number(value, text)};
}

TEST(Numbers, ReadBackIsWhatWasPutIn) {
  std::mt19937_64 random(11);
  for (int i = 0; i < 100'000; ++i) {
    double value = random_number(random);
    if (random() % 2) value = -value;
    ASSERT_EQ(number(text_of(value)), value);
    ASSERT_EQ(number(le_text(value)), value);
  }
}

TEST(Numbers, AreShortAndPlain) {
  EXPECT_EQ(text_of(0), "0");
  EXPECT_EQ(text_of(100'000), "100000");
  EXPECT_EQ(text_of(-3), "-3");
  EXPECT_EQ(text_of(123'456'789'012'345), "123456789012345");
  EXPECT_EQ(text_of(0.1), "0.1");
  EXPECT_EQ(text_of(std::nan("")), "NaN");
  EXPECT_EQ(text_of(std::numeric_limits<double>::infinity()), "+Inf");
  EXPECT_EQ(text_of(-std::numeric_limits<double>::infinity()), "-Inf");
  EXPECT_EQ(text_of(std::numeric_limits<double>::denorm_min()), "5e-324");
}

TEST(Numbers, BoundsAreCanonical) {
  EXPECT_EQ(le_text(1), "1.0");
  EXPECT_EQ(le_text(0), "0.0");
  EXPECT_EQ(le_text(0.005), "0.005");
  EXPECT_EQ(le_text(100'000), "100000.0");
  EXPECT_EQ(le_text(1e6), "1e+06");
  EXPECT_EQ(le_text(1e-5), "1e-05");
  EXPECT_EQ(le_text(1e-4), "0.0001");
  EXPECT_EQ(le_text(2.5), "2.5");
  EXPECT_EQ(le_text(std::numeric_limits<double>::infinity()), "+Inf");
}

TEST(Header, NamesFamilyTypeAndUnit) {
  std::string classic, open;
  append_header("gopher_x_seconds_total", "A \"b\" \\ c\nd.", MetricType::Counter,
                Exposition::kClassic, &classic);
  append_header("gopher_x_seconds_total", "A \"b\" \\ c\nd.", MetricType::Counter,
                Exposition::kOpenMetrics, &open);
  EXPECT_EQ(classic,
            "# HELP gopher_x_seconds_total A \"b\" \\\\ c\\nd.\n"
            "# TYPE gopher_x_seconds_total counter\n");
  EXPECT_EQ(open,
            "# HELP gopher_x_seconds A \\\"b\\\" \\\\ c\\nd.\n"
            "# TYPE gopher_x_seconds counter\n"
            "# UNIT gopher_x_seconds seconds\n");
  open.clear();
  append_header("gopher_x_info", "I.", MetricType::Gauge, Exposition::kOpenMetrics, &open);
  EXPECT_EQ(open, "# HELP gopher_x I.\n# TYPE gopher_x info\n");
  EXPECT_EQ(unit_of("gopher_x_bytes"), "bytes");
  EXPECT_EQ(unit_of("bytes"), "");
  EXPECT_EQ(unit_of("gopher_megabytes"), "");
}

class PageTest : public ::testing::Test {
 protected:
  std::string page(Exposition format, size_t piece = 64 * 1024,
                   std::vector<const prometheus::Collectable*> own = {}) {
    return read_page(PrometheusPage(store_, own, format), piece);
  }
  FakeText text_;
  Store store_{{}, text_};
  Shard& shard_ = store_.shard(tables());
};

TEST_F(PageTest, AnEmptyStoreIsAnEmptyPage) {
  EXPECT_EQ(page(Exposition::kClassic), "");
  EXPECT_EQ(page(Exposition::kOpenMetrics), "# EOF\n");
}

TEST_F(PageTest, WritesBothFormats) {
  add(shard_, kRequests, {num(7), num(1)}, 2);
  gopher_process p = who(12, 5, 400, "a\"b");
  observe(shard_, kDuration, {process(p), str("/x\n")}, {1, 0, 2, 0, 3}, 0.5);
  add(shard_, kAlone, {}, 3);
  const std::string labels = "pid=\"12\",comm=\"a\\\"b\",cgroup=\"cgroup4\",path=\"/x\\n\"";
  auto bucket = [&](const char* le, const char* n) {
    return "gopher_t_duration_seconds_bucket{" + labels + ",le=\"" + le + "\"} " + n + "\n";
  };
  const std::string duration = bucket("0.001", "1") + bucket("0.01", "1") + bucket("1.0", "3") +
                               bucket("60.0", "3") + bucket("+Inf", "6") +
                               "gopher_t_duration_seconds_sum{" + labels + "} 0.5\n" +
                               "gopher_t_duration_seconds_count{" + labels + "} 6\n";
  EXPECT_EQ(page(Exposition::kClassic),
            "# HELP gopher_t_requests_total Requests.\n"
            "# TYPE gopher_t_requests_total counter\n"
            "gopher_t_requests_total{device=\"dev7\",operation=\"write\"} 2\n"
            "# HELP gopher_t_duration_seconds Time that requests took.\n"
            "# TYPE gopher_t_duration_seconds histogram\n" +
                duration +
                "# HELP gopher_t_alone_total One number.\n"
                "# TYPE gopher_t_alone_total counter\n"
                "gopher_t_alone_total 3\n");
  EXPECT_EQ(page(Exposition::kOpenMetrics),
            "# HELP gopher_t_requests Requests.\n"
            "# TYPE gopher_t_requests counter\n"
            "gopher_t_requests_total{device=\"dev7\",operation=\"write\"} 2\n"
            "# HELP gopher_t_duration_seconds Time that requests took.\n"
            "# TYPE gopher_t_duration_seconds histogram\n"
            "# UNIT gopher_t_duration_seconds seconds\n" +
                duration +
                "# HELP gopher_t_alone One number.\n"
                "# TYPE gopher_t_alone counter\n"
                "gopher_t_alone_total 3\n"
                "# EOF\n");
}

// The reference: prometheus-cpp's own serializer, sample by sample. It writes 16 digits.
TEST_F(PageTest, EqualsTheReferenceSerializer) {
  std::mt19937_64 random(17);
  fill(shard_, random, 500);
  Parsed reference = parse(prometheus::TextSerializer().Serialize(families_of(store_)));
  ASSERT_GT(reference.samples.size(), 500u);
  for (Exposition format : {Exposition::kClassic, Exposition::kOpenMetrics}) {
    Parsed ours = parse(page(format));
    ASSERT_EQ(ours.samples.size(), reference.samples.size());
    for (const auto& [key, value] : reference.samples) {
      ASSERT_TRUE(ours.samples.count(key)) << key;
      double mine = ours.samples[key];
      if (std::isinf(value))
        ASSERT_EQ(mine, value) << key;
      else
        ASSERT_LE(std::fabs(mine - value), 1e-15 * std::fabs(value)) << key;
    }
    if (format == Exposition::kOpenMetrics) continue;
    EXPECT_EQ(ours.type, reference.type);
  }
}

TEST_F(PageTest, ReadBackIsWhatWasPutIn) {
  std::mt19937_64 random(19);
  fill(shard_, random, 300);
  Parsed parsed = parse(page(Exposition::kClassic));
  size_t samples = 0;
  for (const auto& [key, c] : content(store_)) {
    size_t brace = key.find('{');
    std::string name = key.substr(0, brace), labels = key.substr(brace + 1);
    labels.pop_back();
    if (c.buckets.empty()) {
      ASSERT_EQ(parsed.samples.at(sample_key(name, labels)), c.value);
      ++samples;
      continue;
    }
    ASSERT_EQ(parsed.samples.at(sample_key(name + "_sum", labels)), c.value);
    uint64_t count = 0;
    for (size_t b = 0; b < c.buckets.size(); ++b) {
      count += c.buckets[b];
      std::string le = b < 4 ? le_text(kBounds[b]) : "+Inf";
      ASSERT_EQ(parsed.samples.at(sample_key(name + "_bucket", labels + ",le=\"" + le + "\"")),
                static_cast<double>(count));
    }
    ASSERT_EQ(parsed.samples.at(sample_key(name + "_count", labels)), static_cast<double>(count));
    samples += c.buckets.size() + 2;
  }
  EXPECT_EQ(samples, parsed.samples.size());
  for (const std::string& family : parsed.families) {
    EXPECT_NE(parsed.help[family], "");
    EXPECT_NE(parsed.type[family], "");
  }
}

TEST_F(PageTest, IsTheSameInPiecesOfAnySize) {
  std::mt19937_64 random(23);
  fill(shard_, random, 60);
  Instrumentation own("1.0", store_, {});
  // Families of fixed content: the daemon's own change while it runs.
  struct Fixed : prometheus::Collectable {
    std::vector<prometheus::MetricFamily> families;
    std::vector<prometheus::MetricFamily> Collect() const override { return families; }
  } fixed;
  fixed.families = {{"own_total", "Own.", MetricType::Counter, {}},
                    {"empty", "Nothing.", MetricType::Gauge, {}},
                    {"own_info", "Own.", MetricType::Gauge, {}}};
  fixed.families[0].metric.resize(3);
  for (size_t i = 0; i < 3; ++i)
    fixed.families[0].metric[i].label = {{"l", "v" + std::to_string(i) + "\""}};
  fixed.families[2].metric.resize(1);
  fixed.families[2].metric[0].gauge.value = 1;
  for (Exposition format : {Exposition::kClassic, Exposition::kOpenMetrics}) {
    const std::string whole = page(format, 10'000'000, {&fixed});
    EXPECT_EQ(parse(whole).samples.count("own_total|l=v2\""), 1u);
    EXPECT_EQ(whole.find("empty"), whole.npos);
    for (size_t piece : {1, 2, 3, 7, 64, 500, 1000, 4096, 10'000, 65'536})
      ASSERT_EQ(page(format, piece, {&fixed}), whole) << piece;
  }
}

TEST_F(PageTest, WritesEveryTypeOfTheDaemonsOwn) {
  struct Fixed : prometheus::Collectable {
    std::vector<prometheus::MetricFamily> Collect() const override {
      prometheus::ClientMetric m;
      m.label = {{"l", "x"}};
      m.counter.value = 1;
      m.gauge.value = 2.5;
      m.untyped.value = 3;
      m.summary.sample_count = 4;
      m.summary.sample_sum = 5;
      m.summary.quantile = {{0.5, 6}};
      m.histogram.sample_count = 7;
      m.histogram.sample_sum = 8;
      m.histogram.bucket = {{6, 1}};
      return {{"c", "C.", MetricType::Counter, {m}},
              {"g", "G.", MetricType::Gauge, {m}},
              {"s", "S.", MetricType::Summary, {m}},
              {"u", "U.", MetricType::Untyped, {m}},
              {"h", "H.", MetricType::Histogram, {m}}};
    }
  } fixed;
  EXPECT_EQ(page(Exposition::kOpenMetrics, 4096, {&fixed}),
            "# HELP c C.\n# TYPE c counter\nc_total{l=\"x\"} 1\n"
            "# HELP g G.\n# TYPE g gauge\ng{l=\"x\"} 2.5\n"
            "# HELP s S.\n# TYPE s summary\ns{l=\"x\",quantile=\"0.5\"} 6\ns_sum{l=\"x\"} 5\n"
            "s_count{l=\"x\"} 4\n"
            "# HELP u U.\n# TYPE u unknown\nu{l=\"x\"} 3\n"
            "# HELP h H.\n# TYPE h histogram\nh_bucket{l=\"x\",le=\"1.0\"} 6\n"
            "h_bucket{l=\"x\",le=\"+Inf\"} 7\nh_sum{l=\"x\"} 8\nh_count{l=\"x\"} 7\n# EOF\n");
}

TEST_F(PageTest, StaysWellFormedWhileSeriesComeAndGo) {
  std::mt19937_64 random(29);
  fill(shard_, random, 200);
  PrometheusPage page(store_, {}, Exposition::kOpenMetrics);
  std::string out, buffer(700, 0);
  uint64_t now_s = 1000;
  while (size_t n = page.read(buffer.data(), buffer.size())) {
    out.append(buffer, 0, n);
    if (random() % 20 == 0) store_.expire(now_s++ * kSecond);
    add(shard_, kRequests, {num(random() % 10'000), num(0)}, 1, now_s);
    set(shard_, kDepth, {num(random() % 10'000)}, 1, now_s);
    if (now_s > 1050) break;  // they came as fast as they were read
  }
  Parsed parsed = parse(out.substr(0, out.rfind('\n') + 1));
  for (const auto& [key, value] : parsed.samples) EXPECT_FALSE(key.starts_with("TWICE")) << key;
  for (const auto& [name, type] : parsed.type)
    EXPECT_THAT(type, ::testing::AnyOf("counter", "gauge", "histogram")) << name;
}

TEST_F(PageTest, ManyScrapesWhileUpdating) {
  std::atomic<bool> stop{false};
  std::thread updates([&] {
    std::mt19937_64 random(31);
    // The scrapers may hold every lock in turn; that the updates go on is seen by their number.
    for (uint64_t i = 0; !stop; ++i) {
      add(shard_, kRequests, {num(i % 2000), num(0)}, 1);
      gopher_process p = who(1, 1 + i % 50);
      observe(shard_, kDuration, {process(p), str("x")}, {1, 0, 0, 0, 1}, 1);
      if (i % 1000 == 0) store_.expire(2 * kSecond);
    }
  });
  auto scrape = [&](Exposition format) {
    std::map<std::string, double> before;
    for (int i = 0; i < 10; ++i) {
      Parsed parsed = parse(page(format, 4096));
      for (const auto& [key, value] : parsed.samples) {
        ASSERT_FALSE(key.starts_with("TWICE")) << key;
        double& last = before[key];
        ASSERT_GE(value, last) << key << ": a counter went back";
        last = value;
      }
    }
  };
  while (shard_.stats().samples <= 100) std::this_thread::yield();  // the updates are under way
  std::thread one([&] { scrape(Exposition::kClassic); });
  std::thread two([&] { scrape(Exposition::kOpenMetrics); });
  one.join();
  two.join();
  stop = true;
  updates.join();
}

// ---- the daemon's own metrics ----

TEST_F(PageTest, TheDaemonsOwnComeFromItsTable) {
  add(shard_, kRequests, {num(7), num(1)}, 2);
  for (const char* name : {"a", "b", "c", "d", "e"}) add(shard_, kFew, {str(name)}, 1);
  add(shard_, kFew, {str(nullptr)}, 1);
  SnapshotSources sources;
  sources.probes = [] {
    ProbeSnapshot up, down;
    up.name = "t";
    up.version = "1.2";
    up.state = "degraded";
    up.reason = std::string(1000, 'r');
    up.hooks = {{"issue", "issue__raw_tp"}, {"dirty", ""}};
    up.lost = {{"ring_full", 3}};
    up.starts = 4;
    up.events = {{"io_error", 10, 6, 3, 1}};
    down.name = "net";
    down.state = "failed";
    down.reason = "no BTF";
    return std::vector{up, down};
  };
  sources.kafka = []() -> std::optional<KafkaSnapshot> { return KafkaSnapshot{.connected = true}; };
  sources.history = []() -> std::optional<HistorySnapshot> { return HistorySnapshot{.lost = 5}; };
  Instrumentation own("0.1.0", store_, sources);
  own.observe_scrape(0.02);
  auto samples = parse(page(Exposition::kClassic, 4096, {&own})).samples;
  EXPECT_EQ(
      samples.at("gopher_build_info|abi=" + std::to_string(GOPHER_PROBE_ABI) + "|version=0.1.0"),
      1);
  EXPECT_EQ(samples.at("gopher_probe_up|probe=t"), 1);
  EXPECT_EQ(samples.at("gopher_probe_up|probe=net"), 0);
  EXPECT_EQ(samples.at("gopher_probe_state|probe=net|state=failed"), 1);
  EXPECT_EQ(samples.at("gopher_probe_state|probe=net|state=running"), 0);
  EXPECT_EQ(samples.at("gopher_probe_failure_info|probe=net|reason=no BTF"), 1);
  EXPECT_EQ(
      samples.count("gopher_probe_failure_info|probe=t|reason=" + std::string(200, 'r') + "..."),
      1u);
  EXPECT_EQ(samples.at("gopher_probe_hook_info|hook=issue|probe=t|program=issue__raw_tp"), 1);
  EXPECT_EQ(samples.at("gopher_probe_hook_up|hook=dirty|probe=t"), 0);
  EXPECT_EQ(samples.at("gopher_probe_restarts_total|probe=t"), 3);
  EXPECT_EQ(samples.at("gopher_lost_total|probe=t|stage=ring_full"), 3);
  EXPECT_EQ(samples.at("gopher_lost_total|probe=t|stage=refused_sample"), 1);
  EXPECT_EQ(samples.at("gopher_lost_total|probe=daemon|stage=history"), 5);
  EXPECT_EQ(samples.at("gopher_events_folded_total|probe=t|type=io_error"), 3);
  EXPECT_EQ(samples.at("gopher_samples_total|probe=t"), 6);
  EXPECT_EQ(samples.at("gopher_series|probe=t"), 5);
  EXPECT_EQ(samples.at("gopher_series_folded_total|metric=gopher_t_few_total|probe=t"), 2);
  EXPECT_EQ(samples.at("gopher_kafka_up"), 1);
  EXPECT_EQ(samples.count("gopher_http_connections"), 0u) << "has no source here";
  EXPECT_EQ(samples.at("gopher_scrape_duration_seconds_count"), 1);
}

TEST_F(PageTest, TheDaemonKnowsItself) {
  Instrumentation own("0.1.0", store_, {});
  auto samples = parse(page(Exposition::kClassic, 4096, {&own})).samples;
  EXPECT_GT(samples.at("gopher_process_resident_memory_bytes"), 1e6);
  EXPECT_GE(samples.at("gopher_process_resident_memory_peak_bytes"),
            samples.at("gopher_process_resident_memory_bytes"));
  EXPECT_GE(samples.at("gopher_process_threads"), 1);
  EXPECT_GE(samples.at("gopher_process_open_fds"), 3);
  EXPECT_GE(samples.at("gopher_process_cpu_seconds_total"), 0);
  EXPECT_NEAR(
      samples.at("gopher_process_start_time_seconds") + samples.at("gopher_process_uptime_seconds"),
      static_cast<double>(time(nullptr)), 5);
}

}  // namespace
}  // namespace gopher
