// filter.cpp - the kernel-side filter maps.
// SPDX-License-Identifier: Apache-2.0
#include "bpf/filter.hpp"

#include <bpf/bpf.h>

#include <cerrno>

namespace gopher {
namespace {

constexpr uint32_t kEntries = 1024;  // as in bpf/gopher/filter.bpf.h

template <class K>
Result<> sync(int fd, const std::set<K>& wanted, const std::set<K>& now, const char* what) {
  const uint8_t yes = 1;
  for (const K& k : wanted)
    if (!now.contains(k) && bpf_map_update_elem(fd, &k, &yes, BPF_ANY))
      return errno_error(errno, std::string("filter by ") + what);
  for (const K& k : now)
    if (!wanted.contains(k)) bpf_map_delete_elem(fd, &k);
  return Ok{};
}

}  // namespace

uint32_t FilterSet::bits() const {
  uint32_t bits = 0;
  if (by_pid) bits |= GOPHER_FILTER_PID;
  if (by_cgroup) bits |= GOPHER_FILTER_CGROUP;
  if (by_device) bits |= GOPHER_FILTER_DEV;
  return bits;
}

Result<FilterMaps> FilterMaps::create() {
  FilterMaps f;
  auto make = [](const char* name, uint32_t key) {
    return UniqueFd(bpf_map_create(BPF_MAP_TYPE_HASH, name, key, 1, kEntries, nullptr));
  };
  f.pids_ = make("gopher_filter_p", 4);
  f.cgroups_ = make("gopher_filter_c", 8);
  f.devices_ = make("gopher_filter_d", 4);
  if (!f.pids_ || !f.cgroups_ || !f.devices_) return errno_error(errno, "make the filter maps");
  f.shared_ = {{"gopher_filter_pids", f.pids_.get()},
               {"gopher_filter_cgroups", f.cgroups_.get()},
               {"gopher_filter_devs", f.devices_.get()}};
  return f;
}

Result<> FilterMaps::apply(const FilterSet& wanted) {
  if (auto r = sync(pids_.get(), wanted.pids, now_.pids, "process"); !r) return r;
  if (auto r = sync(cgroups_.get(), wanted.cgroups, now_.cgroups, "cgroup"); !r) return r;
  if (auto r = sync(devices_.get(), wanted.devices, now_.devices, "device"); !r) return r;
  now_ = wanted;
  if (wanted.bits() != bits_) bits_ = wanted.bits();  // written only while no probe runs
  return Ok{};
}

}  // namespace gopher
