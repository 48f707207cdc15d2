// events.hpp - events on their way out: one envelope, folded when too many, in a bounded queue.
// SPDX-License-Identifier: Apache-2.0
//
// The law that tests hold us to, per type and in total, at any time:
//   produced = sent + folded + dropped + held
// `sent` reached the queue, `folded` is what sent events say of others like them, `dropped` did not
// fit into the queue, `held` waits in a gate for the end of its minute (0 after flush()).
#pragma once

#include <gopher/probe.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "bus/catalog.hpp"
#include "bus/text.hpp"
#include "core/clock.hpp"

namespace gopher {

// 26 characters of Crockford's base 32 (the ULID form), sortable as text.
std::string to_string(const gopher_event_id& id);
// The reverse; nothing if the text is none.
std::optional<gopher_event_id> parse_event_id(std::string_view text);

// Draws ids: ascending within a process even if the clock steps back, and with 79 random bits per
// millisecond, so that two runs never meet.
class EventIds {
 public:
  gopher_event_id next(uint64_t realtime_ns);

 private:
  std::mutex mutex_;
  uint64_t last_ms_ = 0;
  gopher_event_id last_ = {};
};

struct EventProcess {
  uint32_t pid = 0;
  uint64_t start_ns = 0;  // CLOCK_BOOTTIME; 0: unknown
  std::string comm;       // raw bytes, as the process named itself
  std::string cgroup;     // path; empty: unknown
};

// An event with everything spelled out; owns its text.
struct Event {
  // GOPHER_NS stays in nanoseconds; GOPHER_PROCESS is an EventProcess; what has a text is a string.
  using Field = std::variant<uint64_t, int64_t, double, bool, std::string, EventProcess>;
  gopher_event_id id = {};
  uint64_t time_ns = 0;  // since the epoch
  const gopher_event* type = nullptr;
  std::string_view probe;
  uint32_t severity = 0;
  std::optional<EventProcess> process;
  uint64_t correlation = 0;
  std::optional<gopher_event_id> recovers;
  uint64_t folded = 0;        // how many others like it were suppressed in its minute
  std::vector<Field> fields;  // in the table's order

  uint64_t weight() const { return 1 + folded; }  // how many events it stands for
  size_t bytes() const;                           // about what it takes in memory
};

// Bounded in number and, at kBytesPerEvent each, in memory; many producers, one consumer. What does
// not fit is counted, and the producer never waits.
class EventQueue {
 public:
  static constexpr size_t kBytesPerEvent = 1024;
  explicit EventQueue(size_t capacity) : capacity_(capacity) {}
  bool push(Event&& event);
  // Waits up to `timeout` for something, then takes up to `max`. Within `gather` of the last take
  // it waits for more until the queue is half full, so that a stream comes in batches and a single
  // event at once. Empty: nothing came, or closed and drained.
  std::vector<Event> take(size_t max, std::chrono::milliseconds timeout,
                          std::chrono::milliseconds gather = std::chrono::milliseconds(0));
  void close();  // wakes the consumer; what is queued can still be taken, nothing more gets in
  bool closed() const;
  // Waits until close(), at most `timeout`; true if closed.
  bool wait_closed(std::chrono::milliseconds timeout) const;
  void set_capacity(size_t capacity);
  // By weight: an event that carries `folded` others counts for all of them.
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }
  size_t size() const;
  EventIds& ids() { return ids_; }  // one source for all gates of a daemon

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  size_t capacity_;
  size_t bytes_ = 0;
  std::deque<Event> events_;
  bool closed_ = false;
  std::chrono::steady_clock::time_point last_take_ = {};
  std::atomic<uint64_t> dropped_{0};
  EventIds ids_;
};

// Makes Events of a probe's records, and folds: of one type and process at most max_per_minute go
// through; of the others the last is kept and leaves when its minute is over, with `folded` saying
// how many it stands for beside itself. One per instance, used by its worker only.
class EventGate {
 public:
  // Of more processes at a time the rest share one lane per type, so that a fork bomb cannot take
  // memory, nor outrun the folding.
  static constexpr size_t kMaxLanes = 1024;
  // Longer strings are cut.
  static constexpr size_t kMaxText = 1024;
  using Clock = uint64_t (*)();

  // `per_minute` is for types that do not set their own. `clock` is CLOCK_MONOTONIC but in tests.
  EventGate(const ProbeTables& probe, const TextSource& text, EventQueue& queue,
            uint32_t per_minute = 60, Clock clock = monotonic_ns);
  // As gopher_host.event. -EINVAL: no such event, severity or fields.
  int emit(const gopher_event_record& record, gopher_event_id* id);
  // Lets go of kept events whose minute is over; call about once a second.
  void tick(uint64_t now_ns);
  void flush();  // lets go of all kept events, at stop

  // Per type of the table; any thread.
  struct Counts {
    uint64_t produced = 0, sent = 0, folded = 0, dropped = 0, held = 0;
  };
  std::vector<Counts> counts() const;

 private:
  struct Key {
    uint32_t type, tgid;
    uint64_t start_ns;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& k) const;
  };
  struct Lane {
    uint64_t start_ns = 0;  // of its minute
    uint32_t sent = 0;      // in its minute
    uint64_t others = 0;    // suppressed beside `kept`
    std::optional<Event> kept;
  };

  Event build(const gopher_event& type, const gopher_event_record& record, uint64_t now_ns) const;
  EventProcess process_of(const gopher_process& process) const;
  Event::Field field_of(const gopher_field& field, const gopher_value& value) const;
  Lane& lane_of(uint32_t type, const gopher_process* process, uint64_t now_ns);
  void release(uint32_t type, Lane& lane);
  static bool over(const Lane& lane, uint64_t now_ns);

  ProbeTables probe_;
  const TextSource& text_;
  EventQueue& queue_;
  const uint32_t per_minute_;
  const Clock clock_;
  std::unordered_map<Key, Lane, Hash> lanes_;
  mutable std::mutex mutex_;  // of counts_ only
  std::vector<Counts> counts_;
};

}  // namespace gopher
