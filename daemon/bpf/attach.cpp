// attach.cpp - the attach ladder of all probes.
// SPDX-License-Identifier: Apache-2.0
#include "bpf/attach.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "core/log.hpp"

namespace gopher {
namespace {

constexpr int kKernelEnotsupp = 524;  // ENOTSUPP, include/linux/errno.h: never in user headers
constexpr size_t kKeptLog = 64 * 1024;
thread_local std::string t_libbpf_log;

int on_libbpf_line(libbpf_print_level level, const char* format, va_list args) {
  if (level == LIBBPF_DEBUG) return 0;
  char line[16 * 1024];
  int n = std::vsnprintf(line, sizeof line, format, args);
  if (n > 0) t_libbpf_log.append(line, std::min(static_cast<size_t>(n), sizeof line - 1));
  if (t_libbpf_log.size() > kKeptLog) t_libbpf_log.erase(0, t_libbpf_log.size() - kKeptLog);
  return 0;
}

bpf_prog_skeleton* program_at(bpf_object_skeleton* s, int i) {
  return reinterpret_cast<bpf_prog_skeleton*>(reinterpret_cast<char*>(s->progs) +
                                              i * s->prog_skel_sz);
}

bpf_map_skeleton* map_at(bpf_object_skeleton* s, int i) {
  return reinterpret_cast<bpf_map_skeleton*>(reinterpret_cast<char*>(s->maps) + i * s->map_skel_sz);
}

bpf_prog_skeleton* find_program(bpf_object_skeleton* s, std::string_view name) {
  for (int i = 0; i < s->prog_cnt; ++i)
    if (name == program_at(s, i)->name) return program_at(s, i);
  return nullptr;
}

uint32_t verified_instructions(const bpf_program* prog) {
  bpf_prog_info info = {};
  uint32_t len = sizeof info;
  if (bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &len)) return 0;
  return info.verified_insns ? info.verified_insns
                             : info.xlated_prog_len / uint32_t{sizeof(bpf_insn)};
}

// The program that libbpf names in its complaint, of those that we asked for.
std::string culprit(const std::vector<HookStatus>& hooks) {
  for (const HookStatus& h : hooks)
    if (!h.program.empty() && t_libbpf_log.find("prog '" + h.program + "': ") != std::string::npos)
      return h.program;
  return "";
}

// The last line that says something: the verifier's verdict stands just above its statistics.
std::string verdict() {
  std::string best;
  size_t at = 0;
  while (at < t_libbpf_log.size()) {
    size_t end = std::min(t_libbpf_log.find('\n', at), t_libbpf_log.size());
    std::string line = t_libbpf_log.substr(at, end - at);
    at = end + 1;
    bool noise = line.empty() || line.starts_with("processed ") || line.find("-- ") == 0 ||
                 line.starts_with("libbpf: ");
    if (!noise) best = line;
  }
  return best;
}

std::string error_text(int err) {
  err = err < 0 ? -err : err;
  return err == kKernelEnotsupp ? "not supported by this kernel" : std::strerror(err);
}

}  // namespace

void adopt_libbpf_log() { libbpf_set_print(on_libbpf_line); }

void Ladder::unloaded() {
  maps_.clear();
  hooks_.clear();
}

Result<> Ladder::choose(std::span<const gopher_hook> hooks, uint64_t wanted,
                        bpf_object_skeleton* skel) {
  hooks_.clear();
  for (size_t h = 0; h < hooks.size(); ++h) {
    HookStatus status;
    status.hook = hooks[h].name;
    status.required = hooks[h].required != 0;
    status.wanted = (wanted >> h & 1) != 0;
    for (uint32_t p = 0; status.wanted && status.rung < 0 && p < hooks[h].n_programs; ++p) {
      const std::string name = hooks[h].programs[p];
      std::string why;
      const bpf_prog_skeleton* prog = find_program(skel, name);
      if (!prog) return Error{EINVAL, "the hook table names a program that is not there: " + name};
      Section section = parse_section(bpf_program__section_name(*prog->prog));
      if (mask_.contains(section.kind))
        why = "hidden by GOPHER_MASK";
      else if (auto it = refused_.find(section.kind); it != refused_.end())
        why = it->second;
      else if (auto f = failed_.find(name); f != failed_.end())
        why = f->second;
      else
        why = features_.missing(section);
      if (why.empty()) {
        status.rung = static_cast<int>(p);
        status.program = name;
      } else {
        status.why += (status.why.empty() ? "" : "; ") + name + ": " + why;
      }
    }
    if (status.wanted && status.required && status.rung < 0)
      return Error{EOPNOTSUPP, "no way to attach hook `" + status.hook + "`: " + status.why};
    hooks_.push_back(std::move(status));
  }
  return Ok{};
}

void Ladder::note_maps(bpf_object_skeleton* skel, const SharedMaps& shared) {
  maps_.clear();
  for (int i = 0; i < skel->map_cnt; ++i) {
    const bpf_map_skeleton* m = map_at(skel, i);
    if (!shared.contains(m->name)) maps_.push_back(bpf_map__fd(*m->map));
  }
}

Result<> Ladder::try_once(bpf_object_skeleton* skel, const SharedMaps& shared, bool* again) {
  for (int i = 0; i < skel->map_cnt; ++i) {
    const bpf_map_skeleton* m = map_at(skel, i);
    auto it = shared.find(m->name);
    if (it == shared.end()) continue;
    if (int err = bpf_map__reuse_fd(*m->map, it->second))
      return errno_error(err, std::string("share the map ") + m->name);
  }
  for (const HookStatus& h : hooks_)
    if (!h.program.empty()) bpf_program__set_autoload(*find_program(skel, h.program)->prog, true);
  t_libbpf_log.clear();
  if (int err = bpf_object__load_skeleton(skel)) {
    std::string name = culprit(hooks_), text = verdict();
    std::string why = error_text(err) + (text.empty() ? "" : ": " + text);
    if (name.empty()) return Error{-err, "load BPF objects: " + why};
    log::write(log::kDebug, "libbpf: %s", t_libbpf_log.c_str());
    failed_[name] = "does not load: " + why;
    *again = true;
    return Ok{};
  }
  for (HookStatus& h : hooks_) {
    if (h.program.empty()) continue;
    bpf_prog_skeleton* p = find_program(skel, h.program);
    h.instructions = verified_instructions(*p->prog);
    *p->link = bpf_program__attach(*p->prog);
    if (*p->link) continue;
    const int err = errno;
    failed_[h.program] = "does not attach: " + error_text(err);
    // Trampolines are all or nothing: the next one would fail the same way and cost a load.
    std::string kind = parse_section(bpf_program__section_name(*p->prog)).kind;
    if (err == kKernelEnotsupp || err == EOPNOTSUPP)
      refused_[kind] = kind + " is " + error_text(err);
    *again = true;
    return Ok{};
  }
  return Ok{};
}

Result<> Ladder::load(const gopher_skeleton_source& source, std::span<const gopher_hook> hooks,
                      uint64_t wanted, const SharedMaps& shared) {
  while (true) {  // each turn but the last adds a program to failed_, so it ends
    bpf_object_skeleton* skel = nullptr;
    if (int err = source.open(source.arg, &skel)) return errno_error(err, "open the BPF object");
    bool again = false;
    Result<> r = choose(hooks, wanted, skel);
    if (r) r = try_once(skel, shared, &again);
    if (r && !again) {
      note_maps(skel, shared);
      return Ok{};
    }
    source.close(source.arg);
    maps_.clear();
    for (HookStatus& h : hooks_) h.rung = -1;
    if (!r) return r;
  }
}

}  // namespace gopher
