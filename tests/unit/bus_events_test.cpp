// bus_events_test.cpp - ids, the bounded queue, and folding: nothing is lost without being counted.
// SPDX-License-Identifier: Apache-2.0
#include "bus/events.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <gopher/metric.hpp>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <set>
#include <thread>

namespace gopher {
namespace {

using std::chrono::milliseconds;

constexpr const char* kOps[] = {"read", "write"};
constexpr auto kEvents = event_table(
    "test",
    {{.name = "test_error",
      .help = "Something failed.",
      .fields = {enum_field("operation", kOps, "What was tried."),
                 field("device", GOPHER_DEV, "Where."), field("size", GOPHER_BYTES, "Bytes."),
                 field("offset", GOPHER_I64, "Signed."), field("share", GOPHER_F64, "Real."),
                 field("sync", GOPHER_BOOL, "Flag."), field("name", GOPHER_STR, "Text."),
                 field("peer", GOPHER_PROCESS, "Who.")},
      .severity = GOPHER_ERROR,
      .max_per_minute = 3},
     {.name = "test_note", .help = "Something happened.", .severity = GOPHER_INFO}});

const ProbeTables kProbe = {.name = "test",
                            .version = "1.0",
                            .summary = "",
                            .options = {},
                            .metrics = {},
                            .events = {kEvents.items, kEvents.kSize},
                            .hooks = {}};

class PlainText : public TextSource {
 public:
  void append(gopher_type type, const gopher_value& value, std::string* out) const override {
    *out += type == GOPHER_CGROUP ? "/cg/" : "dev";
    *out += std::to_string(value.num);
  }
};

uint64_t g_now = 0;
uint64_t test_clock() { return g_now; }
constexpr uint64_t kSecond = 1'000'000'000u;

gopher_process process(uint32_t pid, const char* comm = "worker") {
  gopher_process p = {
      .tgid = pid, .reserved = 0, .start_ns = pid * 1000u, .cgroup_id = 7, .comm = {}};
  std::memcpy(p.comm, comm, std::min(std::strlen(comm) + 1, sizeof p.comm));
  return p;
}

class GateTest : public ::testing::Test {
 protected:
  void SetUp() override { g_now = 1000 * kSecond; }
  int note(EventGate& gate, uint32_t pid, gopher_event_id* id = nullptr) {
    gopher_process p = process(pid);
    gopher_event_record r = {};
    r.process = &p;
    r.event = 1;
    return gate.emit(r, id);
  }
  std::vector<Event> take_all(EventQueue& queue) { return queue.take(1'000'000, milliseconds(0)); }
  PlainText text_;
};

EventGate::Counts sum(const EventGate& gate) {
  EventGate::Counts total;
  for (const auto& c : gate.counts()) {
    total.produced += c.produced;
    total.sent += c.sent;
    total.folded += c.folded;
    total.dropped += c.dropped;
    total.held += c.held;
  }
  return total;
}

uint64_t weight(const std::vector<Event>& events) {
  return std::accumulate(events.begin(), events.end(), uint64_t{0},
                         [](uint64_t n, const Event& e) { return n + e.weight(); });
}

TEST(EventIdTest, TextIsSortableAndComesBack) {
  gopher_event_id a = {0, 1}, b = {1, 0}, max = {~uint64_t{0}, ~uint64_t{0}};
  EXPECT_EQ(to_string(a), "00000000000000000000000001");
  EXPECT_EQ(to_string(max), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
  EXPECT_LT(to_string(a), to_string(b));
  for (const auto& id : {a, b, max}) {
    auto back = parse_event_id(to_string(id));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->hi, id.hi);
    EXPECT_EQ(back->lo, id.lo);
  }
  for (const char* bad : {"", "0", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "0000000000000000000000000I",
                          "000000000000000000000000001"})
    EXPECT_FALSE(parse_event_id(bad)) << bad;
  EXPECT_FALSE(parse_event_id(std::string_view("0000000000000000000000000\0", 26)));
}

TEST(EventIdTest, AscendsEvenIfTheClockStepsBack) {
  EventIds ids;
  std::string last;
  for (uint64_t ms : {5000u, 5000u, 5001u, 4000u, 4001u, 5001u, 6000u}) {
    gopher_event_id id = ids.next(ms * 1'000'000u);
    EXPECT_LT(last, to_string(id));
    last = to_string(id);
    EXPECT_GE(id.hi >> 16, ms < 5000 ? 5001u : ms);
  }
}

TEST(EventIdTest, UniqueOverThreadsAndRuns) {
  EventIds runs[2];
  std::vector<std::string> ids[4];
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5000; ++i)
        ids[t].push_back(to_string(runs[t / 2].next(1'700'000'000'000'000'000u)));
    });
  for (auto& t : threads) t.join();
  std::set<std::string> all;
  for (auto& v : ids) {
    EXPECT_TRUE(std::is_sorted(v.begin(), v.end()));
    all.insert(v.begin(), v.end());
  }
  EXPECT_EQ(all.size(), 20000u);
}

TEST(EventQueueTest, BoundedInNumberAndInBytes) {
  EventQueue queue(4);
  for (int i = 0; i < 6; ++i) {
    Event e;
    e.folded = i == 5 ? 9 : 0;
    EXPECT_EQ(queue.push(std::move(e)), i < 4);
  }
  EXPECT_EQ(queue.size(), 4u);
  EXPECT_EQ(queue.dropped(), 1 + 10u);  // the last one stood for ten
  EXPECT_EQ(queue.take(3, milliseconds(0)).size(), 3u);
  EXPECT_EQ(queue.take(3, milliseconds(0)).size(), 1u);

  Event big;
  big.fields.emplace_back(std::string(3 * EventQueue::kBytesPerEvent, 'x'));
  Event bigger = big;
  EXPECT_TRUE(queue.push(std::move(big)));
  EXPECT_FALSE(queue.push(std::move(bigger)));  // four times 1 KiB are used up
  EXPECT_EQ(queue.take(9, milliseconds(0)).size(), 1u);
  EXPECT_TRUE(queue.push(Event{}));
}

TEST(EventQueueTest, CloseWakesTheConsumerAndLetsItDrain) {
  EventQueue queue(16);
  std::thread closer([&] {
    queue.push(Event{});
    queue.push(Event{});
    queue.close();
  });
  size_t n = 0;
  while (true) {
    auto batch = queue.take(1, milliseconds(60'000), milliseconds(60'000));
    if (batch.empty()) break;
    n += batch.size();
  }
  closer.join();
  EXPECT_EQ(n, 2u);
  EXPECT_TRUE(queue.closed());
  EXPECT_TRUE(queue.wait_closed(milliseconds(60'000)));
  EXPECT_FALSE(queue.push(Event{}));
}

TEST(EventQueueTest, ManyProducersNothingUncounted) {
  EventQueue queue(64);
  constexpr int kThreads = 4, kEach = 20000;
  std::atomic<uint64_t> pushed{0};
  std::vector<std::thread> producers;
  for (int t = 0; t < kThreads; ++t)
    producers.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) pushed += queue.push(Event{});
    });
  uint64_t taken = 0;
  std::thread consumer([&] {
    while (true) {
      auto batch = queue.take(100, milliseconds(60'000), milliseconds(1));
      if (batch.empty()) return;
      taken += batch.size();
    }
  });
  for (auto& t : producers) t.join();
  queue.close();
  consumer.join();
  EXPECT_EQ(taken, pushed.load());
  EXPECT_EQ(taken + queue.dropped(), uint64_t{kThreads} * kEach);
}

TEST_F(GateTest, SpellsEverythingOut) {
  EventQueue queue(16);
  EventGate gate(kProbe, text_, queue, 60, test_clock);
  gopher_process who = process(42, "sixteen_letters_"), peer = process(43);  // no NUL in comm
  gopher_value fields[8] = {};
  fields[0].num = 1;
  fields[1].num = 8 << 20;
  fields[2].num = ~uint64_t{0};
  fields[3].snum = -5;
  fields[4].real = 0.5;
  fields[5].num = 2;
  fields[6].str = "name\0tail";
  fields[6].len = 9;
  fields[7].process = &peer;
  gopher_event_id before = {1, 2}, id = {};
  gopher_event_record r = {};
  r.process = &who;
  r.fields = fields;
  r.recovers = &before;
  r.time_ns = g_now - 3 * kSecond;
  r.correlation = 99;
  const uint64_t real = realtime_ns();
  ASSERT_EQ(gate.emit(r, &id), 0);

  auto events = take_all(queue);
  ASSERT_EQ(events.size(), 1u);
  const Event& e = events[0];
  EXPECT_EQ(to_string(e.id), to_string(id));
  EXPECT_EQ(e.type, &kEvents.items[0]);
  EXPECT_EQ(e.probe, "test");
  EXPECT_EQ(e.severity, GOPHER_ERROR);
  EXPECT_GE(e.time_ns, real - 3 * kSecond);
  EXPECT_LT(e.time_ns, real - 2 * kSecond);
  EXPECT_EQ(e.process->pid, 42u);
  EXPECT_EQ(e.process->comm, "sixteen_letters_");
  EXPECT_EQ(e.process->cgroup, "/cg/7");
  EXPECT_EQ(e.correlation, 99u);
  EXPECT_EQ(e.recovers->lo, 2u);
  ASSERT_EQ(e.fields.size(), 8u);
  EXPECT_EQ(std::get<std::string>(e.fields[0]), "write");
  EXPECT_EQ(std::get<std::string>(e.fields[1]), "dev8388608");
  EXPECT_EQ(std::get<uint64_t>(e.fields[2]), ~uint64_t{0});
  EXPECT_EQ(std::get<int64_t>(e.fields[3]), -5);
  EXPECT_EQ(std::get<double>(e.fields[4]), 0.5);
  EXPECT_TRUE(std::get<bool>(e.fields[5]));
  EXPECT_EQ(std::get<std::string>(e.fields[6]), "name");
  EXPECT_EQ(std::get<EventProcess>(e.fields[7]).pid, 43u);
}

TEST_F(GateTest, RefusesWhatIsNotInTheTable) {
  EventQueue queue(16);
  EventGate gate(kProbe, text_, queue, 60, test_clock);
  gopher_event_record r = {};
  r.event = 2;
  EXPECT_EQ(gate.emit(r, nullptr), -EINVAL);
  r.event = 1;
  r.severity = 5;
  EXPECT_EQ(gate.emit(r, nullptr), -EINVAL);
  r.event = 0;
  r.severity = 0;  // but no fields
  EXPECT_EQ(gate.emit(r, nullptr), -EINVAL);
  gopher_value fields[8] = {};  // no string, no process, an enum value that the table has not
  fields[0].num = 77;
  r.fields = fields;
  EXPECT_EQ(gate.emit(r, nullptr), 0);
  auto events = take_all(queue);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(std::get<std::string>(events[0].fields[0]), "unknown");
  EXPECT_EQ(std::get<std::string>(events[0].fields[6]), "");
  EXPECT_EQ(std::get<EventProcess>(events[0].fields[7]).pid, 0u);
}

TEST_F(GateTest, KeepsTheLastOfAMinute) {
  EventQueue queue(1024);
  EventGate gate(kProbe, text_, queue, 5, test_clock);
  gopher_event_id id = {};
  for (int i = 0; i < 100; ++i) {
    g_now += kSecond / 10;
    ASSERT_EQ(note(gate, 1, &id), 0);
    EXPECT_NE(id.hi, 0u);  // also a folded one has an id
  }
  EXPECT_EQ(take_all(queue).size(), 5u);
  EXPECT_EQ(sum(gate).held, 95u);
  gate.tick(g_now);
  EXPECT_EQ(queue.size(), 0u);
  g_now += 60 * kSecond;
  gate.tick(g_now);
  auto events = take_all(queue);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].folded, 94u);
  EXPECT_EQ(to_string(events[0].id), to_string(id));  // the last one
  EXPECT_EQ(sum(gate).held, 0u);
  EXPECT_EQ(sum(gate).sent + sum(gate).folded, 100u);

  // The next minute begins with a full allowance.
  for (int i = 0; i < 5; ++i) note(gate, 1);
  EXPECT_EQ(take_all(queue).size(), 5u);
}

TEST_F(GateTest, AKeptEventAlsoLeavesWithTheNextOne) {
  EventQueue queue(1024);
  EventGate gate(kProbe, text_, queue, 1, test_clock);
  for (int i = 0; i < 4; ++i) note(gate, 1);
  g_now += 60 * kSecond;
  note(gate, 1);  // no tick in between
  auto events = take_all(queue);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].folded, 0u);
  EXPECT_EQ(events[1].folded, 2u);
  EXPECT_EQ(events[2].folded, 0u);
}

TEST_F(GateTest, ATickOfAnOlderClockReleasesNothing) {
  EventQueue queue(1024);
  EventGate gate(kProbe, text_, queue, 1, test_clock);
  for (int i = 0; i < 4; ++i) note(gate, 1);
  gate.tick(g_now - kSecond);
  EXPECT_EQ(take_all(queue).size(), 1u);
}

TEST_F(GateTest, LanesAreByTypeAndProcessStart) {
  EventQueue queue(1024);
  EventGate gate(kProbe, text_, queue, 1, test_clock);
  gopher_process a = process(5), b = a;
  b.start_ns += 1;  // the same pid, another process
  gopher_value fields[8] = {};
  for (const gopher_process* p : {&a, &b, static_cast<gopher_process*>(nullptr)})
    for (uint32_t type : {0u, 1u}) {
      gopher_event_record r = {};
      r.process = p;
      r.event = type;
      r.fields = fields;
      for (int i = 0; i < 10; ++i) gate.emit(r, nullptr);
    }
  // Type 0 sets 3 a minute, type 1 has the daemon's 1.
  EXPECT_EQ(take_all(queue).size(), 3 * (3 + 1u));
  EXPECT_EQ(sum(gate).held, 60 - 12u);
}

TEST_F(GateTest, ManyPidsTakeBoundedMemoryAndCannotOutrunFolding) {
  EventQueue queue(1'000'000);
  EventGate gate(kProbe, text_, queue, 2, test_clock);
  constexpr uint32_t kPids = 50'000;
  for (uint32_t pid = 1; pid <= kPids; ++pid) note(gate, pid);
  auto events = take_all(queue);
  EXPECT_EQ(events.size(), EventGate::kMaxLanes + 2u);  // one lane for all the others
  gate.flush();
  auto rest = take_all(queue);
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0].process->pid, kPids);
  EXPECT_EQ(weight(events) + weight(rest), kPids);
}

// produced = sent + folded + dropped + held, whatever happens.
TEST_F(GateTest, TheLawHoldsUnderRandomLoad) {
  std::mt19937 random(7);
  EventQueue queue(50);
  EventGate gate(kProbe, text_, queue, 4, test_clock);
  uint64_t produced = 0, delivered = 0;
  auto check = [&] {
    auto c = sum(gate);
    ASSERT_EQ(c.produced, produced);
    ASSERT_EQ(c.produced, c.sent + c.folded + c.dropped + c.held);
    ASSERT_EQ(c.dropped, queue.dropped());
  };
  for (int step = 0; step < 20'000; ++step) {
    g_now += random() % (kSecond / 2);
    for (uint32_t burst = random() % 8; burst > 0; --burst, ++produced)
      ASSERT_EQ(note(gate, random() % 20), 0);
    if (random() % 3 == 0) gate.tick(g_now);
    if (random() % 16 == 0) delivered += weight(take_all(queue));
    check();
  }
  gate.flush();
  delivered += weight(take_all(queue));
  check();
  EXPECT_EQ(sum(gate).held, 0u);
  EXPECT_EQ(delivered + queue.dropped(), produced);
  EXPECT_GT(queue.dropped(), 0u);
  EXPECT_GT(sum(gate).folded, 0u);
}

TEST_F(GateTest, LongTextIsCut) {
  EventQueue queue(16);
  EventGate gate(kProbe, text_, queue, 60, test_clock);
  std::string text(100'000, 'x');
  gopher_value fields[8] = {};
  fields[6].str = text.c_str();
  gopher_event_record r = {};
  r.fields = fields;
  ASSERT_EQ(gate.emit(r, nullptr), 0);
  EXPECT_EQ(std::get<std::string>(take_all(queue).at(0).fields[6]).size(), EventGate::kMaxText);
}

}  // namespace
}  // namespace gopher
