// state_dir.cpp - the folder that one gopherd owns while it runs.
// SPDX-License-Identifier: Apache-2.0
#include "core/state_dir.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace gopher {

Result<StateDir> StateDir::open(const std::string& path) {
  std::error_code err;
  const bool made = std::filesystem::create_directories(path, err);
  if (err) return Error{err.value(), "state folder " + path + ": " + err.message()};
  if (made)
    std::filesystem::permissions(path, std::filesystem::perms(0750), err);  // umask may be tighter
  StateDir dir;
  dir.path_ = path;
  const std::string file = path + "/gopherd.lock";
  dir.lock_ = UniqueFd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
  if (!dir.lock_) return errno_error(errno, "state folder " + path + " is not writable");
  if (flock(dir.lock_.get(), LOCK_EX | LOCK_NB)) {
    if (errno != EWOULDBLOCK) return errno_error(errno, "lock " + file);
    char pid[16] = {};
    [[maybe_unused]] ssize_t n = pread(dir.lock_.get(), pid, sizeof pid - 1, 0);
    return Error{EBUSY, "another gopherd (pid " + std::to_string(std::atoi(pid)) + ") uses " +
                            path + "; stop it, or give this one its own --state-dir"};
  }
  const std::string pid = std::to_string(getpid()) + "\n";
  if (ftruncate(dir.lock_.get(), 0) ||
      pwrite(dir.lock_.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size()))
    return errno_error(errno, "write " + file);
  return dir;
}

}  // namespace gopher
