// probe.hpp - the C++ side of the contract: a probe is a class, its numbers are Metric<> and
// Event<>. SPDX-License-Identifier: Apache-2.0
//
// A probe class has Config, kName, kVersion, kSummary, a constructor (Host, const Config&), and
//   Result<> start();  Result<> stop();  and, if it reads maps,  Result<> poll(uint64_t now_ns).
// Its tables are named kOptions, kMetrics, kEvents, kHooks in the namespace given to GOPHER_PROBE.
#pragma once

#include <bpf/libbpf.h>
#include <gopher/probe.h>
#include <gopher/metric.hpp>
#include <gopher/result.hpp>

#include <concepts>
#include <cstdarg>
#include <cstdio>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>

namespace gopher {

// The daemon as seen from a probe: a copyable handle, valid from `create` to `destroy`.
class Host {
 public:
  explicit Host(const gopher_host* h) : h_(h) {}

  __attribute__((format(printf, 3, 4))) void log(int level, const char* format, ...) const {
    char text[512];
    va_list args;
    va_start(args, format);
    std::vsnprintf(text, sizeof text, format, args);
    va_end(args);
    h_->log(h_->ctx, level, text);
  }
  uint32_t filter_bits() const { return h_->filter_bits; }
  bool attached(uint32_t hook) const { return h_->rung(h_->ctx, hook) >= 0; }
  int rung(uint32_t hook) const { return h_->rung(h_->ctx, hook); }
  // `events` and its drop counter are made by GOPHER_RING in bpf/gopher/ring.bpf.h.
  Result<> add_ring(const bpf_map* events, const bpf_map* drops, gopher_ring_fn fn,
                    void* arg) const {
    int err = h_->add_ring(h_->ctx, bpf_map__fd(events), bpf_map__fd(drops), fn, arg);
    if (err) return errno_error(err, "ring buffer");
    return Ok{};
  }
  void lost(const char* stage, uint64_t n) const { h_->lost(h_->ctx, stage, n); }
  void degraded(const char* reason) const { h_->degraded(h_->ctx, reason); }
  std::string text(gopher_type type, const gopher_value& value) const {
    char buf[256];
    return {buf, h_->text(h_->ctx, type, &value, buf, sizeof buf)};
  }
  const gopher_host* raw() const { return h_; }

 private:
  const gopher_host* h_;
};

namespace detail {

// One argument as the value that the table's type asks for; a wrong type does not compile.
template <uint32_t Type, class T>
gopher_value to_value(const T& v) {
  gopher_value out = {};
  if constexpr (Type == GOPHER_PROCESS) {
    static_assert(std::is_convertible_v<T, const gopher_process*>, "pass a const gopher_process*");
    out.process = v;
  } else if constexpr (Type == GOPHER_STR) {
    if constexpr (std::is_convertible_v<T, const char*>) {
      out.str = v;
    } else {
      static_assert(std::is_convertible_v<T, std::string_view>, "pass a string");
      std::string_view s = v;
      out.str = s.empty() ? "" : s.data();
      out.len = static_cast<uint32_t>(s.size());
    }
  } else if constexpr (Type == GOPHER_F64) {
    static_assert(std::is_arithmetic_v<T>, "pass a number");
    out.real = static_cast<double>(v);
  } else if constexpr (Type == GOPHER_I64 || Type == GOPHER_ERRNO) {
    static_assert(std::is_integral_v<T>, "pass an integer");
    out.snum = static_cast<int64_t>(v);
  } else if constexpr (Type == GOPHER_ADDR) {
    static_assert(std::is_same_v<T, gopher_value>, "pass a gopher_value with data and len");
    out = v;
  } else {
    static_assert(std::is_integral_v<T> || std::is_enum_v<T>, "pass an integer");
    out.num = static_cast<uint64_t>(v);
  }
  return out;
}

template <const auto& Table, uint32_t Index, bool IsEvent, size_t I>
constexpr uint32_t member_type() {
  if constexpr (IsEvent)
    return Table.items[Index].fields[I].type;
  else
    return Table.items[Index].labels[I].type;
}

}  // namespace detail

// One metric of a table, found by name while compiling. Labels in the table's order, raw ids.
template <const auto& kTable, FixedString kName>
class Metric {
 public:
  static constexpr uint32_t kIndex = index_of(kTable, kName.view());
  static constexpr const gopher_metric& kDef = kTable.items[kIndex];

  explicit Metric(Host host) : h_(host.raw()) {}

  template <class... L>
  void add(double value, const L&... labels) const {
    static_assert(kDef.kind == GOPHER_COUNTER, "add() is for counters");
    emit(GOPHER_ADD, value, nullptr, 0, std::index_sequence_for<L...>(), labels...);
  }
  template <class... L>
  void set(double value, const L&... labels) const {
    static_assert(kDef.kind == GOPHER_GAUGE, "set() is for gauges");
    emit(GOPHER_SET, value, nullptr, 0, std::index_sequence_for<L...>(), labels...);
  }
  // buckets: n_bounds + 1 counts to add, not cumulative; sum in the base unit.
  template <class... L>
  void add_histogram(const uint64_t* buckets, double sum, const L&... labels) const {
    static_assert(kDef.kind == GOPHER_HISTOGRAM, "add_histogram() is for histograms");
    emit(GOPHER_ADD, 0, buckets, sum, std::index_sequence_for<L...>(), labels...);
  }

 private:
  template <size_t... I, class... L>
  void emit(gopher_op op, double value, const uint64_t* buckets, double sum,
            std::index_sequence<I...>, const L&... labels) const {
    static_assert(sizeof...(L) == kDef.n_labels, "as many labels as the table declares");
    const gopher_value values[sizeof...(L) + 1] = {
        detail::to_value<detail::member_type<kTable, kIndex, false, I>()>(labels)...};
    const gopher_sample s = {.labels = values,
                             .buckets = buckets,
                             .value = value,
                             .sum = sum,
                             .metric = kIndex,
                             .op = op};
    h_->sample(h_->ctx, &s);
  }
  const gopher_host* h_;
};

// What an event carries beside its type's own fields.
struct EventMeta {
  const gopher_process* process = nullptr;
  const gopher_event_id* recovers = nullptr;
  uint64_t time_ns = 0;
  uint64_t correlation = 0;
  gopher_severity severity = gopher_severity{};
};

template <const auto& kTable, FixedString kName>
class Event {
 public:
  static constexpr uint32_t kIndex = index_of(kTable, kName.view());
  static constexpr const gopher_event& kDef = kTable.items[kIndex];

  explicit Event(Host host) : h_(host.raw()) {}

  template <class... F>
  gopher_event_id emit(const EventMeta& meta, const F&... fields) const {
    return emit_(meta, std::index_sequence_for<F...>(), fields...);
  }

 private:
  template <size_t... I, class... F>
  gopher_event_id emit_(const EventMeta& meta, std::index_sequence<I...>,
                        const F&... fields) const {
    static_assert(sizeof...(F) == kDef.n_fields, "as many fields as the table declares");
    const gopher_value values[sizeof...(F) + 1] = {
        detail::to_value<detail::member_type<kTable, kIndex, true, I>()>(fields)...};
    const gopher_event_record r = {.process = meta.process,
                                   .fields = values,
                                   .recovers = meta.recovers,
                                   .time_ns = meta.time_ns,
                                   .correlation = meta.correlation,
                                   .event = kIndex,
                                   .severity = meta.severity};
    gopher_event_id id = {};
    h_->event(h_->ctx, &r, &id);
    return id;
  }
  const gopher_host* h_;
};

// A record from a ring, or nullptr if it is too short to be one.
template <class T>
const T* event_cast(const void* data, size_t len) {
  static_assert(std::is_trivially_copyable_v<T>);
  return len < sizeof(T) ? nullptr : static_cast<const T*>(data);
}

// A loaded and attached bpftool skeleton; its links and maps go when it goes.
template <class S>
class Skel {
 public:
  Skel() = default;

  // `configure(S*)` sets rodata and map sizes; it runs again when a rung had to be given up.
  // Bit i of `wanted` is hook i: a hook whose option is off is not even loaded.
  template <const auto& kHooks, class F>
  static Result<Skel> load(Host host, F configure, uint64_t wanted = ~uint64_t{0}) {
    Source<F> source{nullptr, std::move(configure), host.filter_bits()};
    const gopher_skeleton_source src = {
        .open = Source<F>::open, .close = Source<F>::close, .arg = &source};
    int err = host.raw()->load(host.raw()->ctx, &src, kHooks.items, kHooks.kSize, wanted);
    Skel out;
    out.s_.reset(source.s);
    if (err) return Error{err < 0 ? -err : err, ""};  // the host knows why, and says it
    return out;
  }
  S* operator->() const { return s_.get(); }
  explicit operator bool() const { return s_ != nullptr; }

 private:
  template <class F>
  struct Source {
    S* s;
    F configure;
    uint32_t filter_bits;
    static int open(void* arg, bpf_object_skeleton** out) {
      auto* self = static_cast<Source*>(arg);
      self->s = S::open();
      if (!self->s) return -errno;
      if constexpr (requires { self->s->rodata->gopher_filter_bits; })
        self->s->rodata->gopher_filter_bits = self->filter_bits;
      self->configure(self->s);
      *out = self->s->skeleton;
      return 0;
    }
    static void close(void* arg) {
      auto* self = static_cast<Source*>(arg);
      S::destroy(self->s);
      self->s = nullptr;
    }
  };
  struct Destroy {
    void operator()(S* s) const { S::destroy(s); }
  };
  std::unique_ptr<S, Destroy> s_;
};

namespace detail {

// The C functions around a probe class. Nothing throws across the C line: what the class or the
// standard library throws becomes -EFAULT with a log line.
template <class P>
struct Glue {
  struct Self {
    const gopher_host* host;
    P probe;
  };
  template <class F>
  static int guarded(const gopher_host* host, const char* what, F f) {
    try {
      return f();
    } catch (const std::exception& e) {
      Host(host).log(3, "%s threw: %s", what, e.what());
    } catch (...) {
      Host(host).log(3, "%s threw something unknown", what);
    }
    return -EFAULT;
  }
  static int report(const gopher_host* host, const Result<>& r) {
    if (r) return 0;
    if (!r.error().text.empty()) Host(host).log(3, "%s", r.error().text.c_str());
    return r.error().code > 0 ? -r.error().code : -EINVAL;
  }
  static int create(const gopher_host* host, const void* config, void** self) {
    return guarded(host, "the constructor", [&] {
      *self = new Self{host, P(Host(host), *static_cast<const typename P::Config*>(config))};
      return 0;
    });
  }
  static int start(void* p) {
    auto* s = static_cast<Self*>(p);
    return guarded(s->host, "start", [&] { return report(s->host, s->probe.start()); });
  }
  static int poll(void* p, uint64_t now_ns) {
    auto* s = static_cast<Self*>(p);
    if constexpr (requires { s->probe.poll(now_ns); })
      return guarded(s->host, "poll", [&] { return report(s->host, s->probe.poll(now_ns)); });
    return 0;
  }
  static int stop(void* p) {
    auto* s = static_cast<Self*>(p);
    return guarded(s->host, "stop", [&] { return report(s->host, s->probe.stop()); });
  }
  static void destroy(void* p) { delete static_cast<Self*>(p); }
};

}  // namespace detail
}  // namespace gopher

// Once, at the end of probe.cpp, outside any namespace: GOPHER_PROBE(io::Probe, io). The second
// argument is the namespace with kOptions, kMetrics, kEvents and kHooks.
#define GOPHER_PROBE(Class, ns)                                                          \
  extern "C" __attribute__((visibility("default"))) const gopher_probe_ops gopher_probe; \
  extern "C" constexpr gopher_probe_ops gopher_probe = {                                 \
      .abi = GOPHER_PROBE_ABI,                                                           \
      .size = sizeof(gopher_probe_ops),                                                  \
      .name = Class::kName,                                                              \
      .version = Class::kVersion,                                                        \
      .summary = Class::kSummary,                                                        \
      .options = ns::kOptions.items,                                                     \
      .metrics = ns::kMetrics.items,                                                     \
      .events = ns::kEvents.items,                                                       \
      .hooks = ns::kHooks.items,                                                         \
      .n_options = ns::kOptions.kSize,                                                   \
      .n_metrics = ns::kMetrics.kSize,                                                   \
      .n_events = ns::kEvents.kSize,                                                     \
      .n_hooks = ns::kHooks.kSize,                                                       \
      .config_size = sizeof(Class::Config),                                              \
      .create = gopher::detail::Glue<Class>::create,                                     \
      .start = gopher::detail::Glue<Class>::start,                                       \
      .poll = gopher::detail::Glue<Class>::poll,                                         \
      .stop = gopher::detail::Glue<Class>::stop,                                         \
      .destroy = gopher::detail::Glue<Class>::destroy,                                   \
  };
