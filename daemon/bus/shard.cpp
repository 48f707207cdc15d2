// shard.cpp - one probe's part of the store.
// SPDX-License-Identifier: Apache-2.0
#include "bus/shard.hpp"

#include <algorithm>

#include "bus/labels.hpp"

namespace gopher {
namespace {

// How many series are looked at for the dead while holding the lock: some 20 us.
constexpr size_t kSweep = 512;

}  // namespace

TableShard::TableShard(const ProbeTables& probe, Budget& budget, const TextSource& text)
    : name_(probe.name), probe_(probe), budget_(budget), text_(text) {
  probe_.name = name_;
  for (const gopher_metric& m : probe.metrics) families_.push_back(std::make_unique<Family>(m));
}

void TableShard::apply(const gopher_sample& sample, uint64_t now_ns) {
  KeyBuffer key;
  if (sample.metric >= families_.size() || !families_[sample.metric]->encode(sample, &key)) {
    refused_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  Family& family = *families_[sample.metric];
  auto now_s = static_cast<uint32_t>(now_ns / 1'000'000'000u);
  {
    std::lock_guard lock(mutex_);
    if (Series* series = family.find(key.view(), now_s)) {
      family.update(series, sample, now_s);
      ++samples_;
      return;
    }
    if (full(family)) return fold(sample, family, now_s);
  }
  apply_new(sample, family, key.view(), now_s);
}

bool TableShard::full(const Family& family) const {
  if (family.def().n_labels == 0) return false;  // the one series that it can ever have
  uint32_t limit = family.def().budget ? family.def().budget : budget_.per_metric.load();
  return family.keys() >= limit || budget_.exhausted();
}

void TableShard::fold(const gopher_sample& sample, Family& family, uint32_t now_s) {
  ++samples_;
  ++family.folded;
  size_t before = family.series();
  if (Series* other = family.other()) family.update(other, sample, now_s);
  born_ += family.series() - before;
}

void TableShard::apply_new(const gopher_sample& sample, Family& family, KeyView key,
                           uint32_t now_s) {
  std::string text;  // may be asked of the system, so not under the lock
  append_labels(family.def(), sample.labels, text_, &text);
  std::lock_guard lock(mutex_);
  Series* series = family.find(key, now_s);
  if (!series) {
    if (family.def().n_labels == 0)
      ++budget_.used;
    else if (full(family) || !budget_.take())
      return fold(sample, family, now_s);
    size_t before = family.series();
    series = family.add(key, text, now_s);
    born_ += family.series() - before;
  }
  family.update(series, sample, now_s);
  ++samples_;
}

Shard::Stats TableShard::stats() const {
  std::lock_guard lock(mutex_);
  Stats s = {.samples = samples_, .refused = refused_.load(), .born = born_, .expired = expired_};
  for (const auto& f : families_) s.series += f->series();
  return s;
}

std::vector<uint64_t> TableShard::folded() const {
  std::lock_guard lock(mutex_);
  std::vector<uint64_t> out;
  for (const auto& f : families_) out.push_back(f->folded);
  return out;
}

bool TableShard::read(Position* at, size_t max, Chunk* chunk) const {
  std::lock_guard lock(mutex_);
  chunk->series.clear();
  chunk->bucket_space.clear();
  for (; at->metric < families_.size(); *at = {name_, at->metric + 1, 0, false}) {
    const Family& family = *families_[at->metric];
    at->slot = static_cast<uint32_t>(family.read(at->slot, max, chunk));
    if (chunk->series.empty()) continue;
    chunk->metric = &family.def();
    chunk->probe = name_;
    chunk->first = !std::exchange(at->begun, true);
    return true;
  }
  return false;
}

void TableShard::sweep(Family& family, uint32_t oldest_s, bool aliases,
                       std::vector<SeriesText>* dead) {
  for (size_t from = 0, end = 1; from < end; from += kSweep) {
    std::lock_guard lock(mutex_);
    size_t keys = family.keys(), series = family.series();
    family.expire(from, from + kSweep, oldest_s, aliases, dead);
    budget_.used -= static_cast<uint32_t>(keys - family.keys());
    expired_ += series - family.series();
    end = family.slots();
  }
}

void TableShard::expire(uint32_t now_s, uint64_t epoch) {
  std::vector<SeriesText> dead;
  for (const auto& f : families_) {
    Family& family = *f;
    uint32_t ttl = family.def().ttl_s ? family.def().ttl_s : budget_.ttl_s.load();
    bool has_aliases;
    {
      std::lock_guard lock(mutex_);
      if (now_s < family.swept_s + std::max(ttl / 16, 1u) || now_s < ttl) continue;
      family.swept_s = now_s;
      has_aliases = family.has_aliases();
    }
    if (has_aliases) sweep(family, now_s - ttl, true, &dead);
    sweep(family, now_s - ttl, false, &dead);
  }
  if (dead.empty()) return;
  std::lock_guard lock(mutex_);
  graveyard_.emplace_back(epoch, std::move(dead));
}

void TableShard::bury(uint64_t epoch) {
  decltype(graveyard_) gone;  // freed outside of the lock
  std::lock_guard lock(mutex_);
  auto old = std::partition(graveyard_.begin(), graveyard_.end(),
                            [&](const auto& dead) { return dead.first >= epoch; });
  std::move(old, graveyard_.end(), std::back_inserter(gone));
  graveyard_.erase(old, graveyard_.end());
}

}  // namespace gopher
