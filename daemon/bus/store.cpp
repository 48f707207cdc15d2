// store.cpp - the shards of all probes, readers' walks, and the end of what is dead.
// SPDX-License-Identifier: Apache-2.0
#include "bus/store.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <string>

#include "bus/shard.hpp"

namespace gopher {

// The dead are freed by epochs: a reader notes the epoch in which it began, and what died in an
// epoch is freed when every reader left began in a later one.
struct Store::State {
  State(StoreLimits limits, const TextSource& text_source) : text(text_source) { set(limits); }
  void set(StoreLimits limits) {
    budget.total = limits.series_total;
    budget.per_metric = limits.series_per_metric;
    budget.ttl_s = limits.ttl_s;
  }
  // The shard of this name or the first one behind it.
  const TableShard* shard_from(std::string_view name) const {
    std::lock_guard lock(mutex);
    auto it = shards.lower_bound(name);
    return it == shards.end() ? nullptr : it->second.get();
  }
  const TableShard* shard_after(std::string_view name) const {
    std::lock_guard lock(mutex);
    auto it = shards.upper_bound(name);
    return it == shards.end() ? nullptr : it->second.get();
  }

  const TextSource& text;
  Budget budget;
  mutable std::mutex mutex;  // the map; a shard itself stays where it is
  std::map<std::string, std::unique_ptr<TableShard>, std::less<>> shards;

  std::mutex expire_mutex;  // epochs need one expire() at a time

  mutable std::mutex epoch_mutex;
  uint64_t epoch = 1;
  std::vector<uint64_t> readers;  // the epochs in which they began
};

Store::Store(StoreLimits limits, const TextSource& text)
    : state_(std::make_unique<State>(limits, text)) {}

Store::~Store() = default;

Shard& Store::shard(const ProbeTables& probe) {
  std::lock_guard lock(state_->mutex);
  auto [it, fresh] = state_->shards.try_emplace(std::string(probe.name));
  if (fresh) it->second = std::make_unique<TableShard>(probe, state_->budget, state_->text);
  return *it->second;
}

void Store::set_limits(StoreLimits limits) { state_->set(limits); }

void Store::for_each_shard(const std::function<void(const ProbeTables&, const Shard&)>& f) const {
  for (const TableShard* s = state_->shard_from(""); s; s = state_->shard_after(s->probe().name))
    f(s->probe(), *s);
}

size_t Store::series() const {
  size_t n = 0;
  for_each_shard([&](const ProbeTables&, const Shard& shard) { n += shard.stats().series; });
  return n;
}

void Store::expire(uint64_t now_ns) {
  std::lock_guard only(state_->expire_mutex);
  std::vector<TableShard*> shards;
  {
    std::lock_guard lock(state_->mutex);
    for (auto& [name, shard] : state_->shards) shards.push_back(shard.get());
  }
  uint64_t epoch;
  {
    std::lock_guard lock(state_->epoch_mutex);
    epoch = state_->epoch;
  }
  for (TableShard* shard : shards)
    shard->expire(static_cast<uint32_t>(now_ns / 1'000'000'000u), epoch);
  uint64_t oldest;
  {
    std::lock_guard lock(state_->epoch_mutex);
    oldest = ++state_->epoch;
    for (uint64_t reader : state_->readers) oldest = std::min(oldest, reader);
  }
  for (TableShard* shard : shards) shard->bury(oldest);
}

Store::Cursor::Cursor(const Store& store, const Position& from) : store_(store), at_(from) {
  State& state = *store_.state_;
  std::lock_guard lock(state.epoch_mutex);
  epoch_ = state.epoch;
  state.readers.push_back(epoch_);
}

Store::Cursor::~Cursor() {
  State& state = *store_.state_;
  std::lock_guard lock(state.epoch_mutex);
  auto it = std::find(state.readers.begin(), state.readers.end(), epoch_);
  *it = state.readers.back();
  state.readers.pop_back();
}

bool Store::Cursor::next(Chunk* chunk, size_t max) {
  const TableShard* shard = store_.state_->shard_from(at_.probe);
  while (shard) {
    if (shard->probe().name != at_.probe) at_ = {.probe = shard->probe().name};
    if (shard->read(&at_, max, chunk)) return true;
    shard = store_.state_->shard_after(at_.probe);
  }
  return false;
}

}  // namespace gopher
