// json.hpp - JSON values that own themselves, and an event's envelope as JSON.
// SPDX-License-Identifier: Apache-2.0
//
// Numbers are written as what they are: 64-bit integers with all their digits (a reader that keeps
// numbers in doubles loses the low bits above 2^53), doubles in the shortest form that reads back
// to the same bits. Text is valid UTF-8 whatever a process calls itself.
#pragma once

#include <cjson/cJSON.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "bus/events.hpp"

namespace gopher {

// Bytes that are not UTF-8 become U+FFFD, and so does NUL; nothing else is changed.
std::string to_utf8(std::string_view bytes);
// "2026-01-31T08:09:10.123456789Z", with 0 to 9 digits of a second.
std::string rfc3339(uint64_t realtime_ns, int digits = 9);
// "debug", "info", "warning", "error"; index: enum gopher_severity. Others: "unknown".
const char* severity_name(uint32_t severity);

// A JSON value under construction.
class Json {
 public:
  static Json object();
  static Json array();
  static Json string(std::string_view text);
  static Json integer(uint64_t value);
  static Json integer(int64_t value);
  static Json number(double value);  // null if it is not finite: JSON has no such numbers
  static Json boolean(bool value);
  static Json null();
  static Json raw(const std::string& json);  // text that is JSON already

  // Object: adds a member, and gives it. Array: push() likewise. The value belongs to this one.
  Json& set(std::string_view name, Json value);
  Json& push(Json value);
  std::string print() const;
  std::string pretty() const;

 private:
  explicit Json(cJSON* item);
  struct Delete {
    void operator()(cJSON* item) const { cJSON_Delete(item); }
  };
  std::unique_ptr<cJSON, Delete> item_;
};

// Writes events; holds what is the same in all of them.
class EventJson {
 public:
  explicit EventJson(std::string node);
  std::string operator()(const Event& event) const;

 private:
  Json process(const EventProcess& process) const;
  Json field(const gopher_field& field, const Event::Field& value) const;

  const std::string node_;
  // Taken once, so that a process keeps its start time whatever the clock does meanwhile.
  const uint64_t boot_realtime_ns_;
};

}  // namespace gopher
