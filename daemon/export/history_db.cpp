// history_db.cpp - SQL of the local event store.
// SPDX-License-Identifier: Apache-2.0
#include "export/history_db.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/clock.hpp"

namespace gopher {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kKiB = 1024, kMiB = 1024 * kKiB;

// AUTOINCREMENT, so that a number is not used again when the newest row is gone. The second index
// answers every filter of a query without touching the rows that do not match.
constexpr const char* kSchema = R"(
  CREATE TABLE event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    time_ns INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    pid INTEGER,
    type TEXT NOT NULL,
    probe TEXT NOT NULL,
    correlation INTEGER,
    json TEXT NOT NULL
  );
  CREATE INDEX event_by_time ON event (time_ns, severity, pid, type);
  CREATE TABLE sink (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
  PRAGMA user_version = 1;
)";

// NORMAL: a commit is in the kernel's hands when it returns, so the death of gopherd costs nothing;
// the death of the machine costs what came after the last checkpoint. secure_delete is on in
// Debian's build: making room would then write every page that is freed.
constexpr const char* kWriterPragmas = R"(
  PRAGMA auto_vacuum = INCREMENTAL;
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = NORMAL;
  PRAGMA cache_size = -1024;
  PRAGMA temp_store = MEMORY;
  PRAGMA secure_delete = OFF;
)";

std::string id_bytes(const gopher_event_id& id) {
  std::string out(16, '\0');
  for (size_t i = 0; i < 8; ++i) {
    out[i] = static_cast<char>(id.hi >> (56 - 8 * i));
    out[8 + i] = static_cast<char>(id.lo >> (56 - 8 * i));
  }
  return out;
}

int64_t sql(uint64_t v) { return static_cast<int64_t>(v); }

Error corrupt(std::string text) { return {EBADMSG, std::move(text)}; }

// Looks at the pages for a short time: damage that shows later is met when it shows.
Result<> check_pages(Database& db) {
  auto s = db.prepare("PRAGMA quick_check(1)");
  if (!s) return std::move(s).error();
  db.set_deadline(monotonic_ns() + 500'000'000u);
  auto row = s->step();
  db.set_deadline(0);
  if (!row) return row.error().code == ETIMEDOUT ? Result<>(Ok{}) : std::move(row).error();
  if (std::string text = s->bytes(0); text != "ok") return corrupt(text);
  return Ok{};
}

Result<> create_or_check(Database& db) {
  auto version = db.pragma("user_version");
  if (!version) return std::move(version).error();
  if (*version > HistoryDb::kVersion)
    return Error{ENOTSUP, "it has schema version " + std::to_string(*version) +
                              ", and this gopherd knows up to " +
                              std::to_string(HistoryDb::kVersion) +
                              ": start the newer gopherd, or move the file away"};
  if (*version == HistoryDb::kVersion) return check_pages(db);
  auto tx = Transaction::begin(db);
  if (!tx) return std::move(tx).error();
  if (auto r = db.exec(kSchema); !r) return r;
  return tx->commit();
}

}  // namespace

HistoryBudget::HistoryBudget(uint64_t max_bytes) {
  wal = std::clamp(max_bytes / 4, 384 * kKiB, 8 * kMiB);
  batch = std::clamp(wal / 12, 32 * kKiB, 256 * kKiB);
  const uint64_t rest = wal + 64 * kKiB;  // the log's index is 32 KiB per 16 MiB of log
  database = std::max(max_bytes, rest + 256 * kKiB) - rest;
}

uint64_t history_bytes(const std::string& path) {
  uint64_t sum = 0;
  for (const char* suffix : {"", "-wal", "-shm"}) {
    struct stat st;
    if (stat((path + suffix).c_str(), &st) == 0) sum += static_cast<uint64_t>(st.st_size);
  }
  return sum;
}

HistoryDb::HistoryDb(Database db, const HistoryLimits& limits)
    : db_(std::move(db)), budget_(limits.max_bytes) {}

Result<HistoryDb> HistoryDb::open(const std::string& path, const HistoryLimits& limits) {
  auto db = Database::open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  if (!db) return std::move(db).error();
  if (sqlite3_db_readonly(db->get(), "main") == 1) return errno_error(EROFS, "open it for writing");
  HistoryDb out(*std::move(db), limits);
  if (auto r = out.db_.exec(kWriterPragmas); !r) return std::move(r).error();
  if (auto r = create_or_check(out.db_); !r) return std::move(r).error();
  if (auto r = out.prepare(); !r) return std::move(r).error();
  if (auto r = out.set_limits(limits); !r) return std::move(r).error();
  return out;
}

Result<> HistoryDb::prepare() {
  const std::pair<Statement*, const char*> all[] = {
      {&insert_,
       "INSERT OR IGNORE INTO event (id, time_ns, severity, pid, type, probe, correlation, json) "
       "VALUES (?1, ?2, ?3, nullif(?4, 0), ?5, ?6, nullif(?7, 0), ?8)"},
      {&prune_,
       "DELETE FROM event WHERE seq IN "
       "(SELECT seq FROM event WHERE seq <= ?1 ORDER BY seq LIMIT ?2)"},
      {&lose_, "DELETE FROM event WHERE seq IN (SELECT seq FROM event ORDER BY seq LIMIT ?1)"},
      {&expire_,
       "DELETE FROM event WHERE seq IN "
       "(SELECT seq FROM event WHERE time_ns < ?1 AND seq <= ?2 LIMIT ?3)"},
      {&set_position_, "INSERT OR REPLACE INTO sink (name, seq) VALUES (?1, ?2)"}};
  for (auto [statement, text] : all) {
    auto s = db_.prepare(text);
    if (!s) return corrupt("its tables are not those of gopherd: " + s.error().text);
    *statement = *std::move(s);
  }
  return Ok{};
}

Result<> HistoryDb::set_limits(const HistoryLimits& limits) {
  budget_ = HistoryBudget(limits.max_bytes);
  const std::string text =
      "PRAGMA wal_autocheckpoint = " + std::to_string(budget_.wal / 3 / kPage) +
      "; PRAGMA journal_size_limit = " + std::to_string(budget_.wal);
  return db_.exec(text.c_str());
}

Result<uint64_t> HistoryDb::used_bytes() {
  auto pages = db_.pragma("page_count");
  if (!pages) return std::move(pages).error();
  auto unused = db_.pragma("freelist_count");
  if (!unused) return std::move(unused).error();
  return static_cast<uint64_t>(*pages - *unused) * kPage;
}

// `bytes` of JSON in `rows` rows are to fit.
Result<> HistoryDb::make_room(size_t rows, uint64_t bytes, uint64_t delivered, Written* out) {
  // Rows take up to twice their text: pages are not full, and there are two indexes.
  const uint64_t need = std::min(2 * bytes + 8 * kPage, budget_.database);
  auto n = static_cast<int64_t>(rows);  // about as many as come
  while (true) {
    auto used = used_bytes();
    if (!used) return std::move(used).error();
    if (*used + need <= budget_.database) return Ok{};
    prune_.bind(1, sql(delivered));
    prune_.bind(2, n);
    if (auto r = prune_.run(); !r) return r;
    if (const int64_t gone = db_.changes(); gone > 0) {
      out->pruned += static_cast<uint64_t>(gone);
    } else {
      lose_.bind(1, n);
      if (auto r = lose_.run(); !r) return r;
      if (db_.changes() == 0) return Ok{};  // empty: it must fit now
      out->lost += static_cast<uint64_t>(db_.changes());
    }
    n = std::min<int64_t>(2 * n, 4096);
  }
}

Result<HistoryDb::Written> HistoryDb::store(std::span<const HistoryRow> rows, uint64_t delivered) {
  auto tx = Transaction::begin(db_);
  if (!tx) return std::move(tx).error();
  Written out;
  uint64_t bytes = 0;
  for (const HistoryRow& row : rows) bytes += row.json.size() + 128;
  if (auto r = make_room(rows.size(), bytes, delivered, &out); !r) return std::move(r).error();
  for (const HistoryRow& row : rows) {
    const std::string id = id_bytes(row.id);
    insert_.bind_blob(1, id);
    insert_.bind(2, sql(row.time_ns));
    insert_.bind(3, int64_t{row.severity});
    insert_.bind(4, int64_t{row.pid});
    insert_.bind(5, row.type);
    insert_.bind(6, row.probe);
    insert_.bind(7, sql(row.correlation));
    insert_.bind(8, row.json);
    if (auto r = insert_.run(); !r) return std::move(r).error();
    out.stored += static_cast<uint64_t>(db_.changes());
  }
  out.last_seq = static_cast<uint64_t>(sqlite3_last_insert_rowid(db_.get()));
  if (auto r = tx->commit(); !r) return std::move(r).error();
  return out;
}

Result<uint64_t> HistoryDb::expire(uint64_t time_ns, uint64_t delivered) {
  expire_.bind(1, sql(time_ns));
  expire_.bind(2, sql(delivered));
  expire_.bind(3, int64_t{2048});
  if (auto r = expire_.run(); !r) return std::move(r).error();
  return static_cast<uint64_t>(db_.changes());
}

Result<> HistoryDb::checkpoint() {
  auto pages = db_.pragma("page_count");
  if (!pages) return std::move(pages).error();
  const int64_t over = *pages - sql(budget_.database / kPage);
  if (over > 0) {
    const std::string text =
        "PRAGMA incremental_vacuum(" + std::to_string(std::min<int64_t>(over, 512)) + ")";
    if (auto r = db_.exec(text.c_str()); !r) return r;
  }
  // PASSIVE never waits for a reader; what it leaves is done the next time.
  if (sqlite3_wal_checkpoint_v2(db_.get(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr) !=
      SQLITE_OK)
    return db_.error("checkpoint");
  return Ok{};
}

Result<uint64_t> HistoryDb::last_seq() {
  auto s = db_.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'event'");
  if (!s) return std::move(s).error();
  auto row = s->step();
  if (!row) return std::move(row).error();
  return *row ? static_cast<uint64_t>(s->integer(0)) : 0;
}

Result<> HistoryDb::set_last_seq(uint64_t seq) {
  const std::string text =
      "INSERT INTO sqlite_sequence (name, seq) VALUES ('event', " + std::to_string(seq) + ")";
  return db_.exec(text.c_str());
}

Result<std::vector<std::pair<std::string, uint64_t>>> HistoryDb::positions() {
  auto s = db_.prepare("SELECT name, seq FROM sink");
  if (!s) return std::move(s).error();
  std::vector<std::pair<std::string, uint64_t>> out;
  while (true) {
    auto row = s->step();
    if (!row) return std::move(row).error();
    if (!*row) return out;
    out.emplace_back(s->bytes(0), static_cast<uint64_t>(s->integer(1)));
  }
}

Result<> HistoryDb::set_position(const std::string& sink, uint64_t seq) {
  set_position_.bind(1, sink);
  set_position_.bind(2, sql(seq));
  return set_position_.run();
}

Result<HistoryReader> HistoryReader::open(const std::string& path) {
  auto db = Database::open(path, SQLITE_OPEN_READONLY);
  if (!db) return std::move(db).error();
  HistoryReader out(*std::move(db));
  if (auto r = out.db_.exec("PRAGMA cache_size = -512"); !r) return std::move(r).error();
  auto after = out.db_.prepare("SELECT seq, json FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2");
  if (!after) return std::move(after).error();
  out.after_ = *std::move(after);
  auto by_id = out.db_.prepare("SELECT seq, json FROM event WHERE id = ?1");
  if (!by_id) return std::move(by_id).error();
  out.by_id_ = *std::move(by_id);
  return out;
}

Result<std::vector<HistoryReader::Record>> HistoryReader::after(uint64_t seq, size_t max_rows,
                                                                size_t max_bytes) {
  std::vector<Record> out;
  size_t bytes = 0;
  after_.bind(1, sql(seq));
  after_.bind(2, static_cast<int64_t>(max_rows));
  while (bytes < max_bytes) {
    auto row = after_.step();
    if (!row) return std::move(row).error();
    if (!*row) break;
    out.push_back({static_cast<uint64_t>(after_.integer(0)), after_.bytes(1)});
    bytes += out.back().json.size();
  }
  after_.reset();
  return out;
}

Result<std::vector<HistoryReader::Record>> HistoryReader::find(const HistoryQuery& query) {
  std::string text = "SELECT seq, json FROM event WHERE time_ns BETWEEN ?1 AND ?2";
  if (!query.type.empty()) text += " AND type = ?3";
  if (query.min_severity) text += " AND severity >= ?4";
  if (query.pid) text += " AND pid = ?5";
  if (query.correlation) text += " AND correlation = ?6";
  text += query.newest_first ? " ORDER BY time_ns DESC, seq DESC" : " ORDER BY time_ns, seq";
  text += " LIMIT ?7";
  auto s = db_.prepare(text.c_str());
  if (!s) return std::move(s).error();
  s->bind(1, sql(query.from_ns));
  s->bind(2, sql(std::min(query.to_ns, HistoryDb::kAll)));
  if (!query.type.empty()) s->bind(3, query.type);
  if (query.min_severity) s->bind(4, int64_t{query.min_severity});
  if (query.pid) s->bind(5, int64_t{*query.pid});
  if (query.correlation) s->bind(6, sql(query.correlation));
  s->bind(7, static_cast<int64_t>(query.limit));
  // A reader that stays keeps the log from being used again, so it may not stay.
  db_.set_deadline(monotonic_ns() + 2'000'000'000u);
  std::vector<Record> out;
  while (true) {
    auto row = s->step();
    if (!row) {
      db_.set_deadline(0);
      return std::move(row).error();
    }
    if (!*row) break;
    out.push_back({static_cast<uint64_t>(s->integer(0)), s->bytes(1)});
  }
  db_.set_deadline(0);
  return out;
}

Result<std::optional<HistoryReader::Record>> HistoryReader::find(const gopher_event_id& id) {
  const std::string bytes = id_bytes(id);
  by_id_.bind_blob(1, bytes);
  auto row = by_id_.step();
  if (!row) return std::move(row).error();
  if (!*row) return std::optional<Record>();
  Record record = {static_cast<uint64_t>(by_id_.integer(0)), by_id_.bytes(1)};
  by_id_.reset();
  return std::optional<Record>(std::move(record));
}

}  // namespace gopher
