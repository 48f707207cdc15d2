// schema.cpp - words for the tables' types, and the example configuration.
// SPDX-License-Identifier: Apache-2.0
#include "export/schema.hpp"

#include <cstdio>

#include "config/options.hpp"

namespace gopher {
namespace {

template <size_t N>
std::span<const gopher_option> span_of(const Table<gopher_option, N>& table) {
  return {table.items, N};
}

std::string number(double v) {
  char text[40];
  std::snprintf(text, sizeof text, "%.15g", v);
  return text;
}

std::string quoted_list(std::span<const char* const> items) {
  std::string out;
  for (const char* item : items) out += (out.empty() ? "\"" : ", \"") + std::string(item) + "\"";
  return out;
}

// Lines of at most 100 columns, each begun with `prefix`.
std::string comment(const std::string& text, const std::string& prefix) {
  std::string out, line;
  size_t at = 0;
  while (at < text.size()) {
    const size_t space = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, space - at);
    if (!line.empty() && prefix.size() + line.size() + 1 + word.size() > 100) {
      out += prefix + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    at = space + 1;
  }
  return line.empty() ? out : out + prefix + line + "\n";
}

std::string conf_option(const gopher_option& option, const std::string& indent) {
  std::string about = option.help ? option.help : "";
  about += " (" + option_type_text(option) + ")";
  return comment(about, indent + "# ") + indent + option.name + " = " + option.default_value +
         ";\n";
}

}  // namespace

std::vector<OptionGroupInfo> option_groups(const Catalog& catalog) {
  std::vector<OptionGroupInfo> out = {
      {"daemon", "The daemon itself.", span_of(kDaemonOptions)},
      {"prometheus", "The page that Prometheus scrapes.", span_of(kPrometheusOptions)},
      {"kafka", "Metrics, events and metadata as JSON records in Kafka topics.",
       span_of(kKafkaOptions)},
      {"history",
       "The local event store, events.db in state_dir. The newest events stay; those that Kafka "
       "does not have yet stay beyond their age, as long as there is space.",
       span_of(kHistoryOptions)},
      {"filter",
       "What all probes watch, decided in the kernel: processes that are in `pids` or in "
       "`cgroups`, and devices that are in `devices`.",
       span_of(kFilterOptions)}};
  for (const ProbeTables& p : catalog)
    out.push_back({"probes." + std::string(p.name), std::string(p.summary), p.options});
  return out;
}

std::string option_type_text(const gopher_option& option) {
  std::string range;
  if (option.min != 0 || option.max != 0)
    range = ", " + number(option.min) + " to " + number(option.max);
  if (option.unit && *option.unit) range += std::string(" ") + option.unit;
  switch (option.type) {
    case GOPHER_OPT_BOOL:
      return "true or false";
    case GOPHER_OPT_INT:
      return "integer" + range;
    case GOPHER_OPT_DOUBLE:
      return "number" + range;
    case GOPHER_OPT_STRING:
      return option.n_choices ? "one of " + quoted_list({option.choices, option.n_choices})
                              : "string";
    default:
      return "list of strings or integers";
  }
}

std::string type_text(uint32_t type, std::span<const char* const> values) {
  switch (type) {
    case GOPHER_U64:
      return "unsigned integer";
    case GOPHER_I64:
      return "integer";
    case GOPHER_F64:
      return "number";
    case GOPHER_BOOL:
      return "boolean";
    case GOPHER_STR:
      return "text";
    case GOPHER_ENUM:
      return values.empty() ? "text" : "one of " + quoted_list(values);
    case GOPHER_PROCESS:
      return "process";
    case GOPHER_CGROUP:
      return "cgroup path";
    case GOPHER_DEV:
      return "block device as lsblk names it";
    case GOPHER_ERRNO:
      return "errno name, e.g. \"EIO\"";
    case GOPHER_ADDR:
      return "IP address";
    case GOPHER_NS:
      return "seconds";
    case GOPHER_BYTES:
      return "bytes";
    default:
      return "unknown";
  }
}

std::vector<std::string> label_names(const gopher_label& label) {
  if (label.type == GOPHER_PROCESS) return {"pid", "comm", "cgroup"};
  return {label.name};
}

std::string schema_conf(const Catalog& catalog) {
  std::string out =
      "# gopher.conf.example - every option of gopherd with its default.\n"
      "# SPDX-License-Identifier: Apache-2.0\n"
      "#\n"
      "# Printed by `gopherd --schema=conf`. An option that is left out has the value that stands\n"
      "# here; a probe runs if its group is there. Drop-ins in gopher.conf.d/*.conf are read\n"
      "# afterwards, in the order of their names. Check a file with `gopherd --check FILE`, and\n"
      "# make a running gopherd take it with SIGHUP.\n";
  const std::string probes = "probes.";
  bool in_probes = false;
  for (const OptionGroupInfo& group : option_groups(catalog)) {
    const bool is_probe = group.name.starts_with(probes);
    if (is_probe && !in_probes) out += "\nprobes = {\n";
    out += is_probe && in_probes ? "\n" : "";
    in_probes |= is_probe;
    const std::string indent = is_probe ? "  " : "";
    if (!is_probe) out += "\n";
    out += comment(group.help, indent + "# ");
    out += indent + (is_probe ? group.name.substr(probes.size()) : group.name) + " = {\n";
    if (is_probe)
      out += indent + "  # Run this probe. (true or false)\n" + indent + "  enabled = true;\n";
    for (const gopher_option& option : group.options) out += conf_option(option, indent + "  ");
    out += indent + "};\n";
  }
  return in_probes ? out + "};\n" : out;
}

}  // namespace gopher
