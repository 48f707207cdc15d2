// totals_test.cpp - differences of a BPF hash's running totals, and what happens to idle entries.
// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <gopher/totals.hpp>
#include <map>
#include <vector>

#include "harness.hpp"

namespace gopher::test {
namespace {

struct Value {
  char name[8];
  uint64_t a, b;
};

// Values as many as there are CPUs for a per-CPU map.
class Map {
 public:
  explicit Map(bool per_cpu)
      : cpus_(per_cpu ? static_cast<size_t>(libbpf_num_possible_cpus()) : 1),
        fd_(bpf_map_create(per_cpu ? BPF_MAP_TYPE_PERCPU_HASH : BPF_MAP_TYPE_HASH, "totals", 4,
                           sizeof(Value), 4096, nullptr)) {}
  ~Map() { close(fd_); }
  void put(uint32_t key, size_t cpu, Value v) {
    std::vector<Value> all(cpus_);
    bpf_map_lookup_elem(fd_, &key, all.data());
    all[cpu % cpus_] = v;
    ASSERT_EQ(bpf_map_update_elem(fd_, &key, all.data(), BPF_ANY), 0);
  }
  bool has(uint32_t key) {
    std::vector<Value> all(cpus_);
    return bpf_map_lookup_elem(fd_, &key, all.data()) == 0;
  }
  int fd() const { return fd_; }

 private:
  size_t cpus_;
  int fd_;
};

using TotalsTest = NeedsBpf<testing::Test>;

template <bool kPerCpu>
void idle_entries_go() {
  Map map(kPerCpu);
  Totals<uint32_t, Value, kPerCpu, 8> totals(map.fd());
  std::map<uint32_t, Value> gained;
  std::vector<uint32_t> gone;
  auto drain = [&] {
    gained.clear();
    gone.clear();
    ASSERT_TRUE(totals.drain([&](uint32_t k, const Value& v) { gained[k] = v; },
                             [&](uint32_t k) { gone.push_back(k); }));
  };
  map.put(1, 0, {"one", 10, 100});
  map.put(2, 1, {"two", 7, 0});
  drain();
  ASSERT_EQ(gained.size(), 2u);
  EXPECT_EQ(gained[1].a, 10u);
  EXPECT_EQ(gained[1].b, 100u);
  EXPECT_STREQ(gained[1].name, "one");
  EXPECT_STREQ(gained[2].name, "two");  // whichever CPU it was

  map.put(1, 0, {"one", 15, 100});
  drain();  // 2 was idle for a whole interval
  ASSERT_EQ(gained.size(), 1u);
  EXPECT_EQ(gained[1].a, 5u);
  EXPECT_EQ(gained[1].b, 0u);
  EXPECT_EQ(gone, std::vector<uint32_t>{2});
  EXPECT_FALSE(map.has(2));
  EXPECT_TRUE(map.has(1));

  map.put(2, 0, {"two", 3, 0});  // made anew: counts from nothing
  drain();
  EXPECT_EQ(gained[2].a, 3u);
}

TEST_F(TotalsTest, IdleEntriesGoAndComeBack) { idle_entries_go<false>(); }
TEST_F(TotalsTest, IdleEntriesGoAndComeBackPerCpu) { idle_entries_go<true>(); }

TEST_F(TotalsTest, ManyEntriesAreReadOnceEach) {
  Map map(false);
  for (uint32_t k = 0; k < 3000; ++k) map.put(k, 0, {"x", k, 1});
  HashReader<uint32_t, Value> reader(map.fd());
  std::map<uint32_t, int> seen;
  ASSERT_TRUE(reader.each([&](uint32_t k, const Value* v) {
    ++seen[k];
    EXPECT_EQ(v->a, k);
  }));
  EXPECT_EQ(seen.size(), 3000u);
  for (const auto& [k, n] : seen) EXPECT_EQ(n, 1) << k;
}

TEST_F(TotalsTest, AClosedMapIsAnErrorWithAReason) {
  HashReader<uint32_t, Value> reader(-1);
  auto r = reader.each([](uint32_t, const Value*) {});
  ASSERT_FALSE(r);
  EXPECT_THAT(r.error().text, testing::HasSubstr("read a BPF map"));
}

}  // namespace
}  // namespace gopher::test
