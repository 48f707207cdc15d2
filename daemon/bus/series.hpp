// series.hpp - one series as one block of memory: header, key, label text, buckets.
// SPDX-License-Identifier: Apache-2.0
//
// One block, because an update then touches two cache lines beside the index, a reader walks lines
// that lie together, and there is one allocation's overhead per series.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string_view>

#include "bus/series_key.hpp"

namespace gopher {

// Two keys may have one text: a service restarts and its cgroup has a new id and the old path, a
// pid comes round again. The page may hold a text once, so the later key is an alias of the series.
enum class SeriesRole : uint8_t { kOwn, kOther, kAlias };

struct Series {
  union {
    double value;    // counter, gauge; histogram: the sum
    Series* target;  // kAlias
  };
  uint32_t last_s;  // when it was updated last
  uint32_t slot;    // its place in the family's walk
  uint32_t text_size;
  uint16_t key_words;
  SeriesRole role;

  uint64_t* key_data() { return reinterpret_cast<uint64_t*>(this + 1); }
  const uint64_t* key_data() const { return reinterpret_cast<const uint64_t*>(this + 1); }
  KeyView key() const { return {key_data(), key_words}; }
  char* text_data() { return reinterpret_cast<char*>(key_data() + key_words); }
  std::string_view text() const {
    return {reinterpret_cast<const char*>(key_data() + key_words), text_size};
  }
  uint64_t* buckets() { return key_data() + key_words + (text_size + 7) / 8; }
  const uint64_t* buckets() const { return key_data() + key_words + (text_size + 7) / 8; }
};
static_assert(sizeof(Series) == 24);

struct FreeSeries {
  void operator()(Series* s) const { std::free(s); }
};
using SeriesPtr = std::unique_ptr<Series, FreeSeries>;

inline SeriesPtr make_series(SeriesRole role, KeyView key, std::string_view text,
                             size_t n_buckets) {
  size_t size = sizeof(Series) + 8 * (key.size() + (text.size() + 7) / 8 + n_buckets);
  void* memory = std::malloc(size);
  if (!memory) throw std::bad_alloc();
  auto* s = new (memory) Series{};
  s->role = role;
  s->key_words = static_cast<uint16_t>(key.size());
  s->text_size = static_cast<uint32_t>(text.size());
  if (!key.empty()) std::memcpy(s->key_data(), key.data(), key.size_bytes());
  if (!text.empty()) std::memcpy(s->text_data(), text.data(), text.size());
  if (n_buckets) std::memset(s->buckets(), 0, 8 * n_buckets);
  return SeriesPtr(s);
}

}  // namespace gopher
