// io_devices_test.cpp - devices without requests, merged requests, the driver's part, the page
// cache. SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <io.h>
#include <linux/aio_abi.h>
#include <linux/nvme_ioctl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <gopher/totals.hpp>
#include <memory>
#include <vector>

#include "core/clock.hpp"
#include "io.skel.h"
#include "io_fixture.hpp"

namespace gopher::test {
namespace {

constexpr uint64_t kScanNs = 20'000'000'000;  // later than the probe looks for new devices

void zram_io(const Device& d) {
  Direct file(d);
  for (int i = 0; i < 12; ++i) ASSERT_EQ(file.write(4096 * i, 4096), 4096);
  for (int i = 0; i < 9; ++i) ASSERT_EQ(file.read(4096 * i, 4096), 4096);
}

class BioRungs : public IoTest, public testing::WithParamInterface<const char*> {};

TEST_P(BioRungs, DeviceWithoutRequestsIsCountedByItsBios) {
  auto made = make_zram(8 << 20);
  SKIP_UNLESS(made);
  const DevicePtr disk = *std::move(made);
  auto r = io_run({}, GetParam(), disk->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  std::printf("rungs: %s\n", r->rungs().c_str());
  EXPECT_NE(r->program("bio_queue"), "");
  const Stat before = stat_of(*disk);
  zram_io(*disk);
  const Stat gained = stat_of(*disk) - before;
  r->poll();
  const Labels reads = {{"device", disk->name()}, {"operation", "read"}};
  const Labels writes = {{"device", disk->name()}, {"operation", "write"}};
  EXPECT_EQ(gained.reads, 9u);
  EXPECT_EQ(r->value("gopher_io_requests_total", reads), 9);
  EXPECT_EQ(r->value("gopher_io_bytes_total", reads), 9 * 4096);
  EXPECT_EQ(r->value("gopher_io_requests_total", writes), 12);
  EXPECT_EQ(r->value("gopher_io_bytes_total", writes), 12 * 4096);
  EXPECT_EQ(r->value("gopher_io_request_duration_seconds", writes), 12);
  EXPECT_EQ(r->value("gopher_io_process_bytes_total",
                     {{"pid", std::to_string(getpid())}, {"operation", "write"}}),
            12 * 4096);
  EXPECT_EQ(r->value("gopher_io_in_flight", {{"device", disk->name()}}), 0);
}

INSTANTIATE_TEST_SUITE_P(Masks, BioRungs, testing::Values("", "tp_btf", "raw_tp"));

TEST_F(IoTest, DeviceWithoutRequestsMayComeLater) {
  auto r = io_run({}, "", 0);
  ASSERT_EQ(r->start(), 0) << r->error;
  r->poll();
  auto made = make_zram(8 << 20);
  SKIP_UNLESS(made);
  const DevicePtr disk = *std::move(made);
  r->poll(monotonic_ns() + kScanNs);
  EXPECT_NE(r->program("bio_queue"), "");
  zram_io(*disk);
  r->poll();
  EXPECT_EQ(r->value("gopher_io_requests_total", {{"device", disk->name()}, {"operation", "read"}}),
            9);
}

// Two requests that touch become one in the scheduler: the absorbed one never completes.
TEST_F(IoTest, MergedRequestsAreNotInFlightForever) {
  LOOP_OR_SKIP(disk, 1 << 20);
  if (!disk->set("queue/scheduler", "mq-deadline")) {
    shell("modprobe -q mq-deadline");
    if (!disk->set("queue/scheduler", "mq-deadline")) GTEST_SKIP() << "no mq-deadline";
  }
  auto r = io_run({}, "", disk->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  Direct direct(*disk);
  void* buffer = std::aligned_alloc(4096, 3 * 4096);
  aio_context_t context = 0;
  ASSERT_EQ(syscall(SYS_io_setup, 8, &context), 0);
  std::array<iocb, 3> cb = {};
  std::array<iocb*, 3> list;
  const int order[] = {0, 2, 1};  // submitted in one call, so they wait for one another
  for (size_t i = 0; i < 3; ++i) {
    cb[i].aio_fildes = static_cast<uint32_t>(direct.fd());
    cb[i].aio_lio_opcode = IOCB_CMD_PWRITE;
    cb[i].aio_buf = reinterpret_cast<uint64_t>(buffer) + 4096 * i;
    cb[i].aio_nbytes = 4096;
    cb[i].aio_offset = 4096 * order[i];
    list[i] = &cb[i];
  }
  const Stat before = stat_of(*disk);
  ASSERT_EQ(syscall(SYS_io_submit, context, 3, list.data()), 3);
  std::array<::io_event, 3> done;
  ASSERT_EQ(syscall(SYS_io_getevents, context, 3, 3, done.data(), nullptr), 3);
  syscall(SYS_io_destroy, context);
  std::free(buffer);
  r->poll();
  const Stat gained = settled(*r, *disk, before);
  std::printf("%llu requests of 3 writes\n", static_cast<unsigned long long>(gained.writes));
  const Labels l = {{"device", disk->name()}, {"operation", "write"}};
  EXPECT_EQ(r->value("gopher_io_requests_total", l), gained.writes);
  EXPECT_EQ(r->value("gopher_io_bytes_total", l), 3 * 4096);
  EXPECT_EQ(r->value("gopher_io_in_flight", {{"device", disk->name()}}), 0);
}

TEST_F(IoTest, DriverStageOfNvme) {
  auto made = find_nvme();
  SKIP_UNLESS(made);
  const DevicePtr disk = *std::move(made);
  for (bool by_process : {true, false}) {
    for (const char* mask : {"", "tp_btf"}) {
      IoConfig c;
      c.driver_stage = true;
      c.by_process = by_process;
      auto r = io_run(c, mask, disk->dev());
      ASSERT_EQ(r->start(), 0) << r->error;
      Direct file(*disk);
      for (int i = 0; i < 10; ++i) ASSERT_EQ(file.read(4096 * i, 4096), 4096);
      r->poll();
      auto stage = [&](const char* name) -> Labels {
        return {{"device", disk->name()}, {"operation", "read"}, {"stage", name}};
      };
      const Labels reads = {{"device", disk->name()}, {"operation", "read"}};
      EXPECT_EQ(r->value("gopher_io_requests_total", reads), 10) << r->rungs();
      if (r->value("gopher_io_request_stage_seconds", stage("device")) == 0) {
        // No issue times yet: the probe has loaded the hook for them just now.
        for (int i = 0; i < 10; ++i) ASSERT_EQ(file.read(4096 * i, 4096), 4096);
        r->poll();
      }
      EXPECT_EQ(r->value("gopher_io_request_stage_seconds", stage("device")), 10) << r->rungs();
      EXPECT_EQ(r->value("gopher_io_request_stage_seconds", stage("driver")), 10) << r->rungs();
      EXPECT_LT(r->sum("gopher_io_request_stage_seconds", stage("driver")),
                r->sum("gopher_io_request_duration_seconds", reads));
    }
  }
}

// Every queue of these kernels makes them note when a request is issued, but not of a passthrough
// request: so those show that hook `issue` does it where the kernel does not. Without the plugin,
// which asks for the hook only when a device's ordinary requests lack the time.
struct Split {
  uint64_t split = 0, unsplit = 0;
};

void nvme_passthrough(const Device& d, int n) {
  const int fd = open(d.path().c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  std::vector<char> buffer(4096);
  for (int i = 0; i < n; ++i) {
    nvme_passthru_cmd c = {};
    c.opcode = 2;  // read
    c.nsid = 1;
    c.addr = reinterpret_cast<uint64_t>(buffer.data());
    c.data_len = 4096;
    c.cdw12 = 4096 / 512 - 1;
    EXPECT_EQ(ioctl(fd, NVME_IOCTL_IO_CMD, &c), 0);
  }
  close(fd);
}

Split passthrough_split(const io_bpf& s) {
  Split out;
  std::vector<io_stats> cpus(static_cast<size_t>(libbpf_num_possible_cpus()));
  HashReader<uint32_t, io_key> owners(bpf_map__fd(s.maps.io_owners));
  auto r = owners.each([&](uint32_t slot, const io_key* key) {
    if (key->op != IO_OP_PASSTHROUGH) return;
    EXPECT_EQ(bpf_map_lookup_elem(bpf_map__fd(s.maps.io_stats), &slot, cpus.data()), 0);
    for (const io_stats& c : cpus) {
      for (uint32_t n : c.device) out.split += n;
      out.unsplit += c.unsplit;
    }
  });
  EXPECT_TRUE(r);
  return out;
}

TEST_F(IoTest, IssueHookTimesWhatTheKernelDoesNot) {
  auto made = find_nvme();
  SKIP_UNLESS(made);
  const DevicePtr disk = *std::move(made);
  for (bool issue : {false, true}) {
    std::unique_ptr<io_bpf, void (*)(io_bpf*)> s(io_bpf::open(), io_bpf::destroy);
    s->rodata->io_by_process = s->rodata->io_tracking = true;
    s->rodata->io_issue_times = issue;
    bpf_program__set_autoload(s->progs.complete__tp_btf, true);
    bpf_program__set_autoload(s->progs.start__tp_btf, true);
    bpf_program__set_autoload(s->progs.issue__tp_btf, issue);
    if (io_bpf::load(s.get())) GTEST_SKIP() << "this kernel has no block_io_start";
    ASSERT_EQ(io_bpf::attach(s.get()), 0);
    nvme_passthrough(*disk, 10);
    io_bpf::detach(s.get());
    const Split seen = passthrough_split(*s);
    EXPECT_EQ(seen.split, issue ? 10u : 0u);
    EXPECT_EQ(seen.unsplit, issue ? 0u : 10u);
  }
}

TEST_F(IoTest, DriverStageOfScsi) {
  auto made = make_scsi_debug();
  SKIP_UNLESS(made);
  const DevicePtr disk = *std::move(made);
  for (const char* mask : {"", "tp_btf"}) {
    IoConfig c;
    c.driver_stage = true;
    auto r = io_run(c, mask, disk->dev());
    ASSERT_EQ(r->start(), 0) << r->error;
    Direct file(*disk);
    for (int round = 0; round < 2; ++round) {
      for (int i = 0; i < 10; ++i) ASSERT_EQ(file.read(4096 * i, 4096), 4096);
      r->poll();
    }
    EXPECT_GE(r->value("gopher_io_request_stage_seconds",
                       {{"device", disk->name()}, {"operation", "read"}, {"stage", "driver"}}),
              10)
        << r->rungs();
  }
}

class PageRungs : public IoTest, public testing::WithParamInterface<const char*> {};

// A megabyte written to a file, then forced out by the flusher.
TEST_P(PageRungs, PageCacheIsCountedAndDirtAttributed) {
  constexpr size_t kBytes = 1 << 20;
  LOOP_OR_SKIP(disk, 32 << 20);
  auto mounted = Mount::ext4(*disk);
  SKIP_UNLESS(mounted);
  const auto mount = *std::move(mounted);
  sync();  // what mkfs and mount have left
  IoConfig c;
  c.page_cache = true;
  auto r = io_run(c, GetParam(), disk->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  std::printf("rungs: %s\n", r->rungs().c_str());
  const std::string path = mount->folder() + "/file";
  int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  const std::vector<char> data(kBytes, 'x');
  ASSERT_EQ(write(fd, data.data(), kBytes), static_cast<ssize_t>(kBytes));
  r->poll();
  const Labels device = {{"device", disk->name()}};
  Labels mine = device;
  mine["pid"] = std::to_string(getpid());
  // The file's pages exactly; of the file system's own, a few come on top.
  constexpr double kMetadata = 256 << 10;
  auto expect_about = [&](double value, const char* what) {
    EXPECT_GE(value, kBytes) << what;
    EXPECT_LE(value, kBytes + kMetadata) << what;
  };
  expect_about(r->value("gopher_io_page_cache_added_bytes_total", device), "added");
  expect_about(r->value("gopher_io_page_cache_dirtied_bytes_total", device), "dirtied");
  expect_about(r->value("gopher_io_process_dirtied_bytes_total", mine), "dirtied by me");
  EXPECT_EQ(r->value("gopher_io_page_cache_written_bytes_total", device), 0);
  // Nor has the flusher written anything; ext4lazyinit, which fills a new file system, may have.
  EXPECT_EQ(r->value("gopher_io_process_bytes_total",
                     {{"comm", "writeback"}, {"device", disk->name()}, {"operation", "write"}}),
            0);

  ASSERT_EQ(syncfs(fd), 0);
  close(fd);
  r->poll();
  expect_about(r->value("gopher_io_page_cache_written_bytes_total", device), "written");
  // The flusher has written it, and says so.
  EXPECT_GE(
      r->value(
          "gopher_io_process_bytes_total",
          {{"comm", "writeback"}, {"pid", "0"}, {"device", disk->name()}, {"operation", "write"}}),
      kBytes)
      << r->all_series("gopher_io_process_bytes_total");
}

INSTANTIATE_TEST_SUITE_P(Masks, PageRungs, testing::Values("", "tp_btf", "raw_tp"));

}  // namespace
}  // namespace gopher::test
