// export_fixture.hpp - a probe's tables, events of it and a folder, for the tests of export/.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <gopher/metric.hpp>
#include <limits>
#include <string>
#include <thread>

#include "bus/catalog.hpp"
#include "bus/events.hpp"

namespace gopher::test {

inline constexpr const char* kOps[] = {"read", "write"};
inline constexpr double kBounds[] = {0.001, 0.01, 0.1, 1};

inline constexpr auto kMetrics =
    metric_table("disk", {{.name = "gopher_disk_requests_total",
                           .help = "Requests that were completed.",
                           .labels = {label("device", GOPHER_DEV), enum_label("operation", kOps)},
                           .kind = GOPHER_COUNTER},
                          {.name = "gopher_disk_queue_requests",
                           .help = "Requests in flight.",
                           .labels = {label("process", GOPHER_PROCESS)},
                           .kind = GOPHER_GAUGE},
                          {.name = "gopher_disk_request_duration_seconds",
                           .help = "Time of a request.",
                           .labels = {label("error", GOPHER_ERRNO), label("cgroup", GOPHER_CGROUP)},
                           .bounds = kBounds,
                           .kind = GOPHER_HISTOGRAM,
                           .n_bounds = 4},
                          {.name = "gopher_disk_up", .help = "No labels.", .kind = GOPHER_GAUGE}});

inline constexpr auto kEvents = event_table(
    "disk", {{.name = "disk_error",
              .help = "A request failed.",
              .fields = {enum_field("operation", kOps, "What was tried."),
                         field("device", GOPHER_DEV, "Where."),
                         field("size", GOPHER_BYTES, "How much was asked for."),
                         field("sector", GOPHER_U64, "The first sector."),
                         field("delta", GOPHER_I64, "A signed number."),
                         field("share", GOPHER_F64, "A real number."),
                         field("sync", GOPHER_BOOL, "A flag."),
                         field("name", GOPHER_STR, "A text."), field("error", GOPHER_ERRNO, "Why."),
                         field("duration", GOPHER_NS, "How long it took."),
                         field("submitter", GOPHER_PROCESS, "Who asked."),
                         field("peer", GOPHER_ADDR, "An address."),
                         field("cgroup", GOPHER_CGROUP, "A cgroup.")},
              .severity = GOPHER_ERROR},
             {.name = "disk_note", .help = "A request was noticed.", .severity = GOPHER_INFO}});

inline constexpr const char* kModes[] = {"fast", "slow"};
struct DiskOptions {
  bool by_process;
  int64_t slow_ms;
  double share;
  const char* mode;
  gopher_strings names;
};
inline constexpr auto kOptions = option_table({
    {.name = "by_process",
     .help = "Say who asked.",
     .unit = "",
     .default_value = "true",
     .type = GOPHER_OPT_BOOL,
     .offset = offsetof(DiskOptions, by_process)},
    {.name = "slow_ms",
     .help = "A slower request is an event.",
     .unit = "ms",
     .default_value = "250",
     .min = 1,
     .max = 600000,
     .type = GOPHER_OPT_INT,
     .offset = offsetof(DiskOptions, slow_ms)},
    {.name = "share",
     .help = "Which share is looked at.",
     .unit = "",
     .default_value = "0.5",
     .min = 0,
     .max = 1,
     .type = GOPHER_OPT_DOUBLE,
     .offset = offsetof(DiskOptions, share)},
    {.name = "mode",
     .help = "How to look.",
     .unit = "",
     .default_value = "\"fast\"",
     .choices = kModes,
     .type = GOPHER_OPT_STRING,
     .offset = offsetof(DiskOptions, mode),
     .n_choices = 2},
    {.name = "names",
     .help = "What to look at.",
     .unit = "",
     .default_value = "[\"a\", \"b\"]",
     .type = GOPHER_OPT_LIST,
     .offset = offsetof(DiskOptions, names)},
});

inline constexpr auto kHooks = hook_table({
    {.name = "complete", .help = "All durations.", .programs = {"complete__tp_btf"}, .required = 1},
    {.name = "submit", .help = "Who asked.", .programs = {"submit__tp_btf", "submit__raw_tp"}},
});

inline const ProbeTables kProbe = {.name = "disk",
                                   .version = "1.2",
                                   .summary = "A probe for tests.",
                                   .options = {kOptions.items, kOptions.kSize},
                                   .metrics = {kMetrics.items, kMetrics.kSize},
                                   .events = {kEvents.items, kEvents.kSize},
                                   .hooks = {kHooks.items, kHooks.kSize}};

// disk_note number n of process `pid`.
inline Event note(uint64_t n, uint32_t pid = 1, uint64_t time_ns = realtime_ns()) {
  Event e;
  e.id = {time_ns / 1'000'000u << 16, n};
  e.time_ns = time_ns;
  e.type = &kEvents.items[1];
  e.probe = "disk";
  e.severity = GOPHER_INFO;
  e.process = EventProcess{.pid = pid, .start_ns = 5, .comm = "worker", .cgroup = "/a/b"};
  return e;
}

// disk_error with every kind of field.
inline Event full(uint64_t n) {
  Event e = note(n);
  e.type = &kEvents.items[0];
  e.severity = GOPHER_ERROR;
  e.correlation = 0xfedcba9876543210u;
  e.recovers = gopher_event_id{1, 2};
  e.folded = 3;
  e.fields = {std::string("write"),
              std::string("sda1"),
              uint64_t{4096},
              ~uint64_t{0},
              std::numeric_limits<int64_t>::min(),
              0.1,
              true,
              std::string("text"),
              std::string("EIO"),
              uint64_t{1'234'567'890},
              EventProcess{.pid = 7, .start_ns = 0, .comm = "x", .cgroup = ""},
              std::string("::1"),
              std::string("/system.slice")};
  return e;
}

class TempDir {
 public:
  TempDir() {
    std::string name = std::filesystem::temp_directory_path() / "gopher-test-XXXXXX";
    if (mkdtemp(name.data())) path_ = name;
  }
  ~TempDir() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Asks until it is so, or 20 s are over.
inline bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace gopher::test
