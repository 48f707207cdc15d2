// family.hpp - all series of one metric; no lock of its own, the shard's covers it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/container/flat_hash_set.h>
#include <absl/hash/hash.h>
#include <gopher/probe.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bus/series.hpp"
#include "bus/store.hpp"

namespace gopher {

class Family {
 public:
  explicit Family(const gopher_metric& def);

  const gopher_metric& def() const { return *def_; }
  // Kind, operation and number are what the table says.
  bool valid(const gopher_sample& sample) const;
  static size_t hash(KeyView key);

  // The series to update for this key, through its alias if it is one; null: not seen yet.
  Series* find(KeyView key, size_t hash, uint32_t now_s);
  // A new series, or an alias of the one that has this text.
  Series* add(KeyView key, std::string_view text, uint32_t now_s);
  // What is beyond the budget; null: a gauge, of which the last value of many means nothing.
  Series* other();
  void update(Series* series, const gopher_sample& sample, uint32_t now_s) const;

  // Keys that count against the budget: all but `other`.
  size_t keys() const { return index_.size(); }
  // Series that a reader sees.
  size_t series() const { return texts_.size(); }
  bool has_aliases() const { return aliases_ != 0; }
  size_t slots() const { return slots_.size(); }

  // Moves to `dead` what is in [from, to) and has not been updated since `oldest_s`: aliases or the
  // series themselves. Aliases first: one is never younger than its series, so none can outlive it.
  void expire(size_t from, size_t to, uint32_t oldest_s, bool aliases,
              std::vector<SeriesPtr>* dead);

  // Appends up to `max` series from slot `from` on; where to go on, or slots().
  size_t read(size_t from, size_t max, Chunk* chunk) const;

  uint64_t folded = 0;   // samples that had no series of their own
  uint32_t swept_s = 0;  // when it was last looked through for the dead

 private:
  struct KeyHash {
    using is_transparent = void;
    size_t operator()(KeyView k) const { return hash(k); }
    size_t operator()(const Series* s) const { return hash(s->key()); }
  };
  struct KeyEqual {
    using is_transparent = void;
    static bool same(KeyView a, KeyView b) {
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
    }
    bool operator()(const Series* a, KeyView b) const { return same(a->key(), b); }
    bool operator()(KeyView a, const Series* b) const { return same(a, b->key()); }
    bool operator()(const Series* a, const Series* b) const { return a == b; }
  };
  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view t) const { return absl::HashOf(t); }
    size_t operator()(const Series* s) const { return absl::HashOf(s->text()); }
  };
  struct TextEqual {
    using is_transparent = void;
    bool operator()(const Series* a, std::string_view b) const { return a->text() == b; }
    bool operator()(std::string_view a, const Series* b) const { return a == b->text(); }
    bool operator()(const Series* a, const Series* b) const { return a == b; }
  };

  Series* insert(SeriesPtr series);
  SeriesPtr take(size_t slot);

  const gopher_metric* def_;
  uint32_t n_buckets_;
  absl::flat_hash_set<Series*, KeyHash, KeyEqual> index_;
  absl::flat_hash_set<Series*, TextHash, TextEqual> texts_;
  std::vector<SeriesPtr> slots_;  // with holes, so that a reader between two chunks misses nobody
  std::vector<uint32_t> free_slots_;
  Series* other_ = nullptr;
  size_t aliases_ = 0;
};

}  // namespace gopher
