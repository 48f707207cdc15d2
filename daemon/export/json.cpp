// json.cpp - JSON through cJSON: exact numbers, valid text, the envelope of an event.
// SPDX-License-Identifier: Apache-2.0
#include "export/json.hpp"

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <new>
#include <utility>

#include "core/clock.hpp"

namespace gopher {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

bool continues(std::string_view s, size_t i) {
  return i < s.size() && (static_cast<unsigned char>(s[i]) & 0xc0) == 0x80;
}

// Bytes of the well-formed UTF-8 sequence at `i` (Unicode 15, table 3-7), or 0.
size_t sequence(std::string_view s, size_t i) {
  const auto b = [&](size_t at) { return static_cast<unsigned char>(s[at]); };
  const unsigned char lead = b(i);
  if (lead == 0) return 0;
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4 || !continues(s, i + 1)) return 0;
  if (lead < 0xe0) return 2;
  const unsigned char next = b(i + 1);
  if (!continues(s, i + 2)) return 0;
  if (lead < 0xf0) {
    if (lead == 0xe0 && next < 0xa0) return 0;   // could be shorter
    if (lead == 0xed && next >= 0xa0) return 0;  // a surrogate
    return 3;
  }
  if (lead == 0xf0 && next < 0x90) return 0;   // could be shorter
  if (lead == 0xf4 && next >= 0x90) return 0;  // beyond U+10FFFF
  return continues(s, i + 3) ? 4 : 0;
}

// cJSON prints a number with 15 digits if that is "near enough", so we print numbers ourselves.
template <class T>
cJSON* raw_number(T value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text - 1, value);
  *end.ptr = '\0';
  return cJSON_CreateRaw(text);
}

std::string taken(char* text) {
  if (!text) throw std::bad_alloc();
  std::string out(text);
  cJSON_free(text);
  return out;
}

}  // namespace

std::string to_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size();) {
    const size_t n = sequence(bytes, i);
    out += n ? bytes.substr(i, n) : kReplacement;
    i += n ? n : 1;
  }
  return out;
}

std::string rfc3339(uint64_t realtime_ns, int digits) {
  const time_t seconds = static_cast<time_t>(realtime_ns / 1'000'000'000u);
  tm t;
  gmtime_r(&seconds, &t);
  char text[64];
  const size_t n = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t);
  std::string out(text, n);
  if (digits > 0) {
    std::snprintf(text, sizeof text, ".%09" PRIu64, realtime_ns % 1'000'000'000u);
    out.append(text, 1 + static_cast<size_t>(std::min(digits, 9)));
  }
  return out + "Z";
}

const char* severity_name(uint32_t severity) {
  constexpr const char* kNames[] = {"unknown", "debug", "info", "warning", "error"};
  return severity <= GOPHER_ERROR ? kNames[severity] : kNames[0];
}

Json::Json(cJSON* item) : item_(item) {
  if (!item_) throw std::bad_alloc();
}

Json Json::object() { return Json(cJSON_CreateObject()); }
Json Json::array() { return Json(cJSON_CreateArray()); }
Json Json::string(std::string_view text) { return Json(cJSON_CreateString(to_utf8(text).c_str())); }
Json Json::integer(uint64_t value) { return Json(raw_number(value)); }
Json Json::integer(int64_t value) { return Json(raw_number(value)); }
Json Json::number(double value) { return std::isfinite(value) ? Json(raw_number(value)) : null(); }
Json Json::boolean(bool value) { return Json(cJSON_CreateBool(value)); }
Json Json::raw(const std::string& json) { return Json(cJSON_CreateRaw(json.c_str())); }
Json Json::null() { return Json(cJSON_CreateNull()); }

Json& Json::set(std::string_view name, Json value) {
  if (!cJSON_AddItemToObject(item_.get(), to_utf8(name).c_str(), value.item_.get()))
    throw std::bad_alloc();
  value.item_.release();
  return *this;
}

Json& Json::push(Json value) {
  if (!cJSON_AddItemToArray(item_.get(), value.item_.get())) throw std::bad_alloc();
  value.item_.release();
  return *this;
}

std::string Json::print() const { return taken(cJSON_PrintBuffered(item_.get(), 1024, false)); }
std::string Json::pretty() const { return taken(cJSON_PrintBuffered(item_.get(), 65536, true)); }

EventJson::EventJson(std::string node)
    : node_(std::move(node)), boot_realtime_ns_(realtime_ns() - clock_ns(CLOCK_BOOTTIME)) {}

Json EventJson::process(const EventProcess& process) const {
  Json out = Json::object();
  out.set("pid", Json::integer(uint64_t{process.pid}));
  if (process.start_ns) {
    out.set("start_time", Json::string(rfc3339(boot_realtime_ns_ + process.start_ns, 3)));
    out.set("start_ns", Json::integer(process.start_ns));
  }
  out.set("comm", Json::string(process.comm));
  if (!process.cgroup.empty()) out.set("cgroup", Json::string(process.cgroup));
  return out;
}

Json EventJson::field(const gopher_field& field, const Event::Field& value) const {
  if (auto* v = std::get_if<uint64_t>(&value))
    return field.type == GOPHER_NS ? Json::number(static_cast<double>(*v) / 1e9)
                                   : Json::integer(*v);
  if (auto* v = std::get_if<int64_t>(&value)) return Json::integer(*v);
  if (auto* v = std::get_if<double>(&value)) return Json::number(*v);
  if (auto* v = std::get_if<bool>(&value)) return Json::boolean(*v);
  if (auto* v = std::get_if<std::string>(&value)) return Json::string(*v);
  return process(*std::get_if<EventProcess>(&value));
}

std::string EventJson::operator()(const Event& event) const {
  Json out = Json::object();
  out.set("id", Json::string(to_string(event.id)));
  out.set("time", Json::string(rfc3339(event.time_ns)));
  out.set("type", Json::string(event.type->name));
  out.set("severity", Json::string(severity_name(event.severity)));
  out.set("probe", Json::string(event.probe));
  out.set("node", Json::string(node_));
  if (event.process) out.set("process", process(*event.process));
  if (event.correlation) {
    // An id, not a quantity: as text it survives every reader.
    char text[17];
    std::snprintf(text, sizeof text, "%016" PRIx64, event.correlation);
    out.set("correlation", Json::string(text));
  }
  if (event.recovers) out.set("recovers", Json::string(to_string(*event.recovers)));
  out.set("folded", Json::integer(event.folded));
  Json fields = Json::object();
  for (size_t i = 0; i < event.fields.size() && i < event.type->n_fields; ++i)
    fields.set(event.type->fields[i].name, field(event.type->fields[i], event.fields[i]));
  out.set("fields", std::move(fields));
  return out.print();
}

}  // namespace gopher
