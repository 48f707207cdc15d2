// history_db.hpp - the local event store's database: its schema, writing, bounding, reading.
// SPDX-License-Identifier: Apache-2.0
//
// Rows are numbered by `seq`, ascending and never used twice, in the order of storing. A sink (an
// exporter that must get every event) has a position: all rows up to it are delivered. So delivered
// rows are always older than undelivered ones, and the oldest go first.
#pragma once

#include <gopher/probe.h>
#include <gopher/result.hpp>

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "export/sqlite.hpp"

namespace gopher {

struct HistoryLimits {
  uint64_t max_age_ns = 168 * 3600 * uint64_t{1'000'000'000};
  uint64_t max_bytes = 256 << 20;  // of the database, its write-ahead log and its index of that
};

// How the space is shared out.
struct HistoryBudget {
  explicit HistoryBudget(uint64_t max_bytes);
  uint64_t database, wal;
  uint64_t batch;  // most JSON in one transaction
};

struct HistoryRow {
  gopher_event_id id = {};
  uint64_t time_ns = 0;
  std::string type = {}, probe = {};
  uint32_t severity = 0;
  uint32_t pid = 0;  // 0: none
  uint64_t correlation = 0;
  std::string json = {};
};

class HistoryDb {
 public:
  static constexpr int kVersion = 1;
  static constexpr uint64_t kAll = std::numeric_limits<int64_t>::max();  // no sink: all delivered

  // Creates what is missing. EBADMSG: corrupt; ENOTSUP: written by a newer gopherd.
  static Result<HistoryDb> open(const std::string& path, const HistoryLimits& limits);

  struct Written {
    uint64_t last_seq = 0;
    uint64_t stored = 0;  // without those that were there already
    uint64_t pruned = 0;  // delivered rows that made room
    uint64_t lost = 0;    // undelivered rows that made room
  };
  // All or nothing. Rows up to `delivered` go first if there is no room.
  Result<Written> store(std::span<const HistoryRow> rows, uint64_t delivered);
  // Drops delivered rows from before `time_ns`, some at a time; gives how many.
  Result<uint64_t> expire(uint64_t time_ns, uint64_t delivered);
  // Copies the log into the database and waits for the disk; gives free space back if the limit
  // was lowered.
  Result<> checkpoint();
  Result<> set_limits(const HistoryLimits& limits);

  Result<uint64_t> last_seq();
  Result<> set_last_seq(uint64_t seq);  // of a new database
  Result<std::vector<std::pair<std::string, uint64_t>>> positions();
  Result<> set_position(const std::string& sink, uint64_t seq);

 private:
  HistoryDb(Database db, const HistoryLimits& limits);
  Result<> prepare();
  Result<> make_room(size_t rows, uint64_t bytes, uint64_t delivered, Written* out);
  Result<uint64_t> used_bytes();

  Database db_;
  HistoryBudget budget_;
  Statement insert_, prune_, lose_, expire_, set_position_;
};

// What to look for; what is not set does not matter.
struct HistoryQuery {
  uint64_t from_ns = 0, to_ns = std::numeric_limits<int64_t>::max();  // both included
  std::string type = {};
  uint32_t min_severity = 0;
  std::optional<uint32_t> pid = {};
  uint64_t correlation = 0;
  size_t limit = 1000;
  bool newest_first = true;
};

// A read-only connection of its own; one thread at a time.
class HistoryReader {
 public:
  static Result<HistoryReader> open(const std::string& path);

  struct Record {
    uint64_t seq = 0;
    std::string json;
  };
  // The next rows after `seq`, in order; at least one if there is one, else up to both limits.
  Result<std::vector<Record>> after(uint64_t seq, size_t max_rows, size_t max_bytes);
  Result<std::vector<Record>> find(const HistoryQuery& query);
  Result<std::optional<Record>> find(const gopher_event_id& id);

 private:
  explicit HistoryReader(Database db) : db_(std::move(db)) {}
  Database db_;
  Statement after_, by_id_;
};

// The database file and what SQLite keeps beside it.
uint64_t history_bytes(const std::string& path);

}  // namespace gopher
