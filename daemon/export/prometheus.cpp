// prometheus.cpp - the metrics page, written piece by piece as the client takes it.
// SPDX-License-Identifier: Apache-2.0
#include "export/prometheus.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>

#include "bus/labels.hpp"

namespace gopher {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricType type_of(const gopher_metric& metric) {
  switch (metric.kind) {
    case GOPHER_COUNTER:
      return MetricType::Counter;
    case GOPHER_GAUGE:
      return MetricType::Gauge;
    default:
      return MetricType::Histogram;
  }
}

inline char* put(std::string_view text, char* at) {
  std::memcpy(at, text.data(), text.size());
  return at + text.size();
}

inline char* put_count(uint64_t count, char* at) {
  return std::to_chars(at, at + kNumberSize, count).ptr;
}

// `name{labels} value`, one line of the daemon's own metrics.
void append_line(std::string_view name, const std::string& labels, double value, std::string* out) {
  out->append(name);
  if (!labels.empty()) out->append("{").append(labels).push_back('}');
  char number[kNumberSize];
  out->append(" ").append(number, put_number(value, number)).push_back('\n');
}

std::string with(std::string labels, std::string_view name, double bound) {
  append_label(name, le_text(bound), &labels);
  return labels;
}

void append_histogram(const std::string& name, const std::string& labels,
                      const ClientMetric::Histogram& h, std::string* out) {
  bool has_inf = false;
  for (const auto& bucket : h.bucket) {
    append_line(name + "_bucket", with(labels, "le", bucket.upper_bound),
                static_cast<double>(bucket.cumulative_count), out);
    has_inf |= bucket.upper_bound == std::numeric_limits<double>::infinity();
  }
  auto count = static_cast<double>(h.sample_count);
  if (!has_inf)
    append_line(name + "_bucket", with(labels, "le", std::numeric_limits<double>::infinity()),
                count, out);
  append_line(name + "_sum", labels, h.sample_sum, out);
  append_line(name + "_count", labels, count, out);
}

}  // namespace

PrometheusPage::PrometheusPage(const Store& store,
                               std::span<const prometheus::Collectable* const> own,
                               Exposition format)
    : store_(store), format_(format) {
  for (const prometheus::Collectable* source : own) {
    auto families = source->Collect();
    std::move(families.begin(), families.end(), std::back_inserter(own_));
  }
}

size_t PrometheusPage::read(char* buffer, size_t size) {
  Out out{buffer, buffer + size};
  while (true) {
    drain(&out);
    if (out.room() == 0) break;
    if (stage_ == kOwn) {
      if (!next_own()) stage_ = kStore;
    } else if (stage_ == kStore) {
      read_store(&out);
    } else {
      break;
    }
  }
  return size - out.room();
}

void PrometheusPage::drain(Out* out) {
  size_t n = std::min(out->room(), spill_.size() - spilled_);
  out->at = put({spill_.data() + spilled_, n}, out->at);
  spilled_ += n;
  if (spilled_ == spill_.size()) {
    spill_.clear();
    spilled_ = 0;
  }
}

// Puts the next own metric, with the header if it is the first of its family, into the spill.
bool PrometheusPage::next_own() {
  while (family_ < own_.size()) {
    const MetricFamily& family = own_[family_];
    if (metric_ == family.metric.size()) {
      ++family_;
      metric_ = 0;
      continue;
    }
    if (metric_ == 0) append_header(family.name, family.help, family.type, format_, &spill_);
    append_own(family, family.metric[metric_++]);
    return true;
  }
  own_.clear();
  return false;
}

void PrometheusPage::append_own(const MetricFamily& family, const ClientMetric& metric) {
  std::string labels;
  for (const auto& label : metric.label) append_label(label.name, label.value, &labels);
  std::string name = family.name;
  switch (family.type) {
    case MetricType::Counter:
      if (format_ == Exposition::kOpenMetrics && !name.ends_with("_total")) name += "_total";
      return append_line(name, labels, metric.counter.value, &spill_);
    case MetricType::Gauge:
      return append_line(name, labels, metric.gauge.value, &spill_);
    case MetricType::Histogram:
      return append_histogram(name, labels, metric.histogram, &spill_);
    case MetricType::Summary:
      for (const auto& q : metric.summary.quantile)
        append_line(name, with(labels, "quantile", q.quantile), q.value, &spill_);
      append_line(name + "_sum", labels, metric.summary.sample_sum, &spill_);
      return append_line(name + "_count", labels, static_cast<double>(metric.summary.sample_count),
                         &spill_);
    default:
      return append_line(name, labels, metric.untyped.value, &spill_);
  }
}

void PrometheusPage::begin(const gopher_metric& metric) {
  append_header(metric.name, metric.help, type_of(metric), format_, &spill_);
  std::string name = metric.name;
  const char* brace = metric.n_labels ? "{" : "";
  head_ = {};
  head_.open = name + brace;
  if (metric.kind != GOPHER_HISTOGRAM) {
    head_.fixed = head_.open.size() + 4 + kNumberSize;
    return;
  }
  head_.bucket = name + "_bucket{";
  head_.sum = name + "_sum" + brace;
  head_.count = name + "_count" + brace;
  for (uint32_t b = 0; b <= metric.n_bounds; ++b) {
    double bound = b < metric.n_bounds ? metric.bounds[b] : std::numeric_limits<double>::infinity();
    head_.le.push_back((metric.n_labels ? ",le=\"" : "le=\"") + le_text(bound) + "\"} ");
    head_.fixed += head_.bucket.size() + head_.le.back().size() + kNumberSize + 1;
  }
  head_.fixed += head_.sum.size() + head_.count.size() + 2 * (4 + kNumberSize);
  head_.lines = metric.n_bounds + 3;
}

char* PrometheusPage::put_series(const SeriesView& series, char* at) const {
  std::string_view close = series.labels.empty() ? " " : "} ";
  if (head_.le.empty()) {
    at = put(close, put(series.labels, put(head_.open, at)));
    at = put_number(series.value, at);
    *at++ = '\n';
    return at;
  }
  uint64_t count = 0;
  for (size_t b = 0; b < series.buckets.size(); ++b) {
    count += series.buckets[b];
    at = put(head_.le[b], put(series.labels, put(head_.bucket, at)));
    at = put_count(count, at);
    *at++ = '\n';
  }
  at = put(close, put(series.labels, put(head_.sum, at)));
  at = put_number(series.sum, at);
  *at++ = '\n';
  at = put(close, put(series.labels, put(head_.count, at)));
  at = put_count(count, at);
  *at++ = '\n';
  return at;
}

// Fills the buffer with series. One that does not fit goes through the spill.
void PrometheusPage::read_store(Out* out) {
  Store::Cursor cursor(store_, at_);
  while (true) {
    size_t want = std::min(out->room() / series_size_ + 2, Chunk::kMax);
    if (!cursor.next(&chunk_, want)) {
      stage_ = kEnd;
      if (format_ == Exposition::kOpenMetrics) spill_ = "# EOF\n";
      return;
    }
    at_ = cursor.position();
    if (chunk_.first) {
      begin(*chunk_.metric);
      drain(out);
    }
    for (size_t i = 0; i < chunk_.series.size(); ++i) {
      const SeriesView& series = chunk_.series[i];
      if (!spill_.empty()) {
        at_.slot = series.slot;
        return;
      }
      size_t most = head_.fixed + head_.lines * series.labels.size();
      if (out->room() >= most) {
        char* before = out->at;
        out->at = put_series(series, before);
        series_size_ = static_cast<size_t>(out->at - before);
      } else {
        spill_.resize(most);
        spill_.resize(static_cast<size_t>(put_series(series, spill_.data()) - spill_.data()));
        drain(out);
      }
    }
    if (!spill_.empty() || out->room() == 0) return;
  }
}

}  // namespace gopher
