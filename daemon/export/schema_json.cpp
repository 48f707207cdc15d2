// schema_json.cpp - JSON Schema of the records, from the tables.
// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <string>

#include "export/json.hpp"
#include "export/records.hpp"
#include "export/schema.hpp"

namespace gopher {
namespace {

Json ref(const std::string& name) {
  return std::move(Json::object().set("$ref", Json::string("#/$defs/" + name)));
}

Json typed(const char* type, std::string_view description = {}) {
  Json out = Json::object();
  out.set("type", Json::string(type));
  if (!description.empty()) out.set("description", Json::string(description));
  return out;
}

Json constant(std::string_view value) {
  return std::move(Json::object().set("const", Json::string(value)));
}

// All 64 bits: a reader that keeps numbers in doubles loses the low ones above 2^53.
Json unsigned_integer(std::string_view description = {}) {
  Json out = typed("integer", description);
  out.set("minimum", Json::integer(uint64_t{0}));
  out.set("maximum", Json::integer(std::numeric_limits<uint64_t>::max()));
  return out;
}

Json nullable(const char* type, std::string_view description) {
  Json types = Json::array();
  types.push(Json::string(type)).push(Json::string("null"));
  Json out = Json::object();
  out.set("type", std::move(types));
  out.set("description", Json::string(description));
  return out;
}

Json strings(const std::vector<std::string>& items) {
  Json out = Json::array();
  for (const std::string& item : items) out.push(Json::string(item));
  return out;
}

Json pattern(const char* text, std::string_view description) {
  Json out = typed("string", description);
  out.set("pattern", Json::string(text));
  return out;
}

// An object that has these members and no others.
class Members {
 public:
  Members& add(std::string_view name, Json schema, bool required = true) {
    properties_.set(name, std::move(schema));
    if (required) required_.push(Json::string(name));
    return *this;
  }
  Json finish(std::string_view description = {}) && {
    Json out = typed("object", description);
    out.set("properties", std::move(properties_));
    out.set("required", std::move(required_));
    out.set("additionalProperties", Json::boolean(false));
    return out;
  }

 private:
  Json properties_ = Json::object(), required_ = Json::array();
};

Json array_of(Json items) {
  Json out = typed("array");
  out.set("items", std::move(items));
  return out;
}

Json sized(Json array, uint64_t n) {
  array.set("minItems", Json::integer(n));
  array.set("maxItems", Json::integer(n));
  return array;
}

// {"if": {"properties": {name: const, ...}}, "then": then}
Json when(const std::vector<std::pair<const char*, std::string_view>>& values, Json then) {
  Json properties = Json::object();
  for (const auto& [name, value] : values) properties.set(name, constant(value));
  Json condition = Json::object();
  condition.set("properties", std::move(properties));
  Json out = Json::object();
  out.set("if", std::move(condition));
  out.set("then", std::move(then));
  return out;
}

Json time() {
  return pattern("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{9}Z$",
                 "RFC 3339, UTC, with nanoseconds.");
}

Json process() {
  Members m;
  m.add("pid", unsigned_integer("Process id as the host sees it."));
  m.add("start_time",
        pattern("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$",
                "Start of the process; absent: unknown."),
        false);
  m.add("start_ns",
        unsigned_integer("The same as nanoseconds since the boot: with pid and the node's boot_id "
                         "this is one process and no other."),
        false);
  m.add("comm", typed("string", "Its name, at most 15 bytes, which it may choose itself."));
  m.add("cgroup", typed("string", "Path of its cgroup; absent: unknown."), false);
  return std::move(m).finish();
}

Json field(const gopher_field& f) {
  const std::string help = f.help ? f.help : "";
  switch (f.type) {
    case GOPHER_U64:
    case GOPHER_BYTES:
      return unsigned_integer(help);
    case GOPHER_I64:
      return typed("integer", help);
    case GOPHER_F64:
      return nullable("number", help);
    case GOPHER_BOOL:
      return typed("boolean", help);
    case GOPHER_NS:
      return std::move(
          typed("number", help + " In seconds.").set("minimum", Json::integer(uint64_t{0})));
    case GOPHER_PROCESS:
      return ref("process");
    case GOPHER_ENUM: {
      std::vector<std::string> values(f.values, f.values + f.n_values);
      values.emplace_back("unknown");
      return std::move(typed("string", help).set("enum", strings(values)));
    }
    default:
      return typed("string", help);
  }
}

Json event(const Catalog& catalog) {
  std::vector<std::string> types;
  Json by_type = Json::array();
  for (const ProbeTables& p : catalog)
    for (const gopher_event& e : p.events) {
      types.emplace_back(e.name);
      Members fields;
      for (uint32_t i = 0; i < e.n_fields; ++i) fields.add(e.fields[i].name, field(e.fields[i]));
      Json properties = Json::object();
      properties.set("fields", std::move(fields).finish(e.help));
      Json then = Json::object();
      then.set("properties", std::move(properties));
      by_type.push(when({{"probe", p.name}, {"type", e.name}}, std::move(then)));
    }
  Members m;
  m.add("id", std::move(ref("id").set(
                  "description",
                  Json::string("Unique; as text it sorts by time. Delivery is at least once: a "
                               "reader that must not count twice remembers it."))));
  m.add("time", ref("time"));
  m.add("type", std::move(typed("string").set("enum", strings(types))));
  m.add("severity",
        std::move(typed("string").set("enum", strings({"debug", "info", "warning", "error"}))));
  m.add("probe", typed("string"));
  m.add("node", typed("string"));
  m.add("process", ref("process"), false);
  m.add("correlation",
        pattern("^[0-9a-f]{16}$", "The same for events that belong together; absent: none."),
        false);
  m.add("recovers", ref("id"), false);
  m.add("folded", unsigned_integer("How many others of this type and process in the same minute "
                                   "this one stands for, beside itself."));
  m.add("fields", typed("object"));
  Json out = std::move(m).finish("One event. Topic gopher.events, key: the node.");
  out.set("allOf", std::move(by_type));
  return out;
}

Json series(const gopher_metric& metric) {
  Members labels;
  for (uint32_t i = 0; i < metric.n_labels; ++i)
    for (const std::string& name : label_names(metric.labels[i])) labels.add(name, typed("string"));
  Members m;
  m.add("labels", std::move(labels).finish());
  if (metric.kind == GOPHER_HISTOGRAM) {
    m.add("buckets", sized(array_of(unsigned_integer()), metric.n_bounds + 1));
    m.add("count", unsigned_integer());
    m.add("sum", nullable("number", "Of all observations, in the base unit."));
  } else {
    m.add("value", nullable("number", "In the base unit; null: not a finite number."));
  }
  return std::move(m).finish();
}

// What holds for one metric's records beyond what holds for all.
Json metric_rule(std::string_view probe, const gopher_metric& metric) {
  Json properties = Json::object();
  properties.set("kind", constant(kind_name(metric.kind)));
  properties.set("series", array_of(series(metric)));
  if (metric.kind == GOPHER_HISTOGRAM)
    properties.set("bounds", sized(array_of(typed("number")), metric.n_bounds));
  else
    properties.set("bounds", Json::boolean(false));
  Json then = Json::object();
  if (metric.help) then.set("description", Json::string(metric.help));
  then.set("properties", std::move(properties));
  if (metric.kind == GOPHER_HISTOGRAM) then.set("required", strings({"bounds"}));
  return when({{"probe", probe}, {"metric", metric.name}}, std::move(then));
}

Json metrics(const Catalog& catalog, std::span<const gopher_metric> own) {
  std::vector<std::string> names;
  Json rules = Json::array();
  auto add = [&](std::string_view probe, std::span<const gopher_metric> table) {
    for (const gopher_metric& metric : table) {
      names.emplace_back(metric.name);
      rules.push(metric_rule(probe, metric));
    }
  };
  add(kOwnProbe, own);
  for (const ProbeTables& p : catalog) add(p.name, p.metrics);
  Members m;
  m.add("time", ref("time"));
  m.add("node", typed("string"));
  m.add("snapshot", ref("id"));
  m.add("probe", typed("string", "The probe's name, or gopherd for the daemon's own."));
  m.add("metric", std::move(typed("string").set("enum", strings(names))));
  m.add("kind", std::move(typed("string").set("enum", strings({"counter", "gauge", "histogram"}))));
  m.add("part", unsigned_integer("Records of one metric and snapshot are numbered from 0."));
  m.add("last", typed("boolean", "True in the last part."));
  m.add("bounds",
        std::move(array_of(typed("number"))
                      .set("description",
                           Json::string("Upper bounds of a histogram's buckets, ascending; the "
                                        "last bucket has none. Counts are not cumulative."))),
        false);
  m.add("series", array_of(typed("object")));
  Json out = std::move(m).finish(
      "Series of one metric at one moment; counters and histograms are totals. Topic "
      "gopher.metrics, key: the node, a slash, the metric.");
  out.set("allOf", std::move(rules));
  return out;
}

Json metadata() {
  Members hook;
  hook.add("name", typed("string"));
  hook.add("program", nullable("string", "The BPF program that was chosen; null: none."));
  hook.add("rung", nullable("string", "Its kind, e.g. tp_btf; null: none."));
  Members probe;
  probe.add("name", typed("string"));
  probe.add("version", typed("string"));
  probe.add("state",
            std::move(typed("string").set(
                "enum", strings({"created", "running", "degraded", "failed", "stopped"}))));
  probe.add("reason", typed("string", "Why it is degraded or failed."), false);
  probe.add("hooks", array_of(std::move(hook).finish()));
  Members m;
  m.add("time", ref("time"));
  m.add("node", typed("string"));
  m.add("boot_id", typed("string", "Of the kernel: another one after each boot."));
  m.add("version", typed("string", "Of gopherd."));
  m.add("kernel", typed("string"));
  m.add("arch", typed("string"));
  m.add("probes", array_of(std::move(probe).finish()));
  m.add("schema", typed("object", "This schema, as the sender knows it."));
  return std::move(m).finish(
      "What a node is, at start, on change and every few minutes. Topic gopher.metadata, key: the "
      "node; made for compaction.");
}

}  // namespace

std::string schema_json(const Catalog& catalog, std::span<const gopher_metric> own, bool compact) {
  Json defs = Json::object();
  defs.set("time", time());
  defs.set("id", pattern("^[0-7][0-9A-HJKMNP-TV-Z]{25}$", "ULID: a time and random bits."));
  defs.set("process", process());
  defs.set("event", event(catalog));
  defs.set("metrics", metrics(catalog, own));
  defs.set("metadata", metadata());
  Json kinds = Json::array();
  for (const char* kind : {"event", "metrics", "metadata"}) kinds.push(ref(kind));
  Json out = Json::object();
  out.set("$schema", Json::string("https://json-schema.org/draft/2020-12/schema"));
  out.set("title", Json::string("Records that gopher sends"));
  out.set("oneOf", std::move(kinds));
  out.set("$defs", std::move(defs));
  return compact ? out.print() : out.pretty() + "\n";
}

}  // namespace gopher
