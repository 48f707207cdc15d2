// filter.hpp - the kernel-side filter maps, shared by all probes: which processes, cgroups,
// devices. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/result.hpp>

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "bpf/attach.hpp"
#include "core/unique_fd.hpp"

namespace gopher {

// What the configuration's names mean at this moment.
struct FilterSet {
  bool by_pid = false, by_cgroup = false, by_device = false;  // is there such a filter at all?
  std::set<uint32_t> pids;
  std::set<uint64_t> cgroups;
  std::set<uint32_t> devices;
  uint32_t bits() const;  // enum gopher_filter_bits
};

class FilterMaps {
 public:
  static Result<FilterMaps> create();
  const SharedMaps& maps() const { return shared_; }
  // Makes the maps hold exactly this; entries that stay are never away in between.
  Result<> apply(const FilterSet& wanted);
  uint32_t bits() const { return bits_; }

 private:
  UniqueFd pids_, cgroups_, devices_;
  SharedMaps shared_;
  FilterSet now_;
  uint32_t bits_ = 0;
};

}  // namespace gopher
