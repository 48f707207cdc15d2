// devices.hpp - block devices of the test's own, what the kernel itself counts of them, and I/O.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/result.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gopher::test {

// Each device goes when its object goes.
class Device {
 public:
  virtual ~Device() = default;
  std::string path() const { return "/dev/" + name_; }
  const std::string& name() const { return name_; }
  uint32_t dev() const;  // major << 20 | minor
  // Writes a file of /sys/block/<name>/; false: it would not.
  bool set(const std::string& file, const std::string& text) const;
  std::string get(const std::string& file) const;

 protected:
  std::string name_;
};
using DevicePtr = std::unique_ptr<Device>;

// An error says why this kernel cannot: the reason of a skip.
Result<DevicePtr> make_loop(const std::string& backing_file, bool direct_io = false);
Result<DevicePtr> make_null_blk(const std::vector<std::pair<std::string, std::string>>& settings);
Result<DevicePtr> make_zram(uint64_t bytes);
Result<DevicePtr> make_scsi_debug();  // its medium error is at sector 0x1234
Result<DevicePtr> find_nvme();        // a disk that the guest was given

// A file of `bytes` in a folder of the test's own (tmpfs: in memory), gone with the object.
class TempFile {
 public:
  explicit TempFile(uint64_t bytes, const std::string& folder = "/dev/shm");
  ~TempFile();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// ext4 on a device, mounted on a folder of the test's own.
class Mount {
 public:
  static Result<std::unique_ptr<Mount>> ext4(const Device& device);
  ~Mount();
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
};

// /sys/block/<name>/stat: what the kernel counted.
struct Stat {
  uint64_t reads, read_sectors, writes, write_sectors, discards, discard_sectors, flushes;
  uint64_t read_ms, write_ms;
};
Stat stat_of(const Device& d);
Stat operator-(const Stat& a, const Stat& b);

// A device opened with O_DIRECT and a buffer for it.
class Direct {
 public:
  explicit Direct(const Device& d, int more_flags = 0);
  ~Direct();
  // Bytes moved, or -errno.
  ssize_t read(uint64_t offset, size_t bytes);
  ssize_t write(uint64_t offset, size_t bytes);
  int fd() const { return fd_; }

 private:
  int fd_;
  void* buffer_;
};

int shell(const std::string& command);  // by sh, its exit status

}  // namespace gopher::test
