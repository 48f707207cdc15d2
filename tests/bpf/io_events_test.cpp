// io_events_test.cpp - errors, slow and stuck requests become events, with who, where and why.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <thread>

#include "core/clock.hpp"
#include "io_fixture.hpp"

namespace gopher::test {
namespace {

// One failed read of `sector`, as counter and as event. `errors` is what the test saw fail.
void expect_error(const ProbeRun& r, const Device& d, const char* error, size_t errors) {
  EXPECT_EQ(r.value("gopher_io_errors_total",
                    {{"device", d.name()}, {"operation", "read"}, {"errno", error}}),
            errors)
      << r.all_series("gopher_io_errors_total");
  const auto events = r.events("io_error");
  ASSERT_EQ(events.size(), errors);
  EXPECT_EQ(events[0].fields.at("device"), d.name());
  EXPECT_EQ(events[0].fields.at("partition"), d.name());
  EXPECT_EQ(events[0].fields.at("operation"), "read");
  EXPECT_EQ(events[0].fields.at("errno"), error);
  EXPECT_NE(events[0].fields.at("duration_seconds"), "0");
  ASSERT_TRUE(events[0].has_process);
  EXPECT_EQ(events[0].process.tgid, static_cast<uint32_t>(getpid()));
  EXPECT_NE(events[0].process.start_ns, 0u);
}

// A loop device that goes to its file directly cannot read what was cut off.
TEST_F(IoTest, TruncatedBackingFileGivesEio) {
  TempFile file(4 << 20, "/var/tmp");
  auto made = make_loop(file.path(), true);
  SKIP_UNLESS(made);
  const DevicePtr disk = *std::move(made);
  auto r = io_run({}, "", disk->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  Direct direct(*disk);
  if (direct.read(2 << 20, 4096) != 4096)
    GTEST_SKIP() << "the file system of /var/tmp cannot be read directly";
  ASSERT_EQ(truncate(file.path().c_str(), 1 << 20), 0);
  const ssize_t n = direct.read(2 << 20, 4096);
  if (n != -EIO) GTEST_SKIP() << "this loop driver fills what is missing with zeroes";
  r->poll();
  expect_error(*r, *disk, "EIO", 1);
  EXPECT_EQ(r->events("io_error")[0].fields.at("sector"), "4096");
  EXPECT_EQ(r->events("io_error")[0].fields.at("bytes"), "4096");
  EXPECT_EQ(r->value("gopher_io_requests_total", {{"operation", "read"}}), 2);
}

TEST_F(IoTest, BadBlocksGiveEio) {
  auto made = make_null_blk(
      {{"size", "16"}, {"memory_backed", "1"}, {"badblocks", "+4096-4103"}, {"queue_mode", "2"}});
  SKIP_UNLESS(made);
  const DevicePtr disk = *std::move(made);
  auto r = io_run({}, "", disk->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  Direct direct(*disk);
  ASSERT_EQ(direct.read(0, 4096), 4096);
  ASSERT_EQ(direct.read(4096 * 512, 4096), -EIO);
  r->poll();
  expect_error(*r, *disk, "EIO", 1);
}

TEST_F(IoTest, MediumErrorOfAScsiDisk) {
  auto made = make_scsi_debug();
  SKIP_UNLESS(made);
  const DevicePtr disk = *std::move(made);
  auto r = io_run({}, "", disk->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  Direct direct(*disk);
  const ssize_t n = direct.read(0x1234 * 512 / 4096 * 4096, 4096);
  ASSERT_THAT(n, testing::AnyOf(-ENODATA, -EIO));
  r->poll();
  const char* name = n == -ENODATA ? "ENODATA" : "EIO";
  EXPECT_EQ(r->value("gopher_io_errors_total", {{"device", disk->name()}, {"errno", name}}), 1)
      << r->all_series("gopher_io_errors_total");
  ASSERT_EQ(r->events("io_error").size(), 1u);
}

TEST_F(IoTest, SlowRequestIsAnEvent) {
  auto made = make_null_blk({{"size", "16"},
                             {"memory_backed", "1"},
                             {"queue_mode", "2"},
                             {"irqmode", "2"},
                             {"completion_nsec", "50000000"}});
  SKIP_UNLESS(made);
  const DevicePtr disk = *std::move(made);
  IoConfig c;
  c.slow_ms = 20;
  auto r = io_run(c, "", disk->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  Direct direct(*disk);
  ASSERT_EQ(direct.read(8192, 4096), 4096);
  r->poll();
  const auto events = r->events("slow_request");
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].fields.at("sector"), "16");
  const double total = std::stod(events[0].fields.at("duration_seconds"));
  const double parts = std::stod(events[0].fields.at("queue_seconds")) +
                       std::stod(events[0].fields.at("device_seconds"));
  EXPECT_GE(total, 0.05);
  EXPECT_TRUE(parts == 0 || std::abs(parts - total) < 1e-6) << parts;
  EXPECT_EQ(events[0].process.tgid, static_cast<uint32_t>(getpid()));
}

// A frozen file system holds the writes of a loop device whose file is on it.
TEST_F(IoTest, StuckRequestIsReportedAndItsEndToo) {
  LOOP_OR_SKIP(lower, 32 << 20);
  auto mounted = Mount::ext4(*lower);
  SKIP_UNLESS(mounted);
  const auto mount = *std::move(mounted);
  TempFile file(4 << 20, mount->folder());
  auto made = make_loop(file.path());
  SKIP_UNLESS(made);
  const DevicePtr disk = *std::move(made);
  IoConfig c;
  c.stuck_s = 1;
  auto r = io_run(c, "", disk->dev());
  ASSERT_EQ(r->start(), 0) << r->error;
  const Labels device = {{"device", disk->name()}};

  Direct direct(*disk);
  const int folder = open(mount->folder().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_EQ(ioctl(folder, FIFREEZE, 0), 0);
  ssize_t written = 0;
  std::thread writer([&] { written = direct.write(12288, 4096); });
  const bool seen = wait_until(
      [&] {
        r->poll();
        return !r->events("stuck_request").empty();
      },
      std::chrono::seconds(10));
  EXPECT_EQ(r->value("gopher_io_in_flight", device), 1);
  EXPECT_GE(r->value("gopher_io_oldest_request_seconds", device), 1);
  EXPECT_EQ(ioctl(folder, FITHAW, 0), 0);
  writer.join();
  close(folder);
  ASSERT_TRUE(seen);
  EXPECT_EQ(written, 4096);
  r->poll();

  const auto stuck = r->events("stuck_request"), ended = r->events("stuck_request_ended");
  ASSERT_EQ(stuck.size(), 1u);
  EXPECT_EQ(stuck[0].fields.at("sector"), "24");
  EXPECT_EQ(stuck[0].fields.at("operation"), "write");
  EXPECT_EQ(stuck[0].process.tgid, static_cast<uint32_t>(getpid()));
  ASSERT_EQ(ended.size(), 1u) << "stuck after " << stuck[0].fields.at("duration_seconds") << " s";
  ASSERT_TRUE(ended[0].has_recovers);
  EXPECT_EQ(ended[0].recovers.lo, stuck[0].id.lo);
  EXPECT_EQ(ended[0].correlation, stuck[0].correlation);
  EXPECT_EQ(ended[0].fields.at("errno"), "0");
  EXPECT_EQ(r->value("gopher_io_in_flight", device), 0);
}

}  // namespace
}  // namespace gopher::test
