// verify_test.cpp - every program of every probe alone through this kernel's verifier.
// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "harness.hpp"

namespace gopher::test {
namespace {

struct CloseObject {
  void operator()(bpf_object* o) const { bpf_object__close(o); }
};
using Object = std::unique_ptr<bpf_object, CloseObject>;

Object open_object(const std::string& probe) {
  return Object(bpf_object__open((build_dir() + "/probes/" + probe + ".bpf.o").c_str()));
}

// Sets every bool of .rodata, and the filter bits: what is optional is then verified too.
void switch_all_on(bpf_object* o) {
  const btf* b = bpf_object__btf(o);
  bpf_map* rodata = nullptr;
  bpf_map* m;
  bpf_object__for_each_map(m, o) {
    if (std::string_view(bpf_map__name(m)).ends_with(".rodata")) rodata = m;
  }
  ASSERT_NE(rodata, nullptr);
  size_t size = 0;
  auto* data = static_cast<char*>(const_cast<void*>(bpf_map__initial_value(rodata, &size)));
  const btf_type* section =
      btf__type_by_id(b, btf__find_by_name_kind(b, ".rodata", BTF_KIND_DATASEC));
  const btf_var_secinfo* v = btf_var_secinfos(section);
  for (int i = 0; i < btf_vlen(section); ++i, ++v) {
    const btf_type* var = btf__type_by_id(b, v->type);
    const std::string name = btf__name_by_offset(b, var->name_off);
    const btf_type* t = btf__type_by_id(b, btf__resolve_type(b, var->type));
    ASSERT_LE(v->offset + v->size, size);
    if (name == "gopher_filter_bits")
      data[v->offset] = GOPHER_FILTER_PID | GOPHER_FILTER_CGROUP | GOPHER_FILTER_DEV;
    else if (btf_is_int(t) && v->size == 1)
      data[v->offset] = 1;
    else if (name.ends_with("_ns"))
      data[v->offset] = 1;
  }
}

struct Verdict {
  bool loaded = false, attached = false;
  uint64_t instructions = 0;
  std::string why;
};

Verdict verify(const std::string& probe, const std::string& program, bool all_on) {
  Verdict v;
  Object o = open_object(probe);
  if (!o) {
    v.why = "cannot open the object";
    return v;
  }
  bpf_program* p = bpf_object__find_program_by_name(o.get(), program.c_str());
  if (!p) {
    v.why = "no such program";
    return v;
  }
  bpf_program__set_autoload(p, true);
  if (all_on) switch_all_on(o.get());
  if (int err = bpf_object__load(o.get())) {
    v.why = std::strerror(-err);
    return v;
  }
  v.loaded = true;
  bpf_prog_info info = {};
  uint32_t len = sizeof info;
  bpf_obj_get_info_by_fd(bpf_program__fd(p), &info, &len);
  v.instructions =
      info.verified_insns ? info.verified_insns : info.xlated_prog_len / sizeof(bpf_insn);
  bpf_link* link = bpf_program__attach(p);
  if (!link) {
    v.why = errno == 524 ? "not supported by this kernel" : std::strerror(errno);
    return v;
  }
  v.attached = true;
  bpf_link__destroy(link);
  return v;
}

using Verify = NeedsBpf<testing::TestWithParam<const char*>>;

// A program that this kernel has a place for must verify; one that it has none for is a fact about
// the kernel, recorded for docs/kernels.md.
TEST_P(Verify, EveryProgramAlone) {
  adopt_libbpf_log();
  const std::string probe = GetParam();
  auto library = Library::open(build_dir() + "/probes/" + probe + ".so");
  ASSERT_TRUE(library) << library.error().text;
  const gopher_probe_ops& ops = library->ops();
  KernelFeatures features;
  for (uint32_t h = 0; h < ops.n_hooks; ++h) {
    const gopher_hook& hook = ops.hooks[h];
    int attached = 0;
    std::string reasons;
    for (uint32_t i = 0; i < hook.n_programs; ++i) {
      const std::string name = hook.programs[i];
      Object o = open_object(probe);
      ASSERT_TRUE(o);
      bpf_program* p = bpf_object__find_program_by_name(o.get(), name.c_str());
      ASSERT_NE(p, nullptr) << name << " is in the table but not in the object";
      std::string missing = features.missing(parse_section(bpf_program__section_name(p)));
      Verdict off, on;
      if (missing.empty()) {
        off = verify(probe, name, false);
        on = verify(probe, name, true);
        // fentry is refused as a whole on some kernels; then nothing about the program was said.
        const bool refused =
            name.find("__fentry") != std::string::npos && off.why != "Invalid argument";
        EXPECT_TRUE(off.loaded || refused) << name << ": " << off.why;
        EXPECT_TRUE(on.loaded || refused) << name << " with all options on: " << on.why;
        missing = off.why;
      }
      if (!off.attached) {
        reasons += (reasons.empty() ? "" : "; ") + name + ": " + missing;
        continue;
      }
      ++attached;
      const uint64_t insns = std::max(off.instructions, on.instructions);
      std::printf("%-28s %7llu instructions\n", name.c_str(),
                  static_cast<unsigned long long>(insns));
      record(probe, hook.name, name, insns, "ok", "");
    }
    if (!attached) {
      std::printf("%-28s missing: %s\n", hook.name, reasons.c_str());
      record(probe, hook.name, "", 0, "missing", reasons);
      EXPECT_FALSE(hook.required) << hook.name << ": " << reasons;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Probes, Verify, testing::Values("io"),
                         [](const auto& p) { return std::string(p.param); });

}  // namespace
}  // namespace gopher::test
