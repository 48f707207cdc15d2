// fuzz_json.cpp - any bytes as the texts of an event: one line of valid JSON that says them.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "export/json.hpp"

namespace {

using gopher::Event;

constexpr gopher_event kType = {
    .name = "fuzz",
    .help = "",
    .fields = {{.name = "text", .help = "", .values = nullptr, .type = GOPHER_STR, .n_values = 0}},
    .n_fields = 1,
    .severity = GOPHER_INFO,
    .max_per_minute = 0,
    .reserved = 0};

void require(bool condition) {
  if (!condition) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gopher;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string text = to_utf8(bytes);
  require(to_utf8(text) == text);

  Event event;
  event.type = &kType;
  event.process = EventProcess{.pid = 1, .start_ns = 2, .comm = std::string(bytes), .cgroup = ""};
  event.fields.emplace_back(std::string(bytes));
  const std::string json = EventJson("node")(event);
  require(json.find_first_of("\n\r") == std::string::npos);
  std::unique_ptr<cJSON, decltype(&cJSON_Delete)> parsed(
      cJSON_ParseWithLength(json.data(), json.size()), cJSON_Delete);
  require(parsed != nullptr);
  const cJSON* fields = cJSON_GetObjectItemCaseSensitive(parsed.get(), "fields");
  const cJSON* back = cJSON_GetObjectItemCaseSensitive(fields, "text");
  require(cJSON_IsString(back) && text == back->valuestring);

  if (auto id = parse_event_id(bytes)) require(to_string(*id) == bytes);
  return 0;
}
