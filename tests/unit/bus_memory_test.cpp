// bus_memory_test.cpp - what the store takes of the heap: counted, so the same on every machine.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "../bench/sample_store.hpp"

namespace {

std::atomic<size_t> allocations{0};
std::atomic<size_t> bytes{0};

// malloc's own word in front of each block.
constexpr size_t kHeader = 8;

void* counted(void* p) {
  if (!p) throw std::bad_alloc();
  allocations.fetch_add(1, std::memory_order_relaxed);
  bytes.fetch_add(malloc_usable_size(p) + kHeader, std::memory_order_relaxed);
  return p;
}
void release(void* p) {
  if (p) bytes.fetch_sub(malloc_usable_size(p) + kHeader, std::memory_order_relaxed);
  std::free(p);
}

}  // namespace

void* operator new(size_t n) { return counted(std::malloc(n)); }
void* operator new[](size_t n) { return counted(std::malloc(n)); }
void* operator new(size_t n, std::align_val_t a) {
  auto align = static_cast<size_t>(a);
  return counted(std::aligned_alloc(align, (n + align - 1) / align * align));
}
void operator delete(void* p) noexcept { release(p); }
void operator delete[](void* p) noexcept { release(p); }
void operator delete(void* p, size_t) noexcept { release(p); }
void operator delete[](void* p, size_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { release(p); }

namespace gopher::bench {
namespace {

class MemoryTest : public ::testing::Test {
 protected:
  const std::vector<Key> keys_ = make_keys(kSeries);
  Text text_;
};

TEST_F(MemoryTest, AnUpdateAllocatesNothing) {
  Store store({}, text_);
  Shard& shard = store.shard(tables());
  for (size_t i = 0; i < 1000; ++i) add(shard, keys_[i], 1, 1);
  size_t before = allocations;
  for (size_t i = 0; i < 1000; ++i) add(shard, keys_[999 - i], 1, 1);
  EXPECT_EQ(allocations, before);
}

TEST_F(MemoryTest, ASeriesTakes200BytesBeyondItsText) {
  size_t text = 0;
  const size_t before = bytes;
  Store store({.series_total = kSeries}, text_);
  Shard& shard = store.shard(tables());
  for (const Key& key : keys_) add(shard, key, 1, 1);
  const size_t heap = bytes - before;
  Store::Cursor cursor(store);
  for (Chunk chunk; cursor.next(&chunk);)
    for (const SeriesView& s : chunk.series) text += s.labels.size();
  ASSERT_EQ(store.series(), kSeries);
  EXPECT_LE((heap - text) / kSeries, 200u);
}

TEST_F(MemoryTest, WhatDiedIsGivenToWhatComes) {
  Store store({.series_total = kSeries, .ttl_s = 10}, text_);
  Shard& shard = store.shard(tables());
  auto fill = [&](uint64_t now_s) {
    for (size_t i = 0; i < 10'000; ++i) {
      Key key = keys_[i];
      key[1] = now_s;  // each time others
      add(shard, key, 1, now_s * 1'000'000'000);
    }
    store.expire((now_s + 11) * 1'000'000'000);
    store.expire((now_s + 12) * 1'000'000'000);
  };
  fill(100);
  const size_t before = bytes;
  for (uint64_t round = 2; round < 10; ++round) fill(100 * round);
  EXPECT_EQ(store.series(), 0u);
  EXPECT_LT(bytes, before + 4096);
}

}  // namespace
}  // namespace gopher::bench
