// instance.cpp - one running probe.
// SPDX-License-Identifier: Apache-2.0
#include "plugin/instance.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "core/clock.hpp"
#include "core/log.hpp"

namespace gopher {
namespace {

constexpr uint64_t kFirstBackoffNs = 1'000'000'000, kLastBackoffNs = 60'000'000'000;
constexpr int kPollErrorsBeforeRestart = 3;

// Bytes that the kernel charges for a map, from fdinfo's memlock (kernel/bpf/syscall.c).
uint64_t map_bytes(int fd) {
  char path[64], line[128];
  std::snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
  std::unique_ptr<FILE, int (*)(FILE*)> f(std::fopen(path, "re"), std::fclose);
  uint64_t bytes = 0;
  while (f && std::fgets(line, sizeof line, f.get()))
    if (std::sscanf(line, "memlock: %" SCNu64, &bytes) == 1) return bytes;
  return 0;
}

}  // namespace

const char* to_string(ProbeState state) {
  switch (state) {
    case ProbeState::kCreated:
      return "created";
    case ProbeState::kRunning:
      return "running";
    case ProbeState::kDegraded:
      return "degraded";
    case ProbeState::kFailed:
      return "failed";
    case ProbeState::kStopped:
      return "stopped";
  }
  return "stopped";
}

// The host table's functions: C on the outside, `ctx` is the instance.
struct Instance::HostFunctions {
  static Instance& self(void* ctx) { return *static_cast<Instance*>(ctx); }

  static void log(void* ctx, int level, const char* text) {
    Instance& i = self(ctx);
    if (level <= log::kError) i.last_error_ = text;
    auto l = level <= log::kError     ? log::kError
             : level <= log::kWarning ? log::kWarning
             : level <= log::kInfo    ? log::kInfo
                                      : log::kDebug;
    log::write(l, "probe %s: %s", i.name_.c_str(), text);
  }
  static int load(void* ctx, const gopher_skeleton_source* src, const gopher_hook* hooks,
                  uint32_t n, uint64_t wanted) {
    Instance& i = self(ctx);
    auto r = i.ladder_.load(*src, {hooks, n}, wanted, i.needs_.filters.maps());
    std::lock_guard lock(i.mutex_);
    i.status_.hooks = i.ladder_.hooks();
    if (!r) {
      i.last_error_ = r.error().text;
      return -r.error().code;
    }
    i.degraded_by_hooks_.clear();
    for (const HookStatus& h : i.status_.hooks)
      if (h.wanted && h.rung < 0)
        i.degraded_by_hooks_ += (i.degraded_by_hooks_.empty() ? "" : "; ") + ("hook `" + h.hook) +
                                "` is missing: " + h.why;
    return 0;
  }
  static int rung(void* ctx, uint32_t hook) {
    const auto& hooks = self(ctx).ladder_.hooks();
    return hook < hooks.size() && hooks[hook].rung >= 0 ? hooks[hook].rung : -ENOENT;
  }
  static int add_ring(void* ctx, int ring_fd, int drops_fd, gopher_ring_fn fn, void* arg) {
    auto r = self(ctx).rings_.add(ring_fd, drops_fd, fn, arg);
    return r ? 0 : -r.error().code;
  }
  static void sample(void* ctx, const gopher_sample* s) {
    self(ctx).needs_.shard.apply(*s, self(ctx).now_ns_);
  }
  static int event(void* ctx, const gopher_event_record* e, gopher_event_id* id) {
    return self(ctx).needs_.gate.emit(*e, id);
  }
  static void lost(void* ctx, const char* stage, uint64_t n) {
    Instance& i = self(ctx);
    std::lock_guard lock(i.mutex_);
    i.status_.lost[stage] += n;
  }
  static void degraded(void* ctx, const char* reason) {
    Instance& i = self(ctx);
    std::lock_guard lock(i.mutex_);
    i.degraded_by_probe_ = reason ? reason : "";
  }
  static size_t text(void* ctx, uint32_t type, const gopher_value* v, char* buf, size_t size) {
    std::string out;
    self(ctx).needs_.text.append(static_cast<gopher_type>(type), *v, &out);
    size_t n = std::min(out.size(), size ? size - 1 : 0);
    std::memcpy(buf, out.data(), n);
    if (size) buf[n] = '\0';
    return n;
  }
};

Instance::Instance(const Library& library, InstanceNeeds needs)
    : library_(library),
      name_(library.ops().name),
      needs_(needs),
      ladder_(needs.features, needs.mask) {
  host_ = {.abi = GOPHER_PROBE_ABI,
           .size = sizeof host_,
           .ctx = this,
           .filter_bits = 0,
           .reserved = 0,
           .log = HostFunctions::log,
           .load = HostFunctions::load,
           .rung = HostFunctions::rung,
           .add_ring = HostFunctions::add_ring,
           .sample = HostFunctions::sample,
           .event = HostFunctions::event,
           .lost = HostFunctions::lost,
           .degraded = HostFunctions::degraded,
           .text = HostFunctions::text};
  status_.name = name_;
  status_.version = library.ops().version;
}

Instance::~Instance() { stop(); }

// Runs a callback of the plugin and charges it for the time.
template <class F>
int Instance::timed(F f) {
  uint64_t before = thread_cpu_ns();
  int err;
  try {
    err = f();
  } catch (...) {  // against the contract; still not worth the daemon
    last_error_ = "threw an exception across the plugin boundary";
    err = -EFAULT;
  }
  uint64_t spent = thread_cpu_ns() - before;
  std::lock_guard lock(mutex_);
  status_.cpu_ns += spent;
  return err;
}

int Instance::create_probe() {
  host_.filter_bits = needs_.filters.bits();
  const OptionGroup* options = config_->probe(name_);
  return timed([&] { return library_.ops().create(&host_, options->data(), &self_); });
}

void Instance::start(uint64_t now_ns) {
  if (self_) return;
  now_ns_ = now_ns;
  next_try_ns_ = 0;
  last_error_.clear();
  {
    std::lock_guard lock(mutex_);
    degraded_by_probe_.clear();
    degraded_by_hooks_.clear();
    status_.hooks.clear();
    status_.state = ProbeState::kCreated;
    status_.reason.clear();
  }
  int err = create_probe();
  if (err || !self_) {
    self_ = nullptr;
    return fail("cannot be created: " +
                    (last_error_.empty() ? std::string(std::strerror(-err)) : last_error_),
                true, now_ns);
  }
  err = timed([&] { return library_.ops().start(self_); });
  if (err) {
    std::string reason = last_error_.empty() ? std::strerror(-err) : last_error_;
    teardown();
    return fail(reason, err != -EOPNOTSUPP, now_ns);
  }
  started_ = true;
  backoff_ns_ = 0;
  poll_errors_ = 0;
  next_poll_ns_ = now_ns;
  {
    std::lock_guard lock(mutex_);
    ++status_.starts;
  }
  after_calls();
  log::write(log::kInfo, "probe %s: started", name_.c_str());
}

void Instance::fail(const std::string& reason, bool retry, uint64_t now_ns) {
  bool news;
  {
    std::lock_guard lock(mutex_);
    news = status_.reason != reason;
    status_.state = ProbeState::kFailed;
    status_.reason = reason;
  }
  if (retry) {
    backoff_ns_ = std::clamp(backoff_ns_ * 2, kFirstBackoffNs, kLastBackoffNs);
    next_try_ns_ = now_ns + backoff_ns_;
  }
  // A retry that fails the same way is no news.
  log::write(news || !retry ? log::kError : log::kDebug, "probe %s: failed: %s; %s", name_.c_str(),
             reason.c_str(),
             retry ? ("next try in " + std::to_string(backoff_ns_ / 1'000'000'000) + " s").c_str()
                   : "not tried again");
}

// Whatever state the probe is in, afterwards there is none.
void Instance::teardown() {
  if (!self_) return;
  if (started_) {
    rings_.drain();
    poll(now_ns_);
  }
  timed([&] { return library_.ops().stop(self_); });
  started_ = false;
  rings_.clear();
  ladder_.unloaded();
  timed([&] {
    library_.ops().destroy(self_);
    return 0;
  });
  self_ = nullptr;
  next_poll_ns_ = 0;
  std::lock_guard lock(mutex_);
  status_.map_bytes = 0;
}

void Instance::stop() {
  next_try_ns_ = 0;
  teardown();
  needs_.gate.flush();
  std::lock_guard lock(mutex_);
  status_.state = ProbeState::kStopped;
  status_.reason.clear();
  status_.hooks.clear();
}

void Instance::poll(uint64_t now_ns) {
  if (!library_.ops().poll) return;
  int err = timed([&] { return library_.ops().poll(self_, now_ns); });
  poll_errors_ = err ? poll_errors_ + 1 : 0;
  after_calls();
}

// Keeps the status in step with what the probe and its rings said.
void Instance::after_calls() {
  uint64_t dropped = rings_.take_dropped(), malformed = rings_.take_malformed(), bytes = 0;
  for (int fd : ladder_.maps()) bytes += map_bytes(fd);
  std::lock_guard lock(mutex_);
  if (dropped) status_.lost["ring_full"] += dropped;
  if (malformed) status_.lost["ring_malformed"] += malformed;
  status_.map_bytes = bytes;
  if (!started_) return;
  status_.reason = degraded_by_hooks_;
  if (!degraded_by_probe_.empty())
    status_.reason += (status_.reason.empty() ? "" : "; ") + degraded_by_probe_;
  status_.state = status_.reason.empty() ? ProbeState::kRunning : ProbeState::kDegraded;
}

size_t Instance::tick(uint64_t now_ns, uint64_t interval_ns) {
  now_ns_ = now_ns;
  if (next_try_ns_ && now_ns >= next_try_ns_) start(now_ns);
  if (!started_) return 0;
  size_t records = 0;
  if (!rings_.empty()) {
    timed([&] {
      records = rings_.drain();
      return 0;
    });
    if (records) {
      std::lock_guard lock(mutex_);
      status_.ring_records += records;
    }
  }
  if (now_ns < next_poll_ns_) return records;
  // Kept in step with the clock, but a tick that came late is not made up for.
  next_poll_ns_ = std::max(next_poll_ns_ + interval_ns, now_ns + interval_ns / 2);
  poll(now_ns);
  if (poll_errors_ >= kPollErrorsBeforeRestart) {
    std::string reason = "poll failed " + std::to_string(poll_errors_) + " times: " + last_error_;
    teardown();
    fail(reason, true, now_ns);
  }
  return records;
}

InstanceStatus Instance::status() const {
  std::lock_guard lock(mutex_);
  InstanceStatus s = status_;
  if (stuck_ns_) {
    s.state = ProbeState::kFailed;
    s.reason =
        "its worker has not come back for " + std::to_string(stuck_ns_ / 1'000'000'000) + " s";
  }
  return s;
}

bool Instance::stuck() const {
  std::lock_guard lock(mutex_);
  return stuck_ns_ != 0;
}

void Instance::mark_stuck(uint64_t for_ns) {
  std::lock_guard lock(mutex_);
  stuck_ns_ = for_ns;
}

}  // namespace gopher
