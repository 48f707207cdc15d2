// logic.hpp - what the io probe works out by itself: errnos, differences, devices, stuck requests.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <io.h>

#include <gopher/probe.h>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "tables.hpp"

namespace io {

// The errno of a completion's status: a negative errno or a positive blk_status_t. 0: none.
int errno_of(int error);

// Counts as a histogram of the contract wants them: bounds + 1, the last is all above.
using TimeCounts = std::array<uint64_t, kTimeBounds.size() + 1>;
using SizeCounts = std::array<uint64_t, kSizeBounds.size() + 1>;
using ProcessCounts = std::array<uint64_t, kProcessBounds.size() + 1>;

// Adds slots of the kernel side to such counts.
template <class Counts, class T>
void fold(const T* slots, size_t n, Counts* out) {
  for (size_t i = 0; i < n; ++i) (*out)[i < out->size() ? i : out->size() - 1] += slots[i];
}

// What one slot gained between two looks.
struct Gained {
  uint64_t requests = 0, bytes = 0, sequential = 0, untimed = 0, unsplit = 0, with_data = 0;
  uint64_t total_ns = 0, queue_ns = 0, device_ns = 0, driver_ns = 0;
  TimeCounts total{}, queue{}, device{}, driver{};
  SizeCounts size{};
  bool any() const { return requests || bytes; }
};

// The running totals of each slot as they were last seen.
class SlotTotals {
 public:
  // `cpus`: the slot's value on each CPU.
  Gained take(uint32_t slot, std::span<const io_stats> cpus);
  io_pages take_pages(uint32_t slot, std::span<const io_pages> cpus);
  void forget(uint32_t slot);

 private:
  std::unordered_map<uint32_t, io_stats> stats_;
  std::unordered_map<uint32_t, io_pages> pages_;
};

// A block device that can do I/O (its size is not 0), as sysfs shows it.
struct Device {
  uint32_t dev;
  bool has_requests;  // false: dm, md, zram ...: only its bios are seen
};
std::vector<Device> scan_devices(const std::string& sys = "/sys");
bool device_exists(uint32_t dev, const std::string& sys = "/sys");
bool driver_present(const char* name, const std::string& sys = "/sys");  // "nvme" or "scsi"

// Does this device leave the time of issue unset in its requests? Not if only some lack it: a flush
// without data is never issued itself.
bool lacks_issue_times(const io_key& key, const Gained& g, std::span<const Device> devices);

// How many places for series the maps get: a power of two, half of it empty in the usual case.
uint32_t slots_for(size_t devices);

// Requests in flight, as seen in looks of the map; remembers those that were reported as stuck.
class InFlight {
 public:
  struct Depth {
    uint64_t requests = 0, oldest_ns = 0;
  };
  struct Stuck {
    uint64_t request;
    io_inflight value;
  };

  explicit InFlight(uint64_t stuck_ns) : stuck_ns_(stuck_ns) {}
  void begin();
  void see(uint64_t request, const io_inflight& f, uint64_t now_ns);
  // The requests that are stuck since this look; each must be given its event's id.
  std::vector<Stuck> end();
  void reported(uint64_t request, const gopher_event_id& id) { stuck_[request].id = id; }
  // The event that the end of this request ends.
  std::optional<gopher_event_id> ended(uint64_t request);

  // Every device that had a request in any look, so that its gauge can return to 0.
  const std::map<uint32_t, Depth>& devices() const { return devices_; }
  void forget(uint32_t dev) { devices_.erase(dev); }

 private:
  struct Reported {
    gopher_event_id id{};
    int looks_missed = 0;
  };
  uint64_t stuck_ns_;
  std::map<uint32_t, Depth> devices_;
  std::unordered_map<uint64_t, Reported> stuck_;
  std::vector<Stuck> fresh_;
};

}  // namespace io
