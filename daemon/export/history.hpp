// history.hpp - the local event store: takes events off the queue into SQLite, bounded, always on.
// SPDX-License-Identifier: Apache-2.0
//
// What is stored survives the death of gopherd (kill -9 too). The death of the machine can cost the
// events since the last checkpoint, at most about 10 s of them, and never the database.
//
// Bounds: delivered events older than the age limit go; so do, if the space runs out, first the
// oldest delivered ones, then the oldest undelivered ones, which are counted as lost. Where there
// is no sink every event counts as delivered.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bus/events.hpp"
#include "export/history_db.hpp"
#include "export/json.hpp"

namespace gopher {

class History {
 public:
  // Opens `dir`/events.db and starts the writer. A corrupt database is moved aside to
  // events.db.corrupt (one is kept) and a new one begun.
  static Result<std::unique_ptr<History>> open(const std::string& dir, const std::string& node,
                                               EventQueue& queue, const HistoryLimits& limits);
  ~History();
  History(const History&) = delete;
  History& operator=(const History&) = delete;

  // Closes the queue, stores what is in it, ends the writer. Sinks and readers still work.
  void stop();
  void set_limits(const HistoryLimits& limits);

  // A sink is a name that has a position. As long as it is there its undelivered events go last.
  // Gives the position: 0 for a new sink, so that it gets all there is.
  Result<uint64_t> add_sink(const std::string& name);
  // It counts on for a while, since an exporter that is restarted comes back at once; so do, from
  // open() on, the sinks of the last run. Its position is kept for the next time.
  void remove_sink(const std::string& name, std::chrono::nanoseconds grace = kSinkGrace);
  static constexpr std::chrono::seconds kSinkGrace{60};
  Result<> advance(const std::string& name, uint64_t seq);

  // A connection that follows if the database is replaced. One thread at a time.
  class Reader {
   public:
    explicit Reader(History& history) : history_(history) {}
    using Record = HistoryReader::Record;
    Result<std::vector<Record>> after(uint64_t seq, size_t max_rows, size_t max_bytes);
    Result<std::vector<Record>> find(const HistoryQuery& query);
    Result<std::optional<Record>> find(const gopher_event_id& id);

   private:
    template <class T, class F>
    Result<T> with_connection(F f);
    History& history_;
    uint64_t generation_ = 0;
    std::optional<HistoryReader> reader_;
  };

  // The number of the newest stored event; ascends for as long as this object lives.
  uint64_t last_seq() const { return last_seq_.load(std::memory_order_acquire); }

  struct Stats {
    uint64_t stored = 0;
    uint64_t pruned = 0;  // delivered (or nobody's) events that went by age or for space
    uint64_t lost = 0;    // undelivered events that had to go, or could not be written at the end
    uint64_t write_errors = 0;
    uint64_t pending = 0;  // off the queue, not yet stored
    uint64_t bytes = 0;    // on disk
    bool failing = false;
  };
  Stats stats() const;

 private:
  struct Counters {
    std::atomic<uint64_t> stored{0}, pruned{0}, lost{0}, write_errors{0}, pending{0}, bytes{0};
    std::atomic<bool> failing{false};
  };

  History(std::string path, const std::string& node, EventQueue& queue,
          const HistoryLimits& limits);
  Result<> open_database();
  Result<> reopen();  // after corruption
  Result<> load_sinks(HistoryDb& db);
  void drop_removed_sinks(uint64_t now_ns);
  void run();
  void store_all();
  Result<> store_batch();
  void encode_batch();
  void on_error(const Error& error);
  void last_try();
  void maintain();
  uint64_t delivered() const;  // mutex_ is held

  const std::string path_;
  EventQueue& queue_;
  const EventJson to_json_;
  std::atomic<uint64_t> last_seq_{0}, generation_{0};
  std::atomic<uint64_t> suspect_{0};  // the generation that a reader found corrupt
  Counters counters_;

  mutable std::mutex mutex_;  // guards what follows
  HistoryLimits limits_;
  HistoryBudget budget_;
  std::optional<HistoryDb> db_;
  struct Sink {
    uint64_t position = 0;
    uint64_t until_ns = 0;  // removed, and counts until then; 0: not removed
  };
  std::map<std::string, Sink> sinks_;
  uint64_t next_checkpoint_ns_ = 0, next_expiry_ns_ = 0;

  // The writer's own.
  std::deque<Event> events_;      // off the queue
  std::vector<HistoryRow> rows_;  // the next transaction
  std::chrono::milliseconds backoff_{0};
  uint64_t next_reopen_ns_ = 0;
  bool dirty_ = false;

  std::thread thread_;
};

}  // namespace gopher
