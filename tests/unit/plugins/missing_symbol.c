/* missing_symbol.c - a plugin that needs what nobody has. SPDX-License-Identifier: Apache-2.0 */
#include <gopher/probe.h>

int gopher_nobody_has_this(void* self);

__attribute__((visibility("default")))
const struct gopher_probe_ops gopher_probe = {.abi = GOPHER_PROBE_ABI,
                                              .size = sizeof(struct gopher_probe_ops),
                                              .name = "missing_symbol",
                                              .start = gopher_nobody_has_this};
