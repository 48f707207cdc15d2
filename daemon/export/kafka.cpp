// kafka.cpp - the exporter's thread: turns the three pumps, replaces a dead producer, logs changes.
// SPDX-License-Identifier: Apache-2.0
#include "export/kafka.hpp"

#include <algorithm>
#include <utility>

#include "core/clock.hpp"
#include "core/log.hpp"

namespace gopher {
namespace {

using std::chrono::milliseconds;
constexpr uint64_t kMs = 1'000'000;
// New events are looked for this often while nothing else happens.
constexpr uint64_t kLookEvery = 200 * kMs;
constexpr uint64_t kReplaceEvery = 10'000 * kMs;
// At the end: so long for a broker that does not answer.
constexpr uint64_t kGraceWithoutBroker = 1000 * kMs;

}  // namespace

KafkaExporter::KafkaExporter(const KafkaSettings& settings, KafkaSources sources, uint64_t position)
    : settings_(settings),
      history_(sources.history),
      events_(sources.history, position, sources.node.node),
      snapshots_(sources.store, std::move(sources.own), sources.node.node,
                 settings.metrics_interval_ns, monotonic_ns()),
      metadata_(sources.node, std::move(sources.probes), std::move(sources.schema),
                settings.metadata_interval_ns) {}

Result<std::unique_ptr<KafkaExporter>> KafkaExporter::start(const KafkaSettings& settings,
                                                            KafkaSources sources) {
  History& history = sources.history;
  uint64_t position = 0;
  if (!settings.topic(KafkaTopic::kEvents).empty()) {
    auto sink = history.add_sink(EventPump::kSink);
    if (!sink) return std::move(sink).error().within("kafka");
    position = *sink;
  }
  std::unique_ptr<KafkaExporter> out(new KafkaExporter(settings, std::move(sources), position));
  if (auto r = out->make_producer(); !r) {
    history.remove_sink(EventPump::kSink);
    return std::move(r).error().within("kafka");
  }
  out->thread_ = std::thread([self = out.get()] { self->run(); });
  return out;
}

KafkaExporter::~KafkaExporter() { stop(); }

void KafkaExporter::stop(milliseconds grace) {
  if (!thread_.joinable()) return;
  grace_ = grace;
  stopping_ = true;
  thread_.join();
  history_.remove_sink(EventPump::kSink);
}

Result<> KafkaExporter::make_producer() {
  auto made = KafkaProducer::create(
      settings_,
      [this](KafkaTopic topic, uint64_t tag, rd_kafka_resp_err_t e) { delivered(topic, tag, e); });
  if (!made) return std::move(made).error();
  producer_ = *std::move(made);
  return Ok{};
}

void KafkaExporter::run() {
  while (!stopping_) {
    const uint64_t now = monotonic_ns();
    const uint64_t next = std::min(turn(now), now + kLookEvery);
    if (producer_)
      producer_->poll(milliseconds(next > now ? (next - now) / kMs + 1 : 0));
    else
      std::this_thread::sleep_for(milliseconds(100));  // between two producers
    log_connection();
  }
  drain();
}

uint64_t KafkaExporter::turn(uint64_t now_ns) {
  if (!producer_ || producer_->fatal()) replace_producer(now_ns);
  if (!producer_) return kIdle;
  uint64_t next = kIdle;
  auto wants = [&](KafkaTopic t) { return !settings_.topic(t).empty(); };
  if (wants(KafkaTopic::kEvents)) next = std::min(next, events_.pump(*producer_, now_ns));
  if (wants(KafkaTopic::kMetrics)) next = std::min(next, snapshots_.pump(*producer_, now_ns));
  if (wants(KafkaTopic::kMetadata)) next = std::min(next, metadata_.pump(*producer_, now_ns));
  events_.save(now_ns, false);
  queued_ = static_cast<uint64_t>(producer_->queued());
  return next;
}

void KafkaExporter::drain() {
  const uint64_t begin = monotonic_ns();
  const uint64_t end = begin + static_cast<uint64_t>(grace_.count()) * kMs;
  while (producer_) {
    const uint64_t now = monotonic_ns();
    const bool events = !settings_.topic(KafkaTopic::kEvents).empty();
    if (now >= end || producer_->fatal()) break;
    if (!producer_->connected() && now - begin >= kGraceWithoutBroker) break;
    if (events) events_.pump(*producer_, now);
    if ((!events || events_.done()) && producer_->queued() == 0) break;
    producer_->poll(milliseconds(10));
  }
  events_.save(monotonic_ns(), true);
  if (events_.lag() > 0 && !settings_.topic(KafkaTopic::kEvents).empty())
    GOPHER_LOG_INFO("kafka: %llu events wait in the local store for the next start",
                    static_cast<unsigned long long>(events_.lag()));
  producer_.reset();
}

// An idempotent producer whose sequence the broker no longer believes is dead for good.
void KafkaExporter::replace_producer(uint64_t now_ns) {
  if (producer_) {
    GOPHER_LOG_WARNING("kafka: the producer failed (%s): another one begins",
                       producer_->reason().c_str());
    producer_.reset();
    events_.restart();
    snapshots_.restart();
    metadata_.restart();
  }
  if (now_ns < next_producer_ns_) return;
  next_producer_ns_ = now_ns + kReplaceEvery;
  if (auto r = make_producer(); !r) GOPHER_LOG_ERROR("kafka: %s", r.error().text.c_str());
}

void KafkaExporter::delivered(KafkaTopic topic, uint64_t tag, rd_kafka_resp_err_t error) {
  errors_ += error != RD_KAFKA_RESP_ERR_NO_ERROR;
  log_topic(topic, error);
  if (topic == KafkaTopic::kEvents) events_.delivered(tag, error, monotonic_ns());
  if (topic == KafkaTopic::kMetrics) snapshots_.delivered(error);
  if (topic == KafkaTopic::kMetadata) metadata_.delivered(error);
}

void KafkaExporter::log_connection() {
  const bool up = producer_ && producer_->connected();
  connected_ = up;
  if (up == !logged_down_) return;
  logged_down_ = !up;
  if (up)
    GOPHER_LOG_INFO("kafka: the broker answers again");
  else
    GOPHER_LOG_WARNING("kafka: no broker of %s can be reached (%s): events wait in the local store",
                       settings_.brokers.c_str(), producer_ ? producer_->reason().c_str() : "");
}

void KafkaExporter::log_topic(KafkaTopic topic, rd_kafka_resp_err_t error) {
  rd_kafka_resp_err_t& logged = logged_[static_cast<size_t>(topic)];
  // Without a broker there is one line about that already.
  if (error == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT && logged_down_) return;
  if (error == logged) return;
  logged = error;
  const char* name = settings_.topic(topic).c_str();
  if (error)
    GOPHER_LOG_WARNING("kafka: topic %s: %s; it is tried again", name, rd_kafka_err2str(error));
  else
    GOPHER_LOG_INFO("kafka: topic %s takes records again", name);
}

KafkaExporter::Stats KafkaExporter::stats() const {
  return {.connected = connected_,
          .events = events_.acknowledged,
          .events_lost = events_.lost,
          .lag = settings_.topic(KafkaTopic::kEvents).empty() ? 0 : events_.lag(),
          .snapshots_due = snapshots_.due,
          .snapshots = snapshots_.whole,
          .snapshots_failed = snapshots_.failed,
          .snapshots_skipped = snapshots_.skipped,
          .metadata = metadata_.acknowledged,
          .errors = errors_,
          .queued = queued_};
}

}  // namespace gopher
