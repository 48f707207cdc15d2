// kafka_producer.cpp - what gopher asks of librdkafka, and what it leaves to the user's properties.
// SPDX-License-Identifier: Apache-2.0
#include "export/kafka_producer.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/log.hpp"

namespace gopher {
namespace {

struct DestroyConf {
  void operator()(rd_kafka_conf_t* c) const { rd_kafka_conf_destroy(c); }
};
using Conf = std::unique_ptr<rd_kafka_conf_t, DestroyConf>;
struct DestroyTopicConf {
  void operator()(rd_kafka_topic_conf_t* c) const { rd_kafka_topic_conf_destroy(c); }
};
using TopicConf = std::unique_ptr<rd_kafka_topic_conf_t, DestroyTopicConf>;

// Set before the user's properties. The queue is small, since events wait on disk.
constexpr std::pair<const char*, const char*> kDefaults[] = {
    {"client.id", "gopherd"},
    {"compression.codec", "lz4"},
    {"linger.ms", "20"},
    {"batch.size", "262144"},
    {"queue.buffering.max.messages", "10000"},
    {"queue.buffering.max.kbytes", "8192"},
    {"log.connection.close", "false"},
};

// Ours alone: with other values events could be lost or their positions wrong.
constexpr std::pair<const char*, const char*> kGuarantees[] = {
    {"enable.idempotence", "true"},          {"acks", "all"},
    {"request.required.acks", "all"},        {"enable.gapless.guarantee", "false"},
    {"delivery.report.only.error", "false"},
};
constexpr const char* kReserved[] = {"bootstrap.servers",  "metadata.broker.list",
                                     "message.timeout.ms", "delivery.timeout.ms",
                                     "transactional.id",   "enabled_events"};

void on_log(const rd_kafka_t*, int, const char* facility, const char* text) {
  GOPHER_LOG_DEBUG("librdkafka %s: %s", facility, text);
}

bool reserved(std::string_view name) {
  return std::any_of(std::begin(kReserved), std::end(kReserved),
                     [&](const char* n) { return name == n; }) ||
         std::any_of(std::begin(kGuarantees), std::end(kGuarantees),
                     [&](const auto& g) { return name == g.first; });
}

Result<> set(rd_kafka_conf_t* conf, const std::string& name, const std::string& value) {
  char text[512];
  if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), text, sizeof text) != RD_KAFKA_CONF_OK)
    return Error{EINVAL, text};
  return Ok{};
}

Result<> set_property(rd_kafka_conf_t* conf, const std::string& property) {
  const size_t equals = property.find('=');
  if (equals == 0 || equals == std::string::npos)
    return Error{EINVAL, "must be \"name=value\", e.g. \"security.protocol=ssl\""};
  const std::string name = property.substr(0, equals);
  if (reserved(name))
    return Error{EINVAL, "is set by gopher, which promises that no event is lost"};
  return set(conf, name, property.substr(equals + 1));
}

Result<Conf> make_conf(const KafkaSettings& settings, bool connect) {
  Conf conf(rd_kafka_conf_new());
  for (const auto& [name, value] : kDefaults)
    if (auto r = set(conf.get(), name, value); !r) return std::move(r).error();
  for (size_t i = 0; i < settings.properties.size(); ++i) {
    const std::string& property = settings.properties[i];
    // The value may be a password.
    const std::string shown = property.substr(0, property.find('='));
    if (auto r = set_property(conf.get(), property); !r)
      return std::move(r).error().within("properties[" + std::to_string(i) + "] (" + shown + ")");
  }
  for (const auto& [name, value] : kGuarantees)
    if (auto r = set(conf.get(), name, value); !r) return std::move(r).error();
  if (connect)
    if (auto r = set(conf.get(), "bootstrap.servers", settings.brokers); !r)
      return std::move(r).error().within("brokers");
  rd_kafka_conf_set_log_cb(conf.get(), on_log);
  return conf;
}

// Hands `conf` over.
Result<rd_kafka_t*> make_handle(Conf conf) {
  char text[512];
  rd_kafka_t* handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf.get(), text, sizeof text);
  if (!handle) return Error{EINVAL, std::string("librdkafka: ") + text};
  (void)conf.release();
  return handle;
}

}  // namespace

KafkaSettings::KafkaSettings(const KafkaOptions& options)
    : brokers(options.brokers),
      topics{options.metrics_topic, options.events_topic, options.metadata_topic},
      metrics_interval_ns(static_cast<uint64_t>(options.metrics_interval_s * 1e9)),
      metadata_interval_ns(static_cast<uint64_t>(options.metadata_interval_s * 1e9)),
      properties(options.properties.items, options.properties.items + options.properties.n) {}

Result<> check_kafka_properties(const KafkaSettings& settings) {
  auto conf = make_conf(settings, false);
  if (!conf) return std::move(conf).error();
  return Ok{};
}

Result<> check_kafka(const KafkaSettings& settings) {
  if (settings.brokers.empty())
    return Error{EINVAL, "brokers is empty: name at least one, e.g. \"127.0.0.1:9092\""};
  auto conf = make_conf(settings, false);
  if (!conf) return std::move(conf).error();
  // Some mistakes, such as a missing certificate, show only now.
  auto handle = make_handle(*std::move(conf));
  if (!handle) return std::move(handle).error();
  rd_kafka_destroy(*handle);
  return Ok{};
}

Result<std::unique_ptr<KafkaProducer>> KafkaProducer::create(const KafkaSettings& settings,
                                                             Delivered delivered) {
  auto conf = make_conf(settings, true);
  if (!conf) return std::move(conf).error();
  std::unique_ptr<KafkaProducer> out(new KafkaProducer(std::move(delivered)));
  rd_kafka_conf_set_opaque(conf->get(), out.get());
  rd_kafka_conf_set_dr_msg_cb(conf->get(), on_delivery);
  rd_kafka_conf_set_error_cb(conf->get(), on_error);
  auto handle = make_handle(*std::move(conf));
  if (!handle) return std::move(handle).error();
  out->handle_.reset(*handle);

  for (size_t i = 0; i < kKafkaTopics; ++i) {
    if (settings.topics[i].empty()) continue;
    TopicConf topic(rd_kafka_default_topic_conf_dup(out->handle_.get()));
    // An event waits for ever (0): it is bounded by the window, and on disk anyway. The others are
    // worth nothing when the next ones are there.
    uint64_t timeout_ms = 0;
    if (KafkaTopic(i) == KafkaTopic::kMetrics)
      timeout_ms = std::clamp<uint64_t>(settings.metrics_interval_ns / 1'000'000, 5000, 60'000);
    if (KafkaTopic(i) == KafkaTopic::kMetadata) timeout_ms = 60'000;
    char text[512];
    // The index is what on_delivery() knows the topic by.
    rd_kafka_topic_conf_set_opaque(topic.get(), reinterpret_cast<void*>(i));
    if (rd_kafka_topic_conf_set(topic.get(), "message.timeout.ms",
                                std::to_string(timeout_ms).c_str(), text,
                                sizeof text) != RD_KAFKA_CONF_OK)
      return Error{EINVAL, text};
    out->topics_[i].reset(
        rd_kafka_topic_new(out->handle_.get(), settings.topics[i].c_str(), topic.release()));
    if (!out->topics_[i])
      return Error{EINVAL,
                   "topic " + settings.topics[i] + ": " + rd_kafka_err2str(rd_kafka_last_error())};
  }
  return out;
}

rd_kafka_resp_err_t KafkaProducer::produce(KafkaTopic topic, std::string_view key,
                                           std::string_view payload, uint64_t tag) {
  rd_kafka_topic_t* t = topics_[static_cast<size_t>(topic)].get();
  if (!t) return RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
  // F_COPY: librdkafka takes the payload as const in all but its type.
  const int failed = rd_kafka_produce(t, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY,
                                      const_cast<char*>(payload.data()), payload.size(), key.data(),
                                      key.size(), reinterpret_cast<void*>(tag));
  return failed ? rd_kafka_last_error() : RD_KAFKA_RESP_ERR_NO_ERROR;
}

void KafkaProducer::poll(std::chrono::milliseconds timeout) {
  rd_kafka_poll(handle_.get(), static_cast<int>(timeout.count()));
}

void KafkaProducer::on_delivery(rd_kafka_t*, const rd_kafka_message_t* message, void* self) {
  auto* me = static_cast<KafkaProducer*>(self);
  if (!message->err) {
    me->down_ = false;
    me->reason_.clear();
  }
  const auto topic = reinterpret_cast<uintptr_t>(rd_kafka_topic_opaque(message->rkt));
  me->delivered_(KafkaTopic(topic), reinterpret_cast<uintptr_t>(message->_private), message->err);
}

void KafkaProducer::on_error(rd_kafka_t* handle, int error, const char* reason, void* self) {
  auto* me = static_cast<KafkaProducer*>(self);
  if (error == RD_KAFKA_RESP_ERR__FATAL) {
    char text[512] = "";
    rd_kafka_fatal_error(handle, text, sizeof text);
    me->fatal_ = true;
    me->reason_ = text;
    return;
  }
  GOPHER_LOG_DEBUG("librdkafka: %s", reason);
  if (error != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
    me->reason_ = reason;  // why, before the line that there is none left
    return;
  }
  me->down_ = true;
  if (me->reason_.empty()) me->reason_ = reason;
}

}  // namespace gopher
