// ring.cpp - a probe's ring buffers.
// SPDX-License-Identifier: Apache-2.0
#include "bpf/ring.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <numeric>
#include <utility>

namespace gopher {

struct Rings::Ring {
  ring_buffer* buffer = nullptr;
  int drops_fd = -1;
  gopher_ring_fn fn = nullptr;
  void* arg = nullptr;
  size_t records = 0;
  uint64_t malformed = 0;
  uint64_t dropped = 0;  // the kernel's total as last read

  ~Ring() { ring_buffer__free(buffer); }

  static int on_record(void* ctx, void* data, size_t len) {
    auto* r = static_cast<Ring*>(ctx);
    ++r->records;
    try {  // a reader that throws loses its own record only
      if (r->fn(r->arg, data, len) == 0) return 0;
    } catch (...) {
    }
    ++r->malformed;
    return 0;
  }
};

Rings::Rings() = default;
Rings::~Rings() = default;

Result<> Rings::add(int ring_fd, int drops_fd, gopher_ring_fn fn, void* arg) {
  auto ring = std::make_unique<Ring>();
  ring->drops_fd = drops_fd;
  ring->fn = fn;
  ring->arg = arg;
  ring->buffer = ring_buffer__new(ring_fd, Ring::on_record, ring.get(), nullptr);
  if (!ring->buffer) return errno_error(errno, "map a ring buffer");
  rings_.push_back(std::move(ring));
  return Ok{};
}

size_t Rings::drain() {
  size_t n = 0;
  for (auto& r : rings_) {
    size_t before = r->records;
    ring_buffer__consume(r->buffer);
    n += r->records - before;
  }
  return n;
}

uint64_t Rings::take_dropped() {
  std::vector<uint64_t> cpus(static_cast<size_t>(libbpf_num_possible_cpus()));
  uint64_t gained = 0;
  for (auto& r : rings_) {
    const uint32_t zero = 0;
    if (r->drops_fd < 0 || bpf_map_lookup_elem(r->drops_fd, &zero, cpus.data())) continue;
    uint64_t total = std::accumulate(cpus.begin(), cpus.end(), uint64_t{0});
    gained += total - r->dropped;
    r->dropped = total;
  }
  return gained;
}

uint64_t Rings::take_malformed() {
  uint64_t n = 0;
  for (auto& r : rings_) n += std::exchange(r->malformed, 0);
  return n;
}

void Rings::clear() { rings_.clear(); }

}  // namespace gopher
