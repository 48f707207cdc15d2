// library.hpp - one plugin file: opened, its ABI and its tables checked, or refused with a reason.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/probe.h>
#include <gopher/result.hpp>

#include <memory>
#include <string>
#include <vector>

#include "bus/catalog.hpp"

namespace gopher {

class Library {
 public:
  // The error says why this file is no plugin for this gopherd.
  static Result<Library> open(const std::string& path);

  const gopher_probe_ops& ops() const { return ops_; }
  ProbeTables tables() const { return tables_of(ops_); }
  const std::string& path() const { return path_; }

 private:
  // A plugin is never unmapped: its tables are referred to from everywhere until the exit.
  void* handle_ = nullptr;
  std::string path_;
  gopher_probe_ops ops_ = {};  // as much of the plugin's as both sides know; the rest is zero
};

struct LibraryScan {
  std::vector<Library> libraries;    // in the order of their names, which are unique
  std::vector<std::string> refused;  // "FILE: reason"
};

// Opens every *.so of a folder. The error: there is no such folder.
Result<LibraryScan> scan_libraries(const std::string& folder);

}  // namespace gopher
