// fuzz_address.cpp - any bytes as an address to listen on: a socket there, or a sentence.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>

#include "http/listener.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gopher;
  std::string text(reinterpret_cast<const char*>(data), size);
  auto listener = http::Listener::open(text);
  if (!listener) {
    if (listener.error().text.empty()) abort();
    return 0;
  }
  if (listener->address.find(':') == std::string::npos) abort();
  // What it calls itself it can be called by. Taken: by this one.
  auto again = http::Listener::open(listener->address);
  if (again || again.error().code == EINVAL) abort();
  return 0;
}
