// io_fixture.hpp - what the tests of the io probe share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "devices.hpp"
#include "harness.hpp"
#include "io/tables.hpp"

namespace gopher::test {

struct IoConfig : ::io::Config {
  IoConfig() : Config{true, false, false, 1000, 30} {}
};

class IoTest : public NeedsBpf<testing::Test> {
 protected:
  // Watches only `dev`, which the test has made: this machine may have other work to do.
  std::unique_ptr<ProbeRun> io_run(const IoConfig& config, const std::string& mask = "",
                                   uint32_t dev = 0) {
    config_ = config;
    FilterSet filter;
    filter.by_device = dev != 0;
    if (dev) filter.devices = {dev};
    return std::make_unique<ProbeRun>("io", &config_, mask, filter);
  }

 private:
  IoConfig config_;
};

// What the kernel counted since `before`, as soon as that is as much as the probe: it counts a
// request only after it has woken who waits for it, the probe before.
inline Stat settled(const ProbeRun& r, const Device& d, const Stat& before) {
  Stat gained{};
  wait_until(
      [&] {
        gained = stat_of(d) - before;
        return gained.reads + gained.writes + gained.discards + gained.flushes ==
               r.value("gopher_io_requests_total", {{"device", d.name()}});
      },
      std::chrono::seconds(2));
  return gained;
}

#define SKIP_UNLESS(result) \
  if (!(result)) GTEST_SKIP() << (result).error().text

// A loop device on a file in memory, named `disk`.
#define LOOP_OR_SKIP(disk, bytes)                   \
  TempFile disk##_file(bytes);                      \
  auto disk##_made = make_loop(disk##_file.path()); \
  SKIP_UNLESS(disk##_made);                         \
  const DevicePtr disk = *std::move(disk##_made)

}  // namespace gopher::test
