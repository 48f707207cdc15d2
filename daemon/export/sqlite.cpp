// sqlite.cpp - the few SQLite calls that we need, with errors as sentences.
// SPDX-License-Identifier: Apache-2.0
#include "export/sqlite.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/clock.hpp"

namespace gopher {
namespace {

int errno_of(sqlite3* db, int code) {
  switch (code & 0xff) {
    case SQLITE_FULL:
      return ENOSPC;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return EBADMSG;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return EBUSY;
    case SQLITE_READONLY:
      return EROFS;
    case SQLITE_NOMEM:
      return ENOMEM;
    case SQLITE_INTERRUPT:
      return ETIMEDOUT;
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR: {
      const int system = db ? sqlite3_system_errno(db) : 0;
      return system ? system : EIO;
    }
    default:
      return EINVAL;
  }
}

Error error_of(sqlite3* db, std::string_view what) {
  const int code = db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM;
  const char* text = db ? sqlite3_errmsg(db) : sqlite3_errstr(code);
  std::string out = std::string(what) + ": " + text;
  const int primary = code & 0xff;
  const int system = db ? sqlite3_system_errno(db) : 0;
  if ((primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN) && system)
    out += std::string(" (") + std::strerror(system) + ")";
  return {errno_of(db, code), std::move(out)};
}

int check_deadline(void* arg) {
  const uint64_t deadline = *static_cast<uint64_t*>(arg);
  return deadline != 0 && monotonic_ns() > deadline;
}

}  // namespace

void Statement::bind(int at, int64_t value) { sqlite3_bind_int64(s_.get(), at, value); }
void Statement::bind(int at, std::string_view text) {
  sqlite3_bind_text64(s_.get(), at, text.data() ? text.data() : "", text.size(), SQLITE_STATIC,
                      SQLITE_UTF8);
}
void Statement::bind_blob(int at, std::string_view bytes) {
  sqlite3_bind_blob64(s_.get(), at, bytes.data() ? bytes.data() : "", bytes.size(), SQLITE_STATIC);
}

Result<bool> Statement::step() {
  const int code = sqlite3_step(s_.get());
  if (code == SQLITE_ROW) return true;
  Error error;
  if (code != SQLITE_DONE) error = error_of(sqlite3_db_handle(s_.get()), "SQLite");
  reset();
  if (code == SQLITE_DONE) return false;
  return error;
}

Result<> Statement::run() {
  auto row = step();
  if (!row) return std::move(row).error();
  reset();
  return Ok{};
}

void Statement::reset() {
  sqlite3_reset(s_.get());
  sqlite3_clear_bindings(s_.get());
}

std::string Statement::bytes(int column) const {
  const void* data = sqlite3_column_blob(s_.get(), column);
  const int size = sqlite3_column_bytes(s_.get(), column);
  return data ? std::string(static_cast<const char*>(data), static_cast<size_t>(size))
              : std::string();
}

Result<Database> Database::open(const std::string& path, int flags) {
  Database out;
  sqlite3* db = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &db, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  out.db_.reset(db);
  if (code != SQLITE_OK) return out.error("open " + path);
  sqlite3_extended_result_codes(db, 1);
  // Nobody but us writes, and a checkpoint waits for no reader; this is for a user's sqlite3 shell.
  sqlite3_busy_timeout(db, 500);
  sqlite3_progress_handler(db, 1000, check_deadline, out.deadline_ns_.get());
  return out;
}

Error Database::error(std::string_view what) const { return error_of(db_.get(), what); }

Result<> Database::exec(const char* sql) {
  if (sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) return error("SQLite");
  return Ok{};
}

Result<Statement> Database::prepare(const char* sql) {
  sqlite3_stmt* s = nullptr;
  if (sqlite3_prepare_v3(db_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &s, nullptr) != SQLITE_OK)
    return error("SQLite");
  return Statement(s);
}

Result<int64_t> Database::pragma(const char* name) {
  auto s = prepare((std::string("PRAGMA ") + name).c_str());
  if (!s) return std::move(s).error();
  auto row = s->step();
  if (!row) return std::move(row).error();
  return *row ? s->integer(0) : 0;
}

void Database::set_deadline(uint64_t monotonic_ns) { *deadline_ns_ = monotonic_ns; }

Result<Transaction> Transaction::begin(Database& db) {
  if (auto r = db.exec("BEGIN IMMEDIATE"); !r) return std::move(r).error();
  return Transaction(db);
}

Transaction::~Transaction() {
  // After some errors SQLite has rolled back by itself.
  if (db_ && !sqlite3_get_autocommit(db_->get())) (void)db_->exec("ROLLBACK");
}

Result<> Transaction::commit() {
  if (auto r = db_->exec("COMMIT"); !r) return r;
  db_ = nullptr;
  return Ok{};
}

}  // namespace gopher
