// store.hpp - the series of all probes: found by raw ids, text made once, read in chunks.
// SPDX-License-Identifier: Apache-2.0
//
// A series dies when it got nothing for its ttl and, if it comes back, starts from 0: to Prometheus
// a reset. Beyond the budget a sample is counted as folded and added to the metric's `other`
// series; a gauge's is counted only. samples = in series of their own + folded.
#pragma once

#include <gopher/probe.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "bus/catalog.hpp"
#include "bus/text.hpp"

namespace gopher {

struct StoreLimits {
  uint32_t series_total = 100'000;      // over all probes
  uint32_t series_per_metric = 20'000;  // where the metric's table says nothing
  uint32_t ttl_s = 300;                 // where the metric's table says nothing
};

// One series as a reader sees it.
struct SeriesView {
  std::string_view labels;  // `device="sda",operation="read"`; labels.hpp reads it back
  double value = 0;         // counter or gauge
  double sum = 0;           // histogram
  std::span<const uint64_t> buckets = {};  // histogram: n_bounds + 1, not cumulative
  uint32_t slot = 0;                       // its place, for Position
};

// Where a walk stands. The default is the beginning.
struct Position {
  std::string_view probe = {};
  uint32_t metric = 0;  // of the probe's table
  uint32_t slot = 0;
  bool begun = false;  // a series of this metric was seen before
};

// Series of one metric.
struct Chunk {
  // 512 views are 28 KiB, so they stay in the first-level cache, and the lock is held for the time
  // of 512 cache misses.
  static constexpr size_t kMax = 512;
  const gopher_metric* metric = nullptr;
  std::string_view probe;
  bool first = false;  // the first chunk of this metric: time for HELP and TYPE
  std::vector<SeriesView> series;
  std::vector<uint64_t> bucket_space;  // what `buckets` point into
};

class Shard;

class Store {
 public:
  Store(StoreLimits limits, const TextSource& text);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // One probe's series. A restarted probe gets the same shard, so its totals go on. Lives as long
  // as the store; so must the tables.
  Shard& shard(const ProbeTables& probe);

  // Drops series without an update for their ttl (looked for every sixteenth of it) and frees the
  // text of dead ones that no reader holds. About once a second; CLOCK_MONOTONIC.
  void expire(uint64_t now_ns);

  void set_limits(StoreLimits limits);  // may be lower than what is there: no new series then
  size_t series() const;

  // In the order of their names.
  void for_each_shard(const std::function<void(const ProbeTables&, const Shard&)>& f) const;

  // A reader's walk over all metrics in the order of probe and table. Label text of every chunk
  // stays valid until the cursor is destroyed: whoever may wait in between, as for a client that
  // does not read, keeps the position instead and makes another cursor there. Takes one shard's
  // lock at a time, for the copy of one chunk. Any thread, any number at once.
  class Cursor {
   public:
    explicit Cursor(const Store& store, const Position& from = {});
    ~Cursor();
    Cursor(const Cursor&) = delete;
    Cursor& operator=(const Cursor&) = delete;
    bool next(Chunk* chunk, size_t max = Chunk::kMax);  // false: the end
    const Position& position() const { return at_; }    // of what next() gives

   private:
    const Store& store_;
    Position at_;
    uint64_t epoch_;
  };

 private:
  friend class Cursor;
  struct State;
  std::unique_ptr<State> state_;
};

// One probe's part of the store.
class Shard {
 public:
  virtual ~Shard() = default;
  // Any thread; `now_ns` is CLOCK_MONOTONIC. A sample with a wrong index or op, NaN, or a negative
  // counter increment is refused and counted.
  virtual void apply(const gopher_sample& sample, uint64_t now_ns) = 0;

  struct Stats {
    uint64_t samples = 0;  // applied or folded
    uint64_t refused = 0;  // malformed
    uint64_t born = 0, expired = 0;
    size_t series = 0;
  };
  virtual Stats stats() const = 0;
  // Per metric of the table: samples that went to its `other` series for want of budget.
  virtual std::vector<uint64_t> folded() const = 0;
};

}  // namespace gopher
