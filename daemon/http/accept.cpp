// accept.cpp - what a client says it can read.
// SPDX-License-Identifier: Apache-2.0
#include "http/accept.hpp"

#include <strings.h>

#include <optional>

namespace gopher::http {
namespace {

std::string_view trim(std::string_view s) {
  size_t first = s.find_first_not_of(" \t");
  if (first == s.npos) return {};
  return s.substr(first, s.find_last_not_of(" \t") - first + 1);
}

bool same(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

// Takes what stands before the next separator outside of quotes off `rest`.
std::string_view take(std::string_view* rest, char separator) {
  bool quoted = false;
  for (size_t i = 0; i < rest->size(); ++i) {
    char c = (*rest)[i];
    if (quoted && c == '\\') {
      ++i;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == separator && !quoted) {
      std::string_view head = rest->substr(0, i);
      rest->remove_prefix(i + 1);
      return trim(head);
    }
  }
  std::string_view head = *rest;
  *rest = {};
  return trim(head);
}

// Thousandths; nothing if it is not 0, 1 or a fraction of at most three digits.
std::optional<int> parse_q(std::string_view s) {
  if (s.empty() || s.size() > 5 || (s[0] != '0' && s[0] != '1')) return std::nullopt;
  if (s.size() > 1 && s[1] != '.') return std::nullopt;
  int q = (s[0] - '0') * 1000;
  for (size_t i = 2, weight = 100; i < s.size(); ++i, weight /= 10) {
    if (s[i] < '0' || s[i] > '9') return std::nullopt;
    q += (s[i] - '0') * static_cast<int>(weight);
  }
  if (q > 1000) return std::nullopt;
  return q;
}

struct Item {
  std::string_view name;     // media range or coding
  std::string_view version;  // as given, without quotes
  int q = 1000;
};

// The next well-formed item of a list; nothing at its end.
std::optional<Item> next_item(std::string_view* list) {
  while (!list->empty()) {
    std::string_view text = take(list, ',');
    Item item = {.name = take(&text, ';'), .version = {}};
    bool well_formed = !item.name.empty();
    while (!text.empty()) {
      std::string_view value = take(&text, ';');
      std::string_view name = take(&value, '=');
      if (value.size() >= 2 && value.front() == '"' && value.back() == '"')
        value = value.substr(1, value.size() - 2);
      if (same(name, "version")) item.version = value;
      if (!same(name, "q")) continue;
      auto q = parse_q(value);
      well_formed &= q.has_value();
      item.q = q.value_or(0);
    }
    if (well_formed) return item;
  }
  return std::nullopt;
}

}  // namespace

Exposition choose_exposition(std::string_view accept) {
  int open = 0, classic = 0;
  while (auto item = next_item(&accept)) {
    bool version_known = item->version.empty() || item->version == "1.0.0";
    if (same(item->name, "application/openmetrics-text") && version_known)
      open = std::max(open, item->q);
    if (same(item->name, "text/plain")) classic = std::max(classic, item->q);
  }
  return open > 0 && open >= classic ? Exposition::kOpenMetrics : Exposition::kClassic;
}

bool accepts_gzip(std::string_view accept_encoding) {
  int gzip = -1, any = -1;
  while (auto item = next_item(&accept_encoding)) {
    if (same(item->name, "gzip") || same(item->name, "x-gzip")) gzip = std::max(gzip, item->q);
    if (item->name == "*") any = std::max(any, item->q);
  }
  return gzip >= 0 ? gzip > 0 : any > 0;
}

}  // namespace gopher::http
