// attach.hpp - the attach ladder of all probes: the best rung that this kernel takes, for each
// hook. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/probe.h>
#include <gopher/result.hpp>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "bpf/features.hpp"

struct bpf_object_skeleton;

namespace gopher {

struct HookStatus {
  std::string hook;
  std::string program;  // the chosen one; empty: none
  int rung = -1;        // its index in the hook's table, or -1
  bool wanted = true;
  bool required = false;
  uint32_t instructions = 0;  // as the verifier counted them, where the kernel tells
  std::string why;            // for each better or missing rung: why it was not taken
};

// Maps that belong to the daemon and are shared by all probes that declare them by name.
using SharedMaps = std::map<std::string, int, std::less<>>;  // name -> descriptor

// One per instance; remembers what failed, so that a restart does not try it again.
class Ladder {
 public:
  Ladder(Features& features, const Mask& mask) : features_(features), mask_(mask) {}

  // See gopher_host.load. The skeleton that stands at the end has its chosen programs attached.
  Result<> load(const gopher_skeleton_source& source, std::span<const gopher_hook> hooks,
                uint64_t wanted, const SharedMaps& shared);

  const std::vector<HookStatus>& hooks() const { return hooks_; }
  // Descriptors of the loaded object's maps, but for shared ones.
  const std::vector<int>& maps() const { return maps_; }
  void unloaded();  // the skeleton is gone

 private:
  Result<> choose(std::span<const gopher_hook> hooks, uint64_t wanted, bpf_object_skeleton* skel);
  Result<> try_once(bpf_object_skeleton* skel, const SharedMaps& shared, bool* again);
  void note_maps(bpf_object_skeleton* skel, const SharedMaps& shared);

  Features& features_;
  const Mask mask_;
  std::map<std::string, std::string> failed_;   // program -> why
  std::map<std::string, std::string> refused_;  // kind -> why the kernel takes none of it
  std::vector<HookStatus> hooks_;
  std::vector<int> maps_;
};

// Sends libbpf's lines to our log at debug level and keeps the last for load errors. Once, at
// start.
void adopt_libbpf_log();

}  // namespace gopher
