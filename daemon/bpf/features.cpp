// features.cpp - what this kernel offers.
// SPDX-License-Identifier: Apache-2.0
#include "bpf/features.hpp"

#include <bpf/btf.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <sstream>

namespace gopher {
namespace {

struct FreeBtf {
  void operator()(btf* b) const { btf__free(b); }
};

bool exists(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0;
}

size_t hash_of(std::string_view name) { return std::hash<std::string_view>()(name); }

bool has(const std::vector<size_t>& sorted, std::string_view name) {
  return std::binary_search(sorted.begin(), sorted.end(), hash_of(name));
}

const char* kKinds[] = {"tp_btf", "raw_tp",    "tp",   "fentry", "fexit",
                        "kprobe", "kretprobe", "iter", "uprobe", "perf_event"};

}  // namespace

Mask parse_mask(std::string_view text, std::string* unknown) {
  Mask out;
  std::stringstream in{std::string(text)};
  for (std::string word; std::getline(in, word, ',');) {
    if (word.empty()) continue;
    bool known = false;
    for (const char* k : kKinds) known |= word == k;
    if (known)
      out.insert(word);
    else if (unknown)
      *unknown += (unknown->empty() ? "" : ", ") + word;
  }
  return out;
}

Section parse_section(std::string_view section) {
  if (section.starts_with('?')) section.remove_prefix(1);
  size_t slash = section.find('/');
  std::string kind(section.substr(0, slash));
  if (size_t dot = kind.find('.'); dot != std::string::npos) kind.resize(dot);
  if (kind == "raw_tracepoint") kind = "raw_tp";
  if (kind == "tracepoint") kind = "tp";
  return {kind, slash == std::string_view::npos ? "" : std::string(section.substr(slash + 1))};
}

bool KernelFeatures::load_btf() {
  if (loaded_) return btf_error_.empty();
  loaded_ = true;
  std::unique_ptr<btf, FreeBtf> vmlinux(btf__load_vmlinux_btf());
  if (!vmlinux) {
    btf_error_ = std::string("this kernel has no BTF: ") + std::strerror(errno);
    return false;
  }
  constexpr std::string_view prefix = "btf_trace_";
  for (uint32_t i = 1; i < btf__type_cnt(vmlinux.get()); ++i) {
    const btf_type* t = btf__type_by_id(vmlinux.get(), i);
    if (!btf_is_func(t) && !btf_is_typedef(t)) continue;
    std::string_view name = btf__name_by_offset(vmlinux.get(), t->name_off);
    if (btf_is_func(t))
      functions_.push_back(hash_of(name));
    else if (name.starts_with(prefix))
      tracepoints_.push_back(hash_of(name.substr(prefix.size())));
  }
  std::sort(functions_.begin(), functions_.end());
  std::sort(tracepoints_.begin(), tracepoints_.end());
  return true;
}

void KernelFeatures::release() { *this = {}; }

std::string KernelFeatures::missing(const Section& s) {
  if (!load_btf()) return btf_error_;
  if (s.kind == "tp_btf" && !has(tracepoints_, s.target))
    return "no tracepoint " + s.target + " in BTF";
  if ((s.kind == "fentry" || s.kind == "fexit") && !has(functions_, s.target))
    return "no function " + s.target + " in BTF";
  if ((s.kind == "kprobe" || s.kind == "kretprobe") &&
      !exists("/sys/bus/event_source/devices/kprobe/type"))
    return "this kernel has no kprobes";
  if (s.kind == "tp") {
    for (const char* root : {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"})
      if (exists(std::string(root) + "/events/" + s.target + "/id")) return "";
    return exists("/sys/kernel/tracing/events") || exists("/sys/kernel/debug/tracing/events")
               ? "no tracepoint " + s.target
               : "tracefs is not mounted";
  }
  return "";
}

}  // namespace gopher
