// accept.hpp - what a client says it can read: Accept and Accept-Encoding (RFC 9110, 12.5).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "export/exposition.hpp"

namespace gopher::http {

// OpenMetrics when it is asked for by name and not less gladly than text/plain, else classic: a
// client that takes anything gets what every reader understands.
Exposition choose_exposition(std::string_view accept);

bool accepts_gzip(std::string_view accept_encoding);

}  // namespace gopher::http
