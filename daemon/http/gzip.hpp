// gzip.hpp - a body compressed on the way.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "http/server.hpp"

namespace gopher::http {

// `body` itself if memory for the compressor is out: the caller adds the header only if this gave
// another one.
std::unique_ptr<Body> gzip(std::unique_ptr<Body> body, bool* compressed);

}  // namespace gopher::http
