// family.hpp - all series of one metric; no lock of its own, the shard's covers it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/container/flat_hash_set.h>
#include <absl/hash/hash.h>
#include <gopher/probe.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory_resource>
#include <string>
#include <vector>

#include "bus/series.hpp"
#include "bus/store.hpp"

namespace gopher {

class Family {
 public:
  explicit Family(const gopher_metric& def);
  ~Family();
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  const gopher_metric& def() const { return *def_; }
  // False: kind, operation, number or a label is not what the table says.
  bool encode(const gopher_sample& sample, KeyBuffer* key) const {
    return valid(sample) && shape_.encode(sample.labels, key);
  }

  // The series to update for this key, through its alias if it is one; null: not seen yet.
  Series* find(KeyView key, uint32_t now_s);
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

  // Removes what is in [from, to) and has not been updated since `oldest_s`, aliases or the series
  // themselves, and moves their text to `dead`. Aliases first: one is never younger than its
  // series, so none can outlive it.
  void expire(size_t from, size_t to, uint32_t oldest_s, bool aliases,
              std::vector<SeriesText>* dead);

  // Appends up to `max` series from slot `from` on; where to go on, or slots().
  size_t read(size_t from, size_t max, Chunk* chunk) const;

  uint64_t folded = 0;   // samples that had no series of their own
  uint32_t swept_s = 0;  // when it was last looked through for the dead

 private:
  // absl's hash of bytes; of a string_view it would be libstdc++'s, which takes three times as
  // long.
  template <class T>
  struct Bytes {
    std::span<const T> all;
    template <class H>
    friend H AbslHashValue(H h, const Bytes& b) {
      return H::combine_contiguous(std::move(h), b.all.data(), b.all.size());
    }
  };
  static size_t hash_of(KeyView key) { return absl::HashOf(Bytes<uint64_t>{key}); }
  static size_t hash_of(std::string_view text) { return absl::HashOf(Bytes<char>{text}); }
  struct KeyHash {
    using is_transparent = void;
    size_t operator()(KeyView k) const { return hash_of(k); }
    size_t operator()(const Series* s) const { return hash_of(s->key()); }
  };
  struct KeyEqual {
    using is_transparent = void;
    bool operator()(const Series* a, KeyView b) const { return same(*a, b); }
    bool operator()(KeyView a, const Series* b) const { return same(*b, a); }
    bool operator()(const Series* a, const Series* b) const { return a == b; }
  };
  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view t) const { return hash_of(t); }
    size_t operator()(const Series* s) const { return hash_of(s->text()); }
  };
  struct TextEqual {
    using is_transparent = void;
    bool operator()(const Series* a, std::string_view b) const { return a->text() == b; }
    bool operator()(std::string_view a, const Series* b) const { return a == b->text(); }
    bool operator()(const Series* a, const Series* b) const { return a == b; }
  };

  static bool same(const Series& series, KeyView key) {
    if (series.key_words != key.size()) return false;
    uint64_t differ = 0;  // no branch per word, no call
    for (size_t i = 0; i < key.size(); ++i) differ |= series.key_data()[i] ^ key[i];
    return differ == 0;
  }
  bool valid(const gopher_sample& sample) const;
  Series* look_up(KeyView key);
  Series* insert(SeriesRole role, KeyView key, std::string_view text);
  SeriesText remove(Series* series);
  size_t bytes_of(size_t key_words) const { return sizeof(Series) + 8 * (key_words + n_buckets_); }

  // A series of 10 labels is two lines then, never three.
  static constexpr size_t kLine = 64;

  const gopher_metric* def_;
  const KeyShape shape_;
  const uint32_t n_buckets_;
  // Series side by side, not among other things. Left alone the pool doubles its chunks, and what
  // it holds ahead would be up to as much as is used.
  std::pmr::unsynchronized_pool_resource pool_{
      {.max_blocks_per_chunk = 256, .largest_required_pool_block = 0}};
  absl::flat_hash_set<Series*, KeyHash, KeyEqual> index_;
  absl::flat_hash_set<Series*, TextHash, TextEqual> texts_;
  std::vector<Series*> slots_;  // with holes, so that a reader between two chunks misses nobody
  std::vector<uint32_t> free_slots_;
  Series* other_ = nullptr;

  // A poll walks a BPF map, which gives its entries in the same order every time. So each series
  // notes which one came kAhead look-ups later, and the next time that one is fetched into the
  // cache early and tried before the index: 80 ns per update instead of 300, where a look-up in a
  // flat hash map takes 90 (bench_store, a shuffled order that repeats). After kDoubt wrong ones in
  // a row there is no order, and nothing is fetched until a guess is right again.
  static constexpr size_t kAhead = 8;
  static constexpr uint32_t kDoubt = 16;
  struct Turn {
    Series* before = nullptr;  // what was looked up kAhead look-ups ago
    uint32_t foreseen = 0;     // slot of what came now the last time
    Series* fetched = nullptr;
  };
  std::array<Turn, kAhead> turns_;
  uint32_t wrong_ = 0;  // guesses in a row
  size_t turn_ = 0;
  size_t aliases_ = 0;
};

}  // namespace gopher
