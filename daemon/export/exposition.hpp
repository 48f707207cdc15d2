// exposition.hpp - numbers and header lines as Prometheus' two text formats want them.
// SPDX-License-Identifier: Apache-2.0
//
// Classic is text format 0.0.4, the other OpenMetrics 1.0
// (github.com/prometheus/docs/blob/main/content/docs/instrumenting/exposition_formats.md and
// github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md).
#pragma once

#include <prometheus/metric_type.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace gopher {

enum class Exposition { kClassic, kOpenMetrics };

std::string_view content_type(Exposition format);

// The longest text of a number.
inline constexpr size_t kNumberSize = 32;
// Writes at most kNumberSize characters; the end of them. Exact: reading it gives the same double.
char* put_number(double value, char* at);
// The text of a bucket's bound, the same in both formats: OpenMetrics has canonical forms ("1.0",
// "1e+06"), and a series that changes its `le` with the format would be two series.
std::string le_text(double bound);
// "seconds" for a name that ends so, "" if it ends in no known unit.
std::string_view unit_of(std::string_view family);
// What the samples are grouped by: OpenMetrics takes _total off counters and _info off infos.
std::string_view family_name(std::string_view metric, prometheus::MetricType type,
                             Exposition format);
// HELP, TYPE and, in OpenMetrics, UNIT.
void append_header(std::string_view metric, std::string_view help, prometheus::MetricType type,
                   Exposition format, std::string* out);

}  // namespace gopher
