// instrumentation.hpp - the daemon's own metrics, made of snapshots when they are asked for.
// SPDX-License-Identifier: Apache-2.0
//
// Nothing is kept twice: whoever counts something keeps the count, and a source here gives a copy.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bus/own_metrics.hpp"
#include "bus/store.hpp"

namespace gopher {

inline constexpr const char* kProbeStates[] = {"created", "running", "degraded", "failed",
                                               "stopped"};

struct ProbeSnapshot {
  std::string name, version;
  std::string state;   // one of kProbeStates
  std::string reason;  // of degraded and failed
  struct Hook {
    std::string hook, program;  // no program: wanted and not attached
  };
  std::vector<Hook> hooks;
  std::map<std::string, uint64_t> lost;  // by stage
  uint64_t cpu_ns = 0, map_bytes = 0, starts = 0, ring_records = 0;
  struct Events {
    std::string type;
    uint64_t produced = 0, sent = 0, folded = 0, dropped = 0;
  };
  std::vector<Events> events;
};

struct HistorySnapshot {
  uint64_t stored = 0, pruned = 0, lost = 0, errors = 0, pending = 0, bytes = 0;
  bool failing = false;
};

struct KafkaSnapshot {
  bool connected = false;
  uint64_t events = 0, snapshots = 0, metadata = 0;  // delivered
  uint64_t snapshots_due = 0, lost = 0, errors = 0;
  uint64_t lag = 0, queued = 0;
};

struct HttpSnapshot {
  uint64_t open = 0, accepted = 0, refused = 0, evicted = 0, cut = 0;
};

// Each may be empty, and is called on any thread, several at once. Nothing: that part is off.
struct SnapshotSources {
  std::function<std::vector<ProbeSnapshot>()> probes;
  std::function<size_t()> event_queue;
  std::function<std::optional<HistorySnapshot>()> history;
  std::function<std::optional<KafkaSnapshot>()> kafka;
  std::function<std::optional<HttpSnapshot>()> http;
};

class Instrumentation final : public prometheus::Collectable {
 public:
  Instrumentation(std::string version, const Store& store, SnapshotSources sources);

  // The families of kOwnMetrics that have something to say, in its order.
  std::vector<prometheus::MetricFamily> Collect() const override;
  void observe_scrape(double seconds) { scrapes_.Observe(seconds); }

 private:
  const std::string version_;
  const Store& store_;
  const SnapshotSources sources_;
  prometheus::Registry registry_;  // what is counted here and nowhere else
  prometheus::Histogram& scrapes_;
};

}  // namespace gopher
