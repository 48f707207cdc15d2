// output.cpp - the io probe's numbers and records as metrics and events.
// SPDX-License-Identifier: Apache-2.0
#include "output.hpp"

namespace io {
namespace {

double seconds(uint64_t ns) { return static_cast<double>(ns) * 1e-9; }
double number(uint64_t n) { return static_cast<double>(n); }

gopher_process to_process(const gopher_task& t) {
  gopher_process p;
  std::memcpy(&p, &t, sizeof p);
  return p;
}

// The same for all events of one request: its address is its own until it ends.
uint64_t correlation(uint64_t request, uint64_t start_ns) {
  return (request ^ start_ns * 0x9E3779B97F4A7C15) | 1;
}

}  // namespace

Output::Output(gopher::Host host)
    : duration_(host),
      stage_(host),
      requests_(host),
      bytes_(host),
      size_(host),
      sequential_(host),
      untimed_(host),
      errors_(host),
      in_flight_(host),
      oldest_(host),
      process_requests_(host),
      process_bytes_(host),
      process_duration_(host),
      process_dirtied_(host),
      added_(host),
      dirtied_(host),
      written_(host),
      io_error_(host),
      slow_request_(host),
      stuck_request_(host),
      stuck_request_ended_(host) {}

void Output::series(const io_key& k, const Gained& g) const {
  auto sum = [](const TimeCounts& counts) {
    uint64_t n = 0;
    for (uint64_t c : counts) n += c;
    return n;
  };
  if (g.requests) requests_.add(number(g.requests), k.dev, k.op, k.class_);
  if (g.bytes) bytes_.add(number(g.bytes), k.dev, k.op, k.class_);
  if (sum(g.total))
    duration_.add_histogram(g.total.data(), seconds(g.total_ns), k.dev, k.op, k.class_);
  if (sum(g.queue)) stage_.add_histogram(g.queue.data(), seconds(g.queue_ns), k.dev, k.op, kQueue);
  if (sum(g.device))
    stage_.add_histogram(g.device.data(), seconds(g.device_ns), k.dev, k.op, kDevice);
  if (sum(g.driver))
    stage_.add_histogram(g.driver.data(), seconds(g.driver_ns), k.dev, k.op, kDriver);
  if (g.with_data) size_.add_histogram(g.size.data(), number(g.bytes), k.dev, k.op);
  if (g.sequential && k.op <= IO_OP_WRITE) sequential_.add(number(g.sequential), k.dev, k.op);
  if (g.untimed) untimed_.add(number(g.untimed), k.dev, k.op);
}

void Output::pages(uint32_t dev, const io_pages& gained) const {
  if (gained.added) added_.add(number(gained.added), dev);
  if (gained.dirtied) dirtied_.add(number(gained.dirtied), dev);
  if (gained.written) written_.add(number(gained.written), dev);
}

void Output::error(const io_error_key& k, uint64_t n) const {
  errors_.add(number(n), k.dev, k.op, errno_of(k.error));
}

void Output::process(const io_process_key& k, const io_process_stats& gained) const {
  gopher_process p = {
      .tgid = k.tgid, .reserved = 0, .start_ns = k.start_ns, .cgroup_id = k.cgroup, .comm = {}};
  std::memcpy(p.comm, gained.comm, sizeof p.comm);
  if (k.op == IO_OP_DIRTIED) {
    process_dirtied_.add(number(gained.bytes), &p, k.dev);
    return;
  }
  if (gained.requests) process_requests_.add(number(gained.requests), &p, k.dev, k.op);
  if (gained.bytes) process_bytes_.add(number(gained.bytes), &p, k.dev, k.op);
  ProcessCounts counts{};
  fold(gained.time, IO_PROCESS_SLOTS, &counts);
  if (gained.ns)
    process_duration_.add_histogram(counts.data(), seconds(gained.ns), &p, k.dev, k.op);
}

void Output::depth(uint32_t dev, const InFlight::Depth& d) const {
  in_flight_.set(number(d.requests), dev);
  oldest_.set(seconds(d.oldest_ns), dev);
}

gopher_event_id Output::stuck(const InFlight::Stuck& s, uint64_t now_ns) const {
  const io_inflight& f = s.value;
  const gopher_process who = to_process(f.who);
  gopher::EventMeta meta = {.time_ns = now_ns, .correlation = correlation(s.request, f.start_ns)};
  if (who.comm[0]) meta.process = &who;
  return stuck_request_.emit(meta, f.dev, f.part ? f.part : f.dev, f.op, f.class_, f.sector,
                             f.bytes, now_ns - f.start_ns);
}

void Output::event(const io_record& e, const std::optional<gopher_event_id>& stuck) const {
  const gopher_process who = to_process(e.who);
  const uint32_t part = e.part ? e.part : e.dev;
  gopher::EventMeta meta = {.time_ns = e.time_ns,
                            .correlation = correlation(e.request, e.start_ns)};
  if (e.known) meta.process = &who;
  if (e.kinds & IO_EVENT_ERROR)
    io_error_.emit(meta, e.dev, part, e.op, e.class_, e.sector, e.bytes, e.total_ns, e.queue_ns,
                   e.device_ns, e.driver_ns, errno_of(e.error));
  if (e.kinds & IO_EVENT_SLOW)
    slow_request_.emit(meta, e.dev, part, e.op, e.class_, e.sector, e.bytes, e.total_ns, e.queue_ns,
                       e.device_ns, e.driver_ns);
  if (!stuck) return;
  meta.recovers = &*stuck;
  stuck_request_ended_.emit(meta, e.dev, part, e.op, e.class_, e.sector, e.bytes, e.total_ns,
                            e.queue_ns, e.device_ns, e.driver_ns, errno_of(e.error));
}

}  // namespace io
