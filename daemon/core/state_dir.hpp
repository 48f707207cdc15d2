// state_dir.hpp - the folder that one gopherd owns while it runs.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/result.hpp>

#include <string>

#include "core/unique_fd.hpp"

namespace gopher {

// Made if missing (mode 0750); locked until this object goes, also by SIGKILL.
class StateDir {
 public:
  static Result<StateDir> open(const std::string& path);
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  UniqueFd lock_;
};

}  // namespace gopher
