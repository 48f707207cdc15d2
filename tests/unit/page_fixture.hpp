// page_fixture.hpp - a store filled with random data, and a metrics page read back.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/metric_family.h>

#include <charconv>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "bus/labels.hpp"
#include "export/prometheus.hpp"
#include "store_fixture.hpp"

namespace gopher::store_test {

// Strings with everything in them that a format could trip over, all of it valid UTF-8.
inline std::string random_text(std::mt19937_64& random) {
  static const std::string kPieces[] = {"a", "Z", "\"", "\\", "\n", ",", "=", "{", "}",
                                        " ", "#", "ä",  "€",  "😀",  "/", "n", "le"};
  std::string out;
  for (size_t n = random() % 10; n; --n) out += kPieces[random() % std::size(kPieces)];
  return out;
}

// Whole, tiny, huge and ordinary.
inline double random_number(std::mt19937_64& random) {
  switch (random() % 5) {
    case 0:
      return static_cast<double>(random() % 1000);
    case 1:
      return static_cast<double>(random() >> 11);
    case 2:
      return std::ldexp(static_cast<double>(random() >> 11), -static_cast<int>(random() % 300));
    case 3:
      return std::ldexp(static_cast<double>(random() >> 11), static_cast<int>(random() % 900));
    default:
      return static_cast<double>(random() % 100000) / 1000;
  }
}

inline void fill(Shard& shard, std::mt19937_64& random, size_t samples) {
  for (size_t i = 0; i < samples; ++i) {
    std::string name = random_text(random);
    gopher_process p = who(static_cast<uint32_t>(random() % 50), 1, random() % 500);
    std::string comm = random_text(random).substr(0, 3);
    std::copy(comm.begin(), comm.end(), p.comm);
    p.start_ns = 1 + std::hash<std::string>()(comm) + p.cgroup_id;
    std::vector<uint64_t> buckets(5);
    for (uint64_t& b : buckets) b = random() % 10;
    add(shard, kRequests, {num(random() % 30), num(random() % 3)}, random_number(random));
    set(shard, kDepth, {num(random() % 30)}, random_number(random) - 50);
    gopher_value labels[] = {process(p), str(name.c_str())};
    shard.apply({.labels = labels,
                 .buckets = buckets.data(),
                 .sum = random_number(random),
                 .metric = kDuration,
                 .op = GOPHER_ADD},
                kSecond);
    add(shard, kAlone, {}, 1);
    add(shard, kFew, {str(name.c_str())}, 1);
  }
  set(shard, kDepth, {num(100)}, std::numeric_limits<double>::infinity());
  set(shard, kDepth, {num(101)}, -std::numeric_limits<double>::infinity());
}

inline std::string read_page(PrometheusPage&& page, size_t piece = 64 * 1024) {
  std::string out, buffer(piece, 0);
  while (size_t n = page.read(buffer.data(), buffer.size())) out.append(buffer, 0, n);
  return out;
}

struct Parsed {
  // name and sorted labels, `le` as a number -> value. A sample that comes twice is "TWICE ...".
  std::map<std::string, double> samples;
  std::map<std::string, std::string> help, type, unit;  // a second one is appended
  std::vector<std::string> families;                    // in order of TYPE
};

inline double number(std::string_view s) {
  if (s == "+Inf") return std::numeric_limits<double>::infinity();
  if (s == "-Inf") return -std::numeric_limits<double>::infinity();
  double out = std::nan("");
  std::from_chars(s.begin(), s.end(), out);
  return out;
}

inline std::string sample_key(std::string_view name, std::string_view labels) {
  std::map<std::string, std::string> sorted;
  std::string_view label;
  for (std::string value; next_label(&labels, &label, &value);)
    sorted[std::string(label)] = label == "le" ? std::to_string(number(value)) : value;
  std::string key(name);
  for (const auto& [n, v] : sorted) key += "|" + n + "=" + v;
  return key;
}

// One page of either format; escapes in label values hold no newline, so lines are lines.
inline Parsed parse(std::string_view page) {
  Parsed out;
  while (!page.empty()) {
    std::string_view line = page.substr(0, page.find('\n'));
    page.remove_prefix(std::min(line.size() + 1, page.size()));
    if (line.starts_with("# ")) {
      std::string_view what = line.substr(2, 4),
                       rest = line.substr(std::min<size_t>(7, line.size()));
      std::string name(rest.substr(0, rest.find(' ')));
      std::string text(rest.substr(std::min(name.size() + 1, rest.size())));
      if (what == "TYPE") out.families.push_back(name);
      auto& to = what == "TYPE" ? out.type : what == "HELP" ? out.help : out.unit;
      if (what != "EOF") to[name] += text;
      continue;
    }
    size_t brace = line.find('{'), space = line.rfind(' ');
    std::string_view name = line.substr(0, std::min(brace, line.find(' ')));
    std::string_view labels;
    if (brace != line.npos && brace < space) labels = line.substr(brace + 1, space - brace - 2);
    std::string key = sample_key(name, labels);
    if (!out.samples.emplace(key, number(line.substr(space + 1))).second)
      out.samples["TWICE " + key] = 0;
  }
  return out;
}

// What is in the store, as prometheus-cpp's families: a way to the text that shares none of ours.
inline std::vector<prometheus::MetricFamily> families_of(const Store& store) {
  std::vector<prometheus::MetricFamily> out;
  Store::Cursor cursor(store);
  for (Chunk chunk; cursor.next(&chunk);) {
    const gopher_metric& def = *chunk.metric;
    if (chunk.first)
      out.push_back({def.name,
                     def.help,
                     def.kind == GOPHER_COUNTER ? prometheus::MetricType::Counter
                     : def.kind == GOPHER_GAUGE ? prometheus::MetricType::Gauge
                                                : prometheus::MetricType::Histogram,
                     {}});
    for (const SeriesView& s : chunk.series) {
      prometheus::ClientMetric m;
      std::string_view rest = s.labels, name;
      for (std::string value; next_label(&rest, &name, &value);)
        m.label.push_back({std::string(name), value});
      m.counter.value = m.gauge.value = s.value;
      m.histogram.sample_sum = s.sum;
      for (size_t b = 0; b < s.buckets.size(); ++b) {
        m.histogram.sample_count += s.buckets[b];
        if (b < def.n_bounds)
          m.histogram.bucket.push_back({m.histogram.sample_count, def.bounds[b]});
      }
      out.back().metric.push_back(m);
    }
  }
  return out;
}

}  // namespace gopher::store_test
