// text.hpp - how raw ids become text: the interface that meta/ implements for the bus.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/probe.h>

#include <string>

namespace gopher {

// Called once when a series is born and once per event field, never per sample. Any worker thread.
class TextSource {
 public:
  virtual ~TextSource() = default;
  // Appends the plain text of one value ("sda1", "EIO", "/system.slice/x.service"), unescaped. Not
  // for GOPHER_PROCESS (the caller spells out pid, comm and cgroup) nor GOPHER_ENUM (has its
  // table).
  virtual void append(gopher_type type, const gopher_value& value, std::string* out) const = 0;
};

}  // namespace gopher
