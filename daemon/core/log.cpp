// log.cpp - one line per decision, to stderr.
// SPDX-License-Identifier: Apache-2.0
#include "core/log.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace gopher::log {
namespace {

std::atomic<int> g_level{kInfo};

const char* name_of(Level level) {
  switch (level) {
    case kError:
      return "error";
    case kWarning:
      return "warning";
    case kInfo:
      return "info";
    case kDebug:
      return "debug";
  }
  return "info";
}

}  // namespace

void set_level(Level level) { g_level.store(level, std::memory_order_relaxed); }
Level level() { return static_cast<Level>(g_level.load(std::memory_order_relaxed)); }

bool parse_level(const std::string& name, Level* out) {
  for (Level l : {kError, kWarning, kInfo, kDebug})
    if (name == name_of(l)) {
      *out = l;
      return true;
    }
  return false;
}

void write(Level lvl, const char* format, ...) {
  if (lvl > level()) return;
  // Under systemd the journal adds the time and takes the level from "<N>"; elsewhere we write
  // both.
  static const bool journal = getenv("JOURNAL_STREAM") != nullptr;
  char line[2048];
  int n = 0;
  if (journal) {
    n = std::snprintf(line, sizeof line, "<%d>", lvl);
  } else {
    timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    tm t;
    gmtime_r(&ts.tv_sec, &t);
    n = static_cast<int>(std::strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &t));
    n += std::snprintf(line + n, sizeof line - static_cast<size_t>(n), ".%03ldZ %s ",
                       ts.tv_nsec / 1000000, name_of(lvl));
  }
  size_t len = static_cast<size_t>(n);
  va_list args;
  va_start(args, format);
  int m = std::vsnprintf(line + len, sizeof line - len - 1, format, args);
  va_end(args);
  len += m < 0 ? 0 : std::min(static_cast<size_t>(m), sizeof line - len - 2);
  // A text from outside cannot start a line of its own.
  for (size_t i = static_cast<size_t>(n); i < len; ++i)
    if (static_cast<unsigned char>(line[i]) < 0x20 && line[i] != '\t') line[i] = ' ';
  line[len++] = '\n';
  [[maybe_unused]] ssize_t w = ::write(STDERR_FILENO, line, len);
}

}  // namespace gopher::log
