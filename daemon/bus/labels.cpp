// labels.cpp - label text as it stands between the braces of a sample.
// SPDX-License-Identifier: Apache-2.0
#include "bus/labels.hpp"

#include <charconv>
#include <cstring>

#include "bus/series_key.hpp"

namespace gopher {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Length of the well-formed UTF-8 sequence at the start of `s` (Unicode 15, table 3-7), 0 if none.
size_t utf8_length(std::string_view s) {
  auto byte = [&](size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u; };
  auto tail = [&](size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
  unsigned b = byte(0);
  if (b < 0x80) return 1;
  if (b >= 0xC2 && b <= 0xDF) return tail(1) ? 2 : 0;
  if (b >= 0xE0 && b <= 0xEF) {
    if (!tail(1) || !tail(2)) return 0;
    bool overlong = b == 0xE0 && byte(1) < 0xA0, surrogate = b == 0xED && byte(1) > 0x9F;
    return overlong || surrogate ? 0 : 3;
  }
  if (b >= 0xF0 && b <= 0xF4) {
    if (!tail(1) || !tail(2) || !tail(3)) return 0;
    bool overlong = b == 0xF0 && byte(1) < 0x90, beyond = b == 0xF4 && byte(1) > 0x8F;
    return overlong || beyond ? 0 : 4;
  }
  return 0;
}

bool plain(char c) {
  auto b = static_cast<unsigned char>(c);
  return b >= 0x20 && b < 0x7F && c != '\\' && c != '"';
}

void append_number(uint64_t number, std::string* out) {
  char digits[20];
  auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  out->append(digits, end);
}

void append_process(const gopher_process& process, const TextSource& text, std::string* out) {
  std::string value;
  append_number(process.tgid, &value);
  append_label("pid", value, out);
  append_label("comm", {process.comm, strnlen(process.comm, sizeof process.comm)}, out);
  value.clear();
  if (process.cgroup_id) {
    gopher_value id = {};
    id.num = process.cgroup_id;
    text.append(GOPHER_CGROUP, id, &value);
  }
  append_label("cgroup", value, out);
}

}  // namespace

void append_escaped(std::string_view value, std::string* out) {
  while (!value.empty()) {
    size_t n = 0;
    while (n < value.size() && plain(value[n])) ++n;
    out->append(value.substr(0, n));
    value.remove_prefix(n);
    if (value.empty()) return;
    size_t length = utf8_length(value);
    auto b = static_cast<unsigned char>(value[0]);
    if (b == '\\' || b == '"') {
      out->append({'\\', value[0]});
    } else if (b == '\n') {
      out->append("\\n");
    } else if (length == 0 || b < 0x20 || b == 0x7F) {
      out->append(kReplacement);
      length = 1;
    } else {
      out->append(value.substr(0, length));
    }
    value.remove_prefix(length);
  }
}

void append_label(std::string_view name, std::string_view value, std::string* out) {
  if (!out->empty()) out->push_back(',');
  out->append(name).append("=\"");
  append_escaped(value, out);
  out->push_back('"');
}

void append_labels(const gopher_metric& metric, const gopher_value* values, const TextSource& text,
                   std::string* out) {
  std::string plain_text;
  for (uint32_t i = 0; i < metric.n_labels; ++i) {
    const gopher_label& label = metric.labels[i];
    if (label.type == GOPHER_PROCESS) {
      append_process(*values[i].process, text, out);
    } else if (label.type == GOPHER_ENUM) {
      append_label(label.name, label.values[values[i].num], out);
    } else if (label.type == GOPHER_STR) {
      append_label(label.name, key_string(values[i]), out);
    } else {
      plain_text.clear();
      text.append(static_cast<gopher_type>(label.type), values[i], &plain_text);
      append_label(label.name, plain_text, out);
    }
  }
}

std::string other_labels(const gopher_metric& metric) {
  std::string out;
  for (uint32_t i = 0; i < metric.n_labels; ++i) {
    if (metric.labels[i].type == GOPHER_PROCESS)
      for (const char* name : {"pid", "comm", "cgroup"}) append_label(name, "other", &out);
    else
      append_label(metric.labels[i].name, "other", &out);
  }
  return out;
}

bool next_label(std::string_view* rest, std::string_view* name, std::string* value) {
  size_t equals = rest->find('=');
  if (equals == std::string_view::npos || equals + 1 >= rest->size()) return false;
  *name = rest->substr(0, equals);
  value->clear();
  size_t i = equals + 2;
  for (; i < rest->size() && (*rest)[i] != '"'; ++i) {
    char c = (*rest)[i];
    if (c == '\\' && i + 1 < rest->size()) c = (*rest)[++i] == 'n' ? '\n' : (*rest)[i];
    value->push_back(c);
  }
  rest->remove_prefix(std::min(i + 2, rest->size()));
  return true;
}

}  // namespace gopher
