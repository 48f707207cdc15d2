// totals.hpp - reads a BPF hash of running totals in batches and gives what was added since.
// SPDX-License-Identifier: Apache-2.0
//
// The kernel only ever adds; a probe needs differences. Entries are never deleted while they count:
// only one that did not change for a whole interval is removed, and what it gained until its
// removal is still given, so no increment is lost. When the map is new (the probe restarted), start
// anew with a new Totals: the store behind keeps what it had.
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gopher/result.hpp>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gopher {

// Calls f(key, value or, of a per-CPU map, the first of `stride` values) for every entry of a hash.
// What is added or removed meanwhile may or may not be seen; what stays is seen once.
template <class K, class V>
class HashReader {
  static_assert(std::is_trivially_copyable_v<K> && std::is_trivially_copyable_v<V>);

 public:
  explicit HashReader(int map_fd, size_t stride = 1) : fd_(map_fd), stride_(stride) {}

  template <class F>
  Result<> each(F&& f) {
    union Cursor {  // the kernel wants room for a key or for its own u32
      K key;
      uint32_t bucket;
    } in, out;
    bool first = true;
    while (true) {
      uint32_t n = batch_;
      keys_.resize(n);
      values_.resize(n * stride_);
      int err = bpf_map_lookup_batch(fd_, first ? nullptr : &in, &out, keys_.data(), values_.data(),
                                     &n, nullptr);
      if (err && errno == ENOSPC && batch_ < (1u << 20)) {  // one bucket is larger than the batch
        batch_ *= 2;
        continue;
      }
      if (err && errno != ENOENT) return errno_error(errno, "read a BPF map in batches");
      for (uint32_t i = 0; i < n; ++i) f(keys_[i], &values_[i * stride_]);
      if (err) return Ok{};
      in = out;
      first = false;
    }
  }

 private:
  int fd_;
  size_t stride_;
  uint32_t batch_ = 256;
  std::vector<K> keys_;
  std::vector<V> values_;
};

// K: the key, no padding. V: the value; the u64 from byte kFirst on are running totals, what stands
// before is taken as it is. kPerCpu: BPF_MAP_TYPE_PERCPU_HASH, whose CPUs are added up.
template <class K, class V, bool kPerCpu, size_t kFirst = 0>
class Totals {
  static_assert(std::is_trivially_copyable_v<K> && std::is_trivially_copyable_v<V>);
  static_assert((sizeof(V) - kFirst) % 8 == 0 && kFirst % 8 == 0);

 public:
  explicit Totals(int map_fd)
      : fd_(map_fd),
        stride_(kPerCpu ? size_t(libbpf_num_possible_cpus()) : 1),
        reader_(map_fd, stride_) {}

  // Calls each(key, gained) for every entry that gained something since the last call, also for the
  // last gain of one that is removed; `gone(key)` when an entry was removed.
  template <class Each, class Gone>
  Result<> drain(Each&& each, Gone&& gone) {
    idle_.clear();
    auto r =
        reader_.each([&](const K& key, const V* cpus) { take(key, sum(cpus, stride_), each); });
    if (!r) return r;
    for (const K& key : idle_) remove(key, each, gone);
    return Ok{};
  }
  size_t size() const { return last_.size(); }

 private:
  struct Hash {
    size_t operator()(const K& k) const {
      return std::hash<std::string_view>()({reinterpret_cast<const char*>(&k), sizeof k});
    }
  };
  struct Equal {
    bool operator()(const K& a, const K& b) const { return std::memcmp(&a, &b, sizeof a) == 0; }
  };

  static V sum(const V* cpus, size_t n) {
    V total = cpus[0];
    for (size_t c = 1; c < n; ++c) {
      bool set = false;
      for (size_t off = kFirst; off < sizeof(V); off += 8) {
        uint64_t a, b;
        std::memcpy(&a, reinterpret_cast<const char*>(&total) + off, 8);
        std::memcpy(&b, reinterpret_cast<const char*>(&cpus[c]) + off, 8);
        set |= b != 0;
        a += b;
        std::memcpy(reinterpret_cast<char*>(&total) + off, &a, 8);
      }
      if (kFirst && set) std::memcpy(&total, &cpus[c], kFirst);
    }
    return total;
  }

  // The difference in place of the totals; false if there is none.
  static bool subtract(V* total, const V& last) {
    bool changed = false;
    for (size_t off = kFirst; off < sizeof(V); off += 8) {
      uint64_t a, b;
      std::memcpy(&a, reinterpret_cast<const char*>(total) + off, 8);
      std::memcpy(&b, reinterpret_cast<const char*>(&last) + off, 8);
      a -= b;
      changed |= a != 0;
      std::memcpy(reinterpret_cast<char*>(total) + off, &a, 8);
    }
    return changed;
  }

  template <class Each>
  void take(const K& key, const V& total, Each& each) {
    V gained = total;
    auto [it, fresh] = last_.try_emplace(key, V{});
    bool changed = subtract(&gained, it->second);
    it->second = total;
    if (changed) each(key, gained);
    if (!changed && !fresh) idle_.push_back(key);
  }

  template <class Each, class Gone>
  void remove(const K& key, Each& each, Gone& gone) {
    std::vector<V> cpus(stride_);
    // One step where the kernel can (5.14), else two, and the gap is a look-up long.
    int err = bpf_map_lookup_and_delete_elem(fd_, &key, cpus.data());
    if (err && errno != ENOENT) {
      err = bpf_map_lookup_elem(fd_, &key, cpus.data());
      if (!err) bpf_map_delete_elem(fd_, &key);
    }
    if (!err) {
      V rest = sum(cpus.data(), stride_);
      if (subtract(&rest, last_[key])) each(key, rest);
    }
    last_.erase(key);
    gone(key);
  }

  int fd_;
  size_t stride_;
  HashReader<K, V> reader_;
  std::unordered_map<K, V, Hash, Equal> last_;
  std::vector<K> idle_;
};

}  // namespace gopher
