// export_history_test.cpp - what is stored stays, what goes is counted, damage is survived.
// SPDX-License-Identifier: Apache-2.0
#include "export/history.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <random>
#include <set>

#include "core/unique_fd.hpp"
#include "export_fixture.hpp"

namespace gopher {
namespace {

using std::chrono::milliseconds;
using test::eventually;
using test::full;
using test::note;
using test::TempDir;

constexpr uint64_t kSecond = 1'000'000'000u, kMiB = 1 << 20;

std::unique_ptr<History> open(const TempDir& dir, EventQueue& queue, HistoryLimits limits = {}) {
  auto history = History::open(dir.path(), "node", queue, limits);
  EXPECT_TRUE(history) << history.error().text;
  return history ? *std::move(history) : nullptr;
}

std::vector<HistoryReader::Record> all(History& history, uint64_t after = 0) {
  auto rows = History::Reader(history).after(after, 1'000'000, 1 << 30);
  EXPECT_TRUE(rows) << rows.error().text;
  return rows ? *std::move(rows) : std::vector<HistoryReader::Record>();
}

std::string id_of(const std::string& json) { return json.substr(7, 26); }

TEST(HistoryTest, StoresInOrderAndFindsAgain) {
  TempDir dir;
  EventQueue queue(1000);
  const uint64_t now = realtime_ns();
  {
    auto history = open(dir, queue);
    for (uint64_t i = 0; i < 300; ++i) queue.push(note(i, static_cast<uint32_t>(i % 3), now + i));
    queue.push(full(300));
    history->stop();
    EXPECT_EQ(history->stats().stored, 301u);
    EXPECT_EQ(history->stats().pending, 0u);
    EXPECT_EQ(history->last_seq(), 301u);
  }
  EventQueue next(1000);
  auto history = open(dir, next);
  EXPECT_EQ(history->last_seq(), 301u);
  auto rows = all(*history);
  ASSERT_EQ(rows.size(), 301u);
  for (uint64_t i = 0; i < 300; ++i) {
    EXPECT_EQ(rows[i].seq, i + 1);
    EXPECT_EQ(id_of(rows[i].json), to_string(note(i, 1, now + i).id));
  }
  History::Reader reader(*history);
  EXPECT_EQ(reader.after(100, 7, 1 << 20)->size(), 7u);
  EXPECT_EQ(reader.after(100, 7, 1)->size(), 1u);
  EXPECT_EQ(reader.after(301, 7, 1)->size(), 0u);
}

TEST(HistoryTest, Query) {
  TempDir dir;
  EventQueue queue(1000);
  const uint64_t t = 1'700'000'000 * kSecond;
  auto history = open(dir, queue, {.max_age_ns = realtime_ns(), .max_bytes = 8 * kMiB});
  for (uint64_t i = 0; i < 100; ++i) queue.push(note(i, i % 4, t + i * kSecond));
  Event e = full(1);
  e.time_ns = t + 50 * kSecond;
  const gopher_event_id id = e.id;
  queue.push(std::move(e));
  history->stop();

  History::Reader reader(*history);
  auto count = [&](const HistoryQuery& q) {
    auto rows = reader.find(q);
    EXPECT_TRUE(rows) << rows.error().text;
    return rows ? rows->size() : 0;
  };
  EXPECT_EQ(count({}), 101u);
  EXPECT_EQ(count({.from_ns = t + 10 * kSecond, .to_ns = t + 19 * kSecond}), 10u);
  EXPECT_EQ(count({.from_ns = t + 100 * kSecond}), 0u);
  EXPECT_EQ(count({.type = "disk_error"}), 1u);
  EXPECT_EQ(count({.type = "'; DROP TABLE event; --"}), 0u);
  EXPECT_EQ(count({.min_severity = GOPHER_WARNING}), 1u);
  EXPECT_EQ(count({.pid = 3}), 25u);
  EXPECT_EQ(count({.pid = 0}), 0u);  // stored as none
  EXPECT_EQ(count({.correlation = 0xfedcba9876543210u}), 1u);
  EXPECT_EQ(count({.type = "disk_note", .pid = 2, .limit = 5}), 5u);
  EXPECT_LT(reader.find({.limit = 1, .newest_first = false})->at(0).seq,
            reader.find({.limit = 1})->at(0).seq);
  ASSERT_TRUE(*reader.find(id));
  EXPECT_EQ(id_of((*reader.find(id))->json), to_string(id));
  EXPECT_FALSE(*reader.find(gopher_event_id{9, 9}));
}

TEST(HistoryTest, PositionsStayAndOnlyGrow) {
  TempDir dir;
  for (int run = 0; run < 2; ++run) {
    EventQueue queue(100);
    auto history = open(dir, queue);
    for (uint64_t i = 0; i < 10; ++i) queue.push(note(run * 10 + i));
    ASSERT_TRUE(eventually([&] { return history->stats().stored == 10; }));
    EXPECT_EQ(*history->add_sink("a"), run == 0 ? 0u : 7u);
    EXPECT_EQ(*history->add_sink("b"), 0u);
    EXPECT_TRUE(history->advance("a", 7));
    EXPECT_TRUE(history->advance("a", 3));  // not back
    EXPECT_FALSE(history->advance("c", 3));
    EXPECT_EQ(*history->add_sink("a"), 7u);
  }
}

TEST(HistoryTest, TheSameEventIsStoredOnce) {
  TempDir dir;
  auto db = HistoryDb::open(dir / "events.db", {});
  ASSERT_TRUE(db) << db.error().text;
  std::vector<HistoryRow> rows(2);
  for (auto& r : rows) r = {.id = {1, 2}, .type = "t", .probe = "p", .json = "{}"};
  EXPECT_EQ(db->store(rows, HistoryDb::kAll)->stored, 1u);
  EXPECT_EQ(db->store(rows, HistoryDb::kAll)->stored, 0u);
}

// No more than max_bytes on disk at any moment, whatever the events look like.
void fill(uint64_t max_bytes, size_t text, bool sink, uint64_t total) {
  SCOPED_TRACE(std::to_string(max_bytes) + " bytes, text " + std::to_string(text));
  TempDir dir;
  EventQueue queue(100'000);
  auto history = open(dir, queue, {.max_age_ns = realtime_ns(), .max_bytes = max_bytes});
  if (sink) {
    ASSERT_TRUE(history->add_sink("s"));
  }
  uint64_t pushed = 0, most = 0;
  while (pushed * (text + 400) < total) {
    for (int i = 0; i < 1024; ++i, ++pushed) {
      Event e = note(pushed);
      e.process->cgroup = std::string(text, '\x01');  // six bytes each in JSON
      queue.push(std::move(e));
    }
    ASSERT_TRUE(eventually([&] {
      most = std::max(most, history_bytes(dir / "events.db"));
      return history->stats().stored == pushed;
    }));
  }
  history->stop();
  most = std::max(most, history_bytes(dir / "events.db"));
  EXPECT_LE(most, max_bytes);
  EXPECT_GE(most, max_bytes / 3);
  auto stats = history->stats();
  auto rows = all(*history);
  ASSERT_FALSE(rows.empty());
  EXPECT_EQ(stats.stored, pushed);
  EXPECT_EQ(queue.dropped(), 0u);
  EXPECT_EQ(rows.size() + stats.pruned + stats.lost, pushed);
  EXPECT_EQ(sink ? stats.pruned : stats.lost, 0u);
  EXPECT_EQ(rows.back().seq, pushed);  // the newest stay, without a gap
  EXPECT_EQ(rows.front().seq, pushed - rows.size() + 1);
}

TEST(HistoryTest, BoundedBySize) {
  fill(1 * kMiB, 0, false, 3 * kMiB);
  fill(1 * kMiB, 0, true, 3 * kMiB);
  fill(1 * kMiB, 3000, true, 2 * kMiB);
  fill(4 * kMiB, 100, false, 9 * kMiB);
}

TEST(HistoryTest, UndeliveredGoLastAndAreCounted) {
  TempDir dir;
  EventQueue queue(100'000);
  auto history = open(dir, queue, {.max_age_ns = realtime_ns(), .max_bytes = 1 * kMiB});
  ASSERT_TRUE(history->add_sink("s"));
  uint64_t pushed = 0;
  auto push = [&](int n) {
    for (int i = 0; i < n; ++i) queue.push(note(pushed++));
    return eventually([&] { return history->stats().stored == pushed; });
  };
  ASSERT_TRUE(push(500));
  ASSERT_TRUE(history->advance("s", 400));
  while (history->stats().pruned < 400) {
    ASSERT_EQ(history->stats().lost, 0u);
    ASSERT_TRUE(push(100));
  }
  EXPECT_EQ(history->stats().pruned, 400u);
  while (history->stats().lost < 100) ASSERT_TRUE(push(50));
  EXPECT_EQ(all(*history).size() + history->stats().pruned + history->stats().lost, pushed);

  // The sink is switched off: what is there is nobody's.
  history->remove_sink("s", milliseconds(0));
  const uint64_t lost = history->stats().lost;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(push(100));
  EXPECT_EQ(history->stats().lost, lost);
}

TEST(HistoryTest, BoundedByAgeButNotUndelivered) {
  TempDir dir;
  const uint64_t old = realtime_ns() - 7200 * kSecond;
  {
    EventQueue queue(1000);
    auto history = open(dir, queue);
    ASSERT_TRUE(history->add_sink("s"));
    for (uint64_t i = 0; i < 100; ++i) queue.push(note(i, 1, i < 60 ? old + i : realtime_ns()));
    history->stop();
    ASSERT_TRUE(history->advance("s", 50));
  }
  const HistoryLimits hour = {.max_age_ns = 3600 * kSecond, .max_bytes = 8 * kMiB};
  auto db = HistoryDb::open(dir / "events.db", hour);
  ASSERT_TRUE(db);
  EXPECT_EQ(*db->expire(realtime_ns() - hour.max_age_ns, 50), 50u);
  EXPECT_EQ(*db->expire(realtime_ns() - hour.max_age_ns, 50), 0u);
  EventQueue queue(1000);
  auto history = open(dir, queue, hour);
  // The sink of the last run counts on for a while, else a restart would cost it its events.
  queue.push(note(1000));
  ASSERT_TRUE(eventually([&] { return history->stats().stored == 1; }));
  EXPECT_EQ(history->stats().pruned, 0u);
  history->remove_sink("s", milliseconds(0));  // now the other ten are nobody's
  ASSERT_TRUE(eventually([&] { return history->stats().pruned == 10; }));
  EXPECT_EQ(all(*history).size(), 41u);
  EXPECT_EQ(*history->add_sink("s"), 50u);  // its position is still there
}

TEST(HistoryTest, ALoweredLimitShrinksTheFile) {
  TempDir dir;
  {
    EventQueue queue(100'000);
    auto history = open(dir, queue, {.max_age_ns = realtime_ns(), .max_bytes = 8 * kMiB});
    for (uint64_t i = 0; i < 15'000; ++i) queue.push(note(i));
  }
  ASSERT_GT(history_bytes(dir / "events.db"), 4 * kMiB);
  auto db = HistoryDb::open(dir / "events.db", {.max_age_ns = 0, .max_bytes = 1 * kMiB});
  ASSERT_TRUE(db);
  std::vector<HistoryRow> rows = {{.id = {1, 2}, .type = "t", .probe = "p", .json = "{}"}};
  ASSERT_TRUE(db->store(rows, HistoryDb::kAll));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(db->checkpoint());
  ASSERT_TRUE(db->store(rows, HistoryDb::kAll));  // the log starts anew
  EXPECT_LE(history_bytes(dir / "events.db"), 1 * kMiB);
}

// The child tells after each turn what is stored; it is killed in the middle of its work, many
// times over the same database.
TEST(HistoryTest, KillLosesNothingThatWasStored) {
  TempDir dir;
  uint64_t first = 0;
  std::mt19937 random(17);
  for (int round = 0; round < 8; ++round) {
    int fds[2];
    ASSERT_EQ(pipe(fds), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      EventQueue queue(100'000);
      auto history = History::open(dir.path(), "node", queue,
                                   {.max_age_ns = ~uint64_t{0} / 2, .max_bytes = 64 * kMiB});
      if (!history) _exit(1);
      for (uint64_t n = 0;; ++n) {
        if (n % 100 == 0)
          while (queue.size() > 5000) usleep(500);
        queue.push(note(first + n));
        const uint64_t stored = (*history)->stats().stored;
        if (write(fds[1], &stored, sizeof stored) != sizeof stored) _exit(2);
      }
    }
    UniqueFd in(fds[0]);
    close(fds[1]);
    uint64_t stored = 0, value = 0;
    const uint64_t until = 100 + random() % 3000;
    while (stored < until && read(in.get(), &value, sizeof value) == sizeof value) stored = value;
    kill(child, SIGKILL);
    while (read(in.get(), &value, sizeof value) == sizeof value) stored = value;
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << status;
    ASSERT_GE(stored, until);

    EventQueue queue(10);
    auto history = open(dir, queue);
    ASSERT_TRUE(history);
    auto rows = all(*history);
    ASSERT_GE(rows.size(), first + stored);
    for (size_t i = 0; i < rows.size(); ++i) {  // a prefix of what was pushed, without a gap
      ASSERT_EQ(rows[i].seq, i + 1);
      ASSERT_EQ(rows[i].json.substr(23, 10), to_string(note(i).id).substr(16));
    }
    first = rows.size();
  }
}

TEST(HistoryTest, ANewerSchemaIsRefused) {
  TempDir dir;
  {
    EventQueue queue(10);
    open(dir, queue);
    auto db = Database::open(dir / "events.db", SQLITE_OPEN_READWRITE);
    ASSERT_TRUE(db->exec("PRAGMA user_version = 2"));
  }
  EventQueue queue(10);
  auto history = History::open(dir.path(), "node", queue, {});
  ASSERT_FALSE(history);
  EXPECT_THAT(history.error().text, ::testing::HasSubstr("schema version 2"));
  EXPECT_THAT(history.error().text, ::testing::HasSubstr(dir.path()));
  struct stat st;
  EXPECT_NE(stat((dir / "events.db.corrupt").c_str(), &st), 0);
}

TEST(HistoryTest, AFolderThatCannotBeWrittenIsAnError) {
  EventQueue queue(10);
  auto history = History::open("/nonexistent", "node", queue, {});
  ASSERT_FALSE(history);
  EXPECT_THAT(history.error().text, ::testing::HasSubstr("/nonexistent/events.db"));
}

void scribble(const std::string& path, off_t at, size_t size) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT, 0600));
  std::string junk(size, '\xa5');
  ASSERT_EQ(pwrite(fd.get(), junk.data(), junk.size(), at), static_cast<ssize_t>(size));
}

TEST(HistoryTest, ACorruptDatabaseIsMovedAsideAtStart) {
  for (const bool middle : {false, true}) {
    TempDir dir;
    if (middle) {
      EventQueue queue(10'000);
      auto history = open(dir, queue);
      for (uint64_t i = 0; i < 5000; ++i) queue.push(note(i));
    }
    scribble(dir / "events.db", middle ? 40 * 4096 : 0, middle ? 40 * 4096 : 5000);
    for (int round = 0; round < 2; ++round) {  // the second time an old one is there already
      if (round == 1) scribble(dir / "events.db", 0, 5000);
      EventQueue queue(100);
      auto history = open(dir, queue);
      ASSERT_TRUE(history);
      struct stat st;
      EXPECT_EQ(stat((dir / "events.db.corrupt").c_str(), &st), 0);
      EXPECT_EQ(all(*history).size(), 0u);
      queue.push(note(1));
      ASSERT_TRUE(eventually([&] { return history->stats().stored == 1; }));
      EXPECT_EQ(all(*history).size(), 1u);
    }
  }
}

TEST(HistoryTest, ADatabaseThatRotsUnderWayIsReplaced) {
  TempDir dir;
  EventQueue queue(100'000);
  auto history = open(dir, queue);
  ASSERT_TRUE(history->add_sink("s"));
  for (uint64_t i = 0; i < 5000; ++i) queue.push(note(i));
  ASSERT_TRUE(eventually([&] { return history->stats().stored == 5000; }));
  ASSERT_TRUE(history->advance("s", 4000));
  History::Reader reader(*history);
  ASSERT_TRUE(reader.after(0, 10, 1 << 20));
  // Every page, in the database and in the log.
  for (const char* name : {"events.db", "events.db-wal"}) {
    struct stat st;
    ASSERT_EQ(stat((dir / name).c_str(), &st), 0);
    scribble(dir / name, 0, static_cast<size_t>(st.st_size));
  }
  uint64_t n = 5000;
  ASSERT_TRUE(eventually([&] {
    queue.push(note(n++));
    (void)reader.after(0, 1000, 1 << 30);  // a reader that meets it reports it
    struct stat st;
    return stat((dir / "events.db.corrupt").c_str(), &st) == 0;
  }));
  ASSERT_TRUE(eventually([&] { return history->stats().stored == n; }));
  auto stats = history->stats();
  EXPECT_GE(stats.write_errors, 1u);
  EXPECT_FALSE(stats.failing);
  auto rows = reader.after(0, 1'000'000, 1 << 30);
  ASSERT_TRUE(rows) << rows.error().text;
  ASSERT_FALSE(rows->empty());
  EXPECT_GT(rows->front().seq, 5000u);                  // numbers go on
  EXPECT_EQ(stats.lost, rows->front().seq - 1 - 4000);  // what the sink did not have yet
  EXPECT_EQ(*history->add_sink("s"), rows->front().seq - 1);
}

// As on a full disk: no file of this process may grow any more.
class NoSpace {
 public:
  explicit NoSpace(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~NoSpace() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_ = {};
};

TEST(HistoryTest, AFullDiskLosesNothingWhileTheQueueHolds) {
  TempDir dir;
  EventQueue queue(10'000);
  auto history = open(dir, queue);
  ASSERT_TRUE(history);
  uint64_t pushed = 0;
  {
    NoSpace no_space(200'000);
    ASSERT_TRUE(eventually([&] {
      for (int i = 0; i < 20; ++i) queue.push(note(pushed++));
      return history->stats().write_errors >= 2;
    }));
    EXPECT_TRUE(history->stats().failing);
  }
  ASSERT_TRUE(eventually([&] { return history->stats().stored == pushed - queue.dropped(); }));
  EXPECT_EQ(queue.dropped(), 0u);
  EXPECT_FALSE(history->stats().failing);
  EXPECT_EQ(all(*history).size(), pushed);
}

TEST(HistoryTest, WriteErrorsKeepEventsInTheQueue) {
  TempDir dir;
  auto db = HistoryDb::open(dir / "events.db", {});
  ASSERT_TRUE(db);
  EventQueue queue(100);
  auto history = open(dir, queue);
  ASSERT_TRUE(history);
  // Another process holds the database: writes fail as long as it does.
  auto other = Database::open(dir / "events.db", SQLITE_OPEN_READWRITE);
  ASSERT_TRUE(other);
  ASSERT_TRUE(other->exec("BEGIN IMMEDIATE"));
  uint64_t pushed = 0, accepted = 0;
  ASSERT_TRUE(eventually([&] {
    ++pushed;
    accepted += queue.push(note(pushed));
    return history->stats().write_errors >= 1 && queue.dropped() > 0;
  }));
  EXPECT_TRUE(history->stats().failing);
  EXPECT_EQ(history->stats().stored, 0u);
  EXPECT_EQ(accepted + queue.dropped(), pushed);
  EXPECT_EQ(queue.size() + history->stats().pending, accepted);
  ASSERT_TRUE(other->exec("COMMIT"));
  ASSERT_TRUE(eventually([&] { return history->stats().stored == accepted; }));
  EXPECT_FALSE(history->stats().failing);
  EXPECT_EQ(all(*history).size(), accepted);
}

TEST(HistoryTest, WhatCannotBeWrittenAtTheEndIsCounted) {
  TempDir dir;
  EventQueue queue(1000);
  auto history = open(dir, queue);
  auto other = Database::open(dir / "events.db", SQLITE_OPEN_READWRITE);
  ASSERT_TRUE(other);
  ASSERT_TRUE(other->exec("BEGIN IMMEDIATE"));
  for (uint64_t i = 0; i < 700; ++i) queue.push(note(i));
  history->stop();
  EXPECT_EQ(history->stats().lost, 700u);
  EXPECT_EQ(history->stats().stored, 0u);
  EXPECT_EQ(history->stats().pending, 0u);
}

// The whole path: produced = stored + folded + dropped.
TEST(HistoryTest, TheLawFromGateToStore) {
  class NoText : public TextSource {
    void append(gopher_type, const gopher_value&, std::string*) const override {}
  } text;
  TempDir dir;
  EventQueue queue(200);
  auto history = open(dir, queue);
  EventGate gate(test::kProbe, text, queue, 50);
  std::mt19937 random(23);
  for (int i = 0; i < 20'000; ++i) {
    gopher_process p = {
        .tgid = uint32_t(random() % 100), .reserved = 0, .start_ns = 1, .cgroup_id = 0, .comm = {}};
    gopher_event_record r = {};
    r.process = &p;
    r.event = 1;
    ASSERT_EQ(gate.emit(r, nullptr), 0);
  }
  gate.flush();
  history->stop();
  auto c = gate.counts()[1];
  EXPECT_EQ(c.produced, 20'000u);
  EXPECT_EQ(c.produced, history->stats().stored + c.folded + c.dropped);
  EXPECT_EQ(all(*history).size(), history->stats().stored);
}

TEST(HistoryTest, OnlyTheOwnerAndGroupMayRead) {
  TempDir dir;
  EventQueue queue(10);
  auto history = open(dir, queue);
  struct stat st;
  for (const char* name : {"events.db", "events.db-wal"}) {
    ASSERT_EQ(stat((dir / name).c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07, 0u) << name;
  }
}

}  // namespace
}  // namespace gopher
