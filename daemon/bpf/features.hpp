// features.hpp - what this kernel offers, found by looking and by trying, never by its version.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace gopher {

// Kinds of programs that may be hidden by GOPHER_MASK: "tp_btf", "raw_tp", "tp", "fentry", "fexit",
// "kprobe", "kretprobe", "iter", "uprobe", "perf_event".
using Mask = std::set<std::string, std::less<>>;

// "fentry,kprobe" as a set; unknown words are kept in *unknown.
Mask parse_mask(std::string_view text, std::string* unknown);

// A program's section, "tp_btf/block_rq_complete", as its kind and target; long forms shortened
// ("raw_tracepoint.w/x" is raw_tp and x).
struct Section {
  std::string kind, target;
};
Section parse_section(std::string_view section);

// The questions that the ladder asks before it tries. Virtual, so that a test can be any kernel.
class Features {
 public:
  virtual ~Features() = default;
  // "" if a program of this kind could attach to this target, else why not: "no function x in BTF".
  // A "" is no promise: what this cannot know is found by trying.
  virtual std::string missing(const Section& section) = 0;
  // Forgets what is costly to keep (11 MiB of BTF); it is read again when asked again.
  virtual void release() {}
};

class KernelFeatures : public Features {
 public:
  std::string missing(const Section& section) override;
  void release() override;

 private:
  bool load_btf();

  bool loaded_ = false;
  std::string btf_error_;
  // Sorted hashes of names: 0.5 MB where the names themselves would be 6. A collision costs a
  // failed attempt, no more.
  std::vector<size_t> functions_, tracepoints_;
};

}  // namespace gopher
