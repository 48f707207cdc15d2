// logic.cpp - what the io probe works out by itself.
// SPDX-License-Identifier: Apache-2.0
#include "logic.hpp"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string_view>

namespace io {
namespace {

// include/linux/blk_types.h. Numbers from 14 on moved between kernels (BLK_STS_ZONE_RESOURCE came
// and went, 6.3 and 6.9), so they are no more than "failed".
constexpr int kStatus[] = {0,       EOPNOTSUPP, ETIMEDOUT, ENOSPC, ENOLINK, EREMOTEIO, EBADE,
                           ENODATA, EILSEQ,     ENOMEM,    EIO,    EREMCHG, EAGAIN,    EBUSY};

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

bool exists(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0;
}

bool folder_has_entries(const std::string& path, const std::string& prefix) {
  DIR* d = opendir(path.c_str());
  if (!d) return false;
  bool found = false;
  while (const dirent* e = readdir(d))
    found |= e->d_name[0] != '.' && std::string_view(e->d_name).starts_with(prefix);
  closedir(d);
  return found;
}

// The u32 counts wrap: a difference of two is right all the same.
template <size_t N, class Counts>
uint64_t gain(const uint32_t (&now)[N], const uint32_t (&last)[N], Counts* out) {
  uint32_t difference[N];
  uint64_t sum = 0;
  for (size_t i = 0; i < N; ++i) sum += difference[i] = now[i] - last[i];
  fold(difference, N, out);
  return sum;
}

io_stats sum(std::span<const io_stats> cpus) {
  io_stats t = {};
  for (const io_stats& c : cpus) {
    t.bytes += c.bytes;
    t.queue_ns += c.queue_ns;
    t.device_ns += c.device_ns;
    t.driver_ns += c.driver_ns;
    t.sequential += c.sequential;
    t.untimed += c.untimed;
    t.unsplit += c.unsplit;
    t.unsplit_ns += c.unsplit_ns;
    for (int i = 0; i < IO_TIME_SLOTS; ++i) {
      t.total[i] += c.total[i];
      t.queue[i] += c.queue[i];
      t.device[i] += c.device[i];
      t.driver[i] += c.driver[i];
    }
    for (int i = 0; i < IO_SIZE_SLOTS; ++i) t.size[i] += c.size[i];
  }
  return t;
}

}  // namespace

int errno_of(int error) {
  if (error <= 0) return -error;
  return static_cast<size_t>(error) < std::size(kStatus) ? kStatus[error] : EIO;
}

Gained SlotTotals::take(uint32_t slot, std::span<const io_stats> cpus) {
  const io_stats now = sum(cpus);
  io_stats& last = stats_[slot];
  Gained g;
  g.bytes = now.bytes - last.bytes;
  g.sequential = now.sequential - last.sequential;
  g.untimed = now.untimed - last.untimed;
  g.unsplit = now.unsplit - last.unsplit;
  g.queue_ns = now.queue_ns - last.queue_ns;
  g.device_ns = now.device_ns - last.device_ns;
  g.driver_ns = now.driver_ns - last.driver_ns;
  g.total_ns = g.queue_ns + g.device_ns + g.driver_ns + now.unsplit_ns - last.unsplit_ns;
  g.requests = g.untimed + gain(now.total, last.total, &g.total);
  gain(now.queue, last.queue, &g.queue);
  gain(now.device, last.device, &g.device);
  gain(now.driver, last.driver, &g.driver);
  g.with_data = gain(now.size, last.size, &g.size);
  last = now;
  return g;
}

io_pages SlotTotals::take_pages(uint32_t slot, std::span<const io_pages> cpus) {
  io_pages now = {};
  for (const io_pages& c : cpus) {
    now.added += c.added;
    now.dirtied += c.dirtied;
    now.written += c.written;
  }
  io_pages& last = pages_[slot];
  const io_pages gained = {now.added - last.added, now.dirtied - last.dirtied,
                           now.written - last.written};
  last = now;
  return gained;
}

void SlotTotals::forget(uint32_t slot) {
  stats_.erase(slot);
  pages_.erase(slot);
}

std::vector<Device> scan_devices(const std::string& sys) {
  std::vector<Device> out;
  const std::string folder = sys + "/block";
  DIR* d = opendir(folder.c_str());
  if (!d) return out;
  while (const dirent* e = readdir(d)) {
    const std::string path = folder + "/" + e->d_name;
    unsigned major = 0, minor = 0;
    if (e->d_name[0] == '.' ||
        std::sscanf(first_line(path + "/dev").c_str(), "%u:%u", &major, &minor) != 2 ||
        std::strtoull(first_line(path + "/size").c_str(), nullptr, 10) == 0)
      continue;
    out.push_back({major << 20 | minor, exists(path + "/mq")});
  }
  closedir(d);
  return out;
}

bool device_exists(uint32_t dev, const std::string& sys) {
  return exists(sys + "/dev/block/" + std::to_string(dev >> 20) + ":" +
                std::to_string(dev & 0xfffff));
}

bool driver_present(const char* name, const std::string& sys) {
  if (std::string_view(name) == "scsi") return folder_has_entries(sys + "/class/scsi_host", "host");
  return folder_has_entries(sys + "/class/nvme", "nvme");
}

bool lacks_issue_times(const io_key& key, const Gained& g, std::span<const Device> devices) {
  if (key.op > IO_OP_WRITE || !g.with_data || !g.unsplit || g.unsplit < g.requests) return false;
  return std::any_of(devices.begin(), devices.end(),
                     [&](const Device& d) { return d.dev == key.dev && d.has_requests; });
}

uint32_t slots_for(size_t devices) {
  // A device in use has 6 to 8 series (reads and writes by class, flush, discard, page cache).
  const size_t wanted = 16 * (devices + 8);
  return static_cast<uint32_t>(std::clamp(std::bit_ceil(wanted), size_t{256}, size_t{4096}));
}

void InFlight::begin() {
  for (auto& [dev, depth] : devices_) depth = {};
  for (auto& [request, r] : stuck_) ++r.looks_missed;
  fresh_.clear();
}

void InFlight::see(uint64_t request, const io_inflight& f, uint64_t now_ns) {
  if (!f.start_ns) return;  // only its time stamps are kept
  const uint64_t age = now_ns > f.start_ns ? now_ns - f.start_ns : 0;
  Depth& d = devices_[f.dev];
  ++d.requests;
  d.oldest_ns = std::max(d.oldest_ns, age);
  if (!stuck_ns_ || age < stuck_ns_) return;
  auto [it, fresh] = stuck_.try_emplace(request);
  it->second.looks_missed = 0;
  if (fresh) fresh_.push_back({request, f});
}

std::vector<InFlight::Stuck> InFlight::end() {
  // The record of its end may still be on its way when the map has lost it: a second look decides.
  std::erase_if(stuck_, [](const auto& s) { return s.second.looks_missed > 1; });
  return std::move(fresh_);
}

std::optional<gopher_event_id> InFlight::ended(uint64_t request) {
  auto it = stuck_.find(request);
  if (it == stuck_.end()) return std::nullopt;
  const gopher_event_id id = it->second.id;
  stuck_.erase(it);
  return id;
}

}  // namespace io
