// schema.hpp - documentation, JSON Schema and example configuration, printed from the tables.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/probe.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bus/catalog.hpp"

namespace gopher {

// `own`: the daemon's own metrics. `what`: "metrics", "events" or "config"; others: "".
std::string schema_markdown(const Catalog& catalog, std::span<const gopher_metric> own,
                            std::string_view what);

// JSON Schema, draft 2020-12. Every record that gopher sends is valid against it; $defs has one
// schema for each kind: event, metrics, metadata. `compact`: without white space.
std::string schema_json(const Catalog& catalog, std::span<const gopher_metric> own,
                        bool compact = false);

// A complete gopher.conf that says the defaults, with every option explained.
std::string schema_conf(const Catalog& catalog);

// ---- what the three printers share ----

struct OptionGroupInfo {
  std::string name;  // as in the file: "kafka", "probes.io"
  std::string help;
  std::span<const gopher_option> options;
};
// The daemon's groups, then one per probe.
std::vector<OptionGroupInfo> option_groups(const Catalog& catalog);
// "integer, 1 to 3600", "one of \"error\", \"info\"", "true or false" ...
std::string option_type_text(const gopher_option& option);
// What a label or field of this type reads like: "device as lsblk names it".
std::string type_text(uint32_t type, std::span<const char* const> values);
// The names that a label becomes: a process is three.
std::vector<std::string> label_names(const gopher_label& label);

}  // namespace gopher
