// sqlite.hpp - a SQLite connection and its statements, closed when they go.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sqlite3.h>
#include <gopher/result.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace gopher {

class Statement {
 public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* s) : s_(s) {}
  explicit operator bool() const { return s_ != nullptr; }

  // Places count from 1. Text and blobs must live until step() or reset().
  void bind(int at, int64_t value);
  void bind(int at, std::string_view text);
  void bind_blob(int at, std::string_view bytes);
  // True: there is a row. After false or an error the statement is ready to be bound again.
  Result<bool> step();
  // Runs a statement without rows.
  Result<> run();
  void reset();

  int64_t integer(int column) const { return sqlite3_column_int64(s_.get(), column); }
  std::string bytes(int column) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* s) const { sqlite3_finalize(s); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> s_;
};

// Errors carry an errno: ENOSPC full, EBADMSG corrupt or no database, EBUSY locked, EIO and others.
class Database {
 public:
  static Result<Database> open(const std::string& path, int flags);
  Database() = default;
  explicit operator bool() const { return db_ != nullptr; }

  Result<> exec(const char* sql);
  Result<Statement> prepare(const char* sql);
  Result<int64_t> pragma(const char* name);  // one that gives one integer
  int64_t changes() const { return sqlite3_changes64(db_.get()); }
  sqlite3* get() const { return db_.get(); }
  Error error(std::string_view what) const;

  // Statements that run from now on end with an error after this time. 0: no limit.
  void set_deadline(uint64_t monotonic_ns);

 private:
  struct Close {
    void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
  };
  std::unique_ptr<uint64_t> deadline_ns_ = std::make_unique<uint64_t>(0);
  std::unique_ptr<sqlite3, Close> db_;
};

// Rolled back unless committed.
class Transaction {
 public:
  static Result<Transaction> begin(Database& db);
  Transaction(Transaction&& other) noexcept : db_(std::exchange(other.db_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Result<> commit();

 private:
  explicit Transaction(Database& db) : db_(&db) {}
  Database* db_;
};

}  // namespace gopher
