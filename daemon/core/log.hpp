// log.hpp - one line per decision, to stderr, in the form that systemd-journald reads levels from.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdarg>
#include <string>

namespace gopher::log {

// Syslog's numbers.
enum Level { kError = 3, kWarning = 4, kInfo = 6, kDebug = 7 };

// Lines above this level are dropped. Any thread may set it at any time.
void set_level(Level level);
Level level();
// "error", "warning", "info", "debug"; false if it is none of them.
bool parse_level(const std::string& name, Level* out);

// Any thread; a line is written by one write(2), so lines never mix.
__attribute__((format(printf, 2, 3))) void write(Level level, const char* format, ...);

#define GOPHER_LOG_ERROR(...) ::gopher::log::write(::gopher::log::kError, __VA_ARGS__)
#define GOPHER_LOG_WARNING(...) ::gopher::log::write(::gopher::log::kWarning, __VA_ARGS__)
#define GOPHER_LOG_INFO(...) ::gopher::log::write(::gopher::log::kInfo, __VA_ARGS__)
#define GOPHER_LOG_DEBUG(...) ::gopher::log::write(::gopher::log::kDebug, __VA_ARGS__)

}  // namespace gopher::log
