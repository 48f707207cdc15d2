/* io_account.bpf.h - the io probe's constants, its maps, and how one completion is counted.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef GOPHER_IO_ACCOUNT_BPF_H
#define GOPHER_IO_ACCOUNT_BPF_H

#include "io.h"
#include "gopher/filter.bpf.h"
#include "gopher/hist.bpf.h"
#include "gopher/ring.bpf.h"
#include "gopher/task.bpf.h"

/* ---- set before the load ---- */

const volatile __u32 io_slot_mask = 255; /* slots - 1, a power of two */
const volatile __u32 io_page_size = 4096;
const volatile __u64 io_slow_ns = 0;  /* 0: no such event */
const volatile __u64 io_stuck_ns = 0; /* 0: no such event */
const volatile bool io_by_process = false;
const volatile bool io_tracking = false;   /* something is put into io_inflight */
const volatile bool io_late_start = false; /* hook `start` is missing, see on_getrq() */
const volatile bool io_issue_times = false;

/* ---- maps ---- */

GOPHER_RING(io_events, 256 * 1024);

/* A series' totals are at a fixed place, its slot, in an array of each CPU. The slot of a key is
 * found by open addressing in io_owners, and remembered in a direct-mapped cache: 25 instructions
 * for a hit and the array, where a per-CPU hash costs 183 (6.18). Slots of a device that is gone
 * are freed by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 256);
	__type(key, u32);
	__type(value, struct io_stats);
} io_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 256);
	__type(key, u32);
	__type(value, struct io_pages);
} io_pages SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, u32);
	__type(value, struct io_key);
} io_owners SEC(".maps");

/* dev << 32 | slot + 1; written and read whole. */
__u64 io_cache[IO_CACHE_DEVS * IO_CACHE_KINDS];
__u64 io_page_cache[IO_CACHE_DEVS];
/* Sector after the last read and the last write of a device. */
__u64 io_ends[IO_CACHE_DEVS * 2];

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct io_error_key);
	__type(value, u64);
} io_errors SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct io_process_key);
	__type(value, struct io_process_stats);
} io_processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, u64);
	__type(value, struct io_inflight);
} io_inflight SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, IO_LOSSES);
	__type(key, u32);
	__type(value, u64);
} io_lost SEC(".maps");

/* ---- what a request is ---- */

/* By tables, not by branches: each path through a handler multiplies what the verifier walks
 * (90,000 instructions with branches, 5,300 so). */
const __u8 io_ops[32] = {
	[0] = IO_OP_READ,	  [1] = IO_OP_WRITE, [2] = IO_OP_FLUSH,	       [3] = IO_OP_DISCARD,
	[5] = IO_OP_SECURE_ERASE, [7] = IO_OP_WRITE, [9] = IO_OP_WRITE_ZEROES, [11] = IO_OP_ZONE,
	[13] = IO_OP_ZONE,	  [15] = IO_OP_ZONE, [17] = IO_OP_ZONE,	       [19] = IO_OP_ZONE,
	[21] = IO_OP_WRITE,
};

static __always_inline u32 io_operation(u32 cmd)
{
	if ((cmd & GOPHER_REQ_OP_MASK) >= 32)
		return IO_OP_PASSTHROUGH;
	return io_ops[cmd & 31];
}

/* By the bits metadata, readahead, sync, from the highest. */
const __u8 io_classes[8] = {
	IO_ASYNC,    IO_SYNC,	  IO_READAHEAD, IO_READAHEAD,
	IO_METADATA, IO_METADATA, IO_METADATA,	IO_METADATA,
};

#define io_has(cmd, bit) ((u64)(cmd) >> bpf_core_enum_value(enum req_flag_bits, bit) & 1)

/* Sync is what op_is_sync() says: every read, and writes that somebody waits for. */
static __always_inline u32 io_classify(u32 cmd)
{
	u64 read = ((u64)(cmd & GOPHER_REQ_OP_MASK) - 1) >> 63;
	u64 sync = read | io_has(cmd, __REQ_SYNC) | io_has(cmd, __REQ_FUA) |
		   io_has(cmd, __REQ_PREFLUSH);

	return io_classes[GOPHER_BELOW(
		io_has(cmd, __REQ_META) << 2 | io_has(cmd, __REQ_RAHEAD) << 1 | sync, 8)];
}

static __always_inline u32 disk_dev(struct gendisk *disk, const bool typed)
{
	return GOPHER_READ(typed, disk, major) << 20 | GOPHER_READ(typed, disk, first_minor);
}

static __always_inline bool device_wanted(u32 dev, u32 part)
{
	return !gopher_filters_devices() || gopher_device_listed(dev) ||
	       (part && part != dev && gopher_device_listed(part));
}

/* ---- slots ---- */

static __always_inline u64 dev_hash(u32 dev)
{
	return (u64)dev * 0x9E3779B97F4A7C15ull >> (64 - IO_CACHE_BITS);
}

/* The slot of a key, plus 1; a new one if it has none; 0 if the places that are tried are taken.
 * Two CPUs may give one key two slots: user space adds them up. */
static __noinline u32 find_slot(u32 dev, u32 op, u32 class_)
{
	struct io_key key = {.dev = dev, .op = op, .class_ = class_};
	u32 first = ((u64)dev << 8 | op << 2 | class_) * 0x9E3779B97F4A7C15ull >> 40;

	for (int i = 0; i < IO_PROBES; i++) {
		u32 slot = (first + i) & io_slot_mask;
		struct io_key *owner = bpf_map_lookup_elem(&io_owners, &slot);

		if (!owner) {
			if (!bpf_map_update_elem(&io_owners, &slot, &key, BPF_NOEXIST))
				return slot + 1;
			owner = bpf_map_lookup_elem(&io_owners, &slot);
		}
		if (owner && owner->dev == dev && owner->op == op && owner->class_ == class_)
			return slot + 1;
	}
	return 0;
}

static __always_inline void *slot_of(void *array, __u64 *cache, u32 dev, u32 op, u32 class_)
{
	u64 cached = *cache;
	u32 slot = (u32)cached;

	if (cached >> 32 != dev || !slot) {
		slot = find_slot(dev, op, class_);
		if (!slot)
			return NULL;
		*cache = (u64)dev << 32 | slot;
	}
	slot--;
	return bpf_map_lookup_elem(array, &slot);
}

static __always_inline struct io_stats *stats_of(u32 dev, u32 op, u32 class_)
{
	u64 place = GOPHER_BELOW(dev_hash(dev) * IO_CACHE_KINDS + (op << 2 | class_),
				 IO_CACHE_DEVS * IO_CACHE_KINDS);

	return slot_of(&io_stats, &io_cache[place], dev, op, class_);
}

static __always_inline struct io_pages *pages_of(u32 dev)
{
	struct io_pages *p = slot_of(&io_pages, &io_page_cache[dev_hash(dev)], dev, IO_OP_PAGES, 0);

	if (!p)
		gopher_count(&io_lost, IO_LOST_PAGES);
	return p;
}

/* ---- who caused it ---- */

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

/* ---- one completion ---- */

/* What is known of it; lives in registers where it can. */
struct io_done {
	u64 sector, start_ns, issued_ns, driver_ns;
	u32 dev, op, class_, bytes;
	bool last; /* nothing of it remains */
	bool step; /* of a flush sequence: the request comes once more */
};

static __noinline int count_error(u32 dev, u32 op, int error)
{
	struct io_error_key key = {.dev = dev, .op = op, .error = error};
	u64 *n = bpf_map_lookup_elem(&io_errors, &key), zero = 0;

	if (!n) {
		bpf_map_update_elem(&io_errors, &key, &zero, BPF_NOEXIST);
		n = bpf_map_lookup_elem(&io_errors, &key);
	}
	if (n)
		__sync_fetch_and_add(n, 1);
	else
		gopher_count(&io_lost, IO_LOST_ERRORS);
	return 0;
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

static __always_inline void count_times(struct io_stats *s, const struct io_done *d, u64 now,
					u64 ns)
{
	if (!ns) {
		s->untimed++;
		return;
	}
	s->total_ns += ns;
	s->total[gopher_time_slot(ns)]++;
	if (d->issued_ns < d->start_ns || d->issued_ns > now) {
		s->unsplit++;
		return;
	}
	u64 end = d->driver_ns > d->issued_ns ? d->driver_ns : now;

	s->queue_ns += d->issued_ns - d->start_ns;
	s->queue[gopher_time_slot(d->issued_ns - d->start_ns)]++;
	s->device_ns += end - d->issued_ns;
	s->device[gopher_time_slot(end - d->issued_ns)]++;
	if (d->driver_ns && now > end) {
		s->driver_ns += now - end;
		s->driver[gopher_time_slot(now - end)]++;
	}
}

static __always_inline void count_data(struct io_stats *s, const struct io_done *d)
{
	s->bytes += d->bytes;
	if (!d->last)
		return;
	s->size[gopher_size_slot(d->bytes)]++;
	if (d->op <= IO_OP_WRITE) {
		u64 *end = &io_ends[GOPHER_BELOW(dev_hash(d->dev) * 2 + d->op, IO_CACHE_DEVS * 2)];

		if (*end == d->sector)
			s->sequential++;
		*end = d->sector + (d->bytes >> 9);
	}
}

/* Counts it, and says what about it is worth an event (enum io_event_kind). */
static __always_inline u32 account(struct io_done *d, const struct io_inflight *f, int error)
{
	struct io_stats *s = stats_of(d->dev, d->op, d->class_);
	u64 now, ns = 0;
	u32 kinds = 0;

	if (!s) {
		gopher_count(&io_lost, IO_LOST_STATS);
		return 0;
	}
	if (d->bytes)
		count_data(s, d);
	if (error && !d->step) {
		count_error(d->dev, d->op, error);
		kinds = IO_EVENT_ERROR;
	}
	if (d->last && !d->step) {
		now = bpf_ktime_get_ns();
		if (d->start_ns && now > d->start_ns)
			ns = now - d->start_ns;
		count_times(s, d, now, ns);
		if (io_slow_ns && ns >= io_slow_ns)
			kinds |= IO_EVENT_SLOW;
		if (io_stuck_ns && f && ns >= io_stuck_ns)
			kinds |= IO_EVENT_UNSTUCK;
	}
	if (io_by_process && f && f->start_ns)
		count_process(f, d->op, d->bytes, ns, d->last && !d->step);
	return kinds;
}

/* ---- events ---- */

static __noinline int report(const struct io_done *d, const struct io_inflight *f, u64 request,
			     int error, u32 kinds)
{
	u64 now = bpf_ktime_get_ns();
	u64 end = d->driver_ns ? d->driver_ns : now;
	struct io_record *e = gopher_reserve(io_events, sizeof(*e));

	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->time_ns = now;
	e->request = request;
	e->start_ns = f && f->start_ns ? f->start_ns : d->start_ns;
	e->sector = d->sector;
	e->bytes = d->bytes;
	e->dev = d->dev;
	e->op = d->op;
	e->class_ = d->class_;
	e->error = error;
	e->kinds = kinds;
	if (d->start_ns)
		e->total_ns = now - d->start_ns;
	if (d->start_ns && d->issued_ns >= d->start_ns) {
		e->queue_ns = d->issued_ns - d->start_ns;
		e->device_ns = end - d->issued_ns;
		e->driver_ns = now - end;
	}
	if (f && f->start_ns) {
		e->sector = f->sector;
		e->bytes = f->bytes;
		e->part = f->part;
		e->known = io_by_process;
		__builtin_memcpy(&e->who, &f->who, sizeof(e->who));
	}
	gopher_submit(e);
	return 0;
}

#endif
