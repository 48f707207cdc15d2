/* io.bpf.c - the block layer and the page cache: latencies, bytes, errors, and who caused them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each hook has one handler and thin programs named <hook>__<rung>. What is switched off is a
 * constant, and the verifier drops it.
 */
#include "io_account.bpf.h"
#include "io_pages.bpf.h"

/* What the kernel asks for before it lends its tracing helpers (include/linux/license.h). */
char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* ---- the submitter's side ---- */

/* What of a request does not change until it completes; false: it is not watched. */
static __always_inline bool fill_request(struct io_inflight *f, struct request *rq,
					 const bool typed)
{
	struct gendisk *disk = gopher_rq_disk(rq, typed);
	struct bio *bio = GOPHER_READ(typed, rq, bio);
	u64 cmd = GOPHER_READ(typed, rq, cmd_flags);

	if (!disk) /* NVMe's admin queue, a SCSI device that has no disk */
		return false;
	f->dev = disk_dev(disk, typed);
	f->part = bio ? gopher_bio_part(bio, typed) : 0;
	if (!device_wanted(f->dev, f->part))
		return false;
	f->op = io_op(io_kind(cmd));
	f->class_ = io_class(io_kind(cmd));
	f->sector = GOPHER_READ(typed, rq, __sector);
	f->bytes = GOPHER_READ(typed, rq, __data_len);
	/* Not the request's own time: it is set after block_io_start (6.12: seen on 6.18), so that
	 * here it is still the one of the tag's last use, seconds or days ago. */
	f->start_ns = bpf_ktime_get_ns();
	return true;
}

static __always_inline bool fill_bio(struct io_inflight *f, struct bio *bio, struct gendisk *disk,
				     const bool typed)
{
	u64 cmd = GOPHER_READ(typed, bio, bi_opf);

	f->dev = disk_dev(disk, typed);
	f->part = gopher_bio_part(bio, typed);
	if (!device_wanted(f->dev, f->part))
		return false;
	f->op = io_op(io_kind(cmd));
	f->class_ = io_class(io_kind(cmd));
	f->sector = GOPHER_READ(typed, bio, bi_iter.bi_sector);
	f->bytes = GOPHER_READ(typed, bio, bi_iter.bi_size);
	f->start_ns = bpf_ktime_get_ns();
	return true;
}

static __always_inline int on_start(struct request *rq, const bool typed)
{
	struct io_inflight f = {};

	if (fill_request(&f, rq, typed) && fill_submitter(&f, GOPHER_READ(typed, rq, bio)))
		track((u64)rq, &f);
	return 0;
}

/* Where the kernel has no such place (before 6.5), a request starts where it is first seen: by its
 * bio if it goes through the flush machinery, because then a kernel worker issues it, not the
 * submitter. Such bios are never merged, so that they stay the request's. */
static __always_inline int on_getrq(struct bio *bio, const bool typed)
{
	u64 cmd = GOPHER_READ(typed, bio, bi_opf);
	struct gendisk *disk = gopher_bio_disk(bio, typed);
	struct io_inflight f = {};

	if (!disk || !(io_has(cmd, __REQ_PREFLUSH) || io_has(cmd, __REQ_FUA)))
		return 0;
	if (fill_bio(&f, bio, disk, typed) && fill_submitter(&f, bio))
		track((u64)bio, &f);
	return 0;
}

static __always_inline int on_insert(struct request *rq, const bool typed)
{
	struct bio *bio = GOPHER_READ(typed, rq, bio);
	u64 by_rq = (u64)rq, by_bio = (u64)bio, flags;

	if ((GOPHER_READ(typed, rq, cmd_flags) & GOPHER_REQ_OP_MASK) == IO_OP_FLUSH ||
	    bpf_map_lookup_elem(&io_inflight, &by_rq))
		return 0;
	flags = bio ? GOPHER_READ(typed, bio, bi_opf) : 0; /* the request's own are cleared */
	if ((io_has(flags, __REQ_PREFLUSH) || io_has(flags, __REQ_FUA)) &&
	    bpf_map_lookup_elem(&io_inflight, &by_bio))
		return 0;
	return on_start(rq, typed);
}

/* One time of a request on its way, in its entry; in a new one if nobody asks who it is. */
static __always_inline void stamp(struct request *rq, const bool driver, const bool typed)
{
	struct gendisk *disk = gopher_rq_disk(rq, typed);
	u64 now = bpf_ktime_get_ns(), key = (u64)rq;
	struct io_inflight *f = bpf_map_lookup_elem(&io_inflight, &key);
	struct io_inflight fresh = {};

	if (f) {
		*(driver ? &f->driver_ns : &f->issued_ns) = now;
		return;
	}
	if (!disk || io_by_process || gopher_filters_processes())
		return;
	fresh.dev = disk_dev(disk, typed);
	if (!device_wanted(fresh.dev, gopher_rq_part(rq, typed)))
		return;
	*(driver ? &fresh.driver_ns : &fresh.issued_ns) = now;
	track(key, &fresh);
}

static __always_inline int on_issue(struct request *rq, const bool typed)
{
	if (io_late_start)
		on_insert(rq, typed);
	if (io_issue_times)
		stamp(rq, false, typed);
	return 0;
}

/* The driver has seen that its device is done; what follows is its own time. */
static __always_inline int on_driver(struct request *rq, const bool typed)
{
	stamp(rq, true, typed);
	return 0;
}

/* The address of the request is computed, so the verifier does not know its type. */
static __always_inline int on_driver_scsi(void *cmd, const bool typed)
{
	(void)typed;
	stamp(gopher_scsi_request(cmd), true, false);
	return 0;
}

/* Absorbed by another request: it will never complete. */
static __always_inline int on_merge(struct request *rq, const bool typed)
{
	u64 key = (u64)rq;

	(void)typed;
	bpf_map_delete_elem(&io_inflight, &key);
	return 0;
}

/* ---- completion ---- */

static __always_inline void fill_times(struct io_times *t, struct request *rq,
				       const struct io_inflight *f, const bool typed)
{
	u64 flags = GOPHER_READ(typed, rq, rq_flags);

	/* The flush that a sequence sends is not accounted, but it is made afresh each time. */
	if (GOPHER_RQF_IO_STAT(flags) || GOPHER_RQF_FLUSH_SEQ(flags))
		t->start = GOPHER_READ(typed, rq, start_time_ns);
	t->issued = GOPHER_READ(typed, rq, io_start_time_ns);
	if (!f)
		return;
	if (!t->start)
		t->start = f->start_ns;
	if (!t->issued)
		t->issued = f->issued_ns;
	t->driver = f->driver_ns;
}

/* Rare, so it reads the request again rather than keep all of it on the stack each time. */
static __noinline int report_request(struct request *rq, const struct io_inflight *f, u64 bytes,
				     int error, u32 kinds)
{
	u32 cmd = BPF_CORE_READ(rq, cmd_flags);
	struct io_times t = {};
	struct io_end d = {
		.sector = BPF_CORE_READ(rq, __sector),
		.bytes = bytes,
		.dev = disk_dev(gopher_rq_disk(rq, false), false),
		.error = error,
		.op = io_op(io_kind(cmd)),
		.class_ = io_class(io_kind(cmd)),
		.kinds = kinds,
	};

	fill_times(&t, rq, f, false);
	return report(&d, &t, f, (u64)rq);
}

/* The entry of a request; in *key what it is known by. */
static __always_inline struct io_inflight *find_inflight(struct request *rq, u64 *key,
							 const bool typed)
{
	struct io_inflight *f;

	*key = (u64)rq;
	f = bpf_map_lookup_elem(&io_inflight, key);
	if (io_late_start && !f) {
		*key = (u64)GOPHER_READ(typed, rq, bio);
		f = bpf_map_lookup_elem(&io_inflight, key);
	}
	return f;
}

/* block_rq_complete comes before the request is advanced by `bytes`, and again for what remains:
 * it is the last time if nothing will. A step of a flush sequence comes once more, without data,
 * when the sequence is done (block/blk-flush.c): only then the request counts, as it does in
 * /sys/block/.../stat. The flush itself, which the sequence sends to the device, counts too.
 *
 * Loads stand where their value is used: what is loaded early is spilled. */
static __always_inline int on_complete(struct request *rq, u64 error, u64 bytes, const bool typed)
{
	struct gendisk *disk = gopher_rq_disk(rq, typed);
	struct io_inflight *f = NULL;
	struct io_times t = {};
	struct io_cached *c;
	struct io_stats *s;
	u64 dev, kind, flags, key, ns = 0;
	bool whole, last;
	u32 kinds = 0;

	if (!disk)
		return 0;
	dev = disk_dev(disk, typed);
	if (gopher_filters_devices() && !device_wanted(dev, gopher_rq_part(rq, typed)))
		return 0;
	if (io_tracking) {
		f = find_inflight(rq, &key, typed);
		if (gopher_filters_processes() && !f)
			return 0;
	}
	kind = io_kind(GOPHER_READ(typed, rq, cmd_flags));
	c = cache_of(dev, kind);
	s = slot_of(&io_stats, &c->slot, dev, kind);
	whole = bytes >= GOPHER_READ(typed, rq, __data_len);
	flags = GOPHER_READ(typed, rq, rq_flags);
	last = whole && !(GOPHER_RQF_FLUSH_SEQ(flags) && io_op(kind) != IO_OP_FLUSH);
	if (!s) {
		gopher_count(&io_lost, IO_LOST_STATS);
		goto out;
	}
	if (bytes)
		count_data(s, c, GOPHER_READ(typed, rq, __sector), bytes, whole);
	if (last) {
		fill_times(&t, rq, f, typed);
		ns = count_times(s, &t, bpf_ktime_get_ns());
		kinds = exceptional(ns, f);
	}
	if (io_by_process && f && f->start_ns)
		count_process(f, io_op(kind), bytes, ns, last);
	/* The failed step of a sequence fails the whole of it, which comes and is counted. */
	if (error && (last || !whole)) {
		count_error(dev, io_op(kind), error);
		kinds |= IO_EVENT_ERROR;
	}
	if (kinds)
		report_request(rq, f, bytes, error, kinds);
out:
	if (f && last)
		bpf_map_delete_elem(&io_inflight, &key);
	return 0;
}

/* ---- devices without requests: dm, md, zram, pmem, NVMe multipath ---- */

static __always_inline int on_bio_queue(struct bio *bio, const bool typed)
{
	struct gendisk *disk = gopher_bio_disk(bio, typed);
	struct io_inflight f = {.bio = 1};

	if (!disk || GOPHER_READ(typed, GOPHER_READ(typed, disk, queue), mq_ops))
		return 0;
	if (fill_bio(&f, bio, disk, typed) && fill_submitter(&f, bio))
		track((u64)bio, &f);
	return 0;
}

/* By now the bio is advanced, and may have been sent to another device: what it was is in its
 * entry. A bio that was split off has none; its parent has all of it. */
static __always_inline int on_bio_complete(struct bio *bio, const bool typed)
{
	u64 key = (u64)bio;
	struct io_inflight *f = bpf_map_lookup_elem(&io_inflight, &key);
	struct io_times t = {};
	struct io_end d = {};
	struct io_cached *c;
	struct io_stats *s;
	u64 ns, kind;

	if (!f || !f->bio)
		return 0;
	d.error = GOPHER_READ(typed, bio, bi_status);
	kind = f->op << 2 | f->class_;
	c = cache_of(f->dev, kind);
	s = slot_of(&io_stats, &c->slot, f->dev, kind);
	if (!s) {
		gopher_count(&io_lost, IO_LOST_STATS);
		goto out;
	}
	if (f->bytes)
		count_data(s, c, f->sector, f->bytes, true);
	t.start = f->start_ns;
	ns = count_times(s, &t, bpf_ktime_get_ns());
	d.kinds = exceptional(ns, f);
	if (io_by_process)
		count_process(f, f->op, f->bytes, ns, true);
	if (d.error) {
		count_error(f->dev, f->op, d.error);
		d.kinds |= IO_EVENT_ERROR;
	}
	if (d.kinds) {
		d.dev = f->dev;
		d.op = f->op;
		d.class_ = f->class_;
		report(&d, &t, f, key);
	}
out:
	bpf_map_delete_elem(&io_inflight, &key);
	return 0;
}

#include "io_programs.bpf.h"
