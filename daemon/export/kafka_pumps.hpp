// kafka_pumps.hpp - the three streams to Kafka: events, snapshots of metrics, metadata.
// SPDX-License-Identifier: Apache-2.0
//
// Used by the exporter's thread only, but for the statistics. pump() sends what can be sent now and
// returns when there is more to do: 0 at once, kIdle when something else happens.
#pragma once

#include <prometheus/collectable.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "bus/events.hpp"
#include "bus/store.hpp"
#include "export/ack_window.hpp"
#include "export/history.hpp"
#include "export/kafka_producer.hpp"
#include "export/records.hpp"

namespace gopher {

inline constexpr uint64_t kIdle = std::numeric_limits<uint64_t>::max();

// Every event of the local store, at least once and in order. The sink's position follows the
// broker's acknowledgements. A failure of any kind makes it begin again behind the position; only
// an event that the broker can never take is given up, alone, and counted.
class EventPump {
 public:
  static constexpr const char* kSink = "kafka";
  EventPump(History& history, uint64_t position, std::string node);

  uint64_t pump(KafkaProducer& producer, uint64_t now_ns);
  void delivered(uint64_t seq, rd_kafka_resp_err_t error, uint64_t now_ns);
  void restart();                          // the producer was replaced: nothing is on its way
  void save(uint64_t now_ns, bool force);  // the position, now and then
  bool done() const;                       // all there is has arrived

  std::atomic<uint64_t> acknowledged{0}, lost{0}, retries{0};
  uint64_t lag() const;  // any thread

 private:
  static constexpr size_t kWindow = 1000, kWindowBytes = 2 << 20;
  void rewind(uint64_t now_ns, bool wait);
  uint64_t read_more(uint64_t now_ns);
  bool send(KafkaProducer& producer, const History::Reader::Record& record, uint64_t now_ns);

  History& history_;
  History::Reader reader_;
  const std::string node_;
  AckWindow window_;
  std::deque<History::Reader::Record> read_;  // not yet given to the producer
  uint64_t read_seq_;
  uint64_t saved_, next_save_ns_ = 0;
  uint64_t hold_until_ns_ = 0, backoff_ns_ = 0;
  uint64_t single_until_ = 0;  // up to here one at a time, to find what is refused
  bool rewinding_ = false;
  std::atomic<uint64_t> position_;
};

// All metrics, once per interval. A snapshot that is due while the one before is still on its way
// is skipped: totals only grow, so the next one tells all.
class SnapshotPump {
 public:
  SnapshotPump(const Store& store, std::vector<const prometheus::Collectable*> own,
               std::string node, uint64_t interval_ns, uint64_t now_ns);

  uint64_t pump(KafkaProducer& producer, uint64_t now_ns);
  void delivered(rd_kafka_resp_err_t error);
  void restart();
  bool done() const { return !walking_ && in_flight_ == 0; }

  // due = whole + failed + skipped + (one that is on its way)
  std::atomic<uint64_t> due{0}, whole{0}, failed{0}, skipped{0};

 private:
  void begin();
  void read_more();
  void finish_if_over();

  const Store& store_;
  const std::vector<const prometheus::Collectable*> own_;
  const std::string node_;
  const uint64_t interval_ns_;
  uint64_t next_ns_;
  EventIds ids_;
  std::optional<MetricsJson> json_;
  Position at_;
  bool open_ = false;     // due, and neither whole nor failed yet
  bool walking_ = false;  // not all of it was read yet
  bool broken_ = false;
  std::vector<MetricsRecord> ready_;
  size_t next_ready_ = 0;
  size_t in_flight_ = 0;
};

// What this node is: at start, on change, and every interval.
class MetadataPump {
 public:
  MetadataPump(NodeInfo node, std::function<std::vector<ProbeInfo>()> probes, std::string schema,
               uint64_t interval_ns);

  uint64_t pump(KafkaProducer& producer, uint64_t now_ns);
  void delivered(rd_kafka_resp_err_t error);
  void restart();
  bool done() const { return !in_flight_; }

  std::atomic<uint64_t> acknowledged{0}, failed{0};

 private:
  const NodeInfo node_;
  const std::function<std::vector<ProbeInfo>()> probes_;
  const std::string schema_;
  const uint64_t interval_ns_;
  std::vector<ProbeInfo> sent_;
  uint64_t next_look_ns_ = 0, next_send_ns_ = 0;
  bool in_flight_ = false;
};

}  // namespace gopher
