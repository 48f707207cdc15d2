// store_fixture.hpp - a table with every kind and type of label, and a store's content as a map.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/metric.hpp>

#include <cstring>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "bus/store.hpp"

namespace gopher::store_test {

inline constexpr const char* kOperations[] = {"read", "write", "flush"};
inline constexpr double kBounds[] = {0.001, 0.01, 1, 60};

inline constexpr auto kTable = metric_table(
    "t", {{.name = "gopher_t_requests_total",
           .help = "Requests.",
           .labels = {label("device", GOPHER_DEV), enum_label("operation", kOperations)},
           .kind = GOPHER_COUNTER},
          {.name = "gopher_t_depth",
           .help = "Requests in flight.",
           .labels = {label("device", GOPHER_DEV)},
           .kind = GOPHER_GAUGE},
          {.name = "gopher_t_duration_seconds",
           .help = "Time that requests took.",
           .labels = {label("process", GOPHER_PROCESS), label("path", GOPHER_STR)},
           .bounds = kBounds,
           .kind = GOPHER_HISTOGRAM,
           .n_bounds = 4},
          {.name = "gopher_t_alone_total", .help = "One number.", .kind = GOPHER_COUNTER},
          {.name = "gopher_t_few_total",
           .help = "Has a budget and a ttl of its own.",
           .labels = {label("name", GOPHER_STR)},
           .kind = GOPHER_COUNTER,
           .budget = 3,
           .ttl_s = 1000},
          {.name = "gopher_t_types_total",
           .help = "Every other type.",
           .labels = {label("i", GOPHER_I64), label("f", GOPHER_F64), label("b", GOPHER_BOOL),
                      label("e", GOPHER_ERRNO), label("a", GOPHER_ADDR), label("n", GOPHER_NS),
                      label("y", GOPHER_BYTES), label("c", GOPHER_CGROUP)},
           .kind = GOPHER_COUNTER}});
enum { kRequests, kDepth, kDuration, kAlone, kFew, kTypes };

inline ProbeTables tables(std::string_view name = "t") {
  ProbeTables t;
  t.name = name;
  t.metrics = std::span<const gopher_metric>(kTable.items);
  return t;
}

// "cgroup4", "dev259": a cgroup's text is its id in hundreds, so that several ids have one text.
class FakeText final : public TextSource {
 public:
  void append(gopher_type type, const gopher_value& value, std::string* out) const override {
    if (type == GOPHER_CGROUP)
      out->append("cgroup").append(std::to_string(value.num / 100));
    else if (type == GOPHER_ADDR)
      out->append(static_cast<const char*>(value.data), value.len);
    else if (type == GOPHER_F64)
      out->append(std::to_string(value.real));
    else
      out->append("dev").append(std::to_string(value.num));
  }
};

inline gopher_value num(uint64_t n) {
  gopher_value v = {};
  v.num = n;
  return v;
}
inline gopher_value str(const char* s, uint32_t length = 0) {
  gopher_value v = {};
  v.str = s;
  v.len = length;
  return v;
}
inline gopher_process who(uint32_t tgid, uint64_t start_ns, uint64_t cgroup_id = 0,
                          const char* comm = "") {
  gopher_process p = {};
  p.tgid = tgid;
  p.start_ns = start_ns;
  p.cgroup_id = cgroup_id;
  std::strncpy(p.comm, comm, sizeof p.comm - 1);
  return p;
}
inline gopher_value process(const gopher_process& p) {
  gopher_value v = {};
  v.process = &p;
  return v;
}

inline constexpr uint64_t kSecond = 1'000'000'000;

inline void add(Shard& shard, uint32_t metric, std::initializer_list<gopher_value> labels,
                double value, uint64_t now_s = 1) {
  shard.apply({.labels = labels.begin(), .value = value, .metric = metric, .op = GOPHER_ADD},
              now_s * kSecond);
}
inline void set(Shard& shard, uint32_t metric, std::initializer_list<gopher_value> labels,
                double value, uint64_t now_s = 1) {
  shard.apply({.labels = labels.begin(), .value = value, .metric = metric, .op = GOPHER_SET},
              now_s * kSecond);
}
inline void observe(Shard& shard, uint32_t metric, std::initializer_list<gopher_value> labels,
                    std::initializer_list<uint64_t> buckets, double sum, uint64_t now_s = 1) {
  shard.apply({.labels = labels.begin(),
               .buckets = buckets.begin(),
               .sum = sum,
               .metric = metric,
               .op = GOPHER_ADD},
              now_s * kSecond);
}

struct Content {
  double value = 0;
  std::vector<uint64_t> buckets;
  bool operator==(const Content&) const = default;
};

// `name{labels}` -> what is there. `step`: series per chunk; the walk starts anew after each.
inline std::map<std::string, Content> content(const Store& store, size_t step = Chunk::kMax) {
  std::map<std::string, Content> out;
  Position at;
  for (bool more = true; more;) {
    Store::Cursor cursor(store, at);
    Chunk chunk;
    more = cursor.next(&chunk, step);
    at = cursor.position();
    if (!more) break;
    for (const SeriesView& s : chunk.series) {
      std::string key = std::string(chunk.metric->name) + "{" + std::string(s.labels) + "}";
      bool histogram = chunk.metric->kind == GOPHER_HISTOGRAM;
      bool fresh = out.emplace(key, Content{histogram ? s.sum : s.value,
                                            {s.buckets.begin(), s.buckets.end()}})
                       .second;
      if (!fresh) out["TWICE: " + key];
    }
  }
  return out;
}

}  // namespace gopher::store_test
