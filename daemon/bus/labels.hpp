// labels.hpp - label text as it stands between the braces of a sample: made, escaped, read back.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/probe.h>

#include <string>
#include <string_view>

#include "bus/text.hpp"

namespace gopher {

// Appends `value` as it stands between the quotes of a label, in both exposition formats: \ " and
// newline escaped. Other control characters and bytes that are not UTF-8 become U+FFFD: a process
// chooses its own comm, and Prometheus refuses a whole page for one byte that is not UTF-8.
void append_escaped(std::string_view value, std::string* out);

// Appends `name="value"`, with a comma before it if `out` already holds a label.
void append_label(std::string_view name, std::string_view value, std::string* out);

// All labels of one sample, e.g. `device="sda",operation="read"`; a process spelled out as pid,
// comm and cgroup. `values` must have passed KeyShape::encode().
void append_labels(const gopher_metric& metric, const gopher_value* values, const TextSource& text,
                   std::string* out);

// The same with every value "other".
std::string other_labels(const gopher_metric& metric);

// Takes the first label off `rest`, unescaped. False: there is none.
bool next_label(std::string_view* rest, std::string_view* name, std::string* value);

}  // namespace gopher
