// metric.hpp - the tables of a probe, checked while compiling, and index_of by name.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/probe.h>

#include <cstddef>
#include <string_view>
#include <type_traits>

namespace gopher {

// A string as a template argument: Metric<kMetrics, "gopher_io_requests_total">.
template <size_t N>
struct FixedString {
  char text[N] = {};
  consteval FixedString(const char (&s)[N]) {
    for (size_t i = 0; i < N; ++i) text[i] = s[i];
  }
  constexpr std::string_view view() const { return {text, N - 1}; }
};

// N elements of a C table, in static storage.
template <class T, size_t N>
struct Table {
  T items[N] = {};
  const char* probe = nullptr;
  static constexpr size_t kSize = N;
  constexpr const T& operator[](size_t i) const { return items[i]; }
};

template <size_t N>
consteval gopher_label enum_label(const char* name, const char* const (&values)[N]) {
  return {.name = name, .values = values, .type = GOPHER_ENUM, .n_values = N};
}

consteval gopher_label label(const char* name, gopher_type type) {
  return {.name = name, .values = nullptr, .type = type, .n_values = 0};
}

template <size_t N>
consteval gopher_field enum_field(const char* name, const char* const (&values)[N],
                                  const char* help) {
  return {.name = name, .help = help, .values = values, .type = GOPHER_ENUM, .n_values = N};
}

consteval gopher_field field(const char* name, gopher_type type, const char* help) {
  return {.name = name, .help = help, .values = nullptr, .type = type, .n_values = 0};
}

namespace detail {

// Not constexpr on purpose: reaching it in a consteval function is the compile error, and its
// argument is the message that the compiler prints.
inline void table_error(const char*) {}

consteval void require(bool ok, const char* message) {
  if (!ok) table_error(message);
}

consteval bool is_name(std::string_view s) {
  if (s.empty() || s[0] < 'a' || s[0] > 'z') return false;
  for (char c : s)
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) return false;
  return s.back() != '_' && s.find("__") == std::string_view::npos;
}

consteval bool is_sentence(const char* s) {
  std::string_view v = s ? s : "";
  return v.size() > 2 && v.back() == '.' && v[0] >= 'A' && v[0] <= 'Z';
}

// A metric ends in its base unit, or counts things.
consteval bool unit_is_base(std::string_view s) {
  for (std::string_view bad : {"_ms", "_us", "_ns", "_milliseconds", "_microseconds",
                               "_nanoseconds", "_kb", "_mb", "_kilobytes", "_percent"})
    if (s.ends_with(bad)) return false;
  return true;
}

template <class T>
consteval void no_duplicates(const T* items, size_t n) {
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < i; ++j)
      require(std::string_view(items[i].name) != std::string_view(items[j].name),
              "a name stands twice in one table");
}

template <class T, size_t N>
consteval void check_members(const T (&members)[N], size_t n) {
  for (size_t i = 0; i < n; ++i) {
    require(is_name(members[i].name), "a label or field name is [a-z][a-z0-9_]*");
    require(std::string_view(members[i].name) != "le", "`le` belongs to histograms");
    require((members[i].type == GOPHER_ENUM) == (members[i].n_values > 0),
            "GOPHER_ENUM and only it needs values");
  }
  no_duplicates(members, n);
}

}  // namespace detail

template <size_t N>
consteval auto metric_table(const char* probe, const gopher_metric (&in)[N]) {
  Table<gopher_metric, N> t;
  t.probe = probe;
  for (size_t i = 0; i < N; ++i) {
    gopher_metric m = in[i];
    m.n_labels = 0;
    while (m.n_labels < GOPHER_MAX_LABELS && m.labels[m.n_labels].name) ++m.n_labels;
    std::string_view name = m.name, p = probe;
    detail::require(detail::is_name(name), "a metric name is [a-z][a-z0-9_]*");
    detail::require(name.starts_with("gopher_") && name.substr(7).starts_with(p) &&
                        name.substr(7 + p.size()).starts_with("_"),
                    "a metric is named gopher_<probe>_...");
    bool total = name.ends_with("_total");
    detail::require(total == (m.kind == GOPHER_COUNTER), "counters and only they end in _total");
    detail::require(detail::unit_is_base(total ? name.substr(0, name.size() - 6) : name),
                    "a metric has a base unit: _seconds, _bytes, _ratio");
    for (std::string_view bad : {"_bucket", "_count", "_sum", "_info", "_created"})
      detail::require(!name.ends_with(bad), "this ending belongs to the exposition format");
    detail::require(detail::is_sentence(m.help), "help is a sentence: capital letter, full stop");
    detail::require(m.kind >= GOPHER_COUNTER && m.kind <= GOPHER_HISTOGRAM, "no such kind");
    detail::require((m.kind == GOPHER_HISTOGRAM) == (m.n_bounds > 0),
                    "a histogram and only it has bounds");
    for (uint32_t b = 1; b < m.n_bounds; ++b)
      detail::require(m.bounds[b - 1] < m.bounds[b], "bounds ascend");
    detail::check_members(m.labels, m.n_labels);
    t.items[i] = m;
  }
  detail::no_duplicates(t.items, N);
  return t;
}

template <size_t N>
consteval auto event_table(const char* probe, const gopher_event (&in)[N]) {
  Table<gopher_event, N> t;
  t.probe = probe;
  for (size_t i = 0; i < N; ++i) {
    gopher_event e = in[i];
    e.n_fields = 0;
    while (e.n_fields < GOPHER_MAX_FIELDS && e.fields[e.n_fields].name) ++e.n_fields;
    detail::require(detail::is_name(e.name), "an event name is [a-z][a-z0-9_]*");
    detail::require(detail::is_sentence(e.help), "help is a sentence: capital letter, full stop");
    detail::require(e.severity >= GOPHER_DEBUG && e.severity <= GOPHER_ERROR, "no such severity");
    detail::check_members(e.fields, e.n_fields);
    for (uint32_t f = 0; f < e.n_fields; ++f)
      detail::require(detail::is_sentence(e.fields[f].help), "a field's help is a sentence");
    t.items[i] = e;
  }
  detail::no_duplicates(t.items, N);
  return t;
}

template <size_t N>
consteval auto hook_table(const gopher_hook (&in)[N]) {
  Table<gopher_hook, N> t;
  static_assert(N <= 64, "`wanted` has 64 bits");
  for (size_t i = 0; i < N; ++i) {
    gopher_hook h = in[i];
    h.n_programs = 0;
    while (h.n_programs < GOPHER_MAX_PROGRAMS && h.programs[h.n_programs]) ++h.n_programs;
    detail::require(detail::is_name(h.name), "a hook name is [a-z][a-z0-9_]*");
    detail::require(detail::is_sentence(h.help), "help is a sentence: capital letter, full stop");
    detail::require(h.n_programs > 0, "a hook needs a program");
    for (uint32_t p = 0; p < h.n_programs; ++p) {
      std::string_view prog = h.programs[p], name = h.name;
      detail::require(prog.starts_with(name) && prog.substr(name.size()).starts_with("__"),
                      "a program is named <hook>__<rung>");
    }
    t.items[i] = h;
  }
  detail::no_duplicates(t.items, N);
  return t;
}

template <size_t N>
consteval auto option_table(const gopher_option (&in)[N]) {
  Table<gopher_option, N> t;
  for (size_t i = 0; i < N; ++i) {
    const gopher_option& o = in[i];
    detail::require(detail::is_name(o.name), "an option name is [a-z][a-z0-9_]*");
    detail::require(detail::is_sentence(o.help), "help is a sentence: capital letter, full stop");
    detail::require(o.default_value != nullptr, "an option has a default");
    detail::require(o.type >= GOPHER_OPT_BOOL && o.type <= GOPHER_OPT_LIST, "no such option type");
    t.items[i] = o;
  }
  detail::no_duplicates(t.items, N);
  return t;
}

// The place of `name` in a table; a name that is not there does not compile.
template <class T, size_t N>
consteval uint32_t index_of(const Table<T, N>& table, std::string_view name) {
  for (uint32_t i = 0; i < N; ++i)
    if (table.items[i].name == name) return i;
  detail::table_error("no such name in the table");
  return 0;
}

}  // namespace gopher
