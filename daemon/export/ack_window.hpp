// ack_window.hpp - which events are on their way to a sink, and up to where all have arrived.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>

namespace gopher {

// Numbers go in ascending; acknowledgements come in any order. The position is the end of the
// contiguous prefix that was acknowledged, so that whoever starts again from there misses nothing.
class AckWindow {
 public:
  explicit AckWindow(uint64_t position) : position_(position) {}

  void add(uint64_t seq, size_t bytes) {
    entries_.push_back({seq, bytes, false});
    bytes_ += bytes;
    ++open_;
  }
  // False: not in the window, or known already.
  bool ack(uint64_t seq) {
    Entry* entry = find(seq);
    if (!entry || entry->done) return false;
    close(*entry);
    entry->done = true;
    while (!entries_.empty() && entries_.front().done) {
      position_ = entries_.front().seq;
      entries_.pop_front();
    }
    return true;
  }
  // It did not arrive; the position stays before it until reset().
  bool fail(uint64_t seq) {
    Entry* entry = find(seq);
    if (!entry || entry->done || entry->failed) return false;
    close(*entry);
    entry->failed = true;
    return true;
  }
  // Forgets what is in the window: to begin again behind the position.
  void reset() { *this = AckWindow(position_); }
  // Nothing up to `seq` is left to be sent.
  void skip_to(uint64_t seq) {
    if (entries_.empty()) position_ = std::max(position_, seq);
  }

  uint64_t position() const { return position_; }
  size_t in_flight() const { return open_; }  // neither acknowledged nor failed
  size_t bytes() const { return bytes_; }     // of those
  bool empty() const { return entries_.empty(); }

 private:
  struct Entry {
    uint64_t seq;
    size_t bytes;
    bool done;
    bool failed = false;
  };
  Entry* find(uint64_t seq) {
    auto it = std::lower_bound(entries_.begin(), entries_.end(), seq,
                               [](const Entry& e, uint64_t s) { return e.seq < s; });
    return it != entries_.end() && it->seq == seq ? &*it : nullptr;
  }
  void close(Entry& entry) {
    if (entry.failed) return;  // closed already
    --open_;
    bytes_ -= entry.bytes;
  }

  uint64_t position_;
  std::deque<Entry> entries_;
  size_t open_ = 0, bytes_ = 0;
};

}  // namespace gopher
