// schema_markdown.cpp - docs/metrics.md, docs/events.md and docs/config.md, from the tables.
// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "export/exposition.hpp"
#include "export/json.hpp"
#include "export/records.hpp"
#include "export/schema.hpp"

namespace gopher {
namespace {

std::string cell(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '|') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

std::string code(std::string_view text) { return "`" + std::string(text) + "`"; }

std::string header(const char* title, const char* file, const char* what) {
  return std::string("<!-- ") + file + " - " + what +
         " -->\n<!-- SPDX-License-Identifier: Apache-2.0 -->\n<!-- Printed by gopherd --schema=" +
         std::string(file).substr(0, std::string_view(file).find('.')) +
         "; do not edit. -->\n\n# " + title + "\n";
}

std::string bounds_text(const gopher_metric& m) {
  std::string out;
  for (uint32_t i = 0; i < m.n_bounds; ++i)
    out += (i ? ", " : "") + Json::number(m.bounds[i]).print();
  return out;
}

std::string metric_text(const gopher_metric& m) {
  std::string out = "\n### " + code(m.name) + "\n\n" + (m.help ? m.help : "") + "\n\n";
  out += std::string("- Kind: ") + kind_name(m.kind);
  const std::string name = m.name;
  const std::string base = name.ends_with("_total") ? name.substr(0, name.size() - 6) : name;
  if (auto unit = unit_of(base); !unit.empty()) out += ", in " + std::string(unit);
  out += ".\n";
  if (m.n_labels > 0) {
    out += "- Labels:\n";
    for (uint32_t i = 0; i < m.n_labels; ++i) {
      const gopher_label& l = m.labels[i];
      std::string names;
      for (const std::string& n : label_names(l)) names += (names.empty() ? "" : ", ") + code(n);
      out += "  - " + names + ": " + type_text(l.type, {l.values, l.n_values}) + "\n";
    }
  }
  if (m.n_bounds > 0) out += "- Buckets up to " + bounds_text(m) + ".\n";
  if (m.budget) out += "- At most " + std::to_string(m.budget) + " series.\n";
  if (m.ttl_s)
    out += "- A series that got nothing for " + std::to_string(m.ttl_s) + " s is dropped.\n";
  return out;
}

std::string metrics_page(const Catalog& catalog, std::span<const gopher_metric> own) {
  std::string out = header("Metrics", "metrics.md", "every metric of gopher and of its probes.");
  out +=
      "\nCounters and histograms are totals since a series was born and only grow. Times are in "
      "seconds,\nsizes in bytes. Beyond a metric's budget of series, what would need a new one is "
      "added up in one\nwhose labels are all `other`. In Kafka a histogram's `buckets` are counts "
      "between its `bounds`, not\ncumulative; to Prometheus they are.\n";
  for (const ProbeTables& p : catalog) {
    out += "\n## Probe " + code(p.name) + "\n\n" + std::string(p.summary) + "\n";
    for (const gopher_metric& m : p.metrics) out += metric_text(m);
    if (p.hooks.empty()) continue;
    out +=
        "\nWhat it sees through (the first that the kernel has):\n\n| Hook | Programs | Without it "
        "|"
        "\n|---|---|---|\n";
    for (const gopher_hook& h : p.hooks) {
      std::string programs;
      for (uint32_t i = 0; i < h.n_programs; ++i) programs += (i ? ", " : "") + code(h.programs[i]);
      out += "| " + code(h.name) + " | " + programs + " | " +
             cell(h.required ? "The probe fails. " : "") + cell(h.help ? h.help : "") + " |\n";
    }
  }
  if (!own.empty()) out += "\n## The daemon itself\n";
  for (const gopher_metric& m : own) out += metric_text(m);
  return out;
}

constexpr const char* kEnvelope =
    "\nAn event is one JSON object, the same in the local event store and in Kafka.\n\n"
    "| Member | Type | |\n|---|---|---|\n"
    "| `id` | text | 26 characters (ULID); unique, and as text it sorts by time. |\n"
    "| `time` | text | RFC 3339, UTC, nanoseconds. |\n"
    "| `type` | text | One of the types below. |\n"
    "| `severity` | text | `debug`, `info`, `warning` or `error`. |\n"
    "| `probe` | text | Who saw it. |\n"
    "| `node` | text | Where. |\n"
    "| `process` | object | Who caused it: `pid`, `start_time`, `start_ns` (nanoseconds since the "
    "boot; with `pid` and the boot it is one process and no other), `comm`, `cgroup`. Absent, as "
    "are members of it: unknown. |\n"
    "| `correlation` | text | 16 hexadecimal digits, the same for events that belong together. "
    "Absent: none. |\n"
    "| `recovers` | text | `id` of the event that this one ends. Absent: none. |\n"
    "| `folded` | integer | How many others this one stands for, beside itself. |\n"
    "| `fields` | object | The type's own fields, below. They stand in an object of their own, so "
    "that no field can clash with the envelope. |\n"
    "\nIntegers have up to 64 bits and are written with all their digits: a reader that keeps "
    "numbers in\ndoubles (JavaScript) loses the low bits above 2^53. Text is valid UTF-8; a byte "
    "that was none is\nU+FFFD. A number that is not finite is `null`.\n"
    "\n## Folding\n\n"
    "Of one type and process so many events go out in a minute as the type or "
    "`daemon.events_per_minute`\nallows. Of the others the last is kept and goes out when the "
    "minute is over, with `folded` saying how\nmany more there were. So the sum over 1 + `folded` "
    "is the number of events that happened, but for\nthose that `gopher_lost_total` counts.\n"
    "\n## Delivery\n\n"
    "Events are stored first and sent from there, at least once and in the order of storing: after "
    "an\ninterruption some come again, with the same `id`. The position moves only when the broker "
    "has\nacknowledged. What is stored survives `kill -9` of gopherd; the loss of power can cost "
    "the events of\nthe last 10 seconds. If the store is full and the broker away, the oldest "
    "events are lost and counted\nin `gopher_lost_total{stage=\"history\"}`; an event that the "
    "broker can never take (too large) is\ncounted with `stage=\"kafka\"`, as is a snapshot of "
    "metrics that did not arrive whole.\n";

std::string events_page(const Catalog& catalog) {
  std::string out = header("Events", "events.md", "the envelope, and every type of event.");
  out += kEnvelope;
  for (const ProbeTables& p : catalog)
    for (const gopher_event& e : p.events) {
      out += "\n## " + code(e.name) + "\n\n" + (e.help ? e.help : "") + "\n\nProbe " +
             code(p.name) + ", severity " + severity_name(e.severity);
      if (e.max_per_minute)
        out += ", at most " + std::to_string(e.max_per_minute) + " per minute and process";
      out += ".\n";
      if (e.n_fields > 0) out += "\n| Field | Type | |\n|---|---|---|\n";
      for (uint32_t i = 0; i < e.n_fields; ++i) {
        const gopher_field& f = e.fields[i];
        out += "| " + code(f.name) + " | " + cell(type_text(f.type, {f.values, f.n_values})) +
               " | " + cell(f.help ? f.help : "") + " |\n";
      }
    }
  return out;
}

std::string config_page(const Catalog& catalog) {
  std::string out = header("Configuration", "config.md", "every option of gopher.conf.");
  out +=
      "\n`gopher.conf` is written in libconfig's language; `conf/gopher.conf.example` has every "
      "option with its\ndefault. After it `gopher.conf.d/*.conf` are read in the order of their "
      "names: a scalar or a list\nreplaces what stood before, a group merges. `gopherd --check "
      "FILE` prints all mistakes; SIGHUP makes a\nrunning gopherd take a changed file, whole or "
      "not at all. A probe runs if its group is there, unless it\nsays `enabled = false`.\n";
  for (const OptionGroupInfo& g : option_groups(catalog)) {
    out += "\n## " + code(g.name) + "\n\n" + g.help + "\n";
    if (!g.options.empty()) out += "\n| Option | Default | Type | |\n|---|---|---|---|\n";
    for (const gopher_option& o : g.options)
      out += "| " + code(o.name) + " | " + code(cell(o.default_value)) + " | " +
             cell(option_type_text(o)) + " | " + cell(o.help ? o.help : "") + " |\n";
  }
  return out;
}

}  // namespace

std::string schema_markdown(const Catalog& catalog, std::span<const gopher_metric> own,
                            std::string_view what) {
  if (what == "metrics") return metrics_page(catalog, own);
  if (what == "events") return events_page(catalog);
  if (what == "config") return config_page(catalog);
  return {};
}

}  // namespace gopher
