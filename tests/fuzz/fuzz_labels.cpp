// fuzz_labels.cpp - any bytes as a label's value: text that reads back as what a page may hold.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "bus/labels.hpp"

namespace {

void require(bool condition) {
  if (!condition) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string value(reinterpret_cast<const char*>(data), size);
  std::string text, name_of_second = "second";
  gopher::append_label("first", value, &text);
  gopher::append_label(name_of_second, value, &text);
  for (char c : text) require(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F);

  std::string_view rest = text, name;
  std::string first, second, again;
  require(gopher::next_label(&rest, &name, &first) && name == "first");
  require(gopher::next_label(&rest, &name, &second) && name == name_of_second);
  require(!gopher::next_label(&rest, &name, &again));
  require(first == second);

  // What was replaced once is text, and stays as it is.
  std::string once, twice;
  gopher::append_escaped(first, &once);
  gopher::append_escaped(value, &twice);
  require(once == twice);

  // Text that is no label text is read without harm.
  rest = value;
  for (size_t i = 0; gopher::next_label(&rest, &name, &first); ++i) require(i <= size);
  return 0;
}
