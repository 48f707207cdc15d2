// options.hpp - the daemon's own option tables and the structs they fill; probes bring theirs.
// SPDX-License-Identifier: Apache-2.0
//
// Strings and lists in these structs belong to the Config that filled them.
#pragma once

#include <gopher/probe.h>
#include <gopher/metric.hpp>

#include <cstddef>
#include <cstdint>

namespace gopher {

struct DaemonOptions {
  double interval_s;
  const char* log_level;
  const char* state_dir;
  const char* node_name;
  int64_t workers;
  int64_t series_total, series_per_metric, series_ttl_s;
  int64_t events_per_minute, event_queue;
  int64_t stuck_after_s;
};
inline constexpr const char* kLogLevels[] = {"error", "warning", "info", "debug"};

#define GOPHER_OPTION(Struct, field, opt_type, dflt, lo, hi, unit_, help_)                     \
  {                                                                                            \
    .name = #field, .help = help_, .unit = unit_, .default_value = dflt, .min = lo, .max = hi, \
    .type = opt_type, .offset = offsetof(Struct, field)                                        \
  }

inline constexpr auto kDaemonOptions = option_table({
    GOPHER_OPTION(DaemonOptions, interval_s, GOPHER_OPT_DOUBLE, "5.0", 0.1, 3600, "s",
                  "How often probes are asked for their numbers."),
    {.name = "log_level",
     .help = "The least important lines that are logged.",
     .unit = "",
     .default_value = "\"info\"",
     .choices = kLogLevels,
     .type = GOPHER_OPT_STRING,
     .offset = offsetof(DaemonOptions, log_level),
     .n_choices = 4},
    GOPHER_OPTION(DaemonOptions, state_dir, GOPHER_OPT_STRING, "\"/var/lib/gopher\"", 0, 0, "",
                  "Folder of the local event store and the lock; one gopherd per folder."),
    GOPHER_OPTION(DaemonOptions, node_name, GOPHER_OPT_STRING, "\"\"", 0, 0, "",
                  "Name of this node in events and Kafka keys; empty: the host name."),
    GOPHER_OPTION(DaemonOptions, workers, GOPHER_OPT_INT, "1", 1, 16, "",
                  "Threads that run probes; each probe stays on one."),
    GOPHER_OPTION(DaemonOptions, series_total, GOPHER_OPT_INT, "100000", 100, 10000000, "",
                  "Most series of all probes; what is beyond is added up in series named `other`."),
    GOPHER_OPTION(DaemonOptions, series_per_metric, GOPHER_OPT_INT, "20000", 10, 10000000, "",
                  "Most series of one metric that does not set its own limit."),
    GOPHER_OPTION(DaemonOptions, series_ttl_s, GOPHER_OPT_INT, "300", 10, 604800, "s",
                  "A series that got nothing for this long is dropped."),
    GOPHER_OPTION(DaemonOptions, events_per_minute, GOPHER_OPT_INT, "60", 1, 100000, "",
                  "Most events of one type and process in a minute; the rest is folded."),
    GOPHER_OPTION(DaemonOptions, event_queue, GOPHER_OPT_INT, "8192", 16, 1000000, "",
                  "Most events that wait for the local event store."),
    GOPHER_OPTION(DaemonOptions, stuck_after_s, GOPHER_OPT_INT, "30", 1, 3600, "s",
                  "A worker that does not come back from a probe for this long is reported stuck."),
});

struct PrometheusOptions {
  bool enabled;
  const char* listen;
  int64_t threads, connections, timeout_s;
};
inline constexpr auto kPrometheusOptions = option_table({
    GOPHER_OPTION(PrometheusOptions, enabled, GOPHER_OPT_BOOL, "true", 0, 0, "",
                  "Serve /metrics and /healthz."),
    GOPHER_OPTION(PrometheusOptions, listen, GOPHER_OPT_STRING, "\"127.0.0.1:8888\"", 0, 0, "",
                  "Address and port, IPv6 in brackets. There is no authentication: keep it local."),
    GOPHER_OPTION(PrometheusOptions, threads, GOPHER_OPT_INT, "2", 1, 16, "",
                  "Threads that answer scrapes."),
    GOPHER_OPTION(PrometheusOptions, connections, GOPHER_OPT_INT, "64", 1, 1024, "",
                  "Most connections at a time; further ones are refused."),
    GOPHER_OPTION(PrometheusOptions, timeout_s, GOPHER_OPT_INT, "10", 1, 600, "s",
                  "A connection that is idle for this long is closed."),
});

struct KafkaOptions {
  bool enabled;
  const char* brokers;
  const char* metrics_topic;
  const char* events_topic;
  const char* metadata_topic;
  double metrics_interval_s;
  double metadata_interval_s;
  gopher_strings properties;
};
inline constexpr auto kKafkaOptions = option_table({
    GOPHER_OPTION(KafkaOptions, enabled, GOPHER_OPT_BOOL, "false", 0, 0, "",
                  "Send metrics, events and metadata to Kafka."),
    GOPHER_OPTION(KafkaOptions, brokers, GOPHER_OPT_STRING, "\"127.0.0.1:9092\"", 0, 0, "",
                  "Comma-separated host:port of brokers to start from."),
    GOPHER_OPTION(KafkaOptions, metrics_topic, GOPHER_OPT_STRING, "\"gopher.metrics\"", 0, 0, "",
                  "Topic of metric snapshots; empty: none are sent."),
    GOPHER_OPTION(KafkaOptions, events_topic, GOPHER_OPT_STRING, "\"gopher.events\"", 0, 0, "",
                  "Topic of events; empty: none are sent."),
    GOPHER_OPTION(KafkaOptions, metadata_topic, GOPHER_OPT_STRING, "\"gopher.metadata\"", 0, 0, "",
                  "Topic of node metadata, made for compaction; empty: none is sent."),
    GOPHER_OPTION(KafkaOptions, metrics_interval_s, GOPHER_OPT_DOUBLE, "15.0", 1, 3600, "s",
                  "How often a snapshot of all metrics is sent."),
    GOPHER_OPTION(KafkaOptions, metadata_interval_s, GOPHER_OPT_DOUBLE, "300.0", 5, 86400, "s",
                  "How often metadata is sent again when nothing changed."),
    GOPHER_OPTION(
        KafkaOptions, properties, GOPHER_OPT_LIST, "[]", 0, 0, "",
        "Properties for librdkafka, each \"name=value\", e.g. \"security.protocol=ssl\"."),
});

struct HistoryOptions {
  int64_t max_age_h;
  int64_t max_mib;
};
inline constexpr auto kHistoryOptions = option_table({
    GOPHER_OPTION(HistoryOptions, max_age_h, GOPHER_OPT_INT, "168", 1, 8760, "h",
                  "Events older than this are dropped from the local store."),
    GOPHER_OPTION(
        HistoryOptions, max_mib, GOPHER_OPT_INT, "256", 1, 1048576, "MiB",
        "Most space of the local event store; the oldest go first, undelivered ones last."),
});

// What is watched, for every probe. Empty lists: everything.
struct FilterOptions {
  gopher_strings pids;
  gopher_strings cgroups;
  gopher_strings devices;
};
inline constexpr auto kFilterOptions = option_table({
    GOPHER_OPTION(FilterOptions, pids, GOPHER_OPT_LIST, "[]", 0, 0, "",
                  "Process ids to watch; empty: all."),
    GOPHER_OPTION(FilterOptions, cgroups, GOPHER_OPT_LIST, "[]", 0, 0, "",
                  "Cgroup paths to watch, as in /proc/PID/cgroup; empty: all."),
    GOPHER_OPTION(FilterOptions, devices, GOPHER_OPT_LIST, "[]", 0, 0, "",
                  "Block devices to watch, as lsblk names them; empty: all."),
});

}  // namespace gopher
