// harness.cpp - runs a real probe plugin in this process and collects what it says.
// SPDX-License-Identifier: Apache-2.0
#include "harness.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "core/clock.hpp"

namespace gopher::test {

std::string build_dir() {
  const char* dir = std::getenv("GOPHER_BUILD_DIR");
  return dir ? dir : GOPHER_BUILD_DIR;
}

std::string kernel_name() {
  utsname u;
  return uname(&u) == 0 ? u.release : "unknown";
}

bool have_root_and_btf(std::string* why) {
  if (geteuid() != 0)
    *why = "needs root";
  else if (access("/sys/kernel/btf/vmlinux", R_OK) != 0)
    *why = "this kernel has no BTF";
  return why->empty();
}

bool wait_until(const std::function<bool()>& done, std::chrono::seconds deadline) {
  const char* scale = std::getenv("GOPHER_TIME_SCALE");
  const auto end = std::chrono::steady_clock::now() + deadline * (scale ? std::atoi(scale) : 1);
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

namespace {

std::string escaped(const std::string& s) {
  std::string out;
  for (char c : s) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out;
}

template <class T>
T or_abort(Result<T> r) {
  if (r) return *std::move(r);
  std::fprintf(stderr, "%s\n", r.error().text.c_str());
  std::abort();
}

}  // namespace

void record(const std::string& probe, const std::string& hook, const std::string& program,
            uint64_t instructions, const std::string& status, const std::string& note) {
  const char* path = std::getenv("GOPHER_RESULTS");
  if (!path) return;
  FILE* f = std::fopen(path, "ae");
  ASSERT_NE(f, nullptr) << path;
  std::fprintf(f,
               "{\"kernel\": \"%s\", \"probe\": \"%s\", \"hook\": \"%s\", \"program\": \"%s\", "
               "\"insns\": %llu, \"status\": \"%s\", \"note\": \"%s\"}\n",
               kernel_name().c_str(), probe.c_str(), hook.c_str(), program.c_str(),
               static_cast<unsigned long long>(instructions), status.c_str(),
               escaped(note).c_str());
  std::fclose(f);
}

struct ProbeRun::Functions {
  static ProbeRun& self(void* ctx) { return *static_cast<ProbeRun*>(ctx); }
  static void log(void* ctx, int level, const char* text) {
    if (level <= 3) self(ctx).error = text;
  }
  static int load(void* ctx, const gopher_skeleton_source* src, const gopher_hook* hooks,
                  uint32_t n, uint64_t wanted) {
    ProbeRun& r = self(ctx);
    auto result = r.ladder_.load(*src, {hooks, n}, wanted, r.filters_.maps());
    if (result) return 0;
    r.error = result.error().text;
    return -result.error().code;
  }
  static int rung(void* ctx, uint32_t hook) {
    const auto& hooks = self(ctx).ladder_.hooks();
    return hook < hooks.size() && hooks[hook].rung >= 0 ? hooks[hook].rung : -ENOENT;
  }
  static int add_ring(void* ctx, int ring_fd, int drops_fd, gopher_ring_fn fn, void* arg) {
    auto r = self(ctx).rings_.add(ring_fd, drops_fd, fn, arg);
    return r ? 0 : -r.error().code;
  }
  static void sample(void* ctx, const gopher_sample* s);
  static int event(void* ctx, const gopher_event_record* e, gopher_event_id* id);
  static void lost(void* ctx, const char* stage, uint64_t n) { self(ctx).lost[stage] += n; }
  static void degraded(void* ctx, const char* reason) { self(ctx).degraded = reason ? reason : ""; }
  static size_t text(void*, uint32_t, const gopher_value*, char* buf, size_t size) {
    if (size) *buf = '\0';
    return 0;
  }
};

std::string ProbeRun::text(uint32_t type, const gopher_value& v, const char* const* values) const {
  if (type == GOPHER_ENUM) return values[v.num];
  std::string out;
  if (type != GOPHER_PROCESS) text_.append(static_cast<gopher_type>(type), v, &out);
  return out;
}

void ProbeRun::Functions::sample(void* ctx, const gopher_sample* s) {
  ProbeRun& r = self(ctx);
  const gopher_metric& m = r.library_.ops().metrics[s->metric];
  Labels labels;
  for (uint32_t i = 0; i < m.n_labels; ++i) {
    const gopher_label& l = m.labels[i];
    const gopher_value& v = s->labels[i];
    if (l.type == GOPHER_PROCESS) {
      labels["pid"] = std::to_string(v.process->tgid);
      labels["comm"] = std::string(v.process->comm, strnlen(v.process->comm, 16));
      gopher_value cgroup = {};
      cgroup.num = v.process->cgroup_id;
      labels["cgroup"] = r.text(GOPHER_CGROUP, cgroup, nullptr);
    } else {
      labels[l.name] = r.text(l.type, v, l.values);
    }
  }
  std::string key = m.name;
  for (const auto& [name, value] : labels) key += ' ' + name + '=' + value;
  Series& series = r.series_[key];
  series.metric = m.name;
  series.labels = labels;
  if (m.kind == GOPHER_HISTOGRAM) {
    series.buckets.resize(m.n_bounds + 1);
    for (uint32_t b = 0; b <= m.n_bounds; ++b) {
      series.buckets[b] += s->buckets[b];
      series.value += static_cast<double>(s->buckets[b]);
    }
    series.sum += s->sum;
  } else {
    series.value = s->op == GOPHER_SET ? s->value : series.value + s->value;
  }
}

int ProbeRun::Functions::event(void* ctx, const gopher_event_record* e, gopher_event_id* id) {
  ProbeRun& r = self(ctx);
  const gopher_event& def = r.library_.ops().events[e->event];
  Event out;
  out.type = def.name;
  for (uint32_t i = 0; i < def.n_fields; ++i)
    out.fields[def.fields[i].name] = r.text(def.fields[i].type, e->fields[i], def.fields[i].values);
  if ((out.has_process = e->process != nullptr)) out.process = *e->process;
  if ((out.has_recovers = e->recovers != nullptr)) out.recovers = *e->recovers;
  out.correlation = e->correlation;
  out.id = {monotonic_ns(), r.next_id_++};
  if (id) *id = out.id;
  r.events_.push_back(std::move(out));
  return 0;
}

ProbeRun::ProbeRun(const std::string& probe, const void* config, const std::string& mask,
                   const FilterSet& filter)
    : library_(or_abort(Library::open(build_dir() + "/probes/" + probe + ".so"))),
      text_(cgroups_),
      mask_(parse_mask(mask, nullptr)),
      filters_(or_abort(FilterMaps::create())),
      ladder_(features_, mask_) {
  or_abort(filters_.apply(filter));
  host_ = {.abi = GOPHER_PROBE_ABI,
           .size = sizeof host_,
           .ctx = this,
           .filter_bits = filters_.bits(),
           .reserved = 0,
           .log = Functions::log,
           .load = Functions::load,
           .rung = Functions::rung,
           .add_ring = Functions::add_ring,
           .sample = Functions::sample,
           .event = Functions::event,
           .lost = Functions::lost,
           .degraded = Functions::degraded,
           .text = Functions::text};
  EXPECT_EQ(library_.ops().create(&host_, config, &self_), 0) << error;
}

ProbeRun::~ProbeRun() {
  stop();
  if (self_) library_.ops().destroy(self_);
}

int ProbeRun::start() {
  const int err = library_.ops().start(self_);
  started_ = err == 0;
  if (err) library_.ops().stop(self_);
  return err;
}

void ProbeRun::poll(uint64_t now_ns) {
  rings_.drain();
  if (uint64_t n = rings_.take_dropped()) lost["ring_full"] += n;
  EXPECT_EQ(library_.ops().poll(self_, now_ns ? now_ns : monotonic_ns()), 0) << error;
}

void ProbeRun::stop() {
  if (!started_) return;
  rings_.drain();
  library_.ops().stop(self_);
  rings_.clear();
  ladder_.unloaded();
  started_ = false;
}

namespace {
bool has(const Labels& all, const Labels& some) {
  for (const auto& [name, value] : some) {
    auto it = all.find(name);
    if (it == all.end() || it->second != value) return false;
  }
  return true;
}
}  // namespace

double ProbeRun::value(const std::string& metric, const Labels& labels) const {
  double total = 0;
  for (const auto& [key, s] : series_)
    if (s.metric == metric && has(s.labels, labels)) total += s.value;
  return total;
}

double ProbeRun::sum(const std::string& metric, const Labels& labels) const {
  double total = 0;
  for (const auto& [key, s] : series_)
    if (s.metric == metric && has(s.labels, labels)) total += s.sum;
  return total;
}

std::vector<uint64_t> ProbeRun::buckets(const std::string& metric, const Labels& labels) const {
  std::vector<uint64_t> total;
  for (const auto& [key, s] : series_) {
    if (s.metric != metric || !has(s.labels, labels)) continue;
    total.resize(s.buckets.size());
    for (size_t i = 0; i < total.size(); ++i) total[i] += s.buckets[i];
  }
  return total;
}

std::vector<Event> ProbeRun::events(const std::string& type) const {
  std::vector<Event> out;
  for (const Event& e : events_)
    if (e.type == type) out.push_back(e);
  return out;
}

std::string ProbeRun::program(const std::string& hook) const {
  for (const HookStatus& h : ladder_.hooks())
    if (h.hook == hook && h.rung >= 0) return h.program;
  return "";
}

std::string ProbeRun::rungs() const {
  std::string out;
  for (const HookStatus& h : ladder_.hooks())
    if (h.rung >= 0) out += h.program + " ";
  return out;
}

std::string ProbeRun::all_series(const std::string& metric) const {
  std::string out;
  for (const auto& [key, s] : series_)
    if (s.metric == metric) out += key + " = " + std::to_string(s.value) + "\n";
  return out;
}

}  // namespace gopher::test
