// harness.hpp - runs a real probe plugin in this process and collects what it says.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/probe.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bpf/attach.hpp"
#include "bpf/filter.hpp"
#include "bpf/ring.hpp"
#include "meta/text.hpp"
#include "plugin/library.hpp"

namespace gopher::test {

using Labels = std::map<std::string, std::string>;

std::string build_dir();    // $GOPHER_BUILD_DIR, or where this was built
std::string kernel_name();  // "6.18.15+deb13-cloud-amd64"
bool have_root_and_btf(std::string* why);

// A fixture whose tests say why they do not run without root or BTF, and fail so where CI is set.
template <class Base>
class NeedsBpf : public Base {
 protected:
  void SetUp() override {
    std::string why;
    if (have_root_and_btf(&why)) return;
    if (std::getenv("CI")) FAIL() << why;
    GTEST_SKIP() << why;
  }
};

// Deadlines grow with $GOPHER_TIME_SCALE, for guests that are emulated.
bool wait_until(const std::function<bool()>& done, std::chrono::seconds deadline);

// One line for docs/kernels.md into the file named by $GOPHER_RESULTS, see tests/kernels/report.
void record(const std::string& probe, const std::string& hook, const std::string& program,
            uint64_t instructions, const std::string& status, const std::string& note);

struct Event {
  std::string type;
  Labels fields;
  gopher_process process{};
  bool has_process = false;
  gopher_event_id id{}, recovers{};
  bool has_recovers = false;
  uint64_t correlation = 0;
};

// One instance of build/probes/<name>.so with a host of the test's own. `config` is the probe's
// config struct.
class ProbeRun {
 public:
  ProbeRun(const std::string& probe, const void* config, const std::string& mask = "",
           const FilterSet& filter = {});
  ~ProbeRun();
  ProbeRun(const ProbeRun&) = delete;
  ProbeRun& operator=(const ProbeRun&) = delete;

  int start();  // 0, or the negative errno that the plugin returned
  void poll(uint64_t now_ns = 0);
  void stop();

  // Sum of all series of this metric that have these labels. A histogram gives its count.
  double value(const std::string& metric, const Labels& labels = {}) const;
  double sum(const std::string& metric, const Labels& labels = {}) const;  // of a histogram
  std::vector<uint64_t> buckets(const std::string& metric, const Labels& labels = {}) const;
  std::vector<Event> events(const std::string& type) const;
  // The program that a hook runs on; "" if none.
  std::string program(const std::string& hook) const;
  std::string rungs() const;                                // of all hooks, to tell two runs apart
  std::string all_series(const std::string& metric) const;  // for messages

  std::string error, degraded;
  std::map<std::string, uint64_t> lost;
  FilterMaps& filters() { return filters_; }

 private:
  struct Series {
    std::string metric;
    Labels labels;
    double value = 0, sum = 0;
    std::vector<uint64_t> buckets;
  };
  struct Functions;
  std::string text(uint32_t type, const gopher_value& v, const char* const* values) const;

  Library library_;
  Cgroups cgroups_;
  MetaText text_;
  KernelFeatures features_;
  Mask mask_;
  FilterMaps filters_;
  Ladder ladder_;
  Rings rings_;
  gopher_host host_ = {};
  void* self_ = nullptr;
  bool started_ = false;
  std::map<std::string, Series> series_;
  std::vector<Event> events_;
  uint64_t next_id_ = 1;
};

}  // namespace gopher::test
