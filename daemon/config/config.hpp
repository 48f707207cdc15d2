// config.hpp - gopher.conf and its drop-ins, checked against option tables, as filled structs.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/probe.h>
#include <gopher/result.hpp>

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/options.hpp"

namespace gopher {

// What a probe accepts under `probes.<name>`.
struct ProbeOptions {
  std::string_view name;
  std::span<const gopher_option> options;
  size_t config_size = 0;
};

// One group's options, filled. Strings and lists in data() live as long as the group.
class OptionGroup {
 public:
  OptionGroup(std::span<const gopher_option> table, size_t size);
  const void* data() const { return data_.data(); }
  // Every option as it would stand in a file, in the table's order: equal text, equal options.
  const std::string& text() const { return text_; }

 private:
  friend class ConfigBuilder;
  struct Value {
    bool boolean = false;
    int64_t integer = 0;
    double real = 0;
    std::string string;
    std::vector<std::string> list;
  };
  void set(const gopher_option& option, const Value& value);
  void finish();

  std::span<const gopher_option> table_;
  std::vector<std::max_align_t> storage_;
  std::span<std::byte> data_;
  std::vector<std::unique_ptr<std::vector<std::string>>> texts_;
  std::vector<std::unique_ptr<std::vector<const char*>>> lists_;
  std::vector<Value> values_;
  std::string text_;
};

// An immutable configuration. Shared between threads; kept alive by who uses its strings.
class Config {
 public:
  const DaemonOptions& daemon() const { return get<DaemonOptions>("daemon"); }
  const PrometheusOptions& prometheus() const { return get<PrometheusOptions>("prometheus"); }
  const KafkaOptions& kafka() const { return get<KafkaOptions>("kafka"); }
  const HistoryOptions& history() const { return get<HistoryOptions>("history"); }
  const FilterOptions& filter() const { return get<FilterOptions>("filter"); }

  // Does `probes` name this probe, without `enabled = false`?
  bool probe_enabled(std::string_view name) const;
  // Its options; never nullptr for a probe that was given to load_config().
  const OptionGroup* probe(std::string_view name) const;
  // Canonical text of a group ("kafka", "probes.io"), to compare two configurations.
  const std::string& text(std::string_view group) const;
  // "FILE:LINE" of a setting by path ("prometheus.listen"), or the main file if it is a default.
  std::string place(const std::string& path) const;

 private:
  friend class ConfigBuilder;
  template <class T>
  const T& get(const char* group) const {
    return *static_cast<const T*>(groups_.find(group)->second.data());
  }
  std::map<std::string, OptionGroup, std::less<>> groups_;
  std::map<std::string, bool, std::less<>> enabled_;
  std::map<std::string, std::string, std::less<>> places_;
  std::string file_;
};

struct ConfigResult {
  std::shared_ptr<const Config> config;  // nullptr if there are errors
  std::vector<std::string> errors;       // "FILE:LINE: sentence", all of them
};

// Reads FILE and then FILE.d/*.conf in the order of their names: a scalar or list replaces what
// came before, a group merges. Of mistakes of syntax the first per file is reported, of meaning
// all.
ConfigResult load_config(const std::string& file, std::span<const ProbeOptions> probes);

// The known name that is nearest to `word`, or "" if none is near: for "did you mean".
std::string nearest(std::string_view word, std::span<const std::string> known);

}  // namespace gopher
