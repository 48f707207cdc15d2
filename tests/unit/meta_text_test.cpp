// meta_text_test.cpp - raw ids as people know them, from a copy of sysfs and from this machine.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "meta/text.hpp"

namespace gopher {
namespace {

namespace fs = std::filesystem;

class MetaTest : public testing::Test {
 protected:
  void SetUp() override {
    char dir[] = "/tmp/gopher-meta-XXXXXX";
    sys_ = mkdtemp(dir);
    fs::create_directories(sys_ + "/dev/block");
    device("8:0", "sda");
    device("8:1", "sda/sda1");
    device("104:0", "cciss!c0d0");
    device("9:127", "md127");
    device("253:2", "dm-2");
    fs::create_directories(sys_ + "/devices/dm-2/dm");
    std::ofstream(sys_ + "/devices/dm-2/dm/name") << "vg-root\n";
  }
  void TearDown() override { fs::remove_all(sys_); }
  void device(const std::string& number, const std::string& path) {
    fs::create_directories(sys_ + "/devices/" + path);
    fs::create_symlink("../../devices/" + path, sys_ + "/dev/block/" + number);
  }
  std::string text(gopher_type type, gopher_value v) {
    std::string out;
    MetaText(cgroups_, sys_).append(type, v, &out);
    return out;
  }
  static gopher_value num(uint64_t n) {
    gopher_value v = {};
    v.num = n;
    return v;
  }
  std::string sys_;
  Cgroups cgroups_;
};

TEST_F(MetaTest, DevicesAreNamedAsLsblkDoes) {
  EXPECT_EQ(device_name(8u << 20, sys_), "sda");
  EXPECT_EQ(device_name(8u << 20 | 1, sys_), "sda1");
  EXPECT_EQ(device_name(104u << 20, sys_), "cciss/c0d0");
  EXPECT_EQ(device_name(9u << 20 | 127, sys_), "md127");
  EXPECT_EQ(device_name(253u << 20 | 2, sys_), "vg-root");
  EXPECT_EQ(device_name(7u << 20 | 3, sys_), "7:3");
}

TEST_F(MetaTest, NamesLeadBackToNumbers) {
  EXPECT_EQ(device_number("vg-root", sys_), 253u << 20 | 2);
  EXPECT_EQ(device_number("sda1", sys_), 8u << 20 | 1);
  EXPECT_EQ(device_number("sdz", sys_), 0u);
}

TEST_F(MetaTest, ScalarsAreWrittenAsTheirTypeSays) {
  EXPECT_EQ(text(GOPHER_DEV, num(8u << 20)), "sda");
  EXPECT_EQ(text(GOPHER_ERRNO, num(static_cast<uint64_t>(-5))), "EIO");
  EXPECT_EQ(text(GOPHER_ERRNO, num(28)), "ENOSPC");
  EXPECT_EQ(text(GOPHER_ERRNO, num(99999)), "99999");
  EXPECT_EQ(text(GOPHER_BOOL, num(1)), "true");
  EXPECT_EQ(text(GOPHER_NS, num(1'500'000'000)), "1.5");
  EXPECT_EQ(text(GOPHER_U64, num(UINT64_MAX)), "18446744073709551615");
  EXPECT_EQ(text(GOPHER_I64, num(UINT64_MAX)), "-1");
  EXPECT_EQ(text(GOPHER_CGROUP, num(0)), "");
  gopher_value address = {};
  const unsigned char loopback[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  address.data = loopback;
  address.len = 16;
  EXPECT_EQ(text(GOPHER_ADDR, address), "::1");
  address.len = 5;  // no address has five bytes
  EXPECT_EQ(text(GOPHER_ADDR, address), "");
}

TEST_F(MetaTest, ACgroupsIdLeadsToItsPathAndBack) {
  // The v2 hierarchy of this machine, whether it is alone or beside v1.
  std::string root =
      fs::exists("/sys/fs/cgroup/cgroup.controllers") ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
  const std::string path = "/gopher-meta-test-" + std::to_string(getpid());
  if (mkdir((root + path).c_str(), 0755)) {
    if (std::getenv("CI")) FAIL() << "cannot make a cgroup in " << root;
    GTEST_SKIP() << "cannot make a cgroup in " << root << ": needs root";
  }
  struct stat st = {};
  EXPECT_EQ(stat((root + path).c_str(), &st), 0);
  auto ids = cgroups_.ids(path);
  EXPECT_THAT(ids, testing::ElementsAre(st.st_ino));
  EXPECT_EQ(cgroups_.path(st.st_ino), path);
  MetaText meta(cgroups_);
  std::string before, after;
  meta.append(GOPHER_CGROUP, num(st.st_ino), &before);
  rmdir((root + path).c_str());
  EXPECT_EQ(cgroups_.path(st.st_ino), "");
  meta.append(GOPHER_CGROUP, num(st.st_ino), &after);  // for the events that come late
  EXPECT_EQ(before, path);
  EXPECT_EQ(after, path);
}

TEST_F(MetaTest, TheRootOfEachHierarchyIsASlash) {
  for (uint64_t id : cgroups_.ids("/")) EXPECT_EQ(cgroups_.path(id), "/");
}

}  // namespace
}  // namespace gopher
