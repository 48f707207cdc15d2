// process_usage.cpp - what this process takes of the machine.
// SPDX-License-Identifier: Apache-2.0
#include "bus/process_usage.hpp"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "core/clock.hpp"

namespace gopher {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

uint64_t number_after(const std::string& text, const char* key) {
  size_t at = text.find(key);
  return at == std::string::npos
             ? 0
             : std::strtoull(text.c_str() + at + std::string_view(key).size(), nullptr, 10);
}

// proc(5), stat: counted from 1, state (3) stands behind the last parenthesis.
uint64_t stat_field(const std::string& stat, int field) {
  size_t paren = stat.rfind(')');
  if (paren == std::string::npos) return 0;
  std::istringstream in(stat.substr(paren + 1));
  std::string word;
  for (int i = 3; i <= field; ++i) in >> word;
  return std::strtoull(word.c_str(), nullptr, 10);
}

uint64_t count_entries(const std::string& folder) {
  std::error_code error;
  std::filesystem::directory_iterator it(folder, error), end;
  uint64_t n = 0;
  for (; !error && it != end; it.increment(error)) ++n;
  return n;
}

}  // namespace

ProcessUsage process_usage(const std::string& proc) {
  std::string status = read_file(proc + "/status"), stat = read_file(proc + "/stat");
  const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  ProcessUsage u;
  u.resident_bytes = 1024 * number_after(status, "VmRSS:");
  u.peak_bytes = 1024 * number_after(status, "VmHWM:");
  u.threads = number_after(status, "Threads:");
  u.cpu_s = static_cast<double>(stat_field(stat, 14) + stat_field(stat, 15)) / ticks;
  uint64_t entries = count_entries(proc + "/fd");
  u.open_fds = entries ? entries - 1 : 0;  // less the one that counted them
  u.uptime_s = static_cast<double>(clock_ns(CLOCK_BOOTTIME)) / 1e9 -
               static_cast<double>(stat_field(stat, 22)) / ticks;
  u.start_time_s = static_cast<double>(realtime_ns()) / 1e9 - u.uptime_s;
  return u;
}

}  // namespace gopher
