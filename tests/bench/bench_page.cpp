// bench_page.cpp - a scrape of 100,000 series with 10 labels against a bare loop over the same
// text. SPDX-License-Identifier: Apache-2.0
#include <prometheus/text_serializer.h>

#include <charconv>
#include <cstring>

#include "bus/labels.hpp"
#include "export/prometheus.hpp"
#include "http/gzip.hpp"
#include "ratios.hpp"
#include "sample_store.hpp"

namespace gopher::bench {
namespace {

constexpr size_t kPiece = 64 * 1024;

struct Filled {
  Text text;
  Store store{{.series_total = kSeries}, text};
  Filled() {
    Shard& shard = store.shard(tables());
    double value = 1;
    for (const Key& key : make_keys(kSeries)) add(shard, key, value += 17, 1);
  }
};
const Store& filled() {
  static const Filled f;
  return f.store;
}

// The least that a page costs: text that lies there is copied, a number behind it formatted.
void bare_loop(benchmark::State& state) {
  std::vector<std::pair<std::string, double>> lines;
  Store::Cursor cursor(filled());
  for (Chunk chunk; cursor.next(&chunk);)
    for (const SeriesView& s : chunk.series)
      lines.emplace_back(std::string(chunk.metric->name) + "{" + std::string(s.labels) + "} ",
                         s.value);
  std::vector<char> piece(kPiece);
  for (auto _ : state) {
    char* at = piece.data();
    for (const auto& [text, value] : lines) {
      if (piece.data() + kPiece - at < static_cast<ptrdiff_t>(text.size() + kNumberSize + 1)) {
        benchmark::DoNotOptimize(piece.data());
        benchmark::ClobberMemory();
        at = piece.data();
      }
      std::memcpy(at, text.data(), text.size());
      at = std::to_chars(at + text.size(), piece.data() + kPiece, static_cast<int64_t>(value)).ptr;
      *at++ = '\n';
    }
    benchmark::DoNotOptimize(piece.data());
  }
}
BENCHMARK(bare_loop)->Unit(benchmark::kMillisecond);

void scrape(benchmark::State& state, Exposition format) {
  std::vector<char> piece(kPiece);
  size_t bytes = 0;
  for (auto _ : state) {
    PrometheusPage page(filled(), {}, format);
    bytes = 0;
    while (size_t n = page.read(piece.data(), piece.size())) bytes += n;
    benchmark::DoNotOptimize(piece.data());
  }
  state.counters["MB"] = static_cast<double>(bytes) / 1e6;
}
void scrape_classic(benchmark::State& state) { scrape(state, Exposition::kClassic); }
void scrape_openmetrics(benchmark::State& state) { scrape(state, Exposition::kOpenMetrics); }
BENCHMARK(scrape_classic)->Unit(benchmark::kMillisecond);
BENCHMARK(scrape_openmetrics)->Unit(benchmark::kMillisecond);

class PageBody final : public http::Body {
 public:
  size_t read(char* buffer, size_t size) override { return page_.read(buffer, size); }

 private:
  PrometheusPage page_{filled(), {}, Exposition::kClassic};
};

void scrape_gzip(benchmark::State& state) {
  std::vector<char> piece(kPiece);
  size_t bytes = 0;
  for (auto _ : state) {
    bool compressed = false;
    auto body = http::gzip(std::make_unique<PageBody>(), &compressed);
    bytes = 0;
    while (size_t n = body->read(piece.data(), piece.size())) bytes += n;
  }
  state.counters["MB"] = static_cast<double>(bytes) / 1e6;
}
BENCHMARK(scrape_gzip)->Unit(benchmark::kMillisecond);

// The way that prometheus-cpp offers for numbers that are kept elsewhere.
class Copied final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::MetricFamily> out;
    Store::Cursor cursor(filled());
    for (Chunk chunk; cursor.next(&chunk);) {
      if (chunk.first)
        out.push_back(
            {chunk.metric->name, chunk.metric->help, prometheus::MetricType::Counter, {}});
      for (const SeriesView& s : chunk.series) {
        prometheus::ClientMetric m;
        std::string_view rest = s.labels, name;
        for (std::string value; next_label(&rest, &name, &value);)
          m.label.push_back({std::string(name), value});
        m.counter.value = s.value;
        out.back().metric.push_back(std::move(m));
      }
    }
    return out;
  }
};
void prometheus_cpp_page(benchmark::State& state) {
  for (auto _ : state) {
    auto text = prometheus::TextSerializer().Serialize(Copied().Collect());
    benchmark::DoNotOptimize(text.data());
  }
}
BENCHMARK(prometheus_cpp_page)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace gopher::bench

int main(int argc, char** argv) {
  return gopher::bench::run(argc, argv,
                            {{"scrape_classic", "bare_loop", 2},
                             {"scrape_openmetrics", "bare_loop", 2},
                             {"scrape_gzip", "bare_loop", 0},
                             {"prometheus_cpp_page", "scrape_classic", 0}});
}
