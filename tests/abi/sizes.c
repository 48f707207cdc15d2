/* sizes.c - the contract's layout, frozen: a change here is a new GOPHER_PROBE_ABI.
 * SPDX-License-Identifier: Apache-2.0
 * Compiled as C11 and as C++20, both pedantic; there is nothing to run. */
#include <gopher/probe.h>

#ifdef __cplusplus
#define CHECK(what) static_assert(what, #what)
#else
#define CHECK(what) _Static_assert(what, #what)
#endif

CHECK(GOPHER_PROBE_ABI == 1u);
CHECK(sizeof(struct gopher_process) == 40);
CHECK(sizeof(struct gopher_value) == 24);
CHECK(sizeof(struct gopher_label) == 24);
CHECK(sizeof(struct gopher_metric) == 24 + 12 * 24 + 24);
CHECK(sizeof(struct gopher_field) == 32);
CHECK(sizeof(struct gopher_event) == 16 + 24 * 32 + 16);
CHECK(sizeof(struct gopher_strings) == 16);
CHECK(sizeof(struct gopher_option) == 72);
CHECK(sizeof(struct gopher_hook) == 88);
CHECK(sizeof(struct gopher_sample) == 40);
CHECK(sizeof(struct gopher_event_id) == 16);
CHECK(sizeof(struct gopher_event_record) == 48);
/* These two may grow at the end; what is there stays where it is. */
CHECK(sizeof(struct gopher_host) >= 96 && offsetof(struct gopher_host, text) == 88);
CHECK(sizeof(struct gopher_probe_ops) >= 128 && offsetof(struct gopher_probe_ops, destroy) == 120);

/* ISO C wants something in a translation unit. */
extern int gopher_abi_sizes;
