// notify.hpp - tells systemd how we are (the sd_notify protocol); does nothing elsewhere.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace gopher {

// E.g. "READY=1", "WATCHDOG=1", "STATUS=...", "RELOADING=1\nMONOTONIC_USEC=...". False: nobody
// listens or it could not be sent; that is no error.
bool notify(const std::string& state);

// How often WATCHDOG=1 is due (half of WATCHDOG_USEC), or 0 if systemd does not watch us.
uint64_t watchdog_period_ns();

}  // namespace gopher
