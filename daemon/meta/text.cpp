// meta/text.cpp - devices, cgroups, errnos and addresses as people know them.
// SPDX-License-Identifier: Apache-2.0
#include "meta/text.hpp"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <gopher/probe.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

namespace gopher {
namespace {

constexpr size_t kRecentCgroups = 4096;

std::string first_line(const std::string& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string link_target(const std::string& path) {
  char buf[PATH_MAX];
  ssize_t n = readlink(path.c_str(), buf, sizeof buf);
  return n > 0 ? std::string(buf, static_cast<size_t>(n)) : "";
}

// sysfs writes "!" for "/" in a device's name.
std::string from_sysfs(std::string name) {
  std::replace(name.begin(), name.end(), '!', '/');
  return name;
}

// Which cgroup v1 controllers name a process's container, in the order bpf/gopher/task.bpf.h asks.
uint64_t hierarchy_of(const std::string& type, const std::string& options) {
  if (type == "cgroup2") return GOPHER_HIERARCHY_V2;
  std::stringstream in(options);
  for (std::string o; std::getline(in, o, ',');) {
    if (o == "memory") return GOPHER_HIERARCHY_MEMORY;
    if (o == "cpu") return GOPHER_HIERARCHY_CPU;
    if (o == "pids") return GOPHER_HIERARCHY_PIDS;
  }
  return UINT64_MAX;
}

}  // namespace

std::string device_name(uint32_t dev, const std::string& sys) {
  std::string number = std::to_string(dev >> 20) + ":" + std::to_string(dev & 0xfffff);
  std::string entry = sys + "/dev/block/" + number;
  std::string mapper = first_line(entry + "/dm/name");
  if (!mapper.empty()) return mapper;
  std::string target = link_target(entry);
  size_t slash = target.rfind('/');
  return target.empty() || slash == std::string::npos ? number
                                                      : from_sysfs(target.substr(slash + 1));
}

uint32_t device_number(std::string_view name, const std::string& sys) {
  uint32_t found = 0;
  std::string folder = sys + "/dev/block";
  DIR* d = opendir(folder.c_str());
  if (!d) return 0;
  while (const dirent* e = readdir(d)) {
    unsigned major = 0, minor = 0;
    if (std::sscanf(e->d_name, "%u:%u", &major, &minor) != 2) continue;
    uint32_t dev = major << 20 | minor;
    if (device_name(dev, sys) == name) found = dev;
  }
  closedir(d);
  return found;
}

Cgroups::Cgroups(const std::string& mountinfo) {
  std::ifstream in(mountinfo);
  for (std::string line; std::getline(in, line);) {
    // "36 35 98:0 /root /point rw - type source options", optional fields before the dash.
    size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream left(line.substr(0, dash)), right(line.substr(dash + 3));
    std::string id, parent, dev, root, point, type, source, options;
    left >> id >> parent >> dev >> root >> point;
    right >> type >> source >> options;
    if (type != "cgroup" && type != "cgroup2") continue;
    uint64_t hierarchy = hierarchy_of(type, options);
    bool known = std::any_of(mounts_.begin(), mounts_.end(),
                             [&](const Mount& m) { return m.hierarchy == hierarchy; });
    if (hierarchy == UINT64_MAX || known) continue;
    int fd = open(point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mounts_.push_back({hierarchy, root, point, UniqueFd(fd)});
  }
}

std::string Cgroups::path(uint64_t id) const {
  uint64_t hierarchy = id >> GOPHER_HIERARCHY_SHIFT;
  uint64_t node = id & ((uint64_t{1} << GOPHER_HIERARCHY_SHIFT) - 1);
  for (const Mount& m : mounts_) {
    if (m.hierarchy != hierarchy || !m.fd) continue;
    alignas(file_handle) char space[sizeof(file_handle) + sizeof node];
    auto* handle = reinterpret_cast<file_handle*>(space);
    handle->handle_bytes = sizeof node;
    handle->handle_type = 0xfe;  // FILEID_KERNFS, include/linux/exportfs.h, since 5.5
    std::memcpy(handle->f_handle, &node, sizeof node);
    UniqueFd fd(open_by_handle_at(m.fd.get(), handle, O_PATH | O_CLOEXEC));
    if (!fd) return "";
    std::string full = link_target("/proc/self/fd/" + std::to_string(fd.get()));
    if (!full.starts_with(m.point)) return "";
    full = full.substr(m.point.size());
    return full.empty() ? "/" : full;
  }
  return "";
}

std::vector<uint64_t> Cgroups::ids(const std::string& path) const {
  std::vector<uint64_t> out;
  for (const Mount& m : mounts_) {
    struct stat st;
    if (stat((m.point + path).c_str(), &st) == 0 && S_ISDIR(st.st_mode))
      out.push_back(st.st_ino | m.hierarchy << GOPHER_HIERARCHY_SHIFT);
  }
  return out;
}

MetaText::MetaText(const Cgroups& cgroups, std::string sys)
    : cgroups_(cgroups), sys_(std::move(sys)) {}

std::string MetaText::cgroup(uint64_t id) const {
  if (id == 0) return "";
  std::lock_guard lock(mutex_);
  if (auto it = index_.find(id); it != index_.end()) {
    recent_.splice(recent_.begin(), recent_, it->second);
    return it->second->second;
  }
  std::string path = cgroups_.path(id);
  if (path.empty()) return "";
  recent_.emplace_front(id, path);
  index_[id] = recent_.begin();
  if (recent_.size() > kRecentCgroups) {
    index_.erase(recent_.back().first);
    recent_.pop_back();
  }
  return path;
}

void MetaText::append(gopher_type type, const gopher_value& v, std::string* out) const {
  char buf[64];
  switch (type) {
    case GOPHER_STR:
      if (v.str) out->append(v.str, v.len ? v.len : std::strlen(v.str));
      return;
    case GOPHER_I64:
      *out += std::to_string(v.snum);
      return;
    case GOPHER_F64:
      out->append(buf, std::to_chars(buf, buf + sizeof buf, v.real).ptr);
      return;
    case GOPHER_BOOL:
      *out += v.num ? "true" : "false";
      return;
    case GOPHER_CGROUP:
      *out += cgroup(v.num);
      return;
    case GOPHER_DEV:
      *out += device_name(static_cast<uint32_t>(v.num), sys_);
      return;
    case GOPHER_ERRNO: {
      int e = static_cast<int>(v.snum < 0 ? -v.snum : v.snum);
      const char* name = strerrorname_np(e);
      *out += name ? std::string(name) : std::to_string(e);
      return;
    }
    case GOPHER_ADDR:
      if (v.data && (v.len == 4 || v.len == 16) &&
          inet_ntop(v.len == 4 ? AF_INET : AF_INET6, v.data, buf, sizeof buf))
        *out += buf;
      return;
    case GOPHER_NS:
      out->append(buf, std::to_chars(buf, buf + sizeof buf, static_cast<double>(v.num) * 1e-9).ptr);
      return;
    default:
      *out += std::to_string(v.num);
  }
}

}  // namespace gopher
