// kafka_producer.hpp - librdkafka's producer with our guarantees, in a type that ends it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <librdkafka/rdkafka.h>
#include <gopher/result.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/options.hpp"

namespace gopher {

enum class KafkaTopic { kMetrics, kEvents, kMetadata };
inline constexpr size_t kKafkaTopics = 3;

// The options, copied out of a Config that may go.
struct KafkaSettings {
  explicit KafkaSettings(const KafkaOptions& options);
  std::string brokers;
  std::array<std::string, kKafkaTopics> topics;  // empty: nothing of this kind is sent
  uint64_t metrics_interval_ns, metadata_interval_ns;
  std::vector<std::string> properties;

  const std::string& topic(KafkaTopic t) const { return topics[static_cast<size_t>(t)]; }
};

// Why librdkafka would not take these settings: one clause. Connects to nobody.
Result<> check_kafka(const KafkaSettings& settings);
// The same of the list of properties, each for itself.
Result<> check_kafka_properties(const KafkaSettings& settings);

// One thread at a time; callbacks come from within poll().
class KafkaProducer {
 public:
  // `tag` as given to produce().
  using Delivered = std::function<void(KafkaTopic, uint64_t tag, rd_kafka_resp_err_t)>;

  static Result<std::unique_ptr<KafkaProducer>> create(const KafkaSettings& settings,
                                                       Delivered delivered);

  // RD_KAFKA_RESP_ERR_NO_ERROR: its delivery will be reported. __QUEUE_FULL: poll, try again.
  rd_kafka_resp_err_t produce(KafkaTopic topic, std::string_view key, std::string_view payload,
                              uint64_t tag);
  // Reports what there is to report; waits for the first of it.
  void poll(std::chrono::milliseconds timeout);

  bool fatal() const { return fatal_; }                  // it will never send again: make another
  bool connected() const { return !down_; }              // as far as we know
  const std::string& reason() const { return reason_; }  // of !connected()
  int queued() const { return rd_kafka_outq_len(handle_.get()); }

 private:
  explicit KafkaProducer(Delivered delivered) : delivered_(std::move(delivered)) {}
  static void on_delivery(rd_kafka_t*, const rd_kafka_message_t* message, void* self);
  static void on_error(rd_kafka_t*, int error, const char* reason, void* self);

  struct DestroyHandle {
    void operator()(rd_kafka_t* h) const { rd_kafka_destroy(h); }
  };
  struct DestroyTopic {
    void operator()(rd_kafka_topic_t* t) const { rd_kafka_topic_destroy(t); }
  };
  const Delivered delivered_;
  bool fatal_ = false, down_ = false;
  std::string reason_;
  std::unique_ptr<rd_kafka_t, DestroyHandle> handle_;
  std::array<std::unique_ptr<rd_kafka_topic_t, DestroyTopic>, kKafkaTopics> topics_;
};

}  // namespace gopher
