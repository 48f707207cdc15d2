// events.hpp - events on their way out: one envelope, folded when too many, in a bounded queue.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/probe.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "bus/catalog.hpp"
#include "bus/text.hpp"

namespace gopher {

// 26 characters of Crockford's base 32 (the ULID form), sortable as text.
std::string to_string(const gopher_event_id& id);

// An event with everything spelled out; owns its text.
struct Event {
  using Field = std::variant<uint64_t, int64_t, double, bool, std::string>;
  gopher_event_id id = {};
  uint64_t time_ns = 0;  // since the epoch
  const gopher_event* type = nullptr;
  std::string_view probe;
  uint32_t severity = 0;
  std::optional<gopher_process> process;
  std::string cgroup;  // the process's, as text; empty: unknown
  uint64_t correlation = 0;
  std::optional<gopher_event_id> recovers;
  uint64_t folded = 0;        // how many like it were suppressed since the last one that was sent
  std::vector<Field> fields;  // in the table's order
};

// Bounded; many producers, one consumer. What does not fit is counted, and the producer never
// waits.
class EventQueue {
 public:
  explicit EventQueue(size_t capacity) : capacity_(capacity) {}
  bool push(Event&& event);
  // Waits up to `timeout` for something, then takes all there is. Empty: nothing, or closed.
  std::vector<Event> take(std::chrono::milliseconds timeout);
  void close();  // wakes the consumer; what is queued can still be taken
  bool closed() const;
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }
  size_t size() const;

 private:
  const size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Event> events_;
  bool closed_ = false;
  std::atomic<uint64_t> dropped_{0};
};

// Makes Events of a probe's records, and folds: of one type and process at most max_per_minute go
// through; of the others the last is kept and leaves with the next one, or when its minute is over,
// so that emitted + folded = produced. One per instance, used by its worker only.
class EventGate {
 public:
  EventGate(const ProbeTables& probe, const TextSource& text, EventQueue& queue);
  // As gopher_host.event. -EINVAL: no such event.
  int emit(const gopher_event_record& record, gopher_event_id* id);
  void tick(
      uint64_t now_ns);  // lets go of kept events whose minute is over; call about once a second
  void flush();          // lets go of all kept events, at stop

  // Per type of the table.
  struct Counts {
    uint64_t produced = 0, sent = 0, folded = 0, dropped = 0;
  };
  std::vector<Counts> counts() const;  // any thread

 private:
  struct Lane;
  ProbeTables probe_;
  const TextSource& text_;
  EventQueue& queue_;
  mutable std::mutex mutex_;
  std::map<std::pair<uint32_t, std::pair<uint32_t, uint64_t>>, Lane> lanes_;
  std::vector<Counts> counts_;
};

}  // namespace gopher
