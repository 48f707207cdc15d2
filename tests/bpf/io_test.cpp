// io_test.cpp - the io probe counts what was done, on every rung, as the kernel's own stat does.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string_view>

#include "core/clock.hpp"
#include "io_fixture.hpp"

namespace gopher::test {
namespace {

// Requests and bytes of one operation, over all classes.
void expect_counts(const ProbeRun& r, const Device& d, const char* op, uint64_t requests,
                   uint64_t bytes) {
  const Labels l = {{"device", d.name()}, {"operation", op}};
  EXPECT_EQ(r.value("gopher_io_requests_total", l), requests) << op;
  EXPECT_EQ(r.value("gopher_io_bytes_total", l), bytes) << op;
  EXPECT_EQ(r.value("gopher_io_request_duration_seconds", l), requests) << op;
}

void expect_as_stat(const ProbeRun& r, const Device& d, const Stat& s) {
  expect_counts(r, d, "read", s.reads, s.read_sectors * 512);
  expect_counts(r, d, "write", s.writes, s.write_sectors * 512);
  expect_counts(r, d, "discard", s.discards, s.discard_sectors * 512);
  expect_counts(r, d, "flush", s.flushes, 0);
}

// The counts are the test's own, and those of /sys/block/.../stat.
void known_io(const Device& d) {
  Direct file(d);
  for (int i = 0; i < 40; ++i) ASSERT_EQ(file.read(4096 * ((i * 37) % 500), 4096), 4096);
  for (int i = 0; i < 8; ++i) ASSERT_EQ(file.write(65536 * i, 65536), 65536);
  ASSERT_EQ(fdatasync(file.fd()), 0);
}

class Rungs : public IoTest, public testing::WithParamInterface<const char*> {};

TEST_P(Rungs, CountKnownReadsAndWrites) {
  LOOP_OR_SKIP(disk, 8 << 20);
  auto r = io_run({}, GetParam(), disk->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  std::printf("rungs: %s\n", r->rungs().c_str());
  const Stat before = stat_of(*disk);
  known_io(*disk);
  r->poll();
  const Stat gained = settled(*r, *disk, before);

  EXPECT_EQ(gained.reads, 40u);
  EXPECT_EQ(gained.read_sectors, 40u * 8);
  EXPECT_EQ(gained.write_sectors, 8u * 128);
  expect_as_stat(*r, *disk, gained);
  const Labels reads = {{"device", disk->name()}, {"operation", "read"}};
  EXPECT_EQ(r->buckets("gopher_io_request_size_bytes", reads)[3], 40u);  // 4 KiB
  EXPECT_EQ(r->sum("gopher_io_request_size_bytes", reads), 40 * 4096);
  EXPECT_EQ(r->value("gopher_io_requests_total",
                     {{"device", disk->name()}, {"operation", "read"}, {"class", "sync"}}),
            40);
  const double total = r->sum("gopher_io_request_duration_seconds", reads);
  EXPECT_GT(total, 0);
  EXPECT_LT(total, 60);
  // The parts are all of the whole, where the kernel notes the issue.
  const double parts = r->sum("gopher_io_request_stage_seconds", reads);
  if (r->value("gopher_io_request_stage_seconds", reads) == 80) {
    EXPECT_NEAR(parts, total, 1e-9);
  }

  const Labels mine = {{"pid", std::to_string(getpid())}, {"device", disk->name()}};
  auto with = [&](const char* op) {
    Labels l = mine;
    l["operation"] = op;
    return l;
  };
  EXPECT_EQ(r->value("gopher_io_process_requests_total", with("read")), 40)
      << r->all_series("gopher_io_process_requests_total");
  EXPECT_EQ(r->value("gopher_io_process_bytes_total", with("read")), 40 * 4096);
  EXPECT_EQ(r->value("gopher_io_process_bytes_total", with("write")), 8 * 65536);
  EXPECT_EQ(r->value("gopher_io_process_requests_total", with("write")), gained.writes)
      << r->all_series("gopher_io_process_requests_total");
  EXPECT_EQ(r->value("gopher_io_process_duration_seconds", with("read")), 40);
  EXPECT_EQ(r->value("gopher_io_in_flight", {{"device", disk->name()}}), 0);
  EXPECT_THAT(r->lost, testing::IsEmpty());
}

// Which of these a kernel tells apart depends on what it has; the chosen rungs are printed.
INSTANTIATE_TEST_SUITE_P(Masks, Rungs,
                         testing::Values("", "tp_btf", "raw_tp", "fentry", "kprobe",
                                         "fentry,kprobe", "tp_btf,fentry", "tp_btf,fentry,kprobe"));

TEST_F(IoTest, AllMaskedFailsWithTheReason) {
  auto r = io_run({}, "tp_btf,raw_tp,fentry,kprobe");
  EXPECT_EQ(r->start(), -EOPNOTSUPP);
  EXPECT_THAT(r->error, testing::HasSubstr("hidden by GOPHER_MASK"));
}

// Flush sequences: a write that must reach the medium is several requests of the driver's, and one
// of the kernel's count.
TEST_F(IoTest, FlushesCountAsTheKernelDoes) {
  LOOP_OR_SKIP(disk, 8 << 20);
  auto r = io_run({}, "", disk->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  const Stat before = stat_of(*disk);
  {
    Direct file(*disk, O_DSYNC);
    for (int i = 0; i < 10; ++i) ASSERT_EQ(file.write(8192 * i, 4096), 4096);
    for (int i = 0; i < 3; ++i) ASSERT_EQ(fsync(file.fd()), 0);
  }
  r->poll();
  const Stat gained = settled(*r, *disk, before);
  EXPECT_GE(gained.writes, 10u);
  expect_as_stat(*r, *disk, gained);
  EXPECT_EQ(r->value("gopher_io_process_requests_total", {{"pid", std::to_string(getpid())},
                                                          {"device", disk->name()},
                                                          {"operation", "write"}}),
            gained.writes)
      << r->all_series("gopher_io_process_requests_total");
}

TEST_F(IoTest, DiscardsAndZeroes) {
  LOOP_OR_SKIP(disk, 8 << 20);
  auto r = io_run({}, "", disk->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  const Stat before = stat_of(*disk);
  ASSERT_EQ(shell("blkdiscard -o 1048576 -l 1048576 " + disk->path() + " 2>/dev/null"), 0);
  r->poll();
  const Stat gained = settled(*r, *disk, before);
  EXPECT_EQ(gained.discard_sectors, 2048u);
  expect_counts(*r, *disk, "discard", gained.discards, gained.discard_sectors * 512);
}

TEST_F(IoTest, SequentialReadsAreToldFromRandomOnes) {
  LOOP_OR_SKIP(disk, 8 << 20);
  auto r = io_run({}, "", disk->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  Direct file(*disk);
  const Labels l = {{"device", disk->name()}, {"operation", "read"}};
  for (int i = 0; i < 20; ++i) ASSERT_EQ(file.read(4096 * (100 + i), 4096), 4096);
  r->poll();
  const double sequential = r->value("gopher_io_sequential_requests_total", l);
  EXPECT_EQ(sequential, 19);  // all but the first
  for (int i = 0; i < 20; ++i) ASSERT_EQ(file.read(4096 * ((i * 37) % 90), 4096), 4096);
  r->poll();
  EXPECT_EQ(r->value("gopher_io_sequential_requests_total", l), sequential);
}

TEST_F(IoTest, OtherDevicesAreNotCounted) {
  LOOP_OR_SKIP(watched, 1 << 20);
  LOOP_OR_SKIP(other, 1 << 20);
  auto r = io_run({}, "", watched->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  Direct a(*watched), b(*other);
  for (int i = 0; i < 5; ++i) ASSERT_EQ(a.read(4096 * i, 4096), 4096);
  for (int i = 0; i < 5; ++i) ASSERT_EQ(b.read(4096 * i, 4096), 4096);
  r->poll();
  EXPECT_EQ(r->value("gopher_io_requests_total"), 5) << r->all_series("gopher_io_requests_total");
  EXPECT_EQ(r->value("gopher_io_process_requests_total"), 5);
}

TEST_F(IoTest, OtherProcessesAreNotCounted) {
  LOOP_OR_SKIP(disk, 1 << 20);
  FilterSet filter;
  filter.by_device = filter.by_pid = true;
  filter.devices = {disk->dev()};
  filter.pids = {static_cast<uint32_t>(getpid())};
  IoConfig c;
  c.by_process = false;  // the filter needs to know who it is all the same
  ProbeRun r("io", &c, "", filter);
  ASSERT_EQ(r.start(), 0) << r.error;
  Direct file(*disk);
  for (int i = 0; i < 5; ++i) ASSERT_EQ(file.read(4096 * i, 4096), 4096);
  ASSERT_EQ(
      shell("dd if=" + disk->path() + " of=/dev/null bs=4096 count=7 iflag=direct 2>/dev/null"), 0);
  r.poll();
  EXPECT_EQ(r.value("gopher_io_requests_total", {{"operation", "read"}}), 5)
      << r.all_series("gopher_io_requests_total");
}

// A cgroup of the test's own on every hierarchy that tells something about a process.
class TempCgroup {
 public:
  explicit TempCgroup(const std::string& mount) : folder_(mount + kPath) {
    made_ =
        mkdir(folder_.c_str(), 0755) == 0 && access((folder_ + "/cgroup.procs").c_str(), W_OK) == 0;
  }
  ~TempCgroup() {
    // A process that has ended leaves its cgroup a moment later.
    wait_until([&] { return rmdir(folder_.c_str()) == 0 || errno != EBUSY; },
               std::chrono::seconds(5));
  }
  bool made() const { return made_; }
  int run(const std::string& command) const {
    return shell("echo $$ >" + folder_ + "/cgroup.procs; exec " + command);
  }
  static constexpr const char* kPath = "/gopher-bpf-test";

 private:
  std::string folder_;
  bool made_;
};

// The first hierarchy in which a process is not at the root names it: does this one come before?
bool named_by(const std::string& controller) {
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);)
    if (line.find(":" + controller + ":/") != std::string::npos && !line.ends_with(":/"))
      return true;
  return false;
}

TEST_F(IoTest, CgroupsAreNamedAndFilteredOnEveryHierarchy) {
  LOOP_OR_SKIP(disk, 1 << 20);
  const std::string dd =
      "dd if=" + disk->path() + " of=/dev/null bs=4096 iflag=direct 2>/dev/null count=";
  int tried = 0;
  for (const char* mount : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory",
                            "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/pids"}) {
    if (access((std::string(mount) + "/cgroup.procs").c_str(), F_OK) != 0) continue;
    const bool v1 = access((std::string(mount) + "/cgroup.controllers").c_str(), F_OK) != 0;
    const bool memory = std::string_view(mount).ends_with("memory");
    if (v1 && (named_by("") || (!memory && named_by("memory")))) continue;
    TempCgroup group(mount);
    if (!group.made()) continue;
    ++tried;
    SCOPED_TRACE(mount);
    FilterSet filter;
    filter.by_device = filter.by_cgroup = true;
    filter.devices = {disk->dev()};
    for (uint64_t id : Cgroups().ids(TempCgroup::kPath)) filter.cgroups.insert(id);
    const IoConfig c;
    ProbeRun r("io", &c, "", filter);
    ASSERT_EQ(r.start(), 0) << r.error;
    ASSERT_EQ(group.run(dd + "7"), 0);
    ASSERT_EQ(shell(dd + "5"), 0);
    r.poll();
    EXPECT_EQ(r.value("gopher_io_requests_total", {{"operation", "read"}}), 7);
    EXPECT_EQ(r.value("gopher_io_process_requests_total",
                      {{"comm", "dd"}, {"cgroup", TempCgroup::kPath}, {"operation", "read"}}),
              7)
        << r.all_series("gopher_io_process_requests_total");
  }
  if (!tried) GTEST_SKIP() << "no cgroup can be made here";
  std::printf("%d hierarchies\n", tried);
}

TEST_F(IoTest, WithoutProcessesTheRestIsTheSame) {
  LOOP_OR_SKIP(disk, 8 << 20);
  IoConfig c;
  c.by_process = false;
  auto r = io_run(c, "", disk->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  EXPECT_EQ(r->program("start") + r->program("insert"), "");
  const Stat before = stat_of(*disk);
  known_io(*disk);
  r->poll();
  const Stat gained = settled(*r, *disk, before);
  expect_as_stat(*r, *disk, gained);
  EXPECT_EQ(r->value("gopher_io_process_requests_total"), 0);
}

// What was counted before a stop, and between two starts, stays what it was.
TEST_F(IoTest, StopLosesNothingAndStartCountsAnew) {
  LOOP_OR_SKIP(disk, 1 << 20);
  auto r = io_run({}, "", disk->dev());
  Direct file(*disk);
  for (int round = 1; round <= 3; ++round) {
    ASSERT_EQ(r->start(), 0) << r->error;
    for (int i = 0; i < 6; ++i) ASSERT_EQ(file.read(4096 * i, 4096), 4096);
    r->stop();
    EXPECT_EQ(r->value("gopher_io_requests_total", {{"operation", "read"}}), 6 * round);
  }
}

TEST_F(IoTest, WithoutIostatsTheStartIsTheSubmitters) {
  LOOP_OR_SKIP(disk, 1 << 20);
  {
    // Some kernels leave what they noted then in the request, which is used again.
    Direct file(*disk);
    for (int i = 0; i < 200; ++i) ASSERT_EQ(file.read(4096 * (i % 200), 4096), 4096);
  }
  const uint64_t before = monotonic_ns();
  wait_until([&] { return monotonic_ns() > before + 1'000'000'000; }, std::chrono::seconds(2));
  ASSERT_TRUE(disk->set("queue/iostats", "0"));
  disk->set("queue/wbt_lat_usec", "0");
  for (bool by_process : {false, true}) {
    IoConfig c;
    c.by_process = by_process;
    auto r = io_run(c, "", disk->dev());
    ASSERT_EQ(r->start(), 0) << r->error;
    Direct file(*disk);
    for (int i = 0; i < 6; ++i) ASSERT_EQ(file.read(4096 * i, 4096), 4096);
    r->poll();
    const Labels l = {{"device", disk->name()}, {"operation", "read"}};
    EXPECT_EQ(r->value("gopher_io_requests_total", l), 6);
    EXPECT_LT(r->sum("gopher_io_request_duration_seconds", l), 1);
    // Counted as untimed, or timed; never both, never neither.
    EXPECT_EQ(r->value("gopher_io_untimed_requests_total", l) +
                  r->value("gopher_io_request_duration_seconds", l),
              6);
    if (by_process) {
      EXPECT_EQ(r->value("gopher_io_request_duration_seconds", l), 6);
    }
  }
  disk->set("queue/iostats", "1");
}

}  // namespace
}  // namespace gopher::test
