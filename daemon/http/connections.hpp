// connections.hpp - who is connected, since when, and who has to go.
// SPDX-License-Identifier: Apache-2.0
//
// libmicrohttpd closes a connection on which nothing moves; it has no limit for one that moves a
// byte now and then, and when it is full it stops accepting. Here the longest waiting connection
// makes room for a new one, and nobody holds one state for longer than a time limit.
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace gopher::http {

class Connections {
 public:
  Connections(size_t limit, uint64_t longest_ns) : limit_(limit), longest_ns_(longest_ns) {}

  // False: full of requests that are being answered; the caller closes the socket.
  bool admit(int fd, uint64_t now_ns);
  // A request's header has come / its answer has gone.
  void set_busy(int fd, bool busy, uint64_t now_ns);
  void remove(int fd);  // before the socket is closed, so that `fd` is never another's
  // Shuts down what has been in one state for too long.
  void cut(uint64_t now_ns);

  struct Stats {
    size_t open = 0;
    uint64_t accepted = 0, refused = 0, evicted = 0, cut = 0;
  };
  Stats stats() const;

 private:
  struct State {
    uint64_t since_ns;
    bool busy = false;  // between a request's header and the end of its answer
    bool shut = false;
  };
  const size_t limit_;
  const uint64_t longest_ns_;
  mutable std::mutex mutex_;
  std::unordered_map<int, State> open_;
  Stats stats_;
};

}  // namespace gopher::http
