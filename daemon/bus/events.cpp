// events.cpp - event ids, the bounded queue, and the gate that folds.
// SPDX-License-Identifier: Apache-2.0
#include "bus/events.hpp"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <utility>

namespace gopher {
namespace {

constexpr char kBase32[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr uint64_t kMinuteNs = 60'000'000'000u;

void random_bytes(void* out, size_t size) {
  auto* p = static_cast<unsigned char*>(out);
  while (size > 0) {
    ssize_t n = getrandom(p, size, 0);
    if (n < 0) {
      if (errno == EINTR) continue;
      return;  // a kernel without getrandom: the clock alone makes the id
    }
    p += n;
    size -= static_cast<size_t>(n);
  }
}

std::string text_of(const gopher_value& value) {
  if (!value.str) return {};
  size_t len = value.len ? strnlen(value.str, value.len) : std::strlen(value.str);
  return {value.str, std::min(len, EventGate::kMaxText)};
}

}  // namespace

std::string to_string(const gopher_event_id& id) {
  std::string out(26, '0');
  uint64_t hi = id.hi, lo = id.lo;
  for (size_t i = out.size(); i-- > 0;) {
    out[i] = kBase32[lo & 31];
    lo = lo >> 5 | hi << 59;
    hi >>= 5;
  }
  return out;
}

std::optional<gopher_event_id> parse_event_id(std::string_view text) {
  // 26 digits hold 130 bits: the first may only be 0 to 7.
  if (text.size() != 26 || text[0] > '7') return std::nullopt;
  gopher_event_id id = {};
  for (char c : text) {
    const char* digit = c ? std::strchr(kBase32, c) : nullptr;
    if (!digit) return std::nullopt;
    id.hi = id.hi << 5 | id.lo >> 59;
    id.lo = id.lo << 5 | static_cast<uint64_t>(digit - kBase32);
  }
  return id;
}

gopher_event_id EventIds::next(uint64_t realtime_ns) {
  const uint64_t ms = realtime_ns / 1'000'000u;
  std::lock_guard lock(mutex_);
  if (ms > last_ms_) {
    // One bit stays clear, as room to count upwards within the millisecond.
    uint16_t high = 0;
    random_bytes(&high, sizeof high);
    random_bytes(&last_.lo, sizeof last_.lo);
    last_.hi = ms << 16 | (high & 0x7fffu);
    last_ms_ = ms;
  } else if (++last_.lo == 0) {
    ++last_.hi;
  }
  return last_;
}

size_t Event::bytes() const {
  size_t n = sizeof(Event) + fields.capacity() * sizeof(Field);
  auto process_bytes = [](const EventProcess& p) { return p.comm.size() + p.cgroup.size(); };
  if (process) n += process_bytes(*process);
  for (const Field& f : fields) {
    if (auto* s = std::get_if<std::string>(&f)) n += s->size();
    if (auto* p = std::get_if<EventProcess>(&f)) n += process_bytes(*p);
  }
  return n;
}

bool EventQueue::push(Event&& event) {
  const size_t bytes = event.bytes();
  std::unique_lock lock(mutex_);
  if (closed_ || events_.size() >= capacity_ || bytes_ + bytes > capacity_ * kBytesPerEvent) {
    dropped_.fetch_add(event.weight(), std::memory_order_relaxed);
    return false;
  }
  bytes_ += bytes;
  events_.push_back(std::move(event));
  const size_t n = events_.size();
  // The consumer waits for the first one, or for half of the queue; the rest need no wake-up.
  const bool wake = n == 1 || n == (capacity_ + 1) / 2;
  lock.unlock();
  if (wake) changed_.notify_all();
  return true;
}

std::vector<Event> EventQueue::take(size_t max, std::chrono::milliseconds timeout,
                                    std::chrono::milliseconds gather) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [&] { return closed_ || !events_.empty(); });
  if (!events_.empty() && !closed_)
    changed_.wait_until(lock, last_take_ + gather, [&] {
      return closed_ || events_.size() >= std::min(max, (capacity_ + 1) / 2);
    });
  std::vector<Event> out;
  const size_t n = std::min(max, events_.size());
  out.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    bytes_ -= events_.front().bytes();
    out.push_back(std::move(events_.front()));
    events_.pop_front();
  }
  if (n > 0) last_take_ = std::chrono::steady_clock::now();
  return out;
}

void EventQueue::close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

bool EventQueue::closed() const {
  std::lock_guard lock(mutex_);
  return closed_;
}

bool EventQueue::wait_closed(std::chrono::milliseconds timeout) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] { return closed_; });
}

void EventQueue::set_capacity(size_t capacity) {
  std::lock_guard lock(mutex_);
  capacity_ = capacity;
}

size_t EventQueue::size() const {
  std::lock_guard lock(mutex_);
  return events_.size();
}

size_t EventGate::Hash::operator()(const Key& k) const {
  // splitmix64's finish over the parts: pids and start times are anything but random.
  uint64_t x = k.start_ns ^ (uint64_t{k.type} << 32 | k.tgid) * 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

EventGate::EventGate(const ProbeTables& probe, const TextSource& text, EventQueue& queue,
                     uint32_t per_minute, Clock clock)
    : probe_(probe),
      text_(text),
      queue_(queue),
      per_minute_(per_minute),
      clock_(clock),
      counts_(probe.events.size()) {}

EventProcess EventGate::process_of(const gopher_process& process) const {
  EventProcess out;
  out.pid = process.tgid;
  out.start_ns = process.start_ns;
  out.comm.assign(process.comm, strnlen(process.comm, sizeof process.comm));
  if (process.cgroup_id) {
    gopher_value value = {};
    value.num = process.cgroup_id;
    text_.append(GOPHER_CGROUP, value, &out.cgroup);
  }
  return out;
}

Event::Field EventGate::field_of(const gopher_field& field, const gopher_value& value) const {
  switch (field.type) {
    case GOPHER_U64:
    case GOPHER_NS:
    case GOPHER_BYTES:
      return value.num;
    case GOPHER_I64:
      return value.snum;
    case GOPHER_F64:
      return value.real;
    case GOPHER_BOOL:
      return value.num != 0;
    case GOPHER_STR:
      return text_of(value);
    case GOPHER_ENUM:
      return std::string(value.num < field.n_values ? field.values[value.num] : "unknown");
    case GOPHER_PROCESS:
      return value.process ? process_of(*value.process) : EventProcess{};
    default: {
      std::string text;
      text_.append(static_cast<gopher_type>(field.type), value, &text);
      if (text.size() > kMaxText) text.resize(kMaxText);
      return text;
    }
  }
}

Event EventGate::build(const gopher_event& type, const gopher_event_record& record,
                       uint64_t now_ns) const {
  Event e;
  const uint64_t real_ns = realtime_ns();
  e.id = queue_.ids().next(real_ns);
  // The kernel's time stamp is monotonic; what has passed since is taken off the wall clock.
  const uint64_t age_ns =
      record.time_ns && record.time_ns < now_ns ? now_ns - record.time_ns : uint64_t{0};
  e.time_ns = real_ns - std::min(age_ns, real_ns);
  e.type = &type;
  e.probe = probe_.name;
  e.severity = record.severity ? record.severity : type.severity;
  if (record.process) e.process = process_of(*record.process);
  e.correlation = record.correlation;
  if (record.recovers) e.recovers = *record.recovers;
  e.fields.reserve(type.n_fields);
  for (uint32_t i = 0; i < type.n_fields; ++i)
    e.fields.push_back(field_of(type.fields[i], record.fields[i]));
  return e;
}

int EventGate::emit(const gopher_event_record& record, gopher_event_id* id) {
  if (record.event >= probe_.events.size() || record.severity > GOPHER_ERROR) return -EINVAL;
  const gopher_event& type = probe_.events[record.event];
  if (type.n_fields > 0 && !record.fields) return -EINVAL;
  const uint64_t now = clock_();
  Event event = build(type, record, now);
  if (id) *id = event.id;
  Lane& lane = lane_of(record.event, record.process, now);
  if (over(lane, now)) {
    release(record.event, lane);
    lane.start_ns = now;
    lane.sent = 0;
  }
  if (lane.sent < (type.max_per_minute ? type.max_per_minute : per_minute_)) {
    ++lane.sent;
    const bool sent = queue_.push(std::move(event));
    std::lock_guard lock(mutex_);
    Counts& c = counts_[record.event];
    ++c.produced;
    ++(sent ? c.sent : c.dropped);
    return 0;
  }
  if (lane.kept) ++lane.others;
  lane.kept = std::move(event);
  std::lock_guard lock(mutex_);
  ++counts_[record.event].produced;
  ++counts_[record.event].held;
  return 0;
}

bool EventGate::over(const Lane& lane, uint64_t now_ns) {
  return now_ns >= lane.start_ns + kMinuteNs;
}

EventGate::Lane& EventGate::lane_of(uint32_t type, const gopher_process* process, uint64_t now_ns) {
  Key key = {type, process ? process->tgid : 0, process ? process->start_ns : 0};
  auto it = lanes_.find(key);
  if (it == lanes_.end() && lanes_.size() >= kMaxLanes) {
    key.tgid = ~uint32_t{0};  // no pid: the lane of all others
    key.start_ns = ~uint64_t{0};
    it = lanes_.find(key);
  }
  if (it != lanes_.end()) return it->second;
  Lane& lane = lanes_[key];
  lane.start_ns = now_ns;
  return lane;
}

void EventGate::release(uint32_t type, Lane& lane) {
  if (!lane.kept) return;
  Event event = *std::exchange(lane.kept, std::nullopt);
  const uint64_t others = std::exchange(lane.others, 0);
  event.folded = others;
  const bool sent = queue_.push(std::move(event));
  std::lock_guard lock(mutex_);
  Counts& c = counts_[type];
  c.held -= 1 + others;
  if (sent) {
    ++c.sent;
    c.folded += others;
  } else {
    c.dropped += 1 + others;
  }
}

void EventGate::tick(uint64_t now_ns) {
  for (auto it = lanes_.begin(); it != lanes_.end();) {
    if (!over(it->second, now_ns)) {
      ++it;
      continue;
    }
    release(it->first.type, it->second);
    it = lanes_.erase(it);
  }
}

void EventGate::flush() {
  for (auto& [key, lane] : lanes_) release(key.type, lane);
}

std::vector<EventGate::Counts> EventGate::counts() const {
  std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace gopher
