// probe.cpp - the io probe: loads what its options ask for, reads the totals at every interval.
// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>
#include <fcntl.h>
#include <io.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <gopher/probe.hpp>
#include <gopher/totals.hpp>
#include <memory>
#include <optional>
#include <vector>

#include "io.skel.h"
#include "logic.hpp"
#include "output.hpp"
#include "tables.hpp"

namespace io {

using gopher::Ok;
using gopher::Result;

static_assert(GOPHER_BPF_FILTER_PID == uint32_t{GOPHER_FILTER_PID} &&
              GOPHER_BPF_FILTER_CGROUP == uint32_t{GOPHER_FILTER_CGROUP} &&
              GOPHER_BPF_FILTER_DEV == uint32_t{GOPHER_FILTER_DEV} &&
              GOPHER_CGROUP_SHIFT == GOPHER_HIERARCHY_SHIFT &&
              GOPHER_CGROUP_MEMORY == uint64_t{GOPHER_HIERARCHY_MEMORY} &&
              GOPHER_CGROUP_CPU == uint64_t{GOPHER_HIERARCHY_CPU} &&
              GOPHER_CGROUP_PIDS == uint64_t{GOPHER_HIERARCHY_PIDS});

constexpr uint64_t kDeviceScanNs = 15'000'000'000;
constexpr const char* kLostStages[] = {"stats_full", "pages_full", "processes_full",
                                       "in_flight_full", "errors_full"};
static_assert(std::size(kLostStages) == IO_LOSSES);

consteval uint64_t bit(std::string_view hook) { return uint64_t{1} << index_of(kHooks, hook); }

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  ~UniqueFd() { reset(); }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  void reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

class Probe {
 public:
  using Config = io::Config;
  static constexpr auto kName = "io", kVersion = "1.0",
                        kSummary = "Block requests and the page cache: latency, errors, causes.";

  Probe(gopher::Host host, const Config& config) : host_(host), cfg_(config), out_(host) {}

  Result<> start() {
    late_start_ = issue_times_ = false;
    devices_ = scan_devices();
    return load();
  }

  Result<> poll(uint64_t now_ns) {
    if (!maps_)
      if (auto r = load(); !r) return r;  // an earlier try failed
    if (auto r = maps_->collect(*this, now_ns); !r) return r;
    return reload_if_needed(now_ns);
  }

  Result<> stop() {
    auto r = unload();
    ring_.reset();
    drops_.reset();
    return r;
  }

 private:
  // What goes with the loaded object.
  struct Maps {
    Maps(gopher::Skel<io_bpf> s, uint64_t stuck_ns)
        : skel(std::move(s)),
          owners(fd(skel->maps.io_owners)),
          inflight(fd(skel->maps.io_inflight)),
          errors(fd(skel->maps.io_errors)),
          processes(fd(skel->maps.io_processes)),
          in_flight(stuck_ns) {}
    static int fd(const bpf_map* m) { return bpf_map__fd(m); }

    Result<> collect(Probe& p, uint64_t now_ns);
    Result<> collect_slots(Probe& p);
    Result<> collect_in_flight(Probe& p, uint64_t now_ns);
    void collect_lost(Probe& p);
    void free_slot(uint32_t slot, uint32_t dev);

    gopher::Skel<io_bpf> skel;
    gopher::HashReader<uint32_t, io_key> owners;
    gopher::HashReader<uint64_t, io_inflight> inflight;
    gopher::Totals<io_error_key, uint64_t, false> errors;
    gopher::Totals<io_process_key, io_process_stats, false, GOPHER_COMM_LEN> processes;
    SlotTotals totals;
    InFlight in_flight;
    uint64_t lost[IO_LOSSES] = {};
  };

  bool filters_processes() const {
    return host_.filter_bits() & (GOPHER_FILTER_PID | GOPHER_FILTER_CGROUP);
  }
  bool needs_start() const { return cfg_.by_process || filters_processes(); }
  bool has_bio_devices() const {
    return std::any_of(devices_.begin(), devices_.end(),
                       [](const Device& d) { return !d.has_requests; });
  }
  uint64_t driver_hooks() const {
    if (!cfg_.driver_stage) return 0;
    return (driver_present("nvme") ? bit("nvme") : 0) | (driver_present("scsi") ? bit("scsi") : 0);
  }

  uint64_t wanted() const {
    uint64_t w = bit("complete") | driver_hooks();
    if (needs_start())
      w |=
          bit("merge") | (late_start_ ? bit("getrq") | bit("insert") | bit("issue") : bit("start"));
    if (issue_times_) w |= bit("issue");
    if (has_bio_devices()) w |= bit("bio_queue") | bit("bio_complete");
    if (cfg_.page_cache) w |= bit("add") | bit("dirty") | bit("written");
    return w;
  }

  void configure(io_bpf* s) const {
    const uint32_t slots = slots_for(devices_.size());
    s->rodata->io_slot_mask = slots - 1;
    s->rodata->io_page_size = static_cast<uint32_t>(sysconf(_SC_PAGESIZE));
    if (cfg_.slow_ms) s->rodata->io_slow_ns = static_cast<uint64_t>(cfg_.slow_ms) * 1'000'000;
    if (cfg_.stuck_s) s->rodata->io_stuck_ns = static_cast<uint64_t>(cfg_.stuck_s) * 1'000'000'000;
    s->rodata->io_by_process = cfg_.by_process;
    s->rodata->io_late_start = late_start_;
    s->rodata->io_issue_times = issue_times_;
    s->rodata->io_tracking = needs_start() || issue_times_ || driver_hooks();
    bpf_map__set_max_entries(s->maps.io_stats, slots);
    bpf_map__set_max_entries(s->maps.io_owners, slots);
    bpf_map__set_max_entries(s->maps.io_pages, cfg_.page_cache ? slots : 1);
    if (!cfg_.by_process) bpf_map__set_max_entries(s->maps.io_processes, 1);
    if (!s->rodata->io_tracking && !has_bio_devices())
      bpf_map__set_max_entries(s->maps.io_inflight, 1);
    // The ring stays the daemon's when the programs are loaded anew, and no record is lost.
    if (ring_) bpf_map__reuse_fd(s->maps.io_events, ring_.get());
    if (drops_) bpf_map__reuse_fd(s->maps.io_events_drops, drops_.get());
  }

  Result<> load() {
    while (true) {
      auto skel = gopher::Skel<io_bpf>::load<kHooks>(
          host_, [this](io_bpf* s) { configure(s); }, wanted());
      if (!skel) return std::move(skel).error();
      const bool started = host_.attached(index_of(kHooks, "start"));
      if (needs_start() && !late_start_ && !started) {
        late_start_ = true;  // this kernel has no such place: what stands in for it, from now on
        continue;
      }
      const bool stuck = host_.attached(index_of(kHooks, "merge"));
      maps_ = std::make_unique<Maps>(
          *std::move(skel), stuck ? static_cast<uint64_t>(cfg_.stuck_s) * 1'000'000'000 : 0);
      break;
    }
    const bool no_driver = cfg_.driver_stage && !driver_hooks();
    host_.degraded(no_driver ? "driver_stage is on, but there is no NVMe or SCSI device" : nullptr);
    return open_ring();
  }

  Result<> open_ring() {
    if (ring_) return Ok{};
    ring_.reset(fcntl(Maps::fd(maps_->skel->maps.io_events), F_DUPFD_CLOEXEC, 0));
    drops_.reset(fcntl(Maps::fd(maps_->skel->maps.io_events_drops), F_DUPFD_CLOEXEC, 0));
    if (!ring_ || !drops_) return gopher::errno_error(errno, "keep the ring buffer");
    const gopher_host* h = host_.raw();
    if (int err = h->add_ring(h->ctx, ring_.get(), drops_.get(), on_event, this))
      return gopher::errno_error(err, "add the ring buffer");
    return Ok{};
  }

  // Detaches first, so that what is read then is all that there will ever be.
  Result<> unload() {
    if (!maps_) return Ok{};
    io_bpf::detach(maps_->skel.operator->());
    auto r = maps_->collect(*this, 0);
    maps_.reset();
    return r;
  }

  // A device without requests has appeared, or one whose requests lack the time of their issue: the
  // hooks for it are loaded now. For some 100 ms nothing is seen, which happens once.
  Result<> reload_if_needed(uint64_t now_ns) {
    const bool had = has_bio_devices();
    if (now_ns >= next_scan_ns_) {
      next_scan_ns_ = now_ns + kDeviceScanNs;
      devices_ = scan_devices();
    }
    const bool bios = has_bio_devices() && !had;
    const bool issue = lacks_issue_times_ && !issue_times_;
    if (!bios && !issue) return Ok{};
    issue_times_ |= issue;
    host_.log(6, "loading more hooks: %s",
              bios ? "a device without requests has appeared"
                   : "the kernel does not note when requests are issued");
    if (auto r = unload(); !r) return r;
    return load();
  }

  static int on_event(void* self, const void* data, size_t len) {
    auto* e = gopher::event_cast<io_record>(data, len);
    if (!e) return -EINVAL;
    auto& p = *static_cast<Probe*>(self);
    std::optional<gopher_event_id> stuck;
    if (p.maps_ && (e->kinds & IO_EVENT_UNSTUCK)) stuck = p.maps_->in_flight.ended(e->request);
    p.out_.event(*e, stuck);
    return 0;
  }

  gopher::Host host_;
  const Config cfg_;
  const Output out_;
  std::vector<Device> devices_;
  std::unique_ptr<Maps> maps_;
  UniqueFd ring_, drops_;
  uint64_t next_scan_ns_ = 0;
  bool late_start_ = false;         // hook `start` is missing
  bool issue_times_ = false;        // hook `issue` is wanted for its time
  bool lacks_issue_times_ = false;  // seen: a device whose requests have none
};

Result<> Probe::Maps::collect(Probe& p, uint64_t now_ns) {
  if (auto r = collect_slots(p); !r) return r;
  auto r = errors.drain([&](const io_error_key& k, uint64_t n) { p.out_.error(k, n); },
                        [](const io_error_key&) {});
  if (!r) return r;
  if (p.cfg_.by_process) {
    r = processes.drain(
        [&](const io_process_key& k, const io_process_stats& s) { p.out_.process(k, s); },
        [](const io_process_key&) {});
    if (!r) return r;
  }
  collect_lost(p);
  return now_ns && p.needs_start() ? collect_in_flight(p, now_ns) : Ok{};
}

Result<> Probe::Maps::collect_slots(Probe& p) {
  const auto cpus = static_cast<size_t>(libbpf_num_possible_cpus());
  std::vector<io_stats> stats(cpus);
  std::vector<io_pages> pages(cpus);
  std::vector<std::pair<uint32_t, uint32_t>> idle;
  int failed = 0;
  auto r = owners.each([&](uint32_t slot, const io_key* key) {
    bool gained;
    if (key->op == IO_OP_PAGES) {
      if (bpf_map_lookup_elem(fd(skel->maps.io_pages), &slot, pages.data())) failed = errno;
      const io_pages g = totals.take_pages(slot, pages);
      gained = g.added || g.dirtied || g.written;
      if (gained) p.out_.pages(key->dev, g);
    } else {
      if (bpf_map_lookup_elem(fd(skel->maps.io_stats), &slot, stats.data())) failed = errno;
      const Gained g = totals.take(slot, stats);
      gained = g.any();
      if (gained) p.out_.series(*key, g);
      p.lacks_issue_times_ |= lacks_issue_times(*key, g, p.devices_);
    }
    // Major 0 is a file system without a device of its own (btrfs, NFS): sysfs does not know it.
    if (!gained && key->dev >> 20 && !device_exists(key->dev)) idle.emplace_back(slot, key->dev);
  });
  if (r && failed) r = gopher::errno_error(failed, "read the totals");
  for (const auto& [slot, dev] : idle) free_slot(slot, dev);
  return r;
}

// The device is gone, so nobody counts here any more.
void Probe::Maps::free_slot(uint32_t slot, uint32_t dev) {
  for (auto& entry : skel->bss->io_cache)
    if (entry.slot >> 32 == dev) entry.slot = 0;
  for (auto& entry : skel->bss->io_page_cache)
    if (entry >> 32 == dev) entry = 0;
  const auto cpus = static_cast<size_t>(libbpf_num_possible_cpus());
  const std::vector<io_stats> zeros(cpus);
  bpf_map_delete_elem(fd(skel->maps.io_owners), &slot);
  bpf_map_update_elem(fd(skel->maps.io_stats), &slot, zeros.data(), BPF_ANY);
  if (slot < bpf_map__max_entries(skel->maps.io_pages))
    bpf_map_update_elem(fd(skel->maps.io_pages), &slot, zeros.data(), BPF_ANY);
  totals.forget(slot);
  in_flight.forget(dev);
}

Result<> Probe::Maps::collect_in_flight(Probe& p, uint64_t now_ns) {
  in_flight.begin();
  auto r = inflight.each(
      [&](uint64_t request, const io_inflight* f) { in_flight.see(request, *f, now_ns); });
  for (const InFlight::Stuck& s : in_flight.end())
    in_flight.reported(s.request, p.out_.stuck(s, now_ns));
  for (const auto& [dev, depth] : in_flight.devices()) p.out_.depth(dev, depth);
  return r;
}

void Probe::Maps::collect_lost(Probe& p) {
  std::vector<uint64_t> cpus(static_cast<size_t>(libbpf_num_possible_cpus()));
  for (uint32_t i = 0; i < IO_LOSSES; ++i) {
    if (bpf_map_lookup_elem(fd(skel->maps.io_lost), &i, cpus.data())) continue;
    uint64_t total = 0;
    for (uint64_t n : cpus) total += n;
    if (total != lost[i]) p.host_.lost(kLostStages[i], total - lost[i]);
    lost[i] = total;
  }
}

}  // namespace io

GOPHER_PROBE(io::Probe, io)
