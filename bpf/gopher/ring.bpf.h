/* ring.bpf.h - a ring buffer that is born with the counter of what did not fit.
 * SPDX-License-Identifier: Apache-2.0
 *
 * No record wakes anybody: a wake-up costs its producer 3 to 5 us, twenty to forty times the
 * record itself, so the daemon drains rings by a timer.
 */
#ifndef GOPHER_RING_BPF_H
#define GOPHER_RING_BPF_H

#include "gopher/kernel.h"
#include <bpf/bpf_helpers.h>

/* GOPHER_RING(events, 256 * 1024): the ring `events` and the per-CPU counter `events_drops`. */
#define GOPHER_RING(name, bytes)                                                                   \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_RINGBUF);                                                \
		__uint(max_entries, bytes);                                                        \
	} name SEC(".maps");                                                                       \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                           \
		__uint(max_entries, 1);                                                            \
		__type(key, u32);                                                                  \
		__type(value, u64);                                                                \
	} name##_drops SEC(".maps")

/* One more in slot `index` of a per-CPU array of u64. */
static __always_inline void gopher_count(void *map, u32 index)
{
	u64 *n = bpf_map_lookup_elem(map, &index);

	if (n)
		(*n)++;
}

/* Room for one record, or NULL: then the loss is counted already. */
#define gopher_reserve(name, size)                                                                 \
	({                                                                                         \
		void *__record = bpf_ringbuf_reserve(&(name), size, 0);                            \
		if (!__record)                                                                     \
			gopher_count(&name##_drops, 0);                                            \
		__record;                                                                          \
	})

#define gopher_submit(record) bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP)

#endif
