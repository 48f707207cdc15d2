/* io_process.bpf.h - whose a request is, from its submission to its completion.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef GOPHER_IO_PROCESS_BPF_H
#define GOPHER_IO_PROCESS_BPF_H

#include "io_maps.bpf.h"

static __noinline struct io_process_stats *process_of(const struct gopher_task *who, u32 dev,
						      u32 op)
{
	struct io_process_key key = {
		.start_ns = who->start_ns,
		.cgroup = who->cgroup,
		.tgid = who->tgid,
		.writeback = !who->tgid && who->comm[0] == 'w',
		.dev = dev,
		.op = op,
	};
	struct io_process_stats *s = bpf_map_lookup_elem(&io_processes, &key);
	struct io_process_stats fresh = {};

	if (s)
		return s;
	__builtin_memcpy(fresh.comm, who->comm, sizeof(fresh.comm));
	bpf_map_update_elem(&io_processes, &key, &fresh, BPF_NOEXIST);
	s = bpf_map_lookup_elem(&io_processes, &key);
	if (!s)
		gopher_count(&io_lost, IO_LOST_PROCESS);
	return s;
}

/* Who it is that submits `bio`; false: he is not watched. Writes by a kernel worker are writeback,
 * and belong to the cgroup that dirtied the pages. */
static __always_inline bool fill_submitter(struct io_inflight *f, struct bio *bio)
{
	if (!io_by_process && !gopher_filters_processes())
		return true;
	gopher_current(&f->who);
	if (!f->who.tgid) {
		if (f->op == IO_OP_WRITE)
			__builtin_memcpy(f->who.comm, "writeback", 10);
		f->who.cgroup = gopher_bio_cgroup(bio);
	}
	return gopher_process_wanted(f->who.tgid, f->who.cgroup);
}

static __always_inline void track(u64 key, const struct io_inflight *f)
{
	if (bpf_map_update_elem(&io_inflight, &key, f, BPF_ANY))
		gopher_count(&io_lost, IO_LOST_INFLIGHT);
}

static __noinline int count_process(const struct io_inflight *f, u32 op, u32 bytes, u64 ns,
				    u32 last)
{
	struct io_process_stats *s = process_of(&f->who, f->dev, op);

	if (!s)
		return 0;
	__sync_fetch_and_add(&s->bytes, bytes);
	if (!last)
		return 0;
	__sync_fetch_and_add(&s->requests, 1);
	if (ns) {
		__sync_fetch_and_add(&s->ns, ns);
		__sync_fetch_and_add(&s->time[gopher_time_slot(ns) >> 1], 1);
	}
	return 0;
}

#endif
