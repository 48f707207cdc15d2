// plugin_host_test.cpp - good and bad plugins side by side: who runs, who fails, and why.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "core/clock.hpp"
#include "plugin/host.hpp"

namespace gopher {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class PluginHostTest : public testing::Test {
 protected:
  void SetUp() override {
    char dir[] = "/tmp/gopher-plugin-XXXXXX";
    dir_ = mkdtemp(dir);
    auto scan = scan_libraries(TEST_PLUGIN_DIR);
    ASSERT_TRUE(scan) << scan.error().text;
    refused_ = scan->refused;
    for (const Library& l : scan->libraries) {
      const auto& o = l.ops();
      options_.push_back({o.name, {o.options, o.n_options}, o.config_size});
    }
    host_ = std::make_unique<PluginHost>(std::move(scan->libraries), store_, queue_, text_,
                                         cgroups_, Mask{}, FilterMaps{});
  }
  void TearDown() override {
    if (host_) {
      EXPECT_TRUE(host_->stop());
    }
    std::filesystem::remove_all(dir_);
  }
  std::shared_ptr<const Config> config(const std::string& text) {
    std::ofstream(dir_ + "/c.conf") << text;
    auto r = load_config(dir_ + "/c.conf", options_);
    EXPECT_THAT(r.errors, IsEmpty());
    return r.config;
  }
  PluginHost::ProbeStatus status(const std::string& name) {
    for (auto& s : host_->status())
      if (s.name == name) return s;
    ADD_FAILURE() << "no probe " << name;
    return {};
  }
  // Waits for a condition; the deadline is generous, the usual wait is a few turns of the worker.
  template <class F>
  bool wait(F f) {
    const uint64_t end = monotonic_ns() + 20'000'000'000;
    while (!f()) {
      if (monotonic_ns() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }
  double polls(const std::string& metric) {
    Store::Cursor cursor(store_);
    for (Chunk c; cursor.next(&c);)
      if (c.metric->name == metric && !c.series.empty()) return c.series[0].value;
    return 0;
  }

  std::string dir_;
  std::vector<std::string> refused_;
  std::vector<ProbeOptions> options_;
  Cgroups cgroups_;
  MetaText text_{cgroups_};
  Store store_{StoreLimits{}, text_};
  EventQueue queue_{100};
  std::unique_ptr<PluginHost> host_;
};

TEST_F(PluginHostTest, RefusesWhatIsNoPluginWithAReasonEach) {
  ASSERT_THAT(refused_, SizeIs(3));
  EXPECT_THAT(refused_[0], HasSubstr("missing_symbol.so: "));
  EXPECT_THAT(refused_[0], HasSubstr("undefined symbol: gopher_nobody_has_this"));
  EXPECT_EQ(refused_[1], "no_symbol.so: exports no symbol gopher_probe");
  EXPECT_EQ(refused_[2], "wrong_abi.so: is built for probe ABI 7, this gopherd has 1");
}

TEST_F(PluginHostTest, OneThatThrowsDoesNotStopTheOthers) {
  host_->start(
      config("daemon = { interval_s = 0.1; };\n"
             "probes = { alpha = {}; beta = { mode = \"throw_in_constructor\"; };\n"
             "           gamma = { mode = \"not_supported\"; }; };"));
  ASSERT_TRUE(wait([&] { return polls("gopher_alpha_polls_total") >= 2; }));
  EXPECT_EQ(status("alpha").state, ProbeState::kRunning);
  EXPECT_EQ(status("beta").state, ProbeState::kFailed);
  EXPECT_THAT(status("beta").reason, HasSubstr("the constructor threw: boom"));
  EXPECT_EQ(status("gamma").state, ProbeState::kFailed);
  EXPECT_EQ(status("gamma").reason, "this kernel cannot");
  EXPECT_EQ(status("gamma").starts, 0u);
  auto events = queue_.take(10, std::chrono::seconds(5));
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_STREQ(events[0].type->name, "started");
  EXPECT_EQ(std::get<uint64_t>(events[0].fields[0]), 1u);
}

TEST_F(PluginHostTest, AFailedStartIsTriedAgainLater) {
  host_->start(config("probes = { alpha = { mode = \"fail_start\"; n = 1; }; };"));
  EXPECT_EQ(status("alpha").state, ProbeState::kFailed);
  EXPECT_EQ(status("alpha").reason, "not yet");
  ASSERT_TRUE(wait([&] { return status("alpha").state == ProbeState::kRunning; }));
  EXPECT_EQ(status("alpha").starts, 1u);
}

TEST_F(PluginHostTest, APollThatKeepsThrowingRestartsTheProbe) {
  host_->start(
      config("daemon = { interval_s = 0.1; };\n"
             "probes = { alpha = { mode = \"throw_in_poll\"; }; };"));
  ASSERT_TRUE(wait([&] { return status("alpha").state == ProbeState::kFailed; }));
  EXPECT_EQ(status("alpha").reason, "poll failed 3 times: poll threw: bang");
  ASSERT_TRUE(wait([&] { return status("alpha").starts == 2; }));
}

TEST_F(PluginHostTest, ReloadRestartsOnlyWhatChangedAndTotalsGoOn) {
  const std::string head = "daemon = { interval_s = 0.1; };\n";
  host_->start(config(head + "probes = { alpha = { n = 1; }; beta = { n = 1; }; };"));
  ASSERT_TRUE(wait([&] { return polls("gopher_beta_polls_total") >= 2; }));
  host_->apply(config(head + "probes = { alpha = { n = 1; }; beta = { n = 1000; }; };"));
  EXPECT_EQ(status("alpha").starts, 1u);
  EXPECT_EQ(status("beta").starts, 2u);
  ASSERT_TRUE(wait([&] { return polls("gopher_beta_polls_total") >= 1002; }));
  host_->apply(config(head + "probes = { alpha = { n = 1; }; beta = { enabled = false; }; };"));
  EXPECT_EQ(status("beta").state, ProbeState::kStopped);
  EXPECT_EQ(status("alpha").state, ProbeState::kRunning);
  EXPECT_EQ(status("alpha").starts, 1u);
}

// As scrapes do, from before the start to after the stop; ThreadSanitizer is the judge.
TEST_F(PluginHostTest, TheStatusMayBeAskedAtAnyTime) {
  std::atomic<bool> done{false};
  std::atomic<uint64_t> asked{0};
  std::thread scraper([&] {
    while (!done) {
      EXPECT_THAT(host_->status(), SizeIs(3));
      ++asked;
    }
  });
  ASSERT_TRUE(wait([&] { return asked > 0; }));
  host_->start(config("daemon = { interval_s = 0.1; };\nprobes = { alpha = {}; };"));
  ASSERT_TRUE(wait([&] { return polls("gopher_alpha_polls_total") >= 2; }));
  EXPECT_TRUE(host_->stop());
  const uint64_t before = asked;
  ASSERT_TRUE(wait([&] { return asked > before; }));
  done = true;
  scraper.join();
  EXPECT_EQ(status("alpha").state, ProbeState::kStopped);
}

TEST_F(PluginHostTest, AHangingProbeIsReportedAndComesBack) {
  const std::string fifo = dir_ + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  host_->start(
      config("daemon = { interval_s = 0.1; stuck_after_s = 1; };\n"
             "probes = { alpha = { mode = \"hang_in_poll\"; path = \"" +
             fifo + "\"; }; };"));
  const uint64_t later = 3'000'000'000;  // as if so much time had passed
  ASSERT_TRUE(wait([&] {
    host_->check_workers(monotonic_ns() + later);
    return status("alpha").state == ProbeState::kFailed;
  }));
  EXPECT_THAT(status("alpha").reason, HasSubstr("its worker has not come back for "));
  UniqueFd writer;  // while it is open, no reader has to wait
  ASSERT_TRUE(wait([&] {
    writer = UniqueFd(open(fifo.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    return bool(writer);
  }));
  std::filesystem::remove(fifo);  // and the next poll finds nothing to wait for
  writer.reset();
  ASSERT_TRUE(wait([&] {
    host_->check_workers(monotonic_ns());
    return status("alpha").state == ProbeState::kRunning;
  }));
}

}  // namespace
}  // namespace gopher
