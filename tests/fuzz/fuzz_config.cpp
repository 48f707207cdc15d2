// fuzz_config.cpp - any bytes as gopher.conf: a configuration or sentences, never a crash.
// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "config/config.hpp"
#include "config/validate.hpp"
#include "core/unique_fd.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gopher;
  // libconfig's @include would read files of this machine: not what is tested here.
  std::string text(reinterpret_cast<const char*>(data), size);
  if (text.find("@include") != std::string::npos) return 0;
  UniqueFd fd(memfd_create("config", MFD_CLOEXEC));
  if (write(fd.get(), data, size) != static_cast<ssize_t>(size)) return 0;
  ConfigResult r = load_config("/proc/self/fd/" + std::to_string(fd.get()), {});
  if (!r.config == r.errors.empty()) std::abort();  // one of the two, and only one
  if (r.config) validate(*r.config);
  return 0;
}
