// listener.cpp - a listening socket, made of the address in the configuration.
// SPDX-License-Identifier: Apache-2.0
#include "http/listener.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <charconv>
#include <cstring>
#include <optional>

namespace gopher::http {
namespace {

constexpr int kBacklog = 64;

struct Address {
  sockaddr_storage storage = {};
  socklen_t size = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

std::optional<Address> parse(std::string_view text) {
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string host(text.substr(0, colon));
  std::string_view port_text = text.substr(colon + 1);
  uint16_t port = 0;
  auto [end, error] = std::from_chars(port_text.begin(), port_text.end(), port);
  if (error != std::errc() || end != port_text.end()) return std::nullopt;

  Address out;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    out.size = sizeof *in6;
    if (inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &in6->sin6_addr) != 1)
      return std::nullopt;
  } else {
    auto* in = reinterpret_cast<sockaddr_in*>(&out.storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    out.size = sizeof *in;
    if (inet_pton(AF_INET, host.c_str(), &in->sin_addr) != 1) return std::nullopt;
  }
  return out;
}

std::string to_text(Address& address) {
  char host[INET6_ADDRSTRLEN] = "";
  if (address.storage.ss_family == AF_INET6) {
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
    inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
    return "[" + std::string(host) + "]:" + std::to_string(ntohs(in6->sin6_port));
  }
  auto* in = reinterpret_cast<sockaddr_in*>(&address.storage);
  inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
  return std::string(host) + ":" + std::to_string(ntohs(in->sin_port));
}

}  // namespace

Result<Listener> Listener::open(std::string_view text) {
  std::string what = "listen on " + std::string(text);
  auto address = parse(text);
  if (!address)
    return Error{EINVAL, what + ": write an address and port, e.g. 127.0.0.1:8888 or [::1]:8888"};
  int family = address->storage.ss_family;
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return errno_error(errno, what);
  int on = 1, off = 0;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (family == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (::bind(fd.get(), address->get(), address->size) || ::listen(fd.get(), kBacklog))
    return errno_error(errno, what);
  address->size = sizeof address->storage;
  if (::getsockname(fd.get(), address->get(), &address->size)) return errno_error(errno, what);
  return Listener{std::move(fd), to_text(*address)};
}

}  // namespace gopher::http
