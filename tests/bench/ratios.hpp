// ratios.hpp - runs benchmarks interleaved and prints medians as ratios to a reference.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <benchmark/benchmark.h>

#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace gopher::bench {

struct Ratio {
  const char* what;
  const char* of;
  double target;  // at most; 0: only shown
};

class Medians : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const Run& r : runs)
      if (r.run_type == Run::RT_Aggregate && r.aggregate_name == "median")
        cpu_[r.run_name.function_name] = r.GetAdjustedCPUTime();
  }
  void print(const std::vector<Ratio>& ratios) {
    for (const Ratio& r : ratios) {
      if (!cpu_[r.what] || !cpu_[r.of]) continue;
      std::printf("%-28s %8.2f x %-24s", r.what, cpu_[r.what] / cpu_[r.of], r.of);
      if (r.target > 0) std::printf(" (target: at most %g)", r.target);
      std::printf("\n");
    }
  }

 private:
  std::map<std::string, double> cpu_;
};

// The machine's noise is in both sides of a ratio, because repetitions are interleaved.
inline int run(int argc, char** argv, const std::vector<Ratio>& ratios) {
  std::vector<char*> args(argv, argv + argc);
  std::string defaults[] = {"--benchmark_enable_random_interleaving=true",
                            "--benchmark_repetitions=9", "--benchmark_min_time=0.1",
                            "--benchmark_report_aggregates_only=true"};
  for (std::string& d : defaults) args.insert(args.begin() + 1, d.data());
  int n = static_cast<int>(args.size());
  benchmark::Initialize(&n, args.data());
  if (benchmark::ReportUnrecognizedArguments(n, args.data())) return 2;
  Medians reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  reporter.print(ratios);
  return 0;
}

}  // namespace gopher::bench
