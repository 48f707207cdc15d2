// listener.hpp - a listening socket, made of the address in the configuration.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/result.hpp>

#include <string>
#include <string_view>

#include "core/unique_fd.hpp"

namespace gopher::http {

struct Listener {
  UniqueFd fd;
  std::string address;  // as bound: with the port that the kernel chose if 0 was asked for

  // "127.0.0.1:8888", "[::1]:8888"; "[::]:8888" serves IPv4 too. EINVAL: no such address, never
  // worth another try; EADDRINUSE and the like may pass.
  static Result<Listener> open(std::string_view address);
};

}  // namespace gopher::http
