/* types.h - the integer names that both sides of a shared header use, and the size assertion.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef GOPHER_BPF_TYPES_H
#define GOPHER_BPF_TYPES_H

#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

/* A record, key or value that crosses the line has the same size in C and in C++. */
#ifdef __cplusplus
#define GOPHER_ASSERT_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type)
#else
#define GOPHER_ASSERT_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#endif

/* The bits of gopher_filter_bits: enum gopher_filter_bits of <gopher/probe.h>, which the kernel
 * side does not include because it needs libc. */
#define GOPHER_BPF_FILTER_PID	 1u
#define GOPHER_BPF_FILTER_CGROUP 2u
#define GOPHER_BPF_FILTER_DEV	 4u

#define GOPHER_COMM_LEN 16

/* Whose I/O, call or event something is; as struct gopher_process of <gopher/probe.h>. Kernel
 * workers, which do the work of others, share one entry without tgid and start; see
 * gopher/task.bpf.h. */
struct gopher_task {
	u32 tgid;
	u32 reserved;
	u64 start_ns; /* of the process, CLOCK_BOOTTIME */
	u64 cgroup;   /* id | hierarchy << GOPHER_CGROUP_SHIFT */
	char comm[GOPHER_COMM_LEN];
};
GOPHER_ASSERT_SIZE(struct gopher_task, 40);

/* Each hierarchy numbers its own cgroups: the upper bits say which it is, as in probe.h. */
#define GOPHER_CGROUP_SHIFT  60
#define GOPHER_CGROUP_V2     0ull
#define GOPHER_CGROUP_MEMORY 1ull
#define GOPHER_CGROUP_CPU    2ull
#define GOPHER_CGROUP_PIDS   3ull

#endif
