// config_load_test.cpp - files in, structs or sentences out.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "config/config.hpp"
#include "config/validate.hpp"

namespace gopher {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct DemoConfig {
  bool by_process;
  int64_t slow_ms;
  gopher_strings names;
};
constexpr auto kDemo = option_table({
    GOPHER_OPTION(DemoConfig, by_process, GOPHER_OPT_BOOL, "true", 0, 0, "", "Who did it."),
    GOPHER_OPTION(DemoConfig, slow_ms, GOPHER_OPT_INT, "1000", 0, 60000, "ms", "What is slow."),
    GOPHER_OPTION(DemoConfig, names, GOPHER_OPT_LIST, "[\"a\"]", 0, 0, "", "Some of the names."),
});

class ConfigTest : public testing::Test {
 protected:
  void SetUp() override {
    char dir[] = "/tmp/gopher-config-XXXXXX";
    dir_ = mkdtemp(dir);
    file_ = dir_ + "/gopher.conf";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
  }
  ConfigResult load() {
    const ProbeOptions probes[] = {{"demo", {kDemo.items, kDemo.kSize}, sizeof(DemoConfig)}};
    return load_config(file_, probes);
  }
  const DemoConfig& demo(const ConfigResult& r) {
    return *static_cast<const DemoConfig*>(r.config->probe("demo")->data());
  }
  std::string dir_, file_;
};

TEST_F(ConfigTest, EmptyFileGivesTheDefaults) {
  write(file_, "");
  auto r = load();
  ASSERT_TRUE(r.config) << r.errors[0];
  EXPECT_EQ(r.config->daemon().interval_s, 5.0);
  EXPECT_STREQ(r.config->daemon().state_dir, "/var/lib/gopher");
  EXPECT_STREQ(r.config->prometheus().listen, "127.0.0.1:8888");
  EXPECT_FALSE(r.config->probe_enabled("demo"));
  EXPECT_EQ(demo(r).slow_ms, 1000);
  ASSERT_EQ(demo(r).names.n, 1u);
  EXPECT_STREQ(demo(r).names.items[0], "a");
  EXPECT_EQ(validate(*r.config).size(), 0u);
}

TEST_F(ConfigTest, DropInsReplaceScalarsAndListsAndMergeGroups) {
  write(file_,
        "daemon = { interval_s = 2; log_level = \"debug\"; };\n"
        "filter = { pids = [1, 2]; };\n"
        "probes = { demo = { slow_ms = 5; names = [\"x\", \"y\"]; }; };\n");
  write(file_ + ".d/20-b.conf", "daemon = { interval_s = 4.5; };\n");
  write(file_ + ".d/10-a.conf",
        "daemon = { interval_s = 3.5; };\nprobes = { demo = { names = [\"z\"]; }; };\n");
  write(file_ + ".d/ignored.txt", "this is not read");
  auto r = load();
  ASSERT_TRUE(r.config) << r.errors[0];
  EXPECT_EQ(r.config->daemon().interval_s, 4.5);
  EXPECT_STREQ(r.config->daemon().log_level, "debug");
  EXPECT_EQ(r.config->filter().pids.n, 2u);
  EXPECT_STREQ(r.config->filter().pids.items[1], "2");
  EXPECT_EQ(demo(r).slow_ms, 5);
  ASSERT_EQ(demo(r).names.n, 1u);
  EXPECT_STREQ(demo(r).names.items[0], "z");
  EXPECT_TRUE(r.config->probe_enabled("demo"));
}

TEST_F(ConfigTest, AllMistakesOfMeaningAtOnceWithPlaceAndHint) {
  write(file_,
        "daemon = { intervall_s = 2;\n"
        "  log_level = \"loud\";\n"
        "  workers = 99; };\n"
        "promtheus = { };\n"
        "probes = { demo = { slow_ms = \"5\"; }; oi = { }; };\n"
        "kafka = 3;\n");
  auto r = load();
  EXPECT_FALSE(r.config);
  EXPECT_THAT(
      r.errors,
      ElementsAre(
          file_ + ":1: unknown option `intervall_s` in `daemon`; did you mean `interval_s`?",
          file_ + ":2: `daemon.log_level` is \"loud\", but must be one of \"error\", "
                  "\"warning\", \"info\", \"debug\"",
          file_ + ":3: `daemon.workers` is 99, but must be from 1 to 16",
          file_ + ":4: unknown group `promtheus`; did you mean `prometheus`?",
          file_ + ":5: `probes.demo.slow_ms` must be an integer",
          file_ + ":5: no plugin of that name: `oi`; known: demo",
          file_ + ":6: `kafka` is a group: kafka = { ... }"));
}

TEST_F(ConfigTest, SyntaxErrorHasItsLine) {
  write(file_, "daemon = {\n  interval_s = = 3;\n};\n");
  auto r = load();
  EXPECT_FALSE(r.config);
  ASSERT_EQ(r.errors.size(), 1u);
  EXPECT_THAT(r.errors[0], HasSubstr(file_ + ":2: syntax error"));
}

TEST_F(ConfigTest, AMistakeInADropInNamesTheDropIn) {
  write(file_, "");
  write(file_ + ".d/a.conf", "\n\nhistory = { max_mib = 0; };\n");
  auto r = load();
  ASSERT_EQ(r.errors.size(), 1u);
  EXPECT_EQ(r.errors[0], file_ +
                             ".d/a.conf:3: `history.max_mib` is 0, but must be from 1 to "
                             "1048576 MiB");
}

TEST_F(ConfigTest, MissingFileIsOneSentence) {
  auto r = load();
  ASSERT_EQ(r.errors.size(), 1u);
  EXPECT_EQ(r.errors[0], file_ + ": cannot be read: No such file or directory");
}

TEST_F(ConfigTest, ValidateLooksInsideStrings) {
  write(file_,
        "filter = {\n pids = (\"12x\", 0);\n cgroups = [\"a\"];\n devices = [\"/dev/sda\"]; };\n"
        "prometheus = { listen = \"8888\"; };\n");
  auto r = load();
  ASSERT_TRUE(r.config);
  auto errors = validate(*r.config);
  ASSERT_EQ(errors.size(), 5u);
  EXPECT_THAT(errors[0], HasSubstr(":2: `filter.pids` has `12x`, which is no process id"));
  EXPECT_THAT(errors[4], HasSubstr(":5: `prometheus.listen` is \"8888\""));
}

TEST_F(ConfigTest, EqualOptionsHaveEqualText) {
  write(file_, "daemon = { interval_s = 5; };");
  auto a = load();
  write(file_, "# another way to say it\ndaemon = { interval_s = 5.0; };");
  auto b = load();
  write(file_, "daemon = { interval_s = 6; };");
  auto c = load();
  EXPECT_EQ(a.config->text("daemon"), b.config->text("daemon"));
  EXPECT_NE(a.config->text("daemon"), c.config->text("daemon"));
}

TEST(SplitAddress, KnowsBothFamilies) {
  std::string host;
  uint16_t port = 0;
  EXPECT_TRUE(split_address("127.0.0.1:80", &host, &port));
  EXPECT_TRUE(split_address("[::1]:8888", &host, &port));
  EXPECT_EQ(host, "::1");
  EXPECT_EQ(port, 8888);
  for (const char* bad : {"", ":", "1.2.3.4", "1.2.3.4:", "1.2.3.4:70000", "::1:80", "host:1"})
    EXPECT_FALSE(split_address(bad, &host, &port)) << bad;
}

}  // namespace
}  // namespace gopher
