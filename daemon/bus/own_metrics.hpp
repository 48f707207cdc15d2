// own_metrics.hpp - the table of the daemon's own metrics; the docs come from it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/metric_type.h>
#include <gopher/metric.hpp>

#include <cstddef>
#include <iterator>
#include <span>
#include <string_view>

namespace gopher {

struct OwnMetric {
  static constexpr size_t kMaxLabels = 3;
  const char* name;
  const char* help;
  prometheus::MetricType type;
  const char* labels[kMaxLabels] = {};

  constexpr size_t n_labels() const {
    size_t n = 0;
    while (n < kMaxLabels && labels[n]) ++n;
    return n;
  }
};

namespace detail {
inline constexpr auto kCounter = prometheus::MetricType::Counter;
inline constexpr auto kGauge = prometheus::MetricType::Gauge;
inline constexpr auto kHistogram = prometheus::MetricType::Histogram;
}  // namespace detail

// In the order of the page.
inline constexpr OwnMetric kOwnMetrics[] = {
    {"gopher_build_info",
     "What runs: gopherd's version and the probe ABI that it speaks.",
     detail::kGauge,
     {"version", "abi"}},
    {"gopher_process_resident_memory_bytes", "Memory of gopherd that is resident.", detail::kGauge},
    {"gopher_process_resident_memory_peak_bytes", "Most memory that was resident since the start.",
     detail::kGauge},
    {"gopher_process_cpu_seconds_total", "CPU time of gopherd, user and system.", detail::kCounter},
    {"gopher_process_start_time_seconds", "When gopherd started, since the epoch.", detail::kGauge},
    {"gopher_process_uptime_seconds", "How long gopherd has been running.", detail::kGauge},
    {"gopher_process_open_fds", "File descriptors that gopherd has open.", detail::kGauge},
    {"gopher_process_threads", "Threads of gopherd.", detail::kGauge},

    {"gopher_probe_up", "Whether the probe runs, if degraded or not.", detail::kGauge, {"probe"}},
    {"gopher_probe_state",
     "The state that the probe is in: 1 for it, 0 for the others.",
     detail::kGauge,
     {"probe", "state"}},
    {"gopher_probe_info", "The probe's version.", detail::kGauge, {"probe", "version"}},
    {"gopher_probe_failure_info",
     "Why the probe failed or is degraded.",
     detail::kGauge,
     {"probe", "reason"}},
    {"gopher_probe_hook_info",
     "The program by which the probe sees a hook.",
     detail::kGauge,
     {"probe", "hook", "program"}},
    {"gopher_probe_hook_up",
     "Whether a hook that the probe wants is attached.",
     detail::kGauge,
     {"probe", "hook"}},
    {"gopher_probe_callback_cpu_seconds_total",
     "CPU time that gopherd spent in the probe's code, without its BPF programs.",
     detail::kCounter,
     {"probe"}},
    {"gopher_probe_map_bytes", "Kernel memory of the probe's BPF maps.", detail::kGauge, {"probe"}},
    {"gopher_probe_restarts_total",
     "Successful starts of the probe after its first.",
     detail::kCounter,
     {"probe"}},
    {"gopher_probe_ring_records_total",
     "Records that were read from the probe's ring buffers.",
     detail::kCounter,
     {"probe"}},

    {"gopher_lost_total",
     "What was lost, by the stage that lost it; probe `daemon` where it is no probe's.",
     detail::kCounter,
     {"probe", "stage"}},
    {"gopher_samples_total",
     "Samples that the probe gave to the series store.",
     detail::kCounter,
     {"probe"}},
    {"gopher_series", "Series of the probe in the store.", detail::kGauge, {"probe"}},
    {"gopher_series_born_total", "Series of the probe that began.", detail::kCounter, {"probe"}},
    {"gopher_series_expired_total",
     "Series of the probe that ended, having got nothing for long.",
     detail::kCounter,
     {"probe"}},
    {"gopher_series_folded_total",
     "Samples beyond the series budget: added to the metric's `other` series, or a gauge's.",
     detail::kCounter,
     {"probe", "metric"}},

    {"gopher_events_produced_total",
     "Events that the probe produced: sent + folded + dropped.",
     detail::kCounter,
     {"probe", "type"}},
    {"gopher_events_sent_total",
     "Events that went to the local event store.",
     detail::kCounter,
     {"probe", "type"}},
    {"gopher_events_folded_total",
     "Events beyond the rate limit, counted in a later one.",
     detail::kCounter,
     {"probe", "type"}},
    {"gopher_events_dropped_total",
     "Events that found the queue full.",
     detail::kCounter,
     {"probe", "type"}},
    {"gopher_event_queue_length", "Events that wait for the local event store.", detail::kGauge},

    {"gopher_history_stored_total", "Events written to the local event store.", detail::kCounter},
    {"gopher_history_pruned_total", "Delivered events that were removed by age or for space.",
     detail::kCounter},
    {"gopher_history_errors_total", "Writes to the local event store that failed.",
     detail::kCounter},
    {"gopher_history_pending", "Events off the queue that are not written yet.", detail::kGauge},
    {"gopher_history_size_bytes", "Space that the local event store takes on disk.",
     detail::kGauge},
    {"gopher_history_up", "Whether the local event store can be written.", detail::kGauge},

    {"gopher_kafka_up", "Whether a broker is connected.", detail::kGauge},
    {"gopher_kafka_delivered_total",
     "Acknowledged: events, snapshots of all metrics, metadata records.",
     detail::kCounter,
     {"what"}},
    {"gopher_kafka_snapshots_due_total", "Snapshots of all metrics that were due.",
     detail::kCounter},
    {"gopher_kafka_errors_total", "Records that the broker or the client refused, retried or not.",
     detail::kCounter},
    {"gopher_kafka_lag", "Events in the local store that wait for an acknowledgement.",
     detail::kGauge},
    {"gopher_kafka_queue_length", "Records in the Kafka client's queue.", detail::kGauge},

    {"gopher_http_connections", "HTTP connections that are open.", detail::kGauge},
    {"gopher_http_accepted_total", "HTTP connections that were accepted.", detail::kCounter},
    {"gopher_http_closed_total",
     "HTTP connections that were closed: refused when full, evicted for a new one, cut as too "
     "slow.",
     detail::kCounter,
     {"why"}},
    {"gopher_scrape_duration_seconds",
     "Time to write a metrics page, without waiting for its client.", detail::kHistogram},
};
inline constexpr size_t kOwnMetricCount = std::size(kOwnMetrics);
// Of gopher_scrape_duration_seconds, the only histogram among them.
inline constexpr double kScrapeBounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                           0.05,   0.1,   0.25,   0.5,   1};

namespace detail {

consteval bool check_own_metrics() {
  for (const OwnMetric& m : kOwnMetrics) {
    std::string_view name = m.name;
    require(is_name(name) && name.starts_with("gopher_"), "a metric is named gopher_...");
    require(name.ends_with("_total") == (m.type == kCounter),
            "counters and only they end in _total");
    require(unit_is_base(name), "a metric has a base unit");
    require(is_sentence(m.help), "help is a sentence: capital letter, full stop");
  }
  no_duplicates(kOwnMetrics, kOwnMetricCount);
  return true;
}
static_assert(check_own_metrics());

consteval auto own_table() {
  Table<gopher_metric, kOwnMetricCount> t;
  for (size_t i = 0; i < kOwnMetricCount; ++i) {
    const OwnMetric& own = kOwnMetrics[i];
    gopher_metric& m = t.items[i];
    m.name = own.name;
    m.help = own.help;
    m.kind = own.type == kCounter ? GOPHER_COUNTER
             : own.type == kGauge ? GOPHER_GAUGE
                                  : GOPHER_HISTOGRAM;
    m.n_labels = static_cast<uint32_t>(own.n_labels());
    for (uint32_t l = 0; l < m.n_labels; ++l) m.labels[l] = label(own.labels[l], GOPHER_STR);
    if (m.kind != GOPHER_HISTOGRAM) continue;
    m.bounds = kScrapeBounds;
    m.n_bounds = std::size(kScrapeBounds);
  }
  return t;
}
inline constexpr auto kOwnTable = own_table();

}  // namespace detail

// The same as a probe's table, for what is generated from tables.
inline std::span<const gopher_metric> own_metrics() {
  return {detail::kOwnTable.items, kOwnMetricCount};
}

// The place in the table of a metric; a name that is not there does not compile.
consteval size_t own_index(std::string_view name) {
  for (size_t i = 0; i < kOwnMetricCount; ++i)
    if (kOwnMetrics[i].name == name) return i;
  detail::table_error("no such name in the table");
  return 0;
}

}  // namespace gopher
