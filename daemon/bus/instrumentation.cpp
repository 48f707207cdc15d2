// instrumentation.cpp - the daemon's own metrics, made of snapshots when they are asked for.
// SPDX-License-Identifier: Apache-2.0
#include "bus/instrumentation.hpp"

#include <array>
#include <iterator>
#include <string_view>

#include "bus/process_usage.hpp"

namespace gopher {
namespace {

using prometheus::MetricFamily;

// A reason is a sentence, sometimes with a verifier's last words in it.
constexpr size_t kMaxReason = 200;

// Whose a loss is that no probe caused.
constexpr const char* kDaemon = "daemon";

class Families {
 public:
  Families() {
    for (size_t i = 0; i < kOwnMetricCount; ++i) {
      all_[i].name = kOwnMetrics[i].name;
      all_[i].help = kOwnMetrics[i].help;
      all_[i].type = kOwnMetrics[i].type;
    }
  }
  // A wrong name or number of labels does not compile.
  template <FixedString kName, class V, class... L>
  void add(V value, const L&... labels) {
    constexpr size_t kIndex = own_index(kName.view());
    constexpr const OwnMetric& kDef = kOwnMetrics[kIndex];
    static_assert(sizeof...(L) == kDef.n_labels(), "as many labels as the table declares");
    prometheus::ClientMetric m;
    if constexpr (kDef.type == prometheus::MetricType::Counter)
      m.counter.value = static_cast<double>(value);
    else
      m.gauge.value = static_cast<double>(value);
    size_t i = 0;
    (m.label.push_back({kDef.labels[i++], std::string(labels)}), ...);
    all_[kIndex].metric.push_back(std::move(m));
  }
  void take(std::vector<MetricFamily> families) {
    for (MetricFamily& from : families)
      for (MetricFamily& to : all_)
        if (to.name == from.name) {
          to.metric = std::move(from.metric);
          break;
        }
  }
  std::vector<MetricFamily> finish() {
    std::vector<MetricFamily> out;
    for (MetricFamily& f : all_)
      if (!f.metric.empty()) out.push_back(std::move(f));
    return out;
  }

 private:
  std::array<MetricFamily, kOwnMetricCount> all_;
};

std::string bounded(std::string_view reason) {
  if (reason.size() <= kMaxReason) return std::string(reason);
  return std::string(reason.substr(0, kMaxReason)) + "...";
}

void add_process(Families& f) {
  ProcessUsage u = process_usage();
  f.add<"gopher_process_resident_memory_bytes">(u.resident_bytes);
  f.add<"gopher_process_resident_memory_peak_bytes">(u.peak_bytes);
  f.add<"gopher_process_cpu_seconds_total">(u.cpu_s);
  f.add<"gopher_process_start_time_seconds">(u.start_time_s);
  f.add<"gopher_process_uptime_seconds">(u.uptime_s);
  f.add<"gopher_process_open_fds">(u.open_fds);
  f.add<"gopher_process_threads">(u.threads);
}

void add_hooks(Families& f, const ProbeSnapshot& p) {
  for (const auto& hook : p.hooks) {
    if (!hook.program.empty()) f.add<"gopher_probe_hook_info">(1, p.name, hook.hook, hook.program);
    f.add<"gopher_probe_hook_up">(!hook.program.empty(), p.name, hook.hook);
  }
}

void add_events(Families& f, const ProbeSnapshot& p) {
  uint64_t dropped = 0;
  for (const auto& e : p.events) {
    f.add<"gopher_events_produced_total">(e.produced, p.name, e.type);
    f.add<"gopher_events_sent_total">(e.sent, p.name, e.type);
    f.add<"gopher_events_folded_total">(e.folded, p.name, e.type);
    f.add<"gopher_events_dropped_total">(e.dropped, p.name, e.type);
    dropped += e.dropped;
  }
  if (!p.events.empty()) f.add<"gopher_lost_total">(dropped, p.name, "event_queue");
}

void add_probe(Families& f, const ProbeSnapshot& p) {
  f.add<"gopher_probe_up">(p.state == "running" || p.state == "degraded", p.name);
  for (const char* state : kProbeStates)
    f.add<"gopher_probe_state">(p.state == state, p.name, state);
  f.add<"gopher_probe_info">(1, p.name, p.version);
  if (!p.reason.empty()) f.add<"gopher_probe_failure_info">(1, p.name, bounded(p.reason));
  add_hooks(f, p);
  f.add<"gopher_probe_callback_cpu_seconds_total">(static_cast<double>(p.cpu_ns) / 1e9, p.name);
  f.add<"gopher_probe_map_bytes">(p.map_bytes, p.name);
  f.add<"gopher_probe_restarts_total">(p.starts ? p.starts - 1 : 0, p.name);
  f.add<"gopher_probe_ring_records_total">(p.ring_records, p.name);
  for (const auto& [stage, n] : p.lost) f.add<"gopher_lost_total">(n, p.name, stage);
  add_events(f, p);
}

void add_shard(Families& f, const ProbeTables& probe, const Shard& shard) {
  Shard::Stats s = shard.stats();
  f.add<"gopher_samples_total">(s.samples, probe.name);
  f.add<"gopher_series">(s.series, probe.name);
  f.add<"gopher_series_born_total">(s.born, probe.name);
  f.add<"gopher_series_expired_total">(s.expired, probe.name);
  f.add<"gopher_lost_total">(s.refused, probe.name, "refused_sample");
  auto folded = shard.folded();
  for (size_t i = 0; i < folded.size(); ++i)
    f.add<"gopher_series_folded_total">(folded[i], probe.name, probe.metrics[i].name);
}

void add_history(Families& f, const HistorySnapshot& h) {
  f.add<"gopher_history_stored_total">(h.stored);
  f.add<"gopher_history_pruned_total">(h.pruned);
  f.add<"gopher_history_errors_total">(h.errors);
  f.add<"gopher_history_pending">(h.pending);
  f.add<"gopher_history_size_bytes">(h.bytes);
  f.add<"gopher_history_up">(!h.failing);
  f.add<"gopher_lost_total">(h.lost, kDaemon, "history");
}

void add_kafka(Families& f, const KafkaSnapshot& k) {
  f.add<"gopher_kafka_up">(k.connected);
  f.add<"gopher_kafka_delivered_total">(k.events, "events");
  f.add<"gopher_kafka_delivered_total">(k.snapshots, "snapshots");
  f.add<"gopher_kafka_delivered_total">(k.metadata, "metadata");
  f.add<"gopher_kafka_snapshots_due_total">(k.snapshots_due);
  f.add<"gopher_kafka_errors_total">(k.errors);
  f.add<"gopher_kafka_lag">(k.lag);
  f.add<"gopher_kafka_queue_length">(k.queued);
  f.add<"gopher_lost_total">(k.lost, kDaemon, "kafka");
}

void add_http(Families& f, const HttpSnapshot& h) {
  f.add<"gopher_http_connections">(h.open);
  f.add<"gopher_http_accepted_total">(h.accepted);
  f.add<"gopher_http_closed_total">(h.refused, "refused");
  f.add<"gopher_http_closed_total">(h.evicted, "evicted");
  f.add<"gopher_http_closed_total">(h.cut, "cut");
}

prometheus::Histogram& make_scrapes(prometheus::Registry& registry) {
  constexpr const OwnMetric& kDef = kOwnMetrics[own_index("gopher_scrape_duration_seconds")];
  auto& family = prometheus::BuildHistogram().Name(kDef.name).Help(kDef.help).Register(registry);
  return family.Add({}, prometheus::Histogram::BucketBoundaries(std::begin(kScrapeBounds),
                                                                std::end(kScrapeBounds)));
}

}  // namespace

Instrumentation::Instrumentation(std::string version, const Store& store, SnapshotSources sources)
    : version_(std::move(version)),
      store_(store),
      sources_(std::move(sources)),
      scrapes_(make_scrapes(registry_)) {}

std::vector<MetricFamily> Instrumentation::Collect() const {
  Families f;
  f.add<"gopher_build_info">(1, version_, std::to_string(GOPHER_PROBE_ABI));
  add_process(f);
  if (sources_.probes)
    for (const ProbeSnapshot& p : sources_.probes()) add_probe(f, p);
  store_.for_each_shard([&](const ProbeTables& p, const Shard& s) { add_shard(f, p, s); });
  if (sources_.event_queue) f.add<"gopher_event_queue_length">(sources_.event_queue());
  if (sources_.history)
    if (auto h = sources_.history()) add_history(f, *h);
  if (sources_.kafka)
    if (auto k = sources_.kafka()) add_kafka(f, *k);
  if (sources_.http)
    if (auto h = sources_.http()) add_http(f, *h);
  f.take(registry_.Collect());
  return f.finish();
}

}  // namespace gopher
