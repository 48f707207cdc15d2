// core_state_test.cpp - the state folder's lock and what systemd is told.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <filesystem>

#include "core/log.hpp"
#include "core/notify.hpp"
#include "core/state_dir.hpp"

namespace gopher {
namespace {

using testing::HasSubstr;

class StateDirTest : public testing::Test {
 protected:
  void SetUp() override {
    char dir[] = "/tmp/gopher-state-XXXXXX";
    dir_ = mkdtemp(dir);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string dir_;
};

TEST_F(StateDirTest, IsMadeWithItsParents) {
  auto s = StateDir::open(dir_ + "/a/b");
  ASSERT_TRUE(s) << s.error().text;
  struct stat st;
  ASSERT_EQ(stat((dir_ + "/a/b").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777u, 0750u);
}

TEST_F(StateDirTest, HasOneOwnerWhoIsNamed) {
  auto first = StateDir::open(dir_);
  ASSERT_TRUE(first);
  auto second = StateDir::open(dir_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EBUSY);
  EXPECT_THAT(second.error().text, HasSubstr("pid " + std::to_string(getpid())));
  first = Error{0, ""};
  EXPECT_TRUE(StateDir::open(dir_));
}

TEST_F(StateDirTest, IsFreeAgainWhenItsOwnerIsKilled) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  pid_t child = fork();
  if (child == 0) {
    auto s = StateDir::open(dir_);
    if (write(ready[1], s ? "y" : "n", 1) != 1) _exit(1);
    pause();
  }
  char answer = 0;
  ASSERT_EQ(read(ready[0], &answer, 1), 1);
  ASSERT_EQ(answer, 'y');
  EXPECT_FALSE(StateDir::open(dir_));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(StateDir::open(dir_));
  close(ready[0]);
  close(ready[1]);
}

TEST_F(StateDirTest, AFileInItsPlaceIsOneSentence) {
  auto s = StateDir::open("/dev/null/x");
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().text, "state folder /dev/null/x: Not a directory");
}

TEST_F(StateDirTest, NotifySendsOneDatagram) {
  const std::string path = dir_ + "/notify";
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un a = {};
  a.sun_family = AF_UNIX;
  path.copy(a.sun_path, sizeof a.sun_path - 1);
  ASSERT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
  setenv("NOTIFY_SOCKET", path.c_str(), 1);
  EXPECT_TRUE(notify("READY=1\nSTATUS=well"));
  char buf[64] = {};
  ASSERT_GT(recv(fd.get(), buf, sizeof buf, MSG_DONTWAIT), 0);
  EXPECT_STREQ(buf, "READY=1\nSTATUS=well");
  unsetenv("NOTIFY_SOCKET");
  EXPECT_FALSE(notify("READY=1"));
}

TEST(Watchdog, IsFedTwiceInItsTime) {
  setenv("WATCHDOG_USEC", "3000000", 1);
  EXPECT_EQ(watchdog_period_ns(), 1'500'000'000u);
  setenv("WATCHDOG_PID", "1", 1);
  EXPECT_EQ(watchdog_period_ns(), 0u);
  unsetenv("WATCHDOG_USEC");
  unsetenv("WATCHDOG_PID");
}

TEST(Log, OneLineWhateverIsInIt) {
  testing::internal::CaptureStderr();
  log::write(log::kError, "a process named %s", "evil\nerror forged line\x1b[2J");
  log::write(log::kDebug, "not shown");
  const std::string out = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 1);
  EXPECT_THAT(out, HasSubstr("error a process named evil error forged line [2J\n"));
}

}  // namespace
}  // namespace gopher
