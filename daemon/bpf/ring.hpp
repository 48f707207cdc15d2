// ring.hpp - a probe's ring buffers, drained by the worker's timer; what did not fit is counted.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/probe.h>
#include <gopher/result.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace gopher {

// Used by one worker only.
class Rings {
 public:
  Rings();
  ~Rings();
  Rings(const Rings&) = delete;
  Rings& operator=(const Rings&) = delete;

  Result<> add(int ring_fd, int drops_fd, gopher_ring_fn fn, void* arg);
  // Hands out all that is there; returns how many records.
  size_t drain();
  // Records that did not fit since the last call (the kernel's counters).
  uint64_t take_dropped();
  // Records that their reader refused since the last call.
  uint64_t take_malformed();
  void clear();
  bool empty() const { return rings_.empty(); }

 private:
  struct Ring;
  std::vector<std::unique_ptr<Ring>> rings_;
};

}  // namespace gopher
