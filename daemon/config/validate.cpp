// validate.cpp - checks of meaning beyond the option tables.
// SPDX-License-Identifier: Apache-2.0
#include "config/validate.hpp"

#include <arpa/inet.h>

#include <charconv>

namespace gopher {
namespace {

template <class T>
bool to_number(std::string_view s, T* out) {
  auto [end, err] = std::from_chars(s.data(), s.data() + s.size(), *out);
  return err == std::errc() && end == s.data() + s.size() && !s.empty();
}

}  // namespace

bool split_address(const std::string& text, std::string* host, uint16_t* port) {
  size_t colon = text.rfind(':');
  if (colon == std::string::npos || !to_number(text.substr(colon + 1), port)) return false;
  std::string h = text.substr(0, colon);
  unsigned char address[16];
  if (h.size() > 2 && h.front() == '[' && h.back() == ']') {
    *host = h.substr(1, h.size() - 2);
    return inet_pton(AF_INET6, host->c_str(), address) == 1;
  }
  *host = h == "localhost" ? "127.0.0.1" : h;
  return inet_pton(AF_INET, host->c_str(), address) == 1;
}

std::vector<std::string> validate(const Config& config) {
  std::vector<std::string> errors;
  auto error = [&](const char* path, const std::string& text) {
    errors.push_back(config.place(path) + ": `" + path + "` " + text);
  };
  const FilterOptions& f = config.filter();
  for (uint32_t i = 0; i < f.pids.n; ++i) {
    uint32_t pid = 0;  // 4194304: PID_MAX_LIMIT of a 64-bit kernel
    if (!to_number(std::string_view(f.pids.items[i]), &pid) || pid == 0 || pid > 4194304)
      error("filter.pids", "has `" + std::string(f.pids.items[i]) + "`, which is no process id");
  }
  for (uint32_t i = 0; i < f.cgroups.n; ++i)
    if (f.cgroups.items[i][0] != '/')
      error("filter.cgroups", "has `" + std::string(f.cgroups.items[i]) +
                                  "`; a cgroup path starts with /, as in /proc/PID/cgroup");
  for (uint32_t i = 0; i < f.devices.n; ++i)
    if (!*f.devices.items[i] || std::string_view(f.devices.items[i]).starts_with("/dev/"))
      error("filter.devices", "has `" + std::string(f.devices.items[i]) +
                                  "`; write the name that lsblk prints, e.g. \"sda\"");
  std::string host;
  uint16_t port = 0;
  if (!split_address(config.prometheus().listen, &host, &port))
    error("prometheus.listen", "is \"" + std::string(config.prometheus().listen) +
                                   "\", but must be ADDRESS:PORT, e.g. \"127.0.0.1:8888\"");
  return errors;
}

}  // namespace gopher
