// series.hpp - one series: a header, its key and its buckets in one block, its label text apart.
// SPDX-License-Identifier: Apache-2.0
//
// The text is apart because only readers and births need it: with it in the block an update of a
// random one among 100,000 series with 10 labels took twice as long, since the blocks then fit
// neither the cache nor the TLB.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <type_traits>

#include "bus/series_key.hpp"

namespace gopher {

// Two keys may have one text: a service restarts and its cgroup has a new id and the old path, a
// pid comes round again. The page may hold a text once, so the later key is an alias of the series.
enum class SeriesRole : uint8_t { kOwn, kOther, kAlias };

using SeriesText = std::unique_ptr<char[]>;

struct Series {
  union {
    double value;    // counter, gauge; histogram: the sum
    Series* target;  // kAlias
  };
  SeriesText text_bytes;
  uint32_t last_s;  // when it was updated last
  uint32_t slot;    // its place in the family's walk
  uint32_t ahead;   // slot of the one that was looked up kAhead look-ups later, the last time
  uint32_t text_size;
  uint16_t key_words;
  SeriesRole role;
  // The key's words and the buckets follow.

  uint64_t* key_data() { return reinterpret_cast<uint64_t*>(this + 1); }
  const uint64_t* key_data() const { return reinterpret_cast<const uint64_t*>(this + 1); }
  KeyView key() const { return {key_data(), key_words}; }
  uint64_t* buckets() { return key_data() + key_words; }
  const uint64_t* buckets() const { return key_data() + key_words; }
  std::string_view text() const { return {text_bytes.get(), text_size}; }
};
static_assert(sizeof(Series) == 40);

}  // namespace gopher
