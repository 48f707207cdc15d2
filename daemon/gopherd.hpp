// gopherd.hpp - the running daemon: who is made in which order, and what the main thread does.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/result.hpp>

#include <memory>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "plugin/library.hpp"

namespace gopher {

struct Invocation {
  std::string config_file;
  std::string plugin_dir;
  std::string state_dir;  // empty: the configuration's
};

// Exit statuses: 0 stopped as asked; 1 this machine or folder will not do; 2 usage, configuration.
enum ExitStatus { kExitOk = 0, kExitFailure = 1, kExitUsage = 2 };

// All checks of a configuration, as --check, the start and a reload make them.
ConfigResult check_config(const std::string& file, const std::vector<Library>& libraries);

// Runs until SIGTERM or SIGINT; SIGHUP reloads. Logs what goes wrong; returns an ExitStatus.
int run_gopherd(const Invocation& invocation, LibraryScan scan,
                std::shared_ptr<const Config> config);

}  // namespace gopher
