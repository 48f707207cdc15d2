/* wrong_abi.c - a plugin of an ABI that is not ours. SPDX-License-Identifier: Apache-2.0 */
#include <gopher/probe.h>

__attribute__((visibility("default"))) const struct gopher_probe_ops gopher_probe = {
    .abi = 7, .size = sizeof(struct gopher_probe_ops), .name = "wrong_abi"};
