// store.hpp - the series of all probes: found by raw ids, text made once, read in chunks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/probe.h>

#include <cstdint>
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
  std::string_view labels;  // `device="sda",operation="read"`: escaped as in the exposition format
  double value = 0;         // counter or gauge
  double sum = 0;           // histogram
  std::span<const uint64_t> buckets;  // histogram: n_bounds + 1, not cumulative
};

// Up to kMax series of one metric.
struct Chunk {
  static constexpr size_t kMax = 4096;
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

  // One probe's series. Called once per probe name; a restarted probe gets the same shard, so its
  // totals go on. Lives as long as the store.
  Shard& shard(const ProbeTables& probe);

  // Drops series without an update for their ttl. Called about once a second by one thread.
  void expire(uint64_t now_ns);

  void set_limits(StoreLimits limits);  // may be lower than what is there: no new series then
  size_t series() const;

  // A reader's walk over all metrics in the order of probe and table. Label text of every chunk
  // stays valid until the cursor is destroyed. Takes one shard's lock at a time, for the copy of
  // one chunk. Any thread, any number at once.
  class Cursor {
   public:
    explicit Cursor(const Store& store);
    ~Cursor();
    Cursor(const Cursor&) = delete;
    Cursor& operator=(const Cursor&) = delete;
    bool next(Chunk* chunk);  // false: the end

   private:
    struct State;
    std::unique_ptr<State> state_;
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
    uint64_t samples = 0;  // applied
    uint64_t refused = 0;  // malformed
    uint64_t born = 0, expired = 0;
    size_t series = 0;
  };
  virtual Stats stats() const = 0;
  // Per metric of the table: samples that went to its `other` series for want of budget.
  virtual std::vector<uint64_t> folded() const = 0;
};

}  // namespace gopher
