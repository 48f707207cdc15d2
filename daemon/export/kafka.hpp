// kafka.hpp - sends events, metrics and metadata to Kafka; an outage of the broker blocks nobody.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bus/store.hpp"
#include "export/history.hpp"
#include "export/kafka_producer.hpp"
#include "export/kafka_pumps.hpp"
#include "export/records.hpp"

namespace gopher {

// Where the exporter takes things from; all of it outlives the exporter.
struct KafkaSources {
  History& history;
  const Store& store;
  std::vector<const prometheus::Collectable*> own;  // the daemon's own metrics
  NodeInfo node;
  std::function<std::vector<ProbeInfo>()> probes;  // called on the exporter's thread
  std::string schema;                              // schema_json()
};

class KafkaExporter {
 public:
  // The error: librdkafka does not take these settings. A broker that is not there is none.
  static Result<std::unique_ptr<KafkaExporter>> start(const KafkaSettings& settings,
                                                      KafkaSources sources);
  ~KafkaExporter();
  KafkaExporter(const KafkaExporter&) = delete;
  KafkaExporter& operator=(const KafkaExporter&) = delete;

  // Sends what the local store holds for at most `grace`, less if there is no broker, and ends.
  // What is left is sent by the next run.
  void stop(std::chrono::milliseconds grace = std::chrono::milliseconds(5000));

  struct Stats {
    bool connected = false;
    uint64_t events = 0;       // acknowledged
    uint64_t events_lost = 0;  // the broker can never take them
    uint64_t lag = 0;          // events in the local store that wait for an acknowledgement
    // Snapshots of all metrics: due = delivered + failed + skipped, but for one on its way.
    uint64_t snapshots_due = 0, snapshots = 0, snapshots_failed = 0, snapshots_skipped = 0;
    uint64_t metadata = 0;
    uint64_t errors = 0;  // records that the broker or librdkafka refused, retried or not
    uint64_t queued = 0;  // records in librdkafka's queue
    // For lost{stage="kafka"}: events and whole snapshots.
    uint64_t lost() const { return events_lost + snapshots_failed + snapshots_skipped; }
  };
  Stats stats() const;

 private:
  KafkaExporter(const KafkaSettings& settings, KafkaSources sources, uint64_t position);
  Result<> make_producer();
  void run();
  uint64_t turn(uint64_t now_ns);  // when the next one is due
  void drain();
  void replace_producer(uint64_t now_ns);
  void delivered(KafkaTopic topic, uint64_t tag, rd_kafka_resp_err_t error);
  void log_connection();
  void log_topic(KafkaTopic topic, rd_kafka_resp_err_t error);

  const KafkaSettings settings_;
  History& history_;
  EventPump events_;
  SnapshotPump snapshots_;
  MetadataPump metadata_;
  std::unique_ptr<KafkaProducer> producer_;  // after the pumps: it calls into them
  uint64_t next_producer_ns_ = 0;
  bool logged_down_ = false;
  std::array<rd_kafka_resp_err_t, kKafkaTopics> logged_{};
  std::atomic<bool> connected_{true};
  std::atomic<uint64_t> errors_{0}, queued_{0};
  std::atomic<bool> stopping_{false};
  std::chrono::milliseconds grace_{0};
  std::thread thread_;
};

}  // namespace gopher
