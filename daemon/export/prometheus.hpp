// prometheus.hpp - the metrics page, written piece by piece as the client takes it.
// SPDX-License-Identifier: Apache-2.0
//
// Why not prometheus-cpp's serializer for all: 100,000 series with 10 labels took 260 to 430 ms and
// 84 to 140 MB through it, 13 to 20 ms from label text that is kept with the series.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "bus/store.hpp"
#include "export/exposition.hpp"

namespace gopher {

class PrometheusPage {
 public:
  // `own` is the daemon's own instrumentation: collected here, and small.
  PrometheusPage(const Store& store, std::span<const prometheus::Collectable* const> own,
                 Exposition format);
  // The next piece of the page: fills the buffer as far as there is page. 0: the end. Between two
  // calls no lock is held and nothing is pinned, however long the client takes.
  size_t read(char* buffer, size_t size);

 private:
  struct Out {
    char* at;
    char* end;
    size_t room() const { return static_cast<size_t>(end - at); }
  };
  // What the samples of one metric of the store have in common.
  struct Head {
    std::string open, bucket, sum, count;  // `name{`, `name_bucket{`, ...
    std::vector<std::string> le;           // `le="0.005"} `
    size_t fixed = 0;                      // most bytes of a series beside its labels
    size_t lines = 1;                      // how often its labels stand there
  };

  bool next_own();
  void append_own(const prometheus::MetricFamily& family, const prometheus::ClientMetric& metric);
  void read_store(Out* out);
  void begin(const gopher_metric& metric);
  char* put_series(const SeriesView& series, char* at) const;
  void drain(Out* out);

  const Store& store_;
  const Exposition format_;
  enum { kOwn, kStore, kEnd } stage_ = kOwn;
  std::vector<prometheus::MetricFamily> own_;
  size_t family_ = 0, metric_ = 0;  // of own_
  Position at_;
  Chunk chunk_;
  Head head_;
  size_t series_size_ = 256;  // of the last series: how many to ask for
  std::string spill_;         // what did not fit at the end of a piece: a line or one series
  size_t spilled_ = 0;
};

}  // namespace gopher
