// validate.hpp - what an option table cannot say: numbers, paths and addresses inside of strings.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "config/config.hpp"

namespace gopher {

// "FILE:LINE: sentence" for each wrong one of filter.* and prometheus.listen; empty: all is well.
std::vector<std::string> validate(const Config& config);

// "host:port" with IPv6 in brackets; false if it is neither. Numeric addresses and "localhost"
// only.
bool split_address(const std::string& text, std::string* host, uint16_t* port);

}  // namespace gopher
