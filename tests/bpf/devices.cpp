// devices.cpp - block devices of the test's own.
// SPDX-License-Identifier: Apache-2.0
#include "devices.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "harness.hpp"

namespace gopher::test {
namespace {

namespace fs = std::filesystem;

bool write_file(const std::string& path, const std::string& text) {
  int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool ok = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  close(fd);
  return ok;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// On a machine with modules; elsewhere it is built in or not there.
void load_module(const std::string& words) { shell("modprobe -q " + words + " 2>/dev/null"); }

class Loop : public Device {
 public:
  explicit Loop(int number) { name_ = "loop" + std::to_string(number); }
  ~Loop() override {
    int fd = open(path().c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    ioctl(fd, LOOP_CLR_FD, 0);
    close(fd);
  }
};

class NullBlk : public Device {
 public:
  NullBlk(std::string folder, std::string name) : folder_(std::move(folder)) {
    name_ = std::move(name);
  }
  ~NullBlk() override {
    write_file(folder_ + "/power", "0");
    rmdir(folder_.c_str());
  }

 private:
  std::string folder_;
};

class Zram : public Device {
 public:
  explicit Zram(std::string number) : number_(std::move(number)) { name_ = "zram" + number_; }
  ~Zram() override {
    set("reset", "1");
    write_file("/sys/class/zram-control/hot_remove", number_);
  }

 private:
  std::string number_;
};

class Named : public Device {
 public:
  explicit Named(std::string name, std::string module = "") : module_(std::move(module)) {
    name_ = std::move(name);
  }
  ~Named() override {
    if (!module_.empty()) shell("modprobe -q -r " + module_);
  }

 private:
  std::string module_;
};

// A block device that was not there before.
std::string new_disk(const std::string& prefix, const std::vector<std::string>& before) {
  for (const auto& e : fs::directory_iterator("/sys/block")) {
    std::string name = e.path().filename();
    if (name.starts_with(prefix) && std::find(before.begin(), before.end(), name) == before.end())
      return name;
  }
  return "";
}

}  // namespace

int shell(const std::string& command) {
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

uint32_t Device::dev() const {
  struct stat st;
  if (stat(path().c_str(), &st)) return 0;
  return major(st.st_rdev) << 20 | minor(st.st_rdev);
}

bool Device::set(const std::string& file, const std::string& text) const {
  return write_file("/sys/block/" + name_ + "/" + file, text);
}

std::string Device::get(const std::string& file) const {
  return read_file("/sys/block/" + name_ + "/" + file);
}

Result<DevicePtr> make_loop(const std::string& backing_file, bool direct_io) {
  load_module("loop");
  int err = 0;
  for (int attempt = 0; attempt < 10; ++attempt) {  // another process may take it in between
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) return errno_error(errno, "this kernel has no loop devices");
    const int number = ioctl(control, LOOP_CTL_GET_FREE);
    close(control);
    if (number < 0) return errno_error(errno, "no free loop device");
    int file = open(backing_file.c_str(), O_RDWR | O_CLOEXEC);
    int fd = open(("/dev/loop" + std::to_string(number)).c_str(), O_RDWR | O_CLOEXEC);
    err = file < 0 || fd < 0 || ioctl(fd, LOOP_SET_FD, file) ? errno : 0;
    if (!err && direct_io && ioctl(fd, LOOP_SET_DIRECT_IO, 1)) {
      err = errno;
      ioctl(fd, LOOP_CLR_FD, 0);
    }
    if (fd >= 0) close(fd);
    if (file >= 0) close(file);
    if (!err) return DevicePtr(new Loop(number));
    if (err != EBUSY) break;
  }
  return errno_error(err, "loop device on " + backing_file);
}

Result<DevicePtr> make_null_blk(const std::vector<std::pair<std::string, std::string>>& settings) {
  load_module("null_blk nr_devices=0");
  const std::string config = "/sys/kernel/config";
  if (!fs::exists(config + "/nullb")) mount("configfs", config.c_str(), "configfs", 0, nullptr);
  if (!fs::exists(config + "/nullb")) return Error{ENODEV, "this kernel has no null_blk"};
  std::vector<std::string> before;
  for (const auto& e : fs::directory_iterator("/sys/block")) before.push_back(e.path().filename());
  static int count = 0;
  const std::string folder = config + "/nullb/gopher" + std::to_string(count++);
  if (mkdir(folder.c_str(), 0700)) return errno_error(errno, folder);
  auto fail = [&](const std::string& what) {
    rmdir(folder.c_str());
    return Error{EINVAL, "null_blk does not take " + what};
  };
  for (const auto& [key, value] : settings)
    if (!write_file(folder + "/" + key, value)) return fail(key);
  if (!write_file(folder + "/power", "1")) return fail("power");
  std::string name;
  wait_until(
      [&] {
        return !(name = new_disk("nullb", before)).empty() ||
               !(name = new_disk("gopher", before)).empty();
      },
      std::chrono::seconds(5));
  return DevicePtr(new NullBlk(folder, name));
}

Result<DevicePtr> make_zram(uint64_t bytes) {
  load_module("zram num_devices=0");
  const std::string number = read_file("/sys/class/zram-control/hot_add");
  if (number.empty()) return Error{ENODEV, "this kernel has no zram"};
  auto zram = std::make_unique<Zram>(number);
  if (!zram->set("disksize", std::to_string(bytes)))
    return errno_error(errno, "set the size of " + zram->name());
  return DevicePtr(std::move(zram));
}

Result<DevicePtr> make_scsi_debug() {
  std::vector<std::string> before;
  for (const auto& e : fs::directory_iterator("/sys/block")) before.push_back(e.path().filename());
  // opts=2: SDEBUG_OPT_MEDIUM_ERR
  if (shell("modprobe -q scsi_debug dev_size_mb=8 delay=0 opts=2 2>/dev/null") != 0)
    return Error{ENODEV, "this kernel has no scsi_debug"};
  load_module("sd_mod");
  std::string name;
  if (!wait_until(
          [&] { return !(name = new_disk("sd", before)).empty() && fs::exists("/dev/" + name); },
          std::chrono::seconds(10)))
    return Error{ENODEV, "scsi_debug made no disk"};
  return DevicePtr(new Named(name, "scsi_debug"));
}

Result<DevicePtr> find_nvme() {
  load_module("nvme");
  wait_until([] { return fs::exists("/dev/nvme0n1"); }, std::chrono::seconds(1));
  // A real disk of a real machine is not ours: only one that says it was made for this.
  if (!fs::exists("/dev/nvme0n1") ||
      !read_file("/sys/class/nvme/nvme0/serial").starts_with("gopher"))
    return Error{ENODEV, "there is no NVMe disk with the serial number gopher"};
  return DevicePtr(new Named("nvme0n1"));
}

TempFile::TempFile(uint64_t bytes, const std::string& folder) {
  path_ = folder + "/gopher-bpf-test.XXXXXX";
  int fd = mkstemp(path_.data());
  EXPECT_GE(fd, 0) << path_;
  EXPECT_EQ(ftruncate(fd, static_cast<off_t>(bytes)), 0);
  close(fd);
}

TempFile::~TempFile() { unlink(path_.c_str()); }

Result<std::unique_ptr<Mount>> Mount::ext4(const Device& device) {
  load_module("ext4");
  if (shell("mkfs.ext4 -q -F " + device.path() + " >/dev/null 2>&1") != 0)
    return Error{ENOENT, "mkfs.ext4 is missing or failed"};
  auto m = std::make_unique<Mount>();
  m->folder_ = "/tmp/gopher-bpf-test.XXXXXX";
  if (!mkdtemp(m->folder_.data())) return errno_error(errno, m->folder_);
  if (mount(device.path().c_str(), m->folder_.c_str(), "ext4", 0, nullptr)) {
    const int err = errno;
    rmdir(m->folder_.c_str());
    m->folder_.clear();
    return errno_error(err, "mount ext4");
  }
  return m;
}

Mount::~Mount() {
  if (folder_.empty()) return;
  umount2(folder_.c_str(), 0);
  rmdir(folder_.c_str());
}

Stat stat_of(const Device& d) {
  std::ifstream in("/sys/block/" + d.name() + "/stat");
  uint64_t f[17] = {};
  for (uint64_t& v : f) in >> v;
  return {.reads = f[0],
          .read_sectors = f[2],
          .writes = f[4],
          .write_sectors = f[6],
          .discards = f[11],
          .discard_sectors = f[13],
          .flushes = f[15],
          .read_ms = f[3],
          .write_ms = f[7]};
}

Stat operator-(const Stat& a, const Stat& b) {
  return {.reads = a.reads - b.reads,
          .read_sectors = a.read_sectors - b.read_sectors,
          .writes = a.writes - b.writes,
          .write_sectors = a.write_sectors - b.write_sectors,
          .discards = a.discards - b.discards,
          .discard_sectors = a.discard_sectors - b.discard_sectors,
          .flushes = a.flushes - b.flushes,
          .read_ms = a.read_ms - b.read_ms,
          .write_ms = a.write_ms - b.write_ms};
}

Direct::Direct(const Device& d, int more_flags)
    : fd_(open(d.path().c_str(), O_RDWR | O_DIRECT | O_CLOEXEC | more_flags)),
      buffer_(std::aligned_alloc(4096, 1 << 20)) {
  EXPECT_GE(fd_, 0) << d.path() << ": " << std::strerror(errno);
  std::memset(buffer_, 0x5a, 1 << 20);
}

Direct::~Direct() {
  close(fd_);
  std::free(buffer_);
}

ssize_t Direct::read(uint64_t offset, size_t bytes) {
  const ssize_t n = pread(fd_, buffer_, bytes, static_cast<off_t>(offset));
  return n < 0 ? -errno : n;
}

ssize_t Direct::write(uint64_t offset, size_t bytes) {
  const ssize_t n = pwrite(fd_, buffer_, bytes, static_cast<off_t>(offset));
  return n < 0 ? -errno : n;
}

}  // namespace gopher::test
