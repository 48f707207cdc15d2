// shard.hpp - one probe's part of the store, as the store sees it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "bus/family.hpp"
#include "bus/store.hpp"

namespace gopher {

// Limits in force and what all shards together use of them.
struct Budget {
  std::atomic<uint32_t> total, per_metric, ttl_s;
  std::atomic<uint32_t> used{0};

  bool exhausted() const { return used.load(std::memory_order_relaxed) >= total; }
  bool take() {
    if (used.fetch_add(1) < total) return true;
    --used;
    return false;
  }
};

class TableShard final : public Shard {
 public:
  TableShard(const ProbeTables& probe, Budget& budget, const TextSource& text);

  void apply(const gopher_sample& sample, uint64_t now_ns) override;
  Stats stats() const override;
  std::vector<uint64_t> folded() const override;

  const ProbeTables& probe() const { return probe_; }
  // Fills `chunk` with series of one metric from `at` on and moves `at`. False: no more here.
  bool read(Position* at, size_t max, Chunk* chunk) const;
  // The text of what is dead is kept with `epoch`, for readers that began before.
  void expire(uint32_t now_s, uint64_t epoch);
  // Frees what died before `epoch`.
  void bury(uint64_t epoch);

 private:
  void apply_new(const gopher_sample& sample, Family& family, KeyView key, uint32_t now_s);
  void fold(const gopher_sample& sample, Family& family, uint32_t now_s);
  bool full(const Family& family) const;
  void sweep(Family& family, uint32_t oldest_s, bool aliases, std::vector<SeriesText>* dead);

  const std::string name_;
  ProbeTables probe_;
  Budget& budget_;
  const TextSource& text_;
  std::atomic<uint64_t> refused_{0};

  mutable std::mutex mutex_;  // all below
  std::vector<std::unique_ptr<Family>> families_;
  uint64_t samples_ = 0, born_ = 0, expired_ = 0;
  std::vector<std::pair<uint64_t, std::vector<SeriesText>>> graveyard_;
};

}  // namespace gopher
