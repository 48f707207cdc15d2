// instance.hpp - one running probe: its states, its host table, its retries, what it costs.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/probe.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bpf/attach.hpp"
#include "bpf/filter.hpp"
#include "bpf/ring.hpp"
#include "bus/events.hpp"
#include "bus/store.hpp"
#include "config/config.hpp"
#include "plugin/library.hpp"

namespace gopher {

enum class ProbeState { kCreated, kRunning, kDegraded, kFailed, kStopped };
const char* to_string(ProbeState state);

// What the outside may know of an instance; a copy, any thread.
struct InstanceStatus {
  std::string name, version;
  ProbeState state = ProbeState::kStopped;
  std::string reason;  // of degraded and failed
  std::vector<HookStatus> hooks;
  std::map<std::string, uint64_t> lost;  // by stage, since the daemon's start
  uint64_t cpu_ns = 0;                   // of its callbacks, since the daemon's start
  uint64_t map_bytes = 0;                // locked by its BPF maps now
  uint64_t starts = 0;                   // successful ones
  uint64_t ring_records = 0;
};

// What an instance uses of the daemon; outlives it.
struct InstanceNeeds {
  Features& features;
  const Mask& mask;
  const FilterMaps& filters;
  const TextSource& text;
  Shard& shard;
  EventGate& gate;
};

// All but status() and mark_stuck() is called by its worker only.
class Instance {
 public:
  Instance(const Library& library, InstanceNeeds needs);
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  // Takes the options for the next start; `config` is kept alive.
  void configure(std::shared_ptr<const Config> config) { config_ = std::move(config); }
  void start(uint64_t now_ns);
  void stop();
  // Drains rings and, if due, polls or tries again; returns how many ring records there were.
  size_t tick(uint64_t now_ns, uint64_t interval_ns);

  InstanceStatus status() const;
  // Another thread saw that the worker does not come back; `for_ns` 0: it came back.
  void mark_stuck(uint64_t for_ns);
  bool stuck() const;
  const std::string& name() const { return name_; }

 private:
  struct HostFunctions;
  int create_probe();
  void fail(const std::string& reason, bool retry, uint64_t now_ns);
  void teardown();
  void poll(uint64_t now_ns);
  void after_calls();
  template <class F>
  int timed(F f);

  const Library& library_;
  const std::string name_;
  InstanceNeeds needs_;
  std::shared_ptr<const Config> config_;
  gopher_host host_ = {};
  Ladder ladder_;
  Rings rings_;
  void* self_ = nullptr;
  bool started_ = false;
  uint64_t now_ns_ = 0;        // the present tick's time: samples carry it
  uint64_t next_poll_ns_ = 0;  // 0: not running
  uint64_t next_try_ns_ = 0;   // 0: no retry planned
  uint64_t backoff_ns_ = 0;
  int poll_errors_ = 0;
  std::string last_error_;  // the last line that the probe logged as an error

  mutable std::mutex mutex_;  // guards what follows
  InstanceStatus status_;
  std::string degraded_by_probe_, degraded_by_hooks_;
  uint64_t stuck_ns_ = 0;
};

}  // namespace gopher
