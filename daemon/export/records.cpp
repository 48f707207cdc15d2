// records.cpp - snapshots of metrics and metadata as JSON.
// SPDX-License-Identifier: Apache-2.0
#include "export/records.hpp"

#include <sys/utsname.h>

#include <fstream>
#include <utility>

#include "bus/labels.hpp"

namespace gopher {
namespace {

Json labels_of(std::string_view text) {
  Json out = Json::object();
  std::string_view name;
  std::string value;
  while (next_label(&text, &name, &value)) out.set(name, Json::string(value));
  return out;
}

Json series_of(const gopher_metric& metric, const SeriesView& view) {
  Json out = Json::object();
  out.set("labels", labels_of(view.labels));
  if (metric.kind != GOPHER_HISTOGRAM) {
    out.set("value", Json::number(view.value));
    return out;
  }
  Json buckets = Json::array();
  uint64_t count = 0;
  for (uint64_t n : view.buckets) {
    buckets.push(Json::integer(n));
    count += n;
  }
  out.set("buckets", std::move(buckets));
  out.set("count", Json::integer(count));
  out.set("sum", Json::number(view.sum));
  return out;
}

Json series_of(prometheus::MetricType type, const prometheus::ClientMetric& metric) {
  Json labels = Json::object();
  for (const auto& label : metric.label) labels.set(label.name, Json::string(label.value));
  Json out = Json::object();
  out.set("labels", std::move(labels));
  if (type != prometheus::MetricType::Histogram) {
    const double value = type == prometheus::MetricType::Counter ? metric.counter.value
                         : type == prometheus::MetricType::Gauge ? metric.gauge.value
                                                                 : metric.untyped.value;
    out.set("value", Json::number(value));
    return out;
  }
  Json buckets = Json::array();
  uint64_t before = 0;
  for (const auto& bucket : metric.histogram.bucket) {
    buckets.push(Json::integer(uint64_t{bucket.cumulative_count - before}));
    before = bucket.cumulative_count;
  }
  out.set("buckets", std::move(buckets));
  out.set("count", Json::integer(uint64_t{metric.histogram.sample_count}));
  out.set("sum", Json::number(metric.histogram.sample_sum));
  return out;
}

// About what one series takes as JSON: every label value quoted anew, buckets as numbers.
size_t json_bytes(const SeriesView& view) {
  return 64 + view.labels.size() + view.labels.size() / 8 + 8 * view.buckets.size();
}

std::string rung_of(const std::string& program) {
  const size_t at = program.find("__");
  return at == std::string::npos ? program : program.substr(at + 2);
}

}  // namespace

const char* kind_name(uint32_t kind) {
  constexpr const char* kNames[] = {"unknown", "counter", "gauge", "histogram"};
  return kind <= GOPHER_HISTOGRAM ? kNames[kind] : kNames[0];
}

const char* kind_name(prometheus::MetricType type) {
  switch (type) {
    case prometheus::MetricType::Counter:
      return kind_name(uint32_t{GOPHER_COUNTER});
    case prometheus::MetricType::Histogram:
      return kind_name(uint32_t{GOPHER_HISTOGRAM});
    default:
      return kind_name(uint32_t{GOPHER_GAUGE});
  }
}

Json MetricsJson::begin(std::string_view probe, std::string_view metric, const char* kind,
                        bool last) {
  Json out = Json::object();
  out.set("time", Json::string(rfc3339(head_.time_ns)));
  out.set("node", Json::string(head_.node));
  out.set("snapshot", Json::string(head_.id));
  out.set("probe", Json::string(probe));
  out.set("metric", Json::string(metric));
  out.set("kind", Json::string(kind));
  out.set("part", Json::integer(part_++));
  out.set("last", Json::boolean(last));
  return out;
}

void MetricsJson::append(const Chunk& chunk, bool last, std::vector<MetricsRecord>* out) {
  const gopher_metric& metric = *chunk.metric;
  if (chunk.first) part_ = 0;
  size_t i = 0;
  do {
    Json series = Json::array();
    for (size_t bytes = 0; i < chunk.series.size() && bytes < kPartBytes; ++i) {
      bytes += json_bytes(chunk.series[i]);
      series.push(series_of(metric, chunk.series[i]));
    }
    const bool end = i == chunk.series.size();
    Json record = begin(chunk.probe, metric.name, kind_name(metric.kind), end && last);
    if (metric.kind == GOPHER_HISTOGRAM) {
      Json bounds = Json::array();
      for (uint32_t b = 0; b < metric.n_bounds; ++b) bounds.push(Json::number(metric.bounds[b]));
      record.set("bounds", std::move(bounds));
    }
    record.set("series", std::move(series));
    out->push_back({metric.name, record.print()});
  } while (i < chunk.series.size());
}

void MetricsJson::append(const prometheus::MetricFamily& family, std::vector<MetricsRecord>* out) {
  if (family.metric.empty() || family.type == prometheus::MetricType::Summary) return;
  part_ = 0;
  Json series = Json::array();
  for (const auto& metric : family.metric) series.push(series_of(family.type, metric));
  Json record = begin(kOwnProbe, family.name, kind_name(family.type), true);
  if (family.type == prometheus::MetricType::Histogram) {
    Json bounds = Json::array();
    const auto& buckets = family.metric.front().histogram.bucket;  // the last is +Inf
    for (size_t b = 0; b + 1 < buckets.size(); ++b)
      bounds.push(Json::number(buckets[b].upper_bound));
    record.set("bounds", std::move(bounds));
  }
  record.set("series", std::move(series));
  out->push_back({family.name, record.print()});
}

NodeInfo this_node(std::string node, std::string version) {
  NodeInfo out;
  out.node = std::move(node);
  out.version = std::move(version);
  std::ifstream("/proc/sys/kernel/random/boot_id") >> out.boot_id;
  utsname u;
  if (uname(&u) == 0) {
    out.kernel = u.release;
    out.arch = u.machine;
  }
  return out;
}

std::string metadata_json(const NodeInfo& node, const std::vector<ProbeInfo>& probes,
                          const std::string& schema, uint64_t time_ns) {
  Json list = Json::array();
  for (const ProbeInfo& p : probes) {
    Json hooks = Json::array();
    for (const auto& h : p.hooks) {
      Json hook = Json::object();
      hook.set("name", Json::string(h.name));
      hook.set("program", h.program.empty() ? Json::null() : Json::string(h.program));
      hook.set("rung", h.program.empty() ? Json::null() : Json::string(rung_of(h.program)));
      hooks.push(std::move(hook));
    }
    Json probe = Json::object();
    probe.set("name", Json::string(p.name));
    probe.set("version", Json::string(p.version));
    probe.set("state", Json::string(p.state));
    if (!p.reason.empty()) probe.set("reason", Json::string(p.reason));
    probe.set("hooks", std::move(hooks));
    list.push(std::move(probe));
  }
  Json out = Json::object();
  out.set("time", Json::string(rfc3339(time_ns)));
  out.set("node", Json::string(node.node));
  out.set("boot_id", Json::string(node.boot_id));
  out.set("version", Json::string(node.version));
  out.set("kernel", Json::string(node.kernel));
  out.set("arch", Json::string(node.arch));
  out.set("probes", std::move(list));
  out.set("schema", Json::raw(schema));
  return out.print();
}

}  // namespace gopher
