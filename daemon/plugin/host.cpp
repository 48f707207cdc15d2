// host.cpp - all probes: start, reload, stop, and the watch over their workers.
// SPDX-License-Identifier: Apache-2.0
#include "plugin/host.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "core/clock.hpp"
#include "core/log.hpp"

namespace gopher {
namespace {

// A probe's start loads and verifies BPF: a second or two on a slow machine, with room.
constexpr std::chrono::milliseconds kCommandDeadline{20'000};
constexpr std::chrono::milliseconds kStopDeadline{10'000};

}  // namespace

// Made once and kept as long as the host: scrapes ask for its status at any time.
struct PluginHost::Probe {
  Probe(PluginHost& host, const Library& lib, Store& store, EventQueue& queue,
        uint32_t events_per_minute, Worker& w)
      : tables(lib.tables()),
        shard(store.shard(tables)),
        gate(tables, host.text_, queue, events_per_minute),
        worker(w),
        instance(lib, {w.features(), host.mask_, host.filters_, host.text_, shard, gate}) {
    worker.add(&instance, &gate);
  }
  ProbeTables tables;
  Shard& shard;
  EventGate gate;
  Worker& worker;
  Instance instance;
};

PluginHost::PluginHost(std::vector<Library> libraries, Store& store, EventQueue& queue,
                       const TextSource& text, const Cgroups& cgroups, Mask mask,
                       FilterMaps filters, size_t workers, uint32_t events_per_minute)
    : libraries_(std::move(libraries)),
      mask_(std::move(mask)),
      filters_(std::move(filters)),
      text_(text),
      cgroups_(cgroups) {
  for (size_t i = 0; i < workers; ++i)
    workers_.push_back(
        std::make_unique<Worker>(static_cast<int>(i), [this] { return interval_ns_.load(); }));
  for (const Library& lib : libraries_)
    probes_.push_back(std::make_unique<Probe>(*this, lib, store, queue, events_per_minute,
                                              *workers_[probes_.size() % workers]));
}

PluginHost::~PluginHost() = default;

FilterSet PluginHost::resolve(const FilterOptions& o) const {
  FilterSet f;
  f.by_pid = o.pids.n > 0;
  f.by_cgroup = o.cgroups.n > 0;
  f.by_device = o.devices.n > 0;
  for (uint32_t i = 0; i < o.pids.n; ++i) {
    uint32_t pid = 0;
    std::from_chars(o.pids.items[i], o.pids.items[i] + std::strlen(o.pids.items[i]), pid);
    f.pids.insert(pid);
  }
  for (uint32_t i = 0; i < o.cgroups.n; ++i)
    for (uint64_t id : cgroups_.ids(o.cgroups.items[i])) f.cgroups.insert(id);
  for (uint32_t i = 0; i < o.devices.n; ++i)
    if (uint32_t dev = device_number(o.devices.items[i])) f.devices.insert(dev);
  return f;
}

void PluginHost::apply_filters(const FilterSet& filters) {
  if (auto r = filters_.apply(filters); !r) log::write(log::kError, "%s", r.error().text.c_str());
}

void PluginHost::refresh_filters() { apply_filters(resolve(config_->filter())); }

// A worker that is known to be stuck is not waited for: the main thread has a watchdog to feed.
bool PluginHost::run_on_worker(Probe& p, const char* what, std::function<void()> f) {
  if (!p.instance.stuck() && p.worker.run(std::move(f), kCommandDeadline)) return true;
  log::write(log::kError, "probe %s: its worker is stuck and does not take the %s",
             std::string(p.tables.name).c_str(), what);
  return false;
}

bool PluginHost::start_probe(Probe& p) {
  return run_on_worker(p, "start", [&p, config = config_] {
    p.instance.configure(config);
    p.instance.start(monotonic_ns());
  });
}

bool PluginHost::stop_probe(Probe& p) {
  return run_on_worker(p, "stop", [&p] { p.instance.stop(); });
}

void PluginHost::start(std::shared_ptr<const Config> config) {
  config_ = std::move(config);
  interval_ns_ = static_cast<uint64_t>(config_->daemon().interval_s * 1e9);
  refresh_filters();
  for (auto& w : workers_) w->launch();
  // One after the other: each load needs the kernel's BTF in memory.
  for (auto& p : probes_)
    if (config_->probe_enabled(p->tables.name)) start_probe(*p);
}

void PluginHost::apply(std::shared_ptr<const Config> config) {
  const std::shared_ptr<const Config> old = std::exchange(config_, std::move(config));
  interval_ns_ = static_cast<uint64_t>(config_->daemon().interval_s * 1e9);
  const FilterSet filters = resolve(config_->filter());
  const bool filters_differ = filters.bits() != filters_.bits();
  auto differs = [&](const Probe& p) {
    const std::string group = "probes." + std::string(p.tables.name);
    return filters_differ || old->text(group) != config_->text(group) ||
           old->probe_enabled(p.tables.name) != config_->probe_enabled(p.tables.name);
  };
  // Programs know at load whether there is a filter at all, so none may run while that changes.
  for (auto& p : probes_)
    if (old->probe_enabled(p->tables.name) && differs(*p)) stop_probe(*p);
  apply_filters(filters);
  for (auto& p : probes_) {
    if (!differs(*p)) continue;
    const bool is = config_->probe_enabled(p->tables.name);
    if (is && !start_probe(*p)) continue;
    log::write(log::kInfo, "probe %s: %s", std::string(p->tables.name).c_str(),
               is ? "started with new options" : "switched off");
  }
}

bool PluginHost::stop() {
  bool all = true;
  for (auto& w : workers_) all &= w->stop(kStopDeadline);
  if (!all) {
    log::write(log::kError, "a worker is stuck inside of a plugin; leaving it behind");
    return false;
  }
  return true;
}

void PluginHost::check_workers(uint64_t now_ns) {
  const auto limit = static_cast<uint64_t>(config_->daemon().stuck_after_s) * 1'000'000'000;
  for (auto& w : workers_) {
    uint64_t busy = w->busy_ns(now_ns);
    bool stuck = busy > limit;
    for (Instance* i : w->instances()) {
      bool was = i->stuck();
      if (stuck != was)
        log::write(stuck ? log::kError : log::kWarning, "probe %s: %s", i->name().c_str(),
                   stuck ? "failed: its worker is stuck" : "its worker came back");
      i->mark_stuck(stuck ? busy : 0);
    }
  }
}

std::vector<PluginHost::ProbeStatus> PluginHost::status() const {
  std::vector<ProbeStatus> out;
  for (const auto& p : probes_) {
    ProbeStatus s;
    static_cast<InstanceStatus&>(s) = p->instance.status();
    s.tables = &p->tables;
    s.events = p->gate.counts();
    s.store = p->shard.stats();
    s.folded = p->shard.folded();
    out.push_back(std::move(s));
  }
  return out;
}

}  // namespace gopher
