// connections.cpp - who is connected, since when, and who has to go.
// SPDX-License-Identifier: Apache-2.0
#include "http/connections.hpp"

#include <sys/socket.h>

namespace gopher::http {

bool Connections::admit(int fd, uint64_t now_ns) {
  std::lock_guard lock(mutex_);
  size_t staying = 0;
  auto oldest = open_.end();
  for (auto it = open_.begin(); it != open_.end(); ++it) {
    if (it->second.shut) continue;  // on its way out
    ++staying;
    if (!it->second.busy &&
        (oldest == open_.end() || it->second.since_ns < oldest->second.since_ns))
      oldest = it;
  }
  // At most as many again may be on their way out: then the threads do not keep up.
  if ((staying >= limit_ && oldest == open_.end()) || open_.size() >= 2 * limit_) {
    ++stats_.refused;
    return false;
  }
  if (staying >= limit_) {
    ::shutdown(oldest->first, SHUT_RDWR);
    oldest->second.shut = true;
    ++stats_.evicted;
  }
  open_[fd] = {.since_ns = now_ns};
  ++stats_.accepted;
  return true;
}

void Connections::set_busy(int fd, bool busy, uint64_t now_ns) {
  std::lock_guard lock(mutex_);
  auto it = open_.find(fd);
  if (it == open_.end()) return;
  it->second.busy = busy;
  it->second.since_ns = now_ns;
}

void Connections::remove(int fd) {
  std::lock_guard lock(mutex_);
  open_.erase(fd);
}

void Connections::cut(uint64_t now_ns) {
  std::lock_guard lock(mutex_);
  for (auto& [fd, state] : open_) {
    if (state.shut || now_ns < state.since_ns + longest_ns_) continue;
    ::shutdown(fd, SHUT_RDWR);
    state.shut = true;
    ++stats_.cut;
  }
}

Connections::Stats Connections::stats() const {
  std::lock_guard lock(mutex_);
  Stats s = stats_;
  s.open = open_.size();
  return s;
}

}  // namespace gopher::http
