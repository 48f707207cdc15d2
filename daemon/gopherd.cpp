// gopherd.cpp - the running daemon.
// SPDX-License-Identifier: Apache-2.0
#include "gopherd.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "config/validate.hpp"
#include "core/clock.hpp"
#include "core/log.hpp"
#include "core/notify.hpp"
#include "core/state_dir.hpp"
#include "core/unique_fd.hpp"
#include "exporters.hpp"
#include "meta/text.hpp"
#include "plugin/host.hpp"

namespace gopher {
namespace {

constexpr uint64_t kTickNs = 1'000'000'000;

std::string node_name(const DaemonOptions& options) {
  if (*options.node_name) return options.node_name;
  utsname u;
  return uname(&u) == 0 ? u.nodename : "localhost";
}

StoreLimits store_limits(const DaemonOptions& o) {
  return {.series_total = static_cast<uint32_t>(o.series_total),
          .series_per_metric = static_cast<uint32_t>(o.series_per_metric),
          .ttl_s = static_cast<uint32_t>(o.series_ttl_s)};
}

// A signal that is blocked in every thread and read here instead.
Result<UniqueFd> take_signals() {
  signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  for (int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, s);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return errno_error(errno, "signalfd");
  return fd;
}

Result<FilterMaps> need_bpf() {
  auto filters = FilterMaps::create();
  if (filters) return filters;
  switch (filters.error().code) {
    case EPERM:
    case EACCES:
      return Error{EPERM,
                   "may not use BPF: run gopherd as root, or give it CAP_BPF and CAP_PERFMON"};
    case ENOSYS:
      return Error{ENOSYS, "this kernel has no BPF (CONFIG_BPF_SYSCALL), which gopherd lives by"};
    default:
      return std::move(filters).error().within("BPF");
  }
}

// Options that are built into what runs; "" or a sentence about the first that differs.
std::string needs_restart(const DaemonOptions& a, const DaemonOptions& b) {
  const char* what = nullptr;
  if (std::string_view(a.state_dir) != b.state_dir) what = "state_dir";
  if (std::string_view(a.node_name) != b.node_name) what = "node_name";
  if (a.workers != b.workers) what = "workers";
  if (a.events_per_minute != b.events_per_minute) what = "events_per_minute";
  return what ? std::string("daemon.") + what + " cannot change while gopherd runs: restart it"
              : "";
}

}  // namespace

ConfigResult check_config(const std::string& file, const std::vector<Library>& libraries) {
  std::vector<ProbeOptions> probes;
  for (const Library& l : libraries) {
    const gopher_probe_ops& o = l.ops();
    probes.push_back({o.name, {o.options, o.n_options}, o.config_size});
  }
  ConfigResult r = load_config(file, probes);
  if (!r.config) return r;
  r.errors = validate(*r.config);
  for (std::string& e : check_exporters(*r.config)) r.errors.push_back(std::move(e));
  if (!r.errors.empty()) r.config.reset();
  return r;
}

namespace {

class Daemon {
 public:
  Daemon(const Invocation& invocation, LibraryScan scan, std::shared_ptr<const Config> config,
         StateDir state, FilterMaps filters, const Mask& mask)
      : invocation_(invocation),
        config_(std::move(config)),
        state_(std::move(state)),
        libraries_(scan.libraries),
        text_(cgroups_),
        store_(store_limits(config_->daemon()), text_),
        queue_(static_cast<size_t>(config_->daemon().event_queue)),
        host_(std::move(scan.libraries), store_, queue_, text_, cgroups_, mask, std::move(filters),
              static_cast<size_t>(config_->daemon().workers),
              static_cast<uint32_t>(config_->daemon().events_per_minute)) {}

  int run(const UniqueFd& signals);

 private:
  void tick(uint64_t now_ns);
  void reload();
  bool on_signals(const UniqueFd& signals);  // false: time to stop

  const Invocation invocation_;
  std::shared_ptr<const Config> config_;
  StateDir state_;
  std::vector<Library> libraries_;
  Cgroups cgroups_;
  MetaText text_;
  Store store_;
  EventQueue queue_;
  PluginHost host_;
  std::unique_ptr<Exporters> exporters_;
  uint64_t next_filters_ns_ = 0;
};

int Daemon::run(const UniqueFd& signals) {
  auto exporters =
      Exporters::open(state_.path(), node_name(config_->daemon()), store_, queue_, host_, *config_);
  if (!exporters) {
    log::write(log::kError, "%s", exporters.error().text.c_str());
    return kExitFailure;
  }
  exporters_ = *std::move(exporters);
  exporters_->apply(config_);
  host_.start(config_);
  notify("READY=1");
  log::write(log::kInfo, "gopherd %s: ready", GOPHER_VERSION);

  // systemd hears from this loop only, so a watchdog's silence means that it does not turn.
  const uint64_t watchdog_ns = watchdog_period_ns();
  uint64_t next_tick = 0, next_watchdog = 0;
  while (true) {
    uint64_t now = monotonic_ns();
    if (now >= next_tick) {
      next_tick = now + kTickNs;
      tick(now);
    }
    if (watchdog_ns && now >= next_watchdog) {
      next_watchdog = now + watchdog_ns;
      notify("WATCHDOG=1");
    }
    uint64_t due = watchdog_ns ? std::min(next_tick, next_watchdog) : next_tick;
    now = monotonic_ns();
    pollfd p = {signals.get(), POLLIN, 0};
    poll(&p, 1, due > now ? static_cast<int>((due - now) / 1'000'000 + 1) : 0);
    if (p.revents && !on_signals(signals)) break;
  }
  notify("STOPPING=1");
  log::write(log::kInfo, "gopherd: stopping");
  if (!host_.stop()) {
    exporters_->stop();
    std::_Exit(kExitFailure);  // a worker sits in a plugin: destructors would pull its floor away
  }
  exporters_->stop();
  return kExitOk;
}

void Daemon::tick(uint64_t now_ns) {
  store_.expire(now_ns);
  host_.check_workers(now_ns);
  exporters_->tick(now_ns);
  if (now_ns < next_filters_ns_) return;
  next_filters_ns_ = now_ns + static_cast<uint64_t>(config_->daemon().interval_s * 1e9);
  host_.refresh_filters();
}

bool Daemon::on_signals(const UniqueFd& signals) {
  signalfd_siginfo info;
  while (read(signals.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo != SIGHUP) return false;
    notify("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(monotonic_ns() / 1000));
    reload();
    notify("READY=1");
  }
  return true;
}

void Daemon::reload() {
  ConfigResult r = check_config(invocation_.config_file, libraries_);
  if (r.config)
    if (std::string e = needs_restart(config_->daemon(), r.config->daemon()); !e.empty())
      r.errors.push_back(e);
  if (!r.errors.empty()) {
    for (const std::string& e : r.errors) log::write(log::kError, "%s", e.c_str());
    log::write(log::kError, "reload refused; what ran before goes on");
    return;
  }
  config_ = r.config;
  log::Level level = log::kInfo;
  log::parse_level(config_->daemon().log_level, &level);
  log::set_level(level);
  store_.set_limits(store_limits(config_->daemon()));
  queue_.set_capacity(static_cast<size_t>(config_->daemon().event_queue));
  exporters_->apply(config_);
  host_.apply(config_);
  log::write(log::kInfo, "reloaded");
}

}  // namespace

int run_gopherd(const Invocation& invocation, LibraryScan scan,
                std::shared_ptr<const Config> config) {
  auto fail = [](const Error& e) {
    log::write(log::kError, "%s", e.text.c_str());
    return kExitFailure;
  };
  log::Level level = log::kInfo;
  log::parse_level(config->daemon().log_level, &level);
  log::set_level(level);
  adopt_libbpf_log();
  std::string unknown;
  const char* mask = std::getenv("GOPHER_MASK");
  const Mask hidden = parse_mask(mask ? mask : "", &unknown);
  if (!unknown.empty()) {
    log::write(log::kError, "GOPHER_MASK: no such kind of program: %s", unknown.c_str());
    return kExitUsage;
  }
  auto signals = take_signals();
  if (!signals) return fail(signals.error());
  auto filters = need_bpf();
  if (!filters) return fail(filters.error());
  auto state = StateDir::open(invocation.state_dir.empty() ? config->daemon().state_dir
                                                           : invocation.state_dir);
  if (!state) return fail(state.error());
  Daemon daemon(invocation, std::move(scan), std::move(config), *std::move(state),
                *std::move(filters), hidden);
  return daemon.run(*signals);
}

}  // namespace gopher
