// demo.cpp - a probe without BPF that behaves as its options say; built under several names.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <gopher/probe.hpp>
#include <stdexcept>
#include <string_view>

namespace demo {

#define STR_(x) #x
#define STR(x) STR_(x)

struct Config {
  const char* mode;
  const char* path;
  int64_t n;
};

inline constexpr const char* kModes[] = {"good",       "throw_in_constructor", "throw_in_poll",
                                         "fail_start", "not_supported",        "hang_in_poll"};
inline constexpr auto kOptions = gopher::option_table({
    {.name = "mode",
     .help = "How it behaves.",
     .unit = "",
     .default_value = "\"good\"",
     .choices = kModes,
     .type = GOPHER_OPT_STRING,
     .offset = offsetof(Config, mode),
     .n_choices = 6},
    {.name = "path",
     .help = "FIFO whose writer lets a hanging poll go on.",
     .unit = "",
     .default_value = "\"\"",
     .type = GOPHER_OPT_STRING,
     .offset = offsetof(Config, path)},
    {.name = "n",
     .help = "How many starts fail, or what a poll counts.",
     .unit = "",
     .default_value = "1",
     .type = GOPHER_OPT_INT,
     .offset = offsetof(Config, n)},
});
inline constexpr auto kMetrics =
    gopher::metric_table(STR(DEMO), {
                                        {.name = "gopher_" STR(DEMO) "_polls_total",
                                         .help = "Polls that were counted.",
                                         .labels = {gopher::label("device", GOPHER_DEV)},
                                         .kind = GOPHER_COUNTER},
                                    });
inline constexpr auto kEvents =
    gopher::event_table(STR(DEMO), {
                                       {.name = "started",
                                        .help = "The probe was started.",
                                        .fields = {gopher::field("n", GOPHER_U64, "Option n.")},
                                        .severity = GOPHER_INFO},
                                   });
inline constexpr auto kHooks = gopher::hook_table({
    {.name = "none", .help = "Nothing at all.", .programs = {"none__tp_btf"}, .required = 0},
});

int g_failed_starts = 0;  // over all instances: an instance is made anew for each try

class Probe {
 public:
  using Config = demo::Config;
  static constexpr auto kName = STR(DEMO), kVersion = "1.0", kSummary = "A test's probe.";

  Probe(gopher::Host host, const Config& c) : cfg_(c), host_(host), polls_(host), started_(host) {
    if (is("throw_in_constructor")) throw std::runtime_error("boom");
  }
  gopher::Result<> start() {
    if (is("not_supported")) return gopher::Error{EOPNOTSUPP, "this kernel cannot"};
    if (is("fail_start") && g_failed_starts < cfg_.n) {
      ++g_failed_starts;
      return gopher::Error{EIO, "not yet"};
    }
    started_.emit({}, cfg_.n);
    return gopher::Ok{};
  }
  gopher::Result<> poll(uint64_t) {
    polls_.add(static_cast<double>(cfg_.n), 7u << 20);
    if (is("throw_in_poll")) throw std::runtime_error("bang");
    if (is("hang_in_poll")) {
      int fd = open(cfg_.path, O_RDONLY | O_CLOEXEC);  // blocks until somebody opens it to write
      if (fd >= 0) close(fd);
    }
    return gopher::Ok{};
  }
  gopher::Result<> stop() { return gopher::Ok{}; }

 private:
  bool is(std::string_view mode) const { return mode == cfg_.mode; }
  const Config cfg_;
  gopher::Host host_;
  gopher::Metric<kMetrics, "gopher_" STR(DEMO) "_polls_total"> polls_;
  gopher::Event<kEvents, "started"> started_;
};

}  // namespace demo

GOPHER_PROBE(demo::Probe, demo)
