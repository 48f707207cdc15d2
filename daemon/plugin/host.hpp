// host.hpp - all probes and the workers that run them; start, reload, stop, and the watch over
// them. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bpf/features.hpp"
#include "bpf/filter.hpp"
#include "bus/events.hpp"
#include "bus/store.hpp"
#include "config/config.hpp"
#include "meta/text.hpp"
#include "plugin/instance.hpp"
#include "plugin/library.hpp"

namespace gopher {

// One thread that runs some instances, one callback at a time.
class Worker {
 public:
  Worker(int number, std::function<uint64_t()> interval_ns);
  ~Worker();  // stop() came before

  void add(Instance* instance, EventGate* gate);
  void launch();
  // Runs `f` on the worker's thread. False: it did not come to it within `deadline`; it still may.
  bool run(std::function<void()> f, std::chrono::milliseconds deadline);
  bool stop(std::chrono::milliseconds deadline);  // stops its instances; false: the thread is stuck

  // How long it has been inside of one callback; 0: it is not.
  uint64_t busy_ns(uint64_t now_ns) const;
  const std::vector<Instance*>& instances() const { return instances_; }
  Features& features() { return features_; }

 private:
  void loop();
  std::chrono::milliseconds turn();

  const int number_;
  std::function<uint64_t()> interval_ns_;
  KernelFeatures features_;
  std::vector<Instance*> instances_;
  std::vector<EventGate*> gates_;
  std::atomic<uint64_t> busy_since_ns_{0};
  uint64_t next_gate_ns_ = 0;
  std::chrono::milliseconds pause_{50};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::function<void()>> commands_;
  bool quit_ = false, ended_ = false;
  std::thread thread_;
};

// Called by the main thread only, but for status().
class PluginHost {
 public:
  PluginHost(std::vector<Library> libraries, Store& store, EventQueue& queue,
             const TextSource& text, const Cgroups& cgroups, Mask mask, FilterMaps filters,
             size_t workers = 1, uint32_t events_per_minute = 60);
  ~PluginHost();  // stop() came before, unless it was never started

  void start(std::shared_ptr<const Config> config);
  // Restarts what differs from the configuration in force, and nothing else.
  void apply(std::shared_ptr<const Config> config);
  // False: a worker is stuck inside of a plugin and the process cannot end in the usual way.
  bool stop();
  // About once a second: names of cgroups and devices may have got a meaning since.
  void refresh_filters();
  // Reports workers that do not come back, and fails their probes.
  void check_workers(uint64_t now_ns);

  struct ProbeStatus : InstanceStatus {
    const ProbeTables* tables = nullptr;
    std::vector<EventGate::Counts> events;
    Shard::Stats store;
    std::vector<uint64_t> folded;
  };
  std::vector<ProbeStatus> status() const;  // any thread, in the order of names

 private:
  struct Probe;
  FilterSet resolve(const FilterOptions& options) const;
  void apply_filters(const FilterSet& filters);
  bool run_on_worker(Probe& probe, const char* what, std::function<void()> f);
  bool start_probe(Probe& probe);
  bool stop_probe(Probe& probe);

  std::vector<Library> libraries_;
  Mask mask_;
  FilterMaps filters_;
  const TextSource& text_;
  const Cgroups& cgroups_;
  std::shared_ptr<const Config> config_;
  std::atomic<uint64_t> interval_ns_{5'000'000'000};
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::unique_ptr<Probe>> probes_;  // after the workers that run them
};

}  // namespace gopher
