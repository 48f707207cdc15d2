// history.cpp - the writer of the local event store, its retries and its recovery.
// SPDX-License-Identifier: Apache-2.0
#include "export/history.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "core/clock.hpp"
#include "core/log.hpp"
#include "core/unique_fd.hpp"

namespace gopher {
namespace {

using std::chrono::milliseconds;

constexpr size_t kBatchEvents = 512;
constexpr milliseconds kGather{100};  // a stream of events is at most ten transactions a second
constexpr milliseconds kFirstRetry{500}, kLastRetry{10'000};
constexpr uint64_t kSecond = 1'000'000'000u;
constexpr uint64_t kCheckpointEvery = 10 * kSecond, kExpireEvery = 60 * kSecond;
constexpr uint64_t kReopenEvery = 30 * kSecond;  // a bad disk must not keep us busy

// SQLite gives its log the rights of the database; events name processes, so not for everybody.
// A file that is there is not touched: closing it here would drop SQLite's locks on it.
Result<> make_file(const std::string& path) {
  struct stat st;
  if (stat(path.c_str(), &st) == 0) return Ok{};
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
  if (!fd) return errno_error(errno, "open " + path);
  return Ok{};
}

Result<> move_aside(const std::string& path) {
  const std::string to = path + ".corrupt";
  for (const char* suffix : {"", "-wal"}) {
    std::remove((to + suffix).c_str());
    if (std::rename((path + suffix).c_str(), (to + suffix).c_str()) != 0 && errno != ENOENT)
      return errno_error(errno, "rename " + path + suffix);
  }
  std::remove((path + "-shm").c_str());
  return Ok{};
}

}  // namespace

History::History(std::string path, const std::string& node, EventQueue& queue,
                 const HistoryLimits& limits)
    : path_(std::move(path)),
      queue_(queue),
      to_json_(node),
      limits_(limits),
      budget_(limits.max_bytes) {}

Result<std::unique_ptr<History>> History::open(const std::string& dir, const std::string& node,
                                               EventQueue& queue, const HistoryLimits& limits) {
  std::unique_ptr<History> out(new History(dir + "/events.db", node, queue, limits));
  auto opened = out->open_database();
  if (!opened && opened.error().code == EBADMSG) {
    GOPHER_LOG_ERROR(
        "the local event store %s is corrupt (%s): it was moved aside to %s.corrupt and a new one "
        "begun; undelivered events in it are not sent",
        out->path_.c_str(), opened.error().text.c_str(), out->path_.c_str());
    opened = move_aside(out->path_);
    if (opened) opened = out->open_database();
  }
  if (!opened) return std::move(opened).error().within("local event store " + out->path_);
  out->thread_ = std::thread([self = out.get()] { self->run(); });
  return out;
}

Result<> History::open_database() {
  if (auto r = make_file(path_); !r) return r;
  auto db = HistoryDb::open(path_, limits_);
  if (!db) return std::move(db).error();
  auto last = db->last_seq();
  if (!last) return std::move(last).error();
  if (*last < last_seq_) {
    // Replaced under way: numbers go on, so that no sink takes a new event for an old one.
    if (auto r = db->set_last_seq(last_seq_); !r) return r;
  } else {
    last_seq_ = *last;
  }
  for (auto& [name, sink] : sinks_)
    if (auto r = db->set_position(name, sink.position); !r) return r;
  if (auto r = load_sinks(*db); !r) return r;
  db_ = *std::move(db);
  ++generation_;
  counters_.bytes = history_bytes(path_);
  return Ok{};
}

Result<> History::load_sinks(HistoryDb& db) {
  auto positions = db.positions();
  if (!positions) return std::move(positions).error();
  const uint64_t until = monotonic_ns() + uint64_t{kSinkGrace / std::chrono::nanoseconds(1)};
  // A position beyond the last event: someone put an older database back.
  for (const auto& [name, seq] : *positions)
    sinks_.try_emplace(name,
                       Sink{.position = std::min<uint64_t>(seq, last_seq_), .until_ns = until});
  return Ok{};
}

Result<> History::reopen() {
  std::lock_guard lock(mutex_);
  const uint64_t done = delivered(), last = last_seq_;
  const uint64_t undelivered = last > done ? last - done : 0;
  db_.reset();
  if (auto r = move_aside(path_); !r) return r;
  for (auto& [name, sink] : sinks_) sink.position = last;
  if (auto r = open_database(); !r) return r;
  counters_.lost += undelivered;
  GOPHER_LOG_ERROR(
      "the local event store %s became corrupt: it was moved aside to %s.corrupt and a new one "
      "begun; %llu undelivered events are lost",
      path_.c_str(), path_.c_str(), static_cast<unsigned long long>(undelivered));
  return Ok{};
}

History::~History() { stop(); }

void History::stop() {
  queue_.close();
  if (thread_.joinable()) thread_.join();
}

void History::set_limits(const HistoryLimits& limits) {
  std::lock_guard lock(mutex_);
  limits_ = limits;
  budget_ = HistoryBudget(limits.max_bytes);
  if (!db_) return;
  if (auto r = db_->set_limits(limits); !r)
    GOPHER_LOG_WARNING("local event store: %s", r.error().text.c_str());
}

uint64_t History::delivered() const {
  uint64_t seq = HistoryDb::kAll;
  const uint64_t now = monotonic_ns();
  for (const auto& [name, sink] : sinks_)
    if (sink.until_ns == 0 || now < sink.until_ns) seq = std::min(seq, sink.position);
  return seq;
}

Result<uint64_t> History::add_sink(const std::string& name) {
  std::lock_guard lock(mutex_);
  if (!db_) return Error{EIO, "the local event store is not open"};
  if (auto it = sinks_.find(name); it == sinks_.end()) {
    // Not known, or its time was over and its position is still in the database.
    if (auto r = load_sinks(*db_); !r) return std::move(r).error();
  }
  auto [it, fresh] = sinks_.try_emplace(name);
  it->second.until_ns = 0;
  if (fresh)
    if (auto r = db_->set_position(name, 0); !r) return std::move(r).error();
  return it->second.position;
}

void History::remove_sink(const std::string& name, std::chrono::nanoseconds grace) {
  std::lock_guard lock(mutex_);
  auto it = sinks_.find(name);
  if (it == sinks_.end()) return;
  it->second.until_ns = monotonic_ns() + static_cast<uint64_t>(grace.count());
}

void History::drop_removed_sinks(uint64_t now_ns) {
  const size_t n = std::erase_if(sinks_, [&](const auto& entry) {
    return entry.second.until_ns != 0 && now_ns >= entry.second.until_ns;
  });
  if (n > 0) next_expiry_ns_ = 0;
}

Result<> History::advance(const std::string& name, uint64_t seq) {
  std::lock_guard lock(mutex_);
  auto it = sinks_.find(name);
  if (it == sinks_.end()) return Error{ENOENT, "no sink " + name};
  if (seq <= it->second.position) return Ok{};
  if (!db_) return Error{EIO, "the local event store is not open"};
  if (auto r = db_->set_position(name, seq); !r) return r;
  it->second.position = seq;
  return Ok{};
}

void History::run() {
  while (true) {
    if (events_.empty() && rows_.empty()) {
      auto taken = queue_.take(kBatchEvents, milliseconds(1000), kGather);
      if (taken.empty() && queue_.closed()) break;
      events_.assign(std::make_move_iterator(taken.begin()), std::make_move_iterator(taken.end()));
    }
    store_all();
    maintain();
  }
  std::lock_guard lock(mutex_);
  if (!db_) return;
  if (auto r = db_->checkpoint(); !r)
    GOPHER_LOG_WARNING("local event store: %s", r.error().text.c_str());
}

void History::store_all() {
  while (!events_.empty() || !rows_.empty()) {
    counters_.pending = events_.size() + rows_.size();
    auto stored = store_batch();
    if (!stored) return on_error(stored.error());
    if (backoff_.count() > 0) GOPHER_LOG_INFO("the local event store can be written again");
    backoff_ = {};
    counters_.failing = false;
  }
  counters_.pending = 0;
}

// One transaction; after an error the same rows are tried again.
Result<> History::store_batch() {
  std::lock_guard lock(mutex_);
  if (!db_)
    if (auto r = open_database(); !r) return r;
  if (rows_.empty()) encode_batch();
  auto written = db_->store(rows_, delivered());
  if (!written) return std::move(written).error();
  rows_.clear();
  counters_.stored += written->stored;
  counters_.pruned += written->pruned;
  counters_.lost += written->lost;
  last_seq_.store(std::max<uint64_t>(last_seq_, written->last_seq), std::memory_order_release);
  counters_.bytes = history_bytes(path_);
  dirty_ = true;
  return Ok{};
}

void History::encode_batch() {
  for (uint64_t bytes = 0; !events_.empty() && bytes < budget_.batch; events_.pop_front()) {
    const Event& event = events_.front();
    rows_.push_back({.id = event.id,
                     .time_ns = event.time_ns,
                     .type = event.type->name,
                     .probe = std::string(event.probe),
                     .severity = event.severity,
                     .pid = event.process ? event.process->pid : 0,
                     .correlation = event.correlation,
                     .json = to_json_(event)});
    bytes += rows_.back().json.size();
  }
}

void History::on_error(const Error& error) {
  ++counters_.write_errors;
  counters_.failing = true;
  if (error.code == EBADMSG && monotonic_ns() >= next_reopen_ns_) {
    next_reopen_ns_ = monotonic_ns() + kReopenEvery;
    auto r = reopen();
    if (r) return;
    GOPHER_LOG_ERROR("local event store: %s", r.error().text.c_str());
  }
  if (backoff_.count() == 0)
    GOPHER_LOG_ERROR("the local event store cannot be written (%s): events wait in the queue",
                     error.text.c_str());
  backoff_ = backoff_.count() == 0 ? kFirstRetry : std::min(2 * backoff_, kLastRetry);
  if (queue_.wait_closed(backoff_)) last_try();
}

// The daemon ends: one try more for what waits here, and what cannot be stored is lost.
void History::last_try() {
  while ((!events_.empty() || !rows_.empty()) && store_batch()) {
  }
  uint64_t lost = events_.size() + rows_.size();
  if (lost > 0) {
    events_.clear();
    rows_.clear();
    for (auto rest = queue_.take(kBatchEvents, {}); !rest.empty();
         rest = queue_.take(kBatchEvents, {}))
      lost += rest.size();
    counters_.lost += lost;
    GOPHER_LOG_ERROR("%llu events are lost: the local event store cannot be written",
                     static_cast<unsigned long long>(lost));
  }
  counters_.pending = 0;
}

void History::maintain() {
  if (suspect_.exchange(0) == generation_) on_error({EBADMSG, "a reader found it corrupt"});
  const uint64_t now = monotonic_ns();
  std::lock_guard lock(mutex_);
  if (!db_) return;
  drop_removed_sinks(now);
  if (now >= next_expiry_ns_) {
    const uint64_t real = realtime_ns();
    auto gone = db_->expire(real - std::min(real, limits_.max_age_ns), delivered());
    if (gone) counters_.pruned += *gone;
    dirty_ |= gone && *gone > 0;
    // More than one step's worth: go on at the next turn, so that storing does not wait.
    if (!gone || *gone == 0) next_expiry_ns_ = now + kExpireEvery;
  }
  if (dirty_ && now >= next_checkpoint_ns_) {
    next_checkpoint_ns_ = now + kCheckpointEvery;
    if (auto r = db_->checkpoint(); r) dirty_ = false;
    counters_.bytes = history_bytes(path_);
  }
}

History::Stats History::stats() const {
  return {.stored = counters_.stored,
          .pruned = counters_.pruned,
          .lost = counters_.lost,
          .write_errors = counters_.write_errors,
          .pending = counters_.pending,
          .bytes = counters_.bytes,
          .failing = counters_.failing};
}

template <class T, class F>
Result<T> History::Reader::with_connection(F f) {
  const uint64_t generation = history_.generation_;
  if (!reader_ || generation_ != generation) {
    auto opened = HistoryReader::open(history_.path_);
    if (!opened) return std::move(opened).error();
    reader_ = *std::move(opened);
    generation_ = generation;
  }
  Result<T> out = f(*reader_);
  if (!out) {
    reader_.reset();
    if (out.error().code == EBADMSG) history_.suspect_ = generation;
  }
  return out;
}

Result<std::vector<HistoryReader::Record>> History::Reader::after(uint64_t seq, size_t max_rows,
                                                                  size_t max_bytes) {
  return with_connection<std::vector<Record>>(
      [&](HistoryReader& r) { return r.after(seq, max_rows, max_bytes); });
}

Result<std::vector<HistoryReader::Record>> History::Reader::find(const HistoryQuery& query) {
  return with_connection<std::vector<Record>>([&](HistoryReader& r) { return r.find(query); });
}

Result<std::optional<HistoryReader::Record>> History::Reader::find(const gopher_event_id& id) {
  return with_connection<std::optional<Record>>([&](HistoryReader& r) { return r.find(id); });
}

}  // namespace gopher
