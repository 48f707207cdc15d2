// meta/text.hpp - devices, cgroups, errnos and addresses as people know them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "bus/text.hpp"
#include "core/unique_fd.hpp"

namespace gopher {

// Name of a block device as lsblk prints it ("sda1", "vg-root", "md0"), or "MAJOR:MINOR" if it is
// gone. `sys` is /sys, or a test's copy.
std::string device_name(uint32_t dev, const std::string& sys = "/sys");
// The other way; 0: there is none.
uint32_t device_number(std::string_view name, const std::string& sys = "/sys");

// The cgroup hierarchies that are mounted, and the way between ids and paths on each.
class Cgroups {
 public:
  // `mountinfo` is /proc/self/mountinfo, or a test's file.
  explicit Cgroups(const std::string& mountinfo = "/proc/self/mountinfo");

  // Path of a cgroup id as BPF gives it (hierarchy in the upper bits, see GOPHER_CGROUP), by file
  // handle, without a walk; "" if it is gone. Needs CAP_DAC_READ_SEARCH. Any thread.
  std::string path(uint64_t id) const;
  // Ids of `path` on every hierarchy that has it.
  std::vector<uint64_t> ids(const std::string& path) const;

 private:
  struct Mount {
    uint64_t hierarchy;
    std::string root;   // the cgroup that is mounted, "/" but in a container
    std::string point;  // where
    UniqueFd fd;
  };
  std::vector<Mount> mounts_;
};

// What the bus asks. Any thread.
class MetaText : public TextSource {
 public:
  explicit MetaText(const Cgroups& cgroups, std::string sys = "/sys");
  void append(gopher_type type, const gopher_value& value, std::string* out) const override;

 private:
  std::string cgroup(uint64_t id) const;

  const Cgroups& cgroups_;
  const std::string sys_;
  // A cgroup's path outlives the cgroup for the events that come late: the last few are kept.
  mutable std::mutex mutex_;
  mutable std::list<std::pair<uint64_t, std::string>> recent_;
  mutable std::unordered_map<uint64_t, std::list<std::pair<uint64_t, std::string>>::iterator>
      index_;
};

}  // namespace gopher
