/* io_account.bpf.h - what kind of request it is, its place in the totals, and how it is counted.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef GOPHER_IO_ACCOUNT_BPF_H
#define GOPHER_IO_ACCOUNT_BPF_H

#include "io_process.bpf.h"

/* ---- what a request is ---- */

/* Operation << 2 | class, by 6 bits of operation and the flags sync, readahead, metadata. A table,
 * not branches: each path through a handler multiplies what the verifier walks (90,000 instructions
 * with branches, 2,200 so). Sync is what op_is_sync() says: every read, and writes that somebody
 * waits for. */
#define IO_KINDS_OF(at, read, other)                                                               \
	[(at) + 0] = IO_OP_READ << 2 | (read), [(at) + 1] = IO_OP_WRITE << 2 | (other),            \
		[(at) + 2] = IO_OP_FLUSH << 2 | (other),                                           \
		[(at) + 3] = IO_OP_DISCARD << 2 | (other),                                         \
		[(at) + 5] = IO_OP_SECURE_ERASE << 2 | (other),                                    \
		[(at) + 7] = IO_OP_WRITE << 2 | (other),                                           \
		[(at) + 9] = IO_OP_WRITE_ZEROES << 2 | (other),                                    \
		[(at) + 11 ...(at) + 19] = IO_OP_ZONE << 2 | (other),                              \
		[(at) + 21] = IO_OP_WRITE << 2 | (other),                                          \
		[(at) + 32 ...(at) + 63] = IO_OP_PASSTHROUGH << 2 | (other)

const __u8 io_kinds[512] = {
	IO_KINDS_OF(0, IO_SYNC, IO_ASYNC),
	IO_KINDS_OF(64, IO_SYNC, IO_SYNC),
	IO_KINDS_OF(128, IO_READAHEAD, IO_READAHEAD),
	IO_KINDS_OF(192, IO_READAHEAD, IO_READAHEAD),
	IO_KINDS_OF(256, IO_METADATA, IO_METADATA),
	IO_KINDS_OF(320, IO_METADATA, IO_METADATA),
	IO_KINDS_OF(384, IO_METADATA, IO_METADATA),
	IO_KINDS_OF(448, IO_METADATA, IO_METADATA),
};

#define io_bit(cmd, bit) ((cmd) >> bpf_core_enum_value(enum req_flag_bits, bit))
#define io_has(cmd, bit) (io_bit(cmd, bit) & 1)

static __always_inline u64 io_kind(u64 cmd)
{
	u64 sync =
		(io_bit(cmd, __REQ_SYNC) | io_bit(cmd, __REQ_FUA) | io_bit(cmd, __REQ_PREFLUSH)) &
		1;

	return io_kinds[GOPHER_BELOW((cmd & GOPHER_REQ_OP_MASK) + (sync << 6) +
					     (io_has(cmd, __REQ_RAHEAD) << 7) +
					     (io_has(cmd, __REQ_META) << 8),
				     512)];
}

static __always_inline u64 io_op(u64 kind)
{
	return kind >> 2;
}

static __always_inline u64 io_class(u64 kind)
{
	return kind & 3;
}

static __always_inline u64 disk_dev(struct gendisk *disk, const bool typed)
{
	u64 major = (u32)GOPHER_READ(typed, disk, major);

	return major << 20 | (u32)GOPHER_READ(typed, disk, first_minor);
}

static __always_inline bool device_wanted(u32 dev, u32 part)
{
	return !gopher_filters_devices() || gopher_device_listed(dev) ||
	       (part && part != dev && gopher_device_listed(part));
}

/* ---- slots ---- */

static __always_inline u64 dev_hash(u64 dev)
{
	return dev * 0x9E3779B97F4A7C15ull >> (64 - IO_CACHE_BITS);
}

/* The slot of a key, plus 1; a new one if it has none; 0 if the places that are tried are taken.
 * Two CPUs may give one key two slots: user space adds them up. */
static __noinline u64 find_slot(u64 dev, u64 kind)
{
	struct io_key key = {.dev = dev, .op = io_op(kind), .class_ = io_class(kind)};
	u64 first = (dev << 8 | kind) * 0x9E3779B97F4A7C15ull >> 40;

	for (int i = 0; i < IO_PROBES; i++) {
		u32 slot = (first + i) & io_slot_mask;
		struct io_key *owner = bpf_map_lookup_elem(&io_owners, &slot);

		if (!owner) {
			if (!bpf_map_update_elem(&io_owners, &slot, &key, BPF_NOEXIST))
				return slot + 1;
			owner = bpf_map_lookup_elem(&io_owners, &slot);
		}
		if (owner && owner->dev == dev && owner->op == key.op &&
		    owner->class_ == key.class_)
			return slot + 1;
	}
	return 0;
}

static __always_inline void *slot_of(void *array, __u64 *cache, u64 dev, u64 kind)
{
	u64 cached = *cache;
	u32 slot;

	if (cached >> 32 != dev) {
		cached = find_slot(dev, kind);
		if (!cached)
			return NULL;
		cached |= dev << 32;
		*cache = cached;
	}
	slot = cached - 1;
	return bpf_map_lookup_elem(array, &slot);
}

static __always_inline struct io_cached *cache_of(u64 dev, u64 kind)
{
	return &io_cache[GOPHER_BELOW(dev_hash(dev) * IO_KINDS + kind, IO_CACHE_DEVS * IO_KINDS)];
}

static __always_inline struct io_pages *pages_of(u64 dev)
{
	struct io_pages *p =
		slot_of(&io_pages, &io_page_cache[dev_hash(dev)], dev, IO_OP_PAGES << 2);

	if (!p)
		gopher_count(&io_lost, IO_LOST_PAGES);
	return p;
}

/* ---- one completion ---- */

/* When it was made, issued, and done in the eyes of the driver; 0: not known. */
struct io_times {
	u64 start, issued, driver;
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

/* Its duration; 0: not known. */
static __always_inline u64 count_times(struct io_stats *s, const struct io_times *t, u64 now)
{
	u64 ns = now - t->start, queue = t->issued - t->start, end = now;

	if (!t->start || t->start >= now) {
		s->untimed++;
		return 0;
	}
	s->total[gopher_time_slot(ns)]++;
	if (queue > ns) { /* not issued in between: 0, or a time of an earlier use */
		s->unsplit++;
		s->unsplit_ns += ns;
		return ns;
	}
	s->queue_ns += queue;
	if (queue <= 1000) /* most are: no scheduler */
		s->queue[0]++;
	else
		s->queue[gopher_time_slot(queue)]++;
	if (t->driver > t->issued) {
		end = t->driver;
		s->driver_ns += now - end;
		s->driver[gopher_time_slot(now - end)]++;
	}
	s->device_ns += end - t->issued;
	s->device[gopher_time_slot(end - t->issued)]++;
	return ns;
}

/* `whole`: nothing of it remains. */
static __always_inline void count_data(struct io_stats *s, struct io_cached *c, u64 sector,
				       u64 bytes, bool whole)
{
	s->bytes += bytes;
	if (!whole)
		return;
	s->size[gopher_size_slot(bytes)]++;
	if (c->end == sector)
		s->sequential++;
	c->end = sector + (bytes >> 9);
}

/* What about a duration is worth an event (enum io_event_kind). */
static __always_inline u32 exceptional(u64 ns, const struct io_inflight *f)
{
	u32 kinds = 0;

	if (ns >= io_slow_ns)
		kinds = IO_EVENT_SLOW;
	if (f && ns >= io_stuck_ns)
		kinds |= IO_EVENT_UNSTUCK;
	return kinds;
}

/* ---- events ---- */

/* What the record and the entry in io_inflight do not tell. */
struct io_end {
	u64 sector, bytes;
	u32 dev;
	int error;
	u8 op, class_, kinds;
};

static __noinline int report(const struct io_end *d, const struct io_times *t,
			     const struct io_inflight *f, u64 request)
{
	u64 now = bpf_ktime_get_ns();
	u64 end = t->driver ? t->driver : now;
	struct io_record *e = gopher_reserve(io_events, sizeof(*e));

	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->time_ns = now;
	e->request = request;
	e->start_ns = t->start;
	e->sector = d->sector;
	e->bytes = d->bytes;
	e->dev = d->dev;
	e->op = d->op;
	e->class_ = d->class_;
	e->error = d->error;
	e->kinds = d->kinds;
	if (t->start)
		e->total_ns = now - t->start;
	if (t->start && t->issued >= t->start) {
		e->queue_ns = t->issued - t->start;
		e->device_ns = end - t->issued;
		e->driver_ns = now - end;
	}
	if (f && f->start_ns) {
		e->start_ns = f->start_ns;
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
