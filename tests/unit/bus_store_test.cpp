// bus_store_test.cpp - the series store: keys, text, budget, ttl, readers.
// SPDX-License-Identifier: Apache-2.0
#include "bus/store.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <random>
#include <thread>

#include "bus/labels.hpp"
#include "store_fixture.hpp"

namespace gopher {
namespace {

using namespace store_test;  // NOLINT(google-build-using-namespace)
using ::testing::ElementsAre;
using ::testing::Pair;

class StoreTest : public ::testing::Test {
 protected:
  FakeText text_;
  Store store_{{}, text_};
  Shard& shard_ = store_.shard(tables());

  double total(uint32_t metric) {
    double sum = 0;
    std::string prefix = std::string(kTable[metric].name) + "{";
    for (const auto& [name, c] : content(store_))
      if (name.starts_with(prefix)) sum += c.value;
    return sum;
  }
};

TEST_F(StoreTest, AddsUnderRawIdsAndShowsText) {
  add(shard_, kRequests, {num(7), num(1)}, 2);
  add(shard_, kRequests, {num(7), num(0)}, 1);
  add(shard_, kRequests, {num(7), num(1)}, 3.5);
  set(shard_, kDepth, {num(7)}, 4);
  set(shard_, kDepth, {num(7)}, -1.5);
  add(shard_, kAlone, {}, 8);
  EXPECT_THAT(
      content(store_),
      ElementsAre(
          Pair("gopher_t_alone_total{}", Content{8, {}}),
          Pair("gopher_t_depth{device=\"dev7\"}", Content{-1.5, {}}),
          Pair("gopher_t_requests_total{device=\"dev7\",operation=\"read\"}", Content{1, {}}),
          Pair("gopher_t_requests_total{device=\"dev7\",operation=\"write\"}", Content{5.5, {}})));
  EXPECT_EQ(store_.series(), 4u);
}

TEST_F(StoreTest, AddsHistogramsBucketByBucket) {
  gopher_process p = who(12, 5, 400, "sh");
  observe(shard_, kDuration, {process(p), str("/a")}, {1, 0, 2, 0, 3}, 0.5);
  observe(shard_, kDuration, {process(p), str("/a")}, {0, 4, 0, 0, 1}, 1.25);
  EXPECT_THAT(content(store_),
              ElementsAre(Pair("gopher_t_duration_seconds{pid=\"12\",comm=\"sh\",cgroup=\"cgroup4"
                               "\",path=\"/a\"}",
                               Content{1.75, {1, 4, 2, 0, 4}})));
}

TEST_F(StoreTest, AProcessIsItsPidAndStart) {
  gopher_process p = who(12, 5, 400, "sh");
  gopher_process renamed = who(12, 5, 400, "bash"), reborn = who(12, 6, 400, "vi"),
                 grouped = who(0, 0, 0, "writeback"), other_group = who(0, 0, 0, "swapper");
  for (const auto* one : {&p, &renamed, &reborn, &grouped, &other_group})
    observe(shard_, kDuration, {process(*one), str("")}, {1, 0, 0, 0, 0}, 1);
  auto all = content(store_);
  EXPECT_EQ(all.size(), 4u) << "one of which is the renamed";
  EXPECT_EQ(all.count("gopher_t_duration_seconds{pid=\"12\",comm=\"vi\",cgroup=\"cgroup4\",path="
                      "\"\"}"),
            1u);
  EXPECT_EQ(all.count("gopher_t_duration_seconds{pid=\"0\",comm=\"writeback\",cgroup=\"\",path="
                      "\"\"}"),
            1u);
}

TEST_F(StoreTest, EncodesEveryType) {
  auto labels = [](const char* address, uint32_t length, uint64_t error) {
    gopher_value real = {}, addr = {};
    real.real = 0.5;
    addr.data = address;
    addr.len = length;
    return std::vector<gopher_value>{num(1), real,   num(2), num(error),
                                     addr,   num(3), num(4), num(500)};
  };
  auto apply = [&](const std::vector<gopher_value>& v) {
    shard_.apply({.labels = v.data(), .value = 1, .metric = kTypes, .op = GOPHER_ADD}, kSecond);
  };
  apply(labels("abcd", 4, 5));
  apply(labels("abcd", 4, static_cast<uint64_t>(-5)));  // an errno's sign means nothing
  apply(labels("abcdefghijklmnop", 16, 5));
  auto all = content(store_);
  EXPECT_EQ(all.size(), 2u);
  EXPECT_EQ(all["gopher_t_types_total{i=\"dev1\",f=\"0.500000\",b=\"dev2\",e=\"dev5\",a=\"abcd\","
                "n=\"dev3\",y=\"dev4\",c=\"cgroup5\"}"]
                .value,
            2);
  apply(labels("abcdef", 6, 5));
  EXPECT_EQ(shard_.stats().refused, 1u);
}

TEST_F(StoreTest, RefusesWhatIsMalformed) {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  add(shard_, 99, {}, 1);
  add(shard_, kRequests, {num(7), num(3)}, 1);  // no such operation
  add(shard_, kRequests, {num(7), num(0)}, -1);
  add(shard_, kRequests, {num(7), num(0)}, nan);
  add(shard_, kRequests, {num(7), num(0)}, inf);
  set(shard_, kRequests, {num(7), num(0)}, 1);
  add(shard_, kDepth, {num(7)}, 1);
  set(shard_, kDepth, {num(7)}, nan);
  add(shard_, kFew, {str(nullptr)}, 1);
  shard_.apply({.metric = kRequests, .op = GOPHER_ADD}, 1);  // no labels
  gopher_value none = {};
  observe(shard_, kDuration, {none, str("x")}, {0, 0, 0, 0, 0}, 0);
  gopher_process p = who(1, 1);
  observe(shard_, kDuration, {process(p), str("x")}, {0, 0, 0, 0, 1}, nan);
  gopher_value labels[] = {process(p), str("x")};
  shard_.apply({.labels = labels, .sum = 1, .metric = kDuration, .op = GOPHER_ADD}, 1);
  EXPECT_EQ(shard_.stats().refused, 13u);
  EXPECT_EQ(shard_.stats().samples, 0u);
  EXPECT_EQ(store_.series(), 0u);
  set(shard_, kDepth, {num(7)}, inf);  // a limit that is not set is one
  EXPECT_EQ(shard_.stats().refused, 13u);
}

TEST_F(StoreTest, FoldsBeyondTheMetricsBudgetAndLosesNothing) {
  for (uint64_t i = 0; i < 10; ++i) {
    std::string name = "n" + std::to_string(i);
    add(shard_, kFew, {str(name.c_str())}, 1);
    add(shard_, kFew, {str(name.c_str())}, 0.5);
  }
  auto all = content(store_);
  EXPECT_THAT(all, ElementsAre(Pair("gopher_t_few_total{name=\"n0\"}", Content{1.5, {}}),
                               Pair("gopher_t_few_total{name=\"n1\"}", Content{1.5, {}}),
                               Pair("gopher_t_few_total{name=\"n2\"}", Content{1.5, {}}),
                               Pair("gopher_t_few_total{name=\"other\"}", Content{10.5, {}})));
  EXPECT_EQ(shard_.folded()[kFew], 14u);
  EXPECT_EQ(shard_.stats().samples, 20u);  // 6 in series of their own + 14 folded
}

TEST_F(StoreTest, FoldsBeyondTheGlobalBudget) {
  store_.set_limits({.series_total = 5});
  Shard& second = store_.shard(tables("u"));
  gopher_process p = who(12, 5);
  for (uint64_t i = 0; i < 4; ++i) add(shard_, kRequests, {num(i), num(0)}, 1);
  for (uint64_t i = 0; i < 4; ++i) add(second, kRequests, {num(i), num(0)}, 1);
  observe(shard_, kDuration, {process(p), str("/x")}, {1, 1, 1, 1, 1}, 2);
  set(shard_, kDepth, {num(1)}, 3);  // the last value of many gauges means nothing
  add(shard_, kAlone, {}, 1);        // without labels there is nothing to fold
  auto all = content(store_);
  EXPECT_EQ(all["gopher_t_requests_total{device=\"other\",operation=\"other\"}"].value, 3);
  EXPECT_EQ(all["gopher_t_duration_seconds{pid=\"other\",comm=\"other\",cgroup=\"other\",path="
                "\"other\"}"],
            (Content{2, {1, 1, 1, 1, 1}}));
  EXPECT_EQ(all["gopher_t_alone_total{}"].value, 1);
  EXPECT_EQ(all.count("gopher_t_depth{device=\"other\"}"), 0u);
  EXPECT_EQ(shard_.folded()[kDepth], 1u);
  EXPECT_EQ(shard_.folded()[kAlone], 0u);
  EXPECT_EQ(second.folded()[kRequests], 3u);
  EXPECT_EQ(shard_.stats().samples, 7u);
}

TEST_F(StoreTest, ASeriesNamedOtherSharesWithTheFolded) {
  add(shard_, kFew, {str("other")}, 1);
  for (const char* name : {"a", "b", "c", "d"}) add(shard_, kFew, {str(name)}, 1);
  auto all = content(store_);
  EXPECT_EQ(all["gopher_t_few_total{name=\"other\"}"].value, 3);
  EXPECT_EQ(all.size(), 3u);
}

TEST_F(StoreTest, TwoIdsWithOneTextAreOneSeries) {
  auto types = [&](uint64_t cgroup, uint64_t now_s) {
    gopher_value addr = {};
    addr.data = "abcd";
    addr.len = 4;
    add(shard_, kTypes, {num(1), num(1), num(1), num(1), addr, num(1), num(1), num(cgroup)}, 1,
        now_s);
  };
  types(401, 1);
  types(402, 200);  // the service restarted
  types(402, 400);
  EXPECT_EQ(content(store_).size(), 1u);
  EXPECT_EQ(total(kTypes), 3);
  store_.expire(450 * kSecond);  // the first id is long dead, the series is not
  types(402, 460);
  types(401, 460);
  EXPECT_EQ(total(kTypes), 5);
  store_.expire(800 * kSecond);
  EXPECT_EQ(store_.series(), 0u);
  types(402, 801);
  EXPECT_EQ(total(kTypes), 1);
  EXPECT_EQ(shard_.stats().born, 2u);
  EXPECT_EQ(shard_.stats().expired, 1u);
}

TEST_F(StoreTest, ASeriesDiesWithoutUpdatesAndMakesRoom) {
  store_.set_limits({.series_total = 2, .ttl_s = 100});
  add(shard_, kRequests, {num(1), num(0)}, 5, 10);
  add(shard_, kRequests, {num(2), num(0)}, 5, 10);
  add(shard_, kRequests, {num(3), num(0)}, 5, 10);  // folded
  add(shard_, kRequests, {num(2), num(0)}, 5, 100);
  store_.expire(110 * kSecond);
  EXPECT_EQ(store_.series(), 3u) << "exactly the ttl is not beyond it";
  store_.expire(120 * kSecond);
  EXPECT_THAT(content(store_),
              ElementsAre(Pair("gopher_t_requests_total{device=\"dev2\",operation=\"read\"}",
                               Content{10, {}})));
  add(shard_, kRequests, {num(3), num(0)}, 1, 121);  // now there is room, from 0
  add(shard_, kRequests, {num(1), num(0)}, 1, 121);
  EXPECT_THAT(
      content(store_),
      ElementsAre(
          Pair("gopher_t_requests_total{device=\"dev2\",operation=\"read\"}", Content{10, {}}),
          Pair("gopher_t_requests_total{device=\"dev3\",operation=\"read\"}", Content{1, {}}),
          Pair("gopher_t_requests_total{device=\"other\",operation=\"other\"}", Content{1, {}})));
  EXPECT_EQ(shard_.stats().expired, 2u);
}

TEST_F(StoreTest, ATableMayHaveItsOwnTtl) {
  add(shard_, kFew, {str("a")}, 1, 10);
  add(shard_, kRequests, {num(1), num(0)}, 1, 10);
  store_.expire(900 * kSecond);
  EXPECT_EQ(store_.series(), 1u);
  store_.expire(1100 * kSecond);
  EXPECT_EQ(store_.series(), 0u);
}

TEST_F(StoreTest, LowerLimitsLetLiveWhatIsThere) {
  for (uint64_t i = 0; i < 10; ++i) add(shard_, kRequests, {num(i), num(0)}, 1);
  store_.set_limits({.series_total = 4, .series_per_metric = 4});
  for (uint64_t i = 0; i < 20; ++i) add(shard_, kRequests, {num(i), num(0)}, 1);
  EXPECT_EQ(store_.series(), 11u);
  EXPECT_EQ(total(kRequests), 30);
}

TEST_F(StoreTest, ARestartedProbeFindsItsSeries) {
  add(shard_, kRequests, {num(1), num(0)}, 5);
  Shard& again = store_.shard(tables());
  EXPECT_EQ(&again, &shard_);
  add(again, kRequests, {num(1), num(0)}, 5);
  EXPECT_EQ(total(kRequests), 10);
}

TEST_F(StoreTest, LabelTextOutlivesItsSeriesWhileSomebodyReads) {
  for (uint64_t i = 0; i < 100; ++i) add(shard_, kRequests, {num(i), num(0)}, 1);
  Chunk chunk;
  {
    Store::Cursor cursor(store_);
    ASSERT_TRUE(cursor.next(&chunk));
    store_.expire(1000 * kSecond);
    store_.expire(1001 * kSecond);
    EXPECT_EQ(store_.series(), 0u);
    for (uint64_t i = 0; i < 100; ++i)
      EXPECT_EQ(chunk.series[i].labels,
                "device=\"dev" + std::to_string(i) + "\",operation=\"read\"");
    EXPECT_FALSE(cursor.next(&chunk));
  }
  store_.expire(1002 * kSecond);
}

TEST_F(StoreTest, AWalkInStepsSeesAllThatLives) {
  Shard& second = store_.shard(tables("s"));
  for (uint64_t i = 0; i < 100; ++i) {
    add(shard_, kRequests, {num(i), num(i % 3)}, 1, i % 2 ? 1 : 500);
    add(second, kRequests, {num(i), num(0)}, 1, 500);
    set(second, kDepth, {num(i)}, 1, 500);
  }
  // What lives before and after is seen, once, whatever comes and goes in between.
  std::map<std::string, int> seen;
  std::map<std::string, int> firsts;
  Position at;
  for (int step = 0; step < 1000; ++step) {
    Store::Cursor cursor(store_, at);
    Chunk chunk;
    if (!cursor.next(&chunk, 7)) break;
    at = cursor.position();
    firsts[std::string(chunk.probe) + " " + chunk.metric->name] += chunk.first;
    for (const SeriesView& s : chunk.series)
      ++seen[std::string(chunk.probe) + " " + chunk.metric->name + std::string(s.labels)];
    if (step == 20) store_.expire(600 * kSecond);
    add(shard_, kRequests, {num(1000 + step), num(0)}, 1, 600);
  }
  for (uint64_t i = 0; i < 100; ++i) {
    std::string device = "device=\"dev" + std::to_string(i) + "\"";
    EXPECT_EQ(seen["s gopher_t_depth" + device], 1);
    EXPECT_EQ(seen["s gopher_t_requests_total" + device + ",operation=\"read\""], 1);
    int n =
        seen["t gopher_t_requests_total" + device + ",operation=\"" + kOperations[i % 3] + "\""];
    EXPECT_LE(n, 1);
    EXPECT_GE(n, i % 2 ? 0 : 1);
  }
  for (const auto& [metric, n] : firsts) EXPECT_EQ(n, 1) << metric;
}

// The store against a map by text, in random order, with deaths.
TEST_F(StoreTest, BehavesAsAMapWould) {
  struct Entry {
    double value = 0;
    uint64_t last_s = 0;
  };
  store_.set_limits({.ttl_s = 10});
  std::map<std::string, Entry> model;
  std::mt19937_64 random(3);
  std::vector<std::string> names;
  for (int i = 0; i < 300; ++i)
    names.push_back(std::string(random() % 40, 'x') + char('a' + i % 26));
  uint64_t now_s = 100;
  for (int step = 0; step < 20'000; ++step) {
    // Mostly the same order again, as polls do, with jumps.
    size_t pick =
        random() % 50 ? static_cast<size_t>(step) % names.size() : random() % names.size();
    gopher_process p = who(static_cast<uint32_t>(pick % 7), 1 + pick % 2, 100 + pick % 7 * 50, "c");
    double value = static_cast<double>(random() % 100);
    observe(shard_, kDuration, {process(p), str(names[pick].c_str())}, {0, 0, 0, 0, 1}, value,
            now_s);
    std::string text = "pid=\"" + std::to_string(p.tgid) + "\",comm=\"c\",cgroup=\"cgroup" +
                       std::to_string(p.cgroup_id / 100) + "\",path=\"" + names[pick] + "\"";
    Entry& e = model["gopher_t_duration_seconds{" + text + "}"];
    e.value += value;
    e.last_s = now_s;
    if (random() % 100) continue;
    now_s += 1 + random() % 8;
    store_.expire(now_s * kSecond);
    std::erase_if(model, [&](const auto& m) { return m.second.last_s + 10 < now_s; });
    auto all = content(store_, 1 + random() % 100);
    ASSERT_EQ(all.size(), model.size()) << step;
    for (const auto& [name, entry] : model) ASSERT_EQ(all[name].value, entry.value) << name;
  }
}

TEST_F(StoreTest, UpdatesReadersAndDeathsAtOnceLoseNothing) {
  store_.set_limits({.series_total = 5000, .ttl_s = 1});
  constexpr int kThreads = 2, kRounds = 30'000;
  std::atomic<int> running{kThreads};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < kRounds; ++i) {
        add(shard_, kRequests, {num(random() % 50), num(0)}, 1, 100'000);     // live on
        add(shard_, kRequests, {num(1000 + random() % 2000), num(1)}, 1, 1);  // die at once
      }
      --running;
    });
  }
  threads.emplace_back([&] {
    for (uint64_t s = 100; running; ++s) store_.expire(s % 90'000 * kSecond);
  });
  uint64_t walks = 0, text = 0;
  do {
    Store::Cursor cursor(store_);
    for (Chunk chunk; cursor.next(&chunk, 64);)
      for (const SeriesView& s : chunk.series)
        for (char c : s.labels) text += static_cast<unsigned char>(c);
    ++walks;
  } while (running);
  for (auto& t : threads) t.join();
  EXPECT_GT(walks, 0u);
  EXPECT_GT(text, 0u);
  double live = 0;
  for (const auto& [name, c] : content(store_))
    if (name.ends_with("operation=\"read\"}")) live += c.value;
  EXPECT_EQ(live, kThreads * kRounds);
  EXPECT_EQ(shard_.stats().samples, 2u * kThreads * kRounds);
  EXPECT_GT(shard_.stats().expired, 0u);
}

// ---- label text ----

std::string escaped(std::string_view s) {
  std::string out;
  append_escaped(s, &out);
  return out;
}

TEST(Labels, EscapesWhatTheFormatsEscape) {
  EXPECT_EQ(escaped("plain äöü €"), "plain äöü €");
  EXPECT_EQ(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
  EXPECT_EQ(escaped(""), "");
}

TEST(Labels, ReplacesWhatIsNoText) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(escaped(std::string_view("a\0b", 3)), "a" + r + "b");
  EXPECT_EQ(escaped("\x1b[2J\t\x7f"), r + "[2J" + r + r);
  EXPECT_EQ(escaped("\xff\xfe"), r + r);
  EXPECT_EQ(escaped("\xc3"), r);                          // cut short
  EXPECT_EQ(escaped("\xc3("), r + "(");                   // not a tail
  EXPECT_EQ(escaped("\xc0\xaf"), r + r);                  // overlong
  EXPECT_EQ(escaped("\xe0\x80\xaf"), r + r + r);          // overlong
  EXPECT_EQ(escaped("\xed\xa0\x80"), r + r + r);          // a surrogate
  EXPECT_EQ(escaped("\xf4\x90\x80\x80"), r + r + r + r);  // beyond U+10FFFF
  EXPECT_EQ(escaped("\xf0\x9f\x98\x80"), "\xf0\x9f\x98\x80");
}

TEST(Labels, ReadBackIsWhatWasPutIn) {
  std::mt19937 random(5);
  const std::string alphabet[] = {"a", "\"", "\\", "\n", ",", "=", "{", "}", "ä", "€", "n", " "};
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::pair<std::string, std::string>> labels;
    std::string text;
    for (size_t n = random() % 5; labels.size() < n;) {
      std::string value;
      for (size_t k = random() % 12; k; --k) value += alphabet[random() % std::size(alphabet)];
      labels.emplace_back("l" + std::to_string(labels.size()), value);
      append_label(labels.back().first, value, &text);
    }
    std::string_view rest = text, name;
    std::string value;
    for (const auto& [n, v] : labels) {
      ASSERT_TRUE(next_label(&rest, &name, &value));
      EXPECT_EQ(name, n);
      EXPECT_EQ(value, v);
    }
    EXPECT_FALSE(next_label(&rest, &name, &value));
  }
}

TEST_F(StoreTest, CutsLongStringsBetweenCharacters) {
  std::string odd = "x";
  for (int i = 0; i < 1000; ++i) odd += "ä";
  std::string longer = odd + "y";
  add(shard_, kFew, {str(odd.c_str())}, 1);
  add(shard_, kFew, {str(longer.c_str())}, 1);
  add(shard_, kFew, {str(longer.data(), static_cast<uint32_t>(longer.size()))}, 1);
  EXPECT_THAT(content(store_),
              ElementsAre(Pair("gopher_t_few_total{name=\"" + odd.substr(0, 1023) + "\"}",
                               Content{3, {}})));
}

TEST_F(StoreTest, StringsByLengthMayHoldZeros) {
  add(shard_, kFew, {str("a\0b", 3)}, 1);
  add(shard_, kFew, {str("a\0c", 3)}, 1);
  add(shard_, kFew, {str("a")}, 1);
  EXPECT_EQ(store_.series(), 3u);
}

}  // namespace
}  // namespace gopher
