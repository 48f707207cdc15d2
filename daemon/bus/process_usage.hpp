// process_usage.hpp - what this process takes of the machine.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace gopher {

struct ProcessUsage {
  uint64_t resident_bytes = 0, peak_bytes = 0;
  double cpu_s = 0;
  double start_time_s = 0;  // since the epoch
  double uptime_s = 0;
  uint64_t open_fds = 0, threads = 0;
};

// Of the process whose folder in /proc this is; 0 for what cannot be read.
ProcessUsage process_usage(const std::string& proc = "/proc/self");

}  // namespace gopher
