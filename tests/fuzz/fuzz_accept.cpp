// fuzz_accept.cpp - any bytes as Accept and Accept-Encoding: an answer, the same every time.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>

#include "http/accept.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gopher;
  std::string text(reinterpret_cast<const char*>(data), size);
  Exposition chosen = http::choose_exposition(text);
  // What is put behind, and asks for neither, changes nothing, if the quotes are closed.
  if (text.find('"') == text.npos && http::choose_exposition(text + ",a/b") != chosen) abort();
  // OpenMetrics is only for those that name it.
  if (chosen == Exposition::kOpenMetrics && text.find('/') == text.npos) abort();
  bool gzip = http::accepts_gzip(text);
  if (gzip && text.find('*') == text.npos && text.size() < 4) abort();
  return 0;
}
