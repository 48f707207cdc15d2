// bpf_ladder_test.cpp - the choice of rungs with kernels that are made up; nothing is loaded.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bpf/attach.hpp"
#include "bpf/features.hpp"
#include "ladder.skel.h"

namespace gopher {
namespace {

using testing::HasSubstr;

struct FakeKernel : Features {
  std::map<std::string, std::string> lacks;  // kind -> why
  std::string missing(const Section& s) override {
    auto it = lacks.find(s.kind);
    return it == lacks.end() ? "" : it->second;
  }
};

// Opens the real object; `loads` counts how often, since a load would follow each.
struct Source {
  ladder_bpf* skel = nullptr;
  int opened = 0;
  static int open(void* arg, bpf_object_skeleton** out) {
    auto* s = static_cast<Source*>(arg);
    s->skel = ladder_bpf::open();
    ++s->opened;
    *out = s->skel->skeleton;
    return 0;
  }
  static void close(void* arg) {
    auto* s = static_cast<Source*>(arg);
    ladder_bpf::destroy(s->skel);
    s->skel = nullptr;
  }
  gopher_skeleton_source c() { return {open, close, this}; }
};

const gopher_hook kHooks[] = {
    {.name = "switch",
     .help = "h",
     .programs = {"switch__fentry", "switch__tp_btf", "switch__raw_tp"},
     .n_programs = 3,
     .required = 1},
    {.name = "extra", .help = "h", .programs = {"extra__kprobe"}, .n_programs = 1, .required = 0},
};

TEST(Section, IsKindAndTarget) {
  EXPECT_EQ(parse_section("?tp_btf/block_rq_complete").kind, "tp_btf");
  EXPECT_EQ(parse_section("raw_tracepoint.w/x").kind, "raw_tp");
  EXPECT_EQ(parse_section("tracepoint/sched/sched_switch").kind, "tp");
  EXPECT_EQ(parse_section("tracepoint/sched/sched_switch").target, "sched/sched_switch");
  EXPECT_EQ(parse_section("fentry.s/f").kind, "fentry");
  EXPECT_EQ(parse_section("perf_event").target, "");
}

TEST(MaskWords, UnknownOnesAreNamed) {
  std::string unknown;
  EXPECT_THAT(parse_mask("fentry,kprobe,fetnry", &unknown),
              testing::ElementsAre("fentry", "kprobe"));
  EXPECT_EQ(unknown, "fetnry");
}

TEST(Ladder, ARequiredHookWithoutARungSaysWhyOfEach) {
  FakeKernel kernel;
  kernel.lacks = {{"fentry", "no trampolines"}, {"raw_tp", "no raw ones"}};
  Source source;
  const Mask mask = {"tp_btf"};
  Ladder ladder(kernel, mask);
  auto c = source.c();
  auto r = ladder.load(c, kHooks, ~0ull, {});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, EOPNOTSUPP);
  EXPECT_EQ(r.error().text,
            "no way to attach hook `switch`: switch__fentry: no trampolines; "
            "switch__tp_btf: hidden by GOPHER_MASK; switch__raw_tp: no raw ones");
  EXPECT_EQ(source.opened, 1);
  EXPECT_EQ(source.skel, nullptr) << "the object was closed";
}

TEST(Ladder, AHookThatIsNotWantedIsNotMissed) {
  FakeKernel kernel;
  kernel.lacks = {{"fentry", "x"}, {"tp_btf", "x"}, {"raw_tp", "x"}, {"kprobe", "x"}};
  Source source;
  Ladder ladder(kernel, {});
  auto c = source.c();
  // Nothing is left to load but the object's maps; that may need rights that a test has not.
  auto r = ladder.load(c, kHooks, 0, {});
  if (r) {
    ASSERT_EQ(ladder.hooks().size(), 2u);
    EXPECT_FALSE(ladder.hooks()[0].wanted);
    EXPECT_EQ(ladder.hooks()[0].why, "");
    ladder_bpf::destroy(source.skel);
  } else {
    EXPECT_EQ(r.error().code, EPERM) << r.error().text;
  }
}

TEST(Ladder, ATableThatNamesNoProgramIsABrokenTable) {
  FakeKernel kernel;
  Source source;
  Ladder ladder(kernel, {});
  const gopher_hook wrong[] = {
      {.name = "switch", .help = "h", .programs = {"switch__nothing"}, .n_programs = 1}};
  auto c = source.c();
  auto r = ladder.load(c, wrong, ~0ull, {});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, EINVAL);
  EXPECT_THAT(r.error().text, HasSubstr("switch__nothing"));
}

}  // namespace
}  // namespace gopher
