/* filter.bpf.h - which processes, cgroups and devices are watched; asked first in every handler.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The three maps have the same definition in every object that includes this, and the daemon puts
 * one shared map of its own in the place of each. With no filter in force the questions are
 * constants, and the verifier drops the look-ups.
 */
#ifndef GOPHER_FILTER_BPF_H
#define GOPHER_FILTER_BPF_H

#include "gopher/kernel.h"
#include <bpf/bpf_helpers.h>

#define GOPHER_FILTER_ENTRIES 1024

#define GOPHER_FILTER_MAP(name, key_type)                                                          \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_HASH);                                                   \
		__uint(max_entries, GOPHER_FILTER_ENTRIES);                                        \
		__type(key, key_type);                                                             \
		__type(value, u8);                                                                 \
	} name SEC(".maps")

GOPHER_FILTER_MAP(gopher_filter_pids, u32);    /* tgid */
GOPHER_FILTER_MAP(gopher_filter_cgroups, u64); /* id of the cgroup, as in gopher/task.bpf.h */
GOPHER_FILTER_MAP(gopher_filter_devs, u32);    /* major << 20 | minor; disk or partition */

const volatile __u32 gopher_filter_bits = 0;

static __always_inline bool gopher_filters_processes(void)
{
	return gopher_filter_bits & (GOPHER_BPF_FILTER_PID | GOPHER_BPF_FILTER_CGROUP);
}

static __always_inline bool gopher_process_wanted(u32 tgid, u64 cgroup)
{
	if (!gopher_filters_processes())
		return true;
	if ((gopher_filter_bits & GOPHER_BPF_FILTER_PID) &&
	    bpf_map_lookup_elem(&gopher_filter_pids, &tgid))
		return true;
	return (gopher_filter_bits & GOPHER_BPF_FILTER_CGROUP) &&
	       bpf_map_lookup_elem(&gopher_filter_cgroups, &cgroup);
}

static __always_inline bool gopher_filters_devices(void)
{
	return gopher_filter_bits & GOPHER_BPF_FILTER_DEV;
}

static __always_inline bool gopher_device_listed(u32 dev)
{
	return bpf_map_lookup_elem(&gopher_filter_devs, &dev) != NULL;
}

#endif
