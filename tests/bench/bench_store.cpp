// bench_store.cpp - the update of an existing series against one look-up in a flat hash map.
// SPDX-License-Identifier: Apache-2.0
#include <absl/container/flat_hash_map.h>
#include <malloc.h>
#include <prometheus/counter.h>
#include <prometheus/registry.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "core/clock.hpp"
#include "ratios.hpp"
#include "sample_store.hpp"

namespace gopher::bench {
namespace {

// `poll`: shuffled, and the same order again in each round, as a BPF map gives its entries.
// `random`: no order at all.
struct Keys {
  std::vector<Key> born = make_keys(kSeries), poll = born, random;
  Keys() {
    std::mt19937_64 order(1);
    std::shuffle(poll.begin(), poll.end(), order);
    for (size_t i = 0; i < 10 * kSeries; ++i) random.push_back(born[order() % kSeries]);
  }
};
const Keys& keys() {
  static const Keys k;
  return k;
}

void look_up(benchmark::State& state, const std::vector<Key>& used) {
  absl::flat_hash_map<Key, double> map;
  for (const Key& key : keys().born) map[key] = 0;
  size_t i = 0;
  for (auto _ : state) {
    map.find(used[i])->second += 1;
    i = i + 1 == used.size() ? 0 : i + 1;
  }
}
void look_up_poll(benchmark::State& state) { look_up(state, keys().poll); }
void look_up_random(benchmark::State& state) { look_up(state, keys().random); }
BENCHMARK(look_up_poll);
BENCHMARK(look_up_random);

void update(benchmark::State& state, const std::vector<Key>& used) {
  Text text;
  Store store({.series_total = kSeries}, text);
  Shard& shard = store.shard(tables());
  for (const Key& key : keys().born) add(shard, key, 0, 1);
  size_t i = 0;
  for (auto _ : state) {
    add(shard, used[i], 1, 1);
    i = i + 1 == used.size() ? 0 : i + 1;
  }
}
void update_poll(benchmark::State& state) { update(state, keys().poll); }
void update_random(benchmark::State& state) { update(state, keys().random); }
BENCHMARK(update_poll);
BENCHMARK(update_random);

// As an instrumented program would do it: labels to a family, a counter back, and its increment.
void prometheus_cpp_update(benchmark::State& state) {
  prometheus::Registry registry;
  auto& family = prometheus::BuildCounter().Name("c_total").Help("Help.").Register(registry);
  auto labels_of = [](const Key& key) {
    prometheus::Labels labels;
    for (size_t i = 0; i < 10; ++i)
      labels.emplace(kMetrics[0].labels[i].name, "v" + std::to_string(key[i] & 0xFFFFFF));
    return labels;
  };
  constexpr size_t kFew = 10'000;  // the registry of 100,000 takes a while to fill
  for (size_t i = 0; i < kFew; ++i) family.Add(labels_of(keys().poll[i]));
  size_t i = 0;
  for (auto _ : state) {
    family.Add(labels_of(keys().poll[i])).Increment();
    i = i + 1 == kFew ? 0 : i + 1;
  }
}
BENCHMARK(prometheus_cpp_update);

void print_heap() {
  Text text;
  const auto& born = keys().born;
  size_t text_bytes = 0;
  const size_t before = mallinfo2().uordblks;
  Store store({.series_total = kSeries}, text);
  Shard& shard = store.shard(tables());
  for (const Key& key : born) add(shard, key, 0, 1);
  const size_t heap = mallinfo2().uordblks - before;
  Store::Cursor cursor(store);
  for (Chunk chunk; cursor.next(&chunk);)
    for (const SeriesView& s : chunk.series) text_bytes += s.labels.size();
  std::printf("heap per series: %.1f bytes beyond %.1f of label text (target: at most 200)\n",
              static_cast<double>(heap - text_bytes) / kSeries,
              static_cast<double>(text_bytes) / kSeries);
}

}  // namespace
}  // namespace gopher::bench

int main(int argc, char** argv) {
  int status = gopher::bench::run(argc, argv,
                                  {{"update_poll", "look_up_poll", 2},
                                   {"update_random", "look_up_random", 0},
                                   {"prometheus_cpp_update", "update_poll", 0}});
  gopher::bench::print_heap();
  return status;
}
