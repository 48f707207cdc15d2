// sample_store.hpp - 100,000 series with 10 labels, as the benchmarks and size tests use them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/metric.hpp>

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "bus/store.hpp"

namespace gopher::bench {

inline constexpr size_t kSeries = 100'000;
inline constexpr auto kMetrics = metric_table(
    "bench", {{.name = "gopher_bench_requests_total",
               .help = "Requests by everything that one can ask for.",
               .labels = {label("client", GOPHER_U64), label("server", GOPHER_U64),
                          label("namespace", GOPHER_U64), label("pod", GOPHER_U64),
                          label("container", GOPHER_U64), label("device", GOPHER_U64),
                          label("protocol", GOPHER_U64), label("operation", GOPHER_U64),
                          label("status", GOPHER_U64), label("cgroup", GOPHER_U64)},
               .kind = GOPHER_COUNTER,
               .budget = 10'000'000}});
using Key = std::array<uint64_t, 10>;

// Ids as a kernel gives them; text of about 8 characters each, 240 bytes for a line.
class Text final : public TextSource {
 public:
  void append(gopher_type, const gopher_value& value, std::string* out) const override {
    out->append("v").append(std::to_string(value.num & 0xFFFFFF));
  }
};

inline std::vector<Key> make_keys(size_t n) {
  std::mt19937_64 random(7);
  std::vector<Key> keys(n);
  for (size_t i = 0; i < n; ++i) {
    for (uint64_t& word : keys[i]) word = 0x100000 + random() % 0xE00000;
    keys[i][0] = 0x100000 + i;
  }
  return keys;
}

// As Metric<>::add() of the contract makes its values.
template <size_t... I>
void add_labels(Shard& shard, const Key& key, double value, uint64_t now_ns,
                std::index_sequence<I...>) {
  auto to_value = [](uint64_t n) {
    gopher_value v = {};
    v.num = n;
    return v;
  };
  const gopher_value labels[] = {to_value(key[I])...};
  shard.apply({.labels = labels, .value = value, .metric = 0, .op = GOPHER_ADD}, now_ns);
}
inline void add(Shard& shard, const Key& key, double value, uint64_t now_ns) {
  add_labels(shard, key, value, now_ns, std::make_index_sequence<10>());
}

inline ProbeTables tables() {
  ProbeTables t;
  t.name = "bench";
  t.metrics = std::span<const gopher_metric>(kMetrics.items);
  return t;
}

}  // namespace gopher::bench
