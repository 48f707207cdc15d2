// sample_page.cpp - prints a metrics page of random data: `sample_page classic|openmetrics`.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "bus/instrumentation.hpp"
#include "page_fixture.hpp"

namespace {

gopher::SnapshotSources every_source() {
  using namespace gopher;  // NOLINT(google-build-using-namespace)
  return {.probes =
              [] {
                ProbeSnapshot p;
                p.name = "t";
                p.version = "1.0";
                p.state = "degraded";
                p.reason = "a \"reason\" with \\ and\na second line";
                p.hooks = {{"issue", "issue__raw_tp"}, {"dirty", ""}};
                p.lost = {{"ring_full", 3}};
                p.events = {{"io_error", 10, 6, 3, 1}};
                return std::vector{p};
              },
          .event_queue = [] { return size_t{3}; },
          .history = [] { return std::optional(HistorySnapshot{.stored = 7}); },
          .kafka = [] { return std::optional(KafkaSnapshot{.connected = true}); },
          .http = [] { return std::optional(HttpSnapshot{.open = 1}); }};
}

}  // namespace

int main(int argc, char** argv) {
  using namespace gopher;  // NOLINT(google-build-using-namespace)
  bool open = argc == 2 && std::string_view(argv[1]) == "openmetrics";
  if (!open && !(argc == 2 && std::string_view(argv[1]) == "classic")) {
    std::fputs("usage: sample_page classic|openmetrics\n", stderr);
    return 2;
  }
  store_test::FakeText text;
  Store store({}, text);
  std::mt19937_64 random(37);
  store_test::fill(store.shard(store_test::tables()), random, 200);
  Instrumentation own("0.1.0", store, every_source());
  own.observe_scrape(0.001);
  const prometheus::Collectable* collectables[] = {&own};
  std::string page = store_test::read_page(
      PrometheusPage(store, collectables, open ? Exposition::kOpenMetrics : Exposition::kClassic));
  return std::fwrite(page.data(), 1, page.size(), stdout) == page.size() ? 0 : 1;
}
