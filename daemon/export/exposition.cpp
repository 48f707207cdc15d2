// exposition.cpp - numbers and header lines as Prometheus' two text formats want them.
// SPDX-License-Identifier: Apache-2.0
#include "export/exposition.hpp"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace gopher {
namespace {

using prometheus::MetricType;

// Base units of the OpenMetrics specification, and hertz.
constexpr std::string_view kUnits[] = {"seconds", "bytes",  "ratio", "celsius", "joules",
                                       "grams",   "meters", "volts", "amperes", "hertz"};

bool is_info(std::string_view metric, MetricType type) {
  return type == MetricType::Gauge && metric.ends_with("_info");
}

std::string_view type_text(std::string_view metric, MetricType type, Exposition format) {
  bool open = format == Exposition::kOpenMetrics;
  switch (type) {
    case MetricType::Counter:
      return "counter";
    case MetricType::Gauge:
      return open && is_info(metric, type) ? "info" : "gauge";
    case MetricType::Summary:
      return "summary";
    case MetricType::Histogram:
      return "histogram";
    default:
      return open ? "unknown" : "untyped";
  }
}

void append_help(std::string_view help, Exposition format, std::string* out) {
  for (char c : help) {
    if (c == '\n') {
      out->append("\\n");
      continue;
    }
    if (c == '\\' || (c == '"' && format == Exposition::kOpenMetrics)) out->push_back('\\');
    out->push_back(c);
  }
}

char* put_text(std::string_view text, char* at) {
  std::memcpy(at, text.data(), text.size());
  return at + text.size();
}

}  // namespace

std::string_view content_type(Exposition format) {
  return format == Exposition::kOpenMetrics
             ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
             : "text/plain; version=0.0.4; charset=utf-8";
}

char* put_number(double value, char* at) {
  // Counters are whole as a rule; this is 4 times as fast as the way through double, and reads
  // 100000 where that would read 1e+05.
  if (value > -1e15 && value < 1e15) {
    auto whole = static_cast<int64_t>(value);
    if (static_cast<double>(whole) == value) return std::to_chars(at, at + kNumberSize, whole).ptr;
  } else if (!std::isfinite(value)) {
    return put_text(std::isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf", at);
  }
  return std::to_chars(at, at + kNumberSize, value).ptr;
}

std::string le_text(double bound) {
  char text[kNumberSize];
  if (!std::isfinite(bound)) return {text, put_number(bound, text)};
  double size = std::fabs(bound);
  bool fixed = size == 0 || (size >= 1e-4 && size < 1e6);  // as Python's and Go's %g do
  auto end = std::to_chars(text, text + sizeof text, bound,
                           fixed ? std::chars_format::fixed : std::chars_format::scientific)
                 .ptr;
  std::string out(text, end);
  if (fixed && out.find('.') == std::string::npos) out += ".0";
  return out;
}

std::string_view unit_of(std::string_view family) {
  for (std::string_view unit : kUnits)
    if (family.size() > unit.size() + 1 && family.ends_with(unit) &&
        family[family.size() - unit.size() - 1] == '_')
      return unit;
  return "";
}

std::string_view family_name(std::string_view metric, MetricType type, Exposition format) {
  if (format == Exposition::kClassic) return metric;
  if (type == MetricType::Counter && metric.ends_with("_total")) metric.remove_suffix(6);
  if (is_info(metric, type)) metric.remove_suffix(5);
  return metric;
}

void append_header(std::string_view metric, std::string_view help, MetricType type,
                   Exposition format, std::string* out) {
  std::string_view family = family_name(metric, type, format);
  out->append("# HELP ").append(family).push_back(' ');
  append_help(help, format, out);
  out->append("\n# TYPE ").append(family).push_back(' ');
  out->append(type_text(metric, type, format)).push_back('\n');
  std::string_view unit = unit_of(family);
  if (format == Exposition::kOpenMetrics && !unit.empty())
    out->append("# UNIT ").append(family).append(" ").append(unit).push_back('\n');
}

}  // namespace gopher
