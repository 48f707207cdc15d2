// io_logic_test.cpp - errnos, differences, devices and stuck requests of the io probe; no BPF.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "io/logic.hpp"

namespace io {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t kSecond = 1'000'000'000;

TEST(ErrnoOf, KernelErrnosAndBlockStatuses) {
  EXPECT_EQ(errno_of(0), 0);
  EXPECT_EQ(errno_of(-EIO), EIO);  // 5.10: an errno
  EXPECT_EQ(errno_of(-ENOSPC), ENOSPC);
  EXPECT_EQ(errno_of(1), EOPNOTSUPP);  // since 5.16: a blk_status_t
  EXPECT_EQ(errno_of(3), ENOSPC);
  EXPECT_EQ(errno_of(7), ENODATA);  // medium error
  EXPECT_EQ(errno_of(10), EIO);
  EXPECT_EQ(errno_of(13), EBUSY);
  EXPECT_EQ(errno_of(14), EIO);  // numbers that moved between kernels
  EXPECT_EQ(errno_of(255), EIO);
}

TEST(Fold, WhatIsAboveTheLastBoundIsAddedUp) {
  uint32_t slots[IO_TIME_SLOTS] = {};
  slots[0] = 1;
  slots[25] = 2;  // the last bound, 34 s
  slots[26] = 3;
  slots[31] = 4;
  TimeCounts out{};
  fold(slots, IO_TIME_SLOTS, &out);
  EXPECT_EQ(out[0], 1u);
  EXPECT_EQ(out[25], 2u);
  EXPECT_EQ(out[26], 7u);
}

TEST(SlotTotals, GivesDifferencesOverAllCpus) {
  SlotTotals t;
  std::array<io_stats, 2> cpus = {};
  cpus[0].bytes = 4096;
  cpus[0].total[3] = 1;
  cpus[0].size[3] = 1;
  cpus[0].queue_ns = 1000;
  cpus[0].device_ns = 3500;
  cpus[0].unsplit_ns = 500;
  cpus[1].untimed = 2;
  Gained g = t.take(7, cpus);
  EXPECT_EQ(g.requests, 3u);  // one timed, two not
  EXPECT_EQ(g.bytes, 4096u);
  EXPECT_EQ(g.total[3], 1u);
  EXPECT_EQ(g.with_data, 1u);
  EXPECT_EQ(g.total_ns, 5000u);
  EXPECT_FALSE(t.take(7, cpus).any());
  cpus[1].total[3] += 4;
  EXPECT_EQ(t.take(7, cpus).requests, 4u);
  t.forget(7);
  EXPECT_EQ(t.take(7, cpus).requests, 7u);
}

TEST(SlotTotals, CountsMayWrap) {
  SlotTotals t;
  std::array<io_stats, 2> cpus = {};
  cpus[0].total[0] = 0xffffffff;
  cpus[1].total[0] = 0xfffffff0;
  t.take(0, cpus);
  cpus[0].total[0] += 10;
  cpus[1].total[0] += 100;
  EXPECT_EQ(t.take(0, cpus).requests, 110u);
}

TEST(SlotTotals, PagesToo) {
  SlotTotals t;
  std::array<io_pages, 2> cpus = {
      {{.added = 1, .dirtied = 2, .written = 3}, {.added = 10, .dirtied = 20, .written = 30}}};
  io_pages g = t.take_pages(1, cpus);
  EXPECT_EQ(g.added, 11u);
  EXPECT_EQ(g.dirtied, 22u);
  EXPECT_EQ(g.written, 33u);
  EXPECT_EQ(t.take_pages(1, cpus).added, 0u);
}

class Sysfs : public testing::Test {
 protected:
  Sysfs() : root_(fs::temp_directory_path() / ("gopher-io-" + std::to_string(getpid()))) {}
  ~Sysfs() override { fs::remove_all(root_); }
  void put(const std::string& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text << '\n';
  }
  void disk(const std::string& name, const std::string& dev, const std::string& size, bool mq) {
    put("block/" + name + "/dev", dev);
    put("block/" + name + "/size", size);
    if (mq) fs::create_directories(root_ / "block" / name / "mq");
  }
  fs::path root_;
};

TEST_F(Sysfs, DevicesWithASizeAndWhetherTheyHaveRequests) {
  disk("sda", "8:0", "2048", true);
  disk("dm-0", "253:0", "1024", false);
  disk("loop0", "7:0", "0", true);
  auto devices = scan_devices(root_);
  std::sort(devices.begin(), devices.end(), [](auto& a, auto& b) { return a.dev < b.dev; });
  ASSERT_EQ(devices.size(), 2u);
  EXPECT_EQ(devices[0].dev, 8u << 20);
  EXPECT_TRUE(devices[0].has_requests);
  EXPECT_EQ(devices[1].dev, 253u << 20);
  EXPECT_FALSE(devices[1].has_requests);
  EXPECT_THAT(scan_devices(root_ / "nothing"), IsEmpty());
}

TEST_F(Sysfs, DeviceAndDriverPresence) {
  fs::create_directories(root_ / "dev/block/8:17");
  EXPECT_TRUE(device_exists(8u << 20 | 17, root_));
  EXPECT_FALSE(device_exists(8u << 20 | 18, root_));
  EXPECT_FALSE(driver_present("nvme", root_));
  fs::create_directories(root_ / "class/nvme/nvme0");
  fs::create_directories(root_ / "class/scsi_host");
  EXPECT_TRUE(driver_present("nvme", root_));
  EXPECT_FALSE(driver_present("scsi", root_));
  fs::create_directories(root_ / "class/scsi_host/host0");
  EXPECT_TRUE(driver_present("scsi", root_));
}

TEST(LacksIssueTimes, OnlyIfNoRequestOfAnOrdinaryDeviceHasOne) {
  const std::vector<Device> devices = {{.dev = 1, .has_requests = true},
                                       {.dev = 2, .has_requests = false}};
  Gained g;
  g.requests = g.with_data = g.unsplit = 3;
  EXPECT_TRUE(lacks_issue_times({.dev = 1, .op = IO_OP_READ, .class_ = 0, .pad = 0}, g, devices));
  EXPECT_FALSE(lacks_issue_times({.dev = 2, .op = IO_OP_READ, .class_ = 0, .pad = 0}, g, devices));
  EXPECT_FALSE(lacks_issue_times({.dev = 1, .op = IO_OP_FLUSH, .class_ = 0, .pad = 0}, g, devices));
  g.unsplit = 2;
  EXPECT_FALSE(lacks_issue_times({.dev = 1, .op = IO_OP_READ, .class_ = 0, .pad = 0}, g, devices));
  g = {};
  g.requests = g.unsplit = 1;  // a flush without data
  EXPECT_FALSE(lacks_issue_times({.dev = 1, .op = IO_OP_WRITE, .class_ = 0, .pad = 0}, g, devices));
  g = {};
  g.with_data = 1;  // a step of a flush sequence that is not done yet
  EXPECT_FALSE(lacks_issue_times({.dev = 1, .op = IO_OP_WRITE, .class_ = 0, .pad = 0}, g, devices));
}

TEST(SlotsFor, IsAPowerOfTwoWithinLimits) {
  EXPECT_EQ(slots_for(0), 256u);
  EXPECT_EQ(slots_for(8), 256u);
  EXPECT_EQ(slots_for(9), 512u);
  EXPECT_EQ(slots_for(100000), 4096u);
}

io_inflight request(uint32_t dev, uint64_t start) {
  io_inflight f = {};
  f.dev = dev;
  f.start_ns = start;
  return f;
}

TEST(InFlight, DepthAndOldestByDevice) {
  InFlight in(0);
  in.begin();
  in.see(1, request(8, 100), 400);
  in.see(2, request(8, 200), 400);
  in.see(3, request(9, 390), 400);
  in.see(4, request(9, 0), 400);    // only time stamps
  in.see(5, request(9, 500), 400);  // made after the look began
  EXPECT_THAT(in.end(), IsEmpty());
  EXPECT_EQ(in.devices().at(8).requests, 2u);
  EXPECT_EQ(in.devices().at(8).oldest_ns, 300u);
  EXPECT_EQ(in.devices().at(9).requests, 2u);
  in.begin();
  in.end();
  EXPECT_EQ(in.devices().at(8).requests, 0u);  // the gauge returns to 0
  in.forget(8);
  EXPECT_EQ(in.devices().count(8), 0u);
}

TEST(InFlight, StuckIsSaidOnceAndItsEndFindsIt) {
  InFlight in(30 * kSecond);
  auto look = [&](uint64_t now) {
    in.begin();
    in.see(0xabc, request(8, kSecond), now);
    return in.end();
  };
  EXPECT_THAT(look(30 * kSecond), IsEmpty());
  auto stuck = look(31 * kSecond);
  ASSERT_EQ(stuck.size(), 1u);
  EXPECT_EQ(stuck[0].request, 0xabcu);
  in.reported(0xabc, {.hi = 1, .lo = 2});
  EXPECT_THAT(look(60 * kSecond), IsEmpty());
  EXPECT_FALSE(in.ended(0xdef));
  auto id = in.ended(0xabc);
  ASSERT_TRUE(id);
  EXPECT_EQ(id->lo, 2u);
  EXPECT_FALSE(in.ended(0xabc));
}

// Its end's record was lost (ring full): it is forgotten after a second look without it, but not
// after the first, since the record may still be on its way.
TEST(InFlight, StuckThatVanishedIsForgotten) {
  InFlight in(kSecond);
  auto report = [&] {
    in.begin();
    in.see(1, request(8, kSecond), 5 * kSecond);
    ASSERT_EQ(in.end().size(), 1u);
    in.reported(1, {.hi = 1, .lo = 1});
  };
  auto empty_look = [&] {
    in.begin();
    in.end();
  };
  report();
  empty_look();
  EXPECT_TRUE(in.ended(1));
  report();
  empty_look();
  empty_look();
  EXPECT_FALSE(in.ended(1));
}

}  // namespace
}  // namespace io
