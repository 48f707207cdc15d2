/* io.bpf.c - the block layer and the page cache: latencies, bytes, errors, and who caused them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each hook has one handler and thin programs named <hook>__<rung>. What is switched off is a
 * constant, and the verifier drops it.
 */
#include "io_account.bpf.h"

/* What the kernel asks for before it lends its tracing helpers (include/linux/license.h). */
char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* ---- the submitter's side ---- */

/* What of a request does not change until it completes; false: it is not watched. */
static __always_inline bool fill_request(struct io_inflight *f, struct request *rq,
					 const bool typed)
{
	struct gendisk *disk = gopher_rq_disk(rq, typed);
	struct bio *bio = GOPHER_READ(typed, rq, bio);
	u32 cmd = GOPHER_READ(typed, rq, cmd_flags);

	if (!disk) /* NVMe's admin queue, a SCSI device that has no disk */
		return false;
	f->dev = disk_dev(disk, typed);
	f->part = bio ? gopher_bio_part(bio, typed) : 0;
	if (!device_wanted(f->dev, f->part))
		return false;
	f->op = io_operation(cmd);
	f->class_ = io_classify(cmd);
	f->sector = GOPHER_READ(typed, rq, __sector);
	f->bytes = GOPHER_READ(typed, rq, __data_len);
	/* Not the request's own time: newer kernels set it after block_io_start (seen on 6.18), so here
	 * it is still the one of the tag's last use, perhaps hours ago. */
	f->start_ns = bpf_ktime_get_ns();
	return true;
}

static __always_inline bool fill_bio(struct io_inflight *f, struct bio *bio, struct gendisk *disk,
				     const bool typed)
{
	u32 cmd = GOPHER_READ(typed, bio, bi_opf);

	f->dev = disk_dev(disk, typed);
	f->part = gopher_bio_part(bio, typed);
	if (!device_wanted(f->dev, f->part))
		return false;
	f->op = io_operation(cmd);
	f->class_ = io_classify(cmd);
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
	u32 cmd = GOPHER_READ(typed, bio, bi_opf);
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
	u64 by_rq = (u64)rq, by_bio = (u64)GOPHER_READ(typed, rq, bio);

	if ((GOPHER_READ(typed, rq, cmd_flags) & 0xff) == IO_OP_FLUSH ||
	    bpf_map_lookup_elem(&io_inflight, &by_rq) || bpf_map_lookup_elem(&io_inflight, &by_bio))
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

static __always_inline void fill_done(struct io_done *d, struct request *rq, u32 bytes,
				      const struct io_inflight *f, const bool typed)
{
	u32 cmd = GOPHER_READ(typed, rq, cmd_flags);

	d->op = io_operation(cmd);
	d->class_ = io_classify(cmd);
	d->bytes = bytes;
	d->sector = GOPHER_READ(typed, rq, __sector);
	d->step =
		d->op != IO_OP_FLUSH && (GOPHER_READ(typed, rq, rq_flags) & gopher_rqf_flush_seq());
	d->last = bytes >= GOPHER_READ(typed, rq, __data_len);
	d->start_ns = GOPHER_READ(typed, rq, start_time_ns);
	d->issued_ns = GOPHER_READ(typed, rq, io_start_time_ns);
	if (!f)
		return;
	if (!d->start_ns)
		d->start_ns = f->start_ns;
	if (!d->issued_ns)
		d->issued_ns = f->issued_ns;
	d->driver_ns = f->driver_ns;
}

/* Rare, so it reads the request again rather than keep all of it on the stack each time. */
static __noinline int report_request(struct request *rq, const struct io_inflight *f, u32 bytes,
				     int error, u32 kinds)
{
	struct io_done d = {};

	fill_done(&d, rq, bytes, f, false);
	d.dev = disk_dev(gopher_rq_disk(rq, false), false);
	return report(&d, f, (u64)rq, error, kinds);
}

/* block_rq_complete comes before the request is advanced by `bytes`, and again for what remains:
 * the last time is when nothing will. A step of a flush sequence comes once more, without data,
 * when the sequence is done (block/blk-flush.c): only then the request counts, as it does in
 * /sys/block/.../stat. The flush itself, which the sequence sends to the device, counts too. */
static __always_inline int on_complete(struct request *rq, int error, u32 bytes, const bool typed)
{
	struct gendisk *disk = gopher_rq_disk(rq, typed);
	struct io_inflight *f = NULL;
	struct io_done d = {};
	u64 key = (u64)rq;
	u32 kinds;

	if (!disk)
		return 0;
	d.dev = disk_dev(disk, typed);
	if (gopher_filters_devices() && !device_wanted(d.dev, gopher_rq_part(rq, typed)))
		return 0;
	if (io_tracking)
		f = bpf_map_lookup_elem(&io_inflight, &key);
	if (io_late_start && !f) {
		key = (u64)GOPHER_READ(typed, rq, bio);
		f = bpf_map_lookup_elem(&io_inflight, &key);
	}
	if (gopher_filters_processes() && !f)
		return 0;
	fill_done(&d, rq, bytes, f, typed);
	kinds = account(&d, f, error);
	if (kinds)
		report_request(rq, f, bytes, error, kinds);
	if (f && d.last && !d.step)
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
	int error = GOPHER_READ(typed, bio, bi_status);
	struct io_done d = {.last = true};
	u32 kinds;

	if (!f || !f->bio)
		return 0;
	d.dev = f->dev;
	d.op = f->op;
	d.class_ = f->class_;
	d.sector = f->sector;
	d.bytes = f->bytes;
	d.start_ns = f->start_ns;
	kinds = account(&d, f, error);
	if (kinds)
		report(&d, f, key, error, kinds);
	bpf_map_delete_elem(&io_inflight, &key);
	return 0;
}

/* ---- page cache ---- */

/* The file system's device. The cache of a block device itself, where file systems also keep their
 * metadata, belongs to an inode of a pseudo file system and names the device elsewhere. */
static __always_inline u32 inode_dev(struct inode *inode, const bool typed)
{
	if ((GOPHER_READ(typed, inode, i_mode) & 0170000) == 0060000) /* S_ISBLK */
		return GOPHER_READ(typed, inode, i_rdev);
	return GOPHER_READ(typed, GOPHER_READ(typed, inode, i_sb), s_dev);
}

static __always_inline bool page_wanted(u32 dev, struct gopher_task *who, bool ask)
{
	if (!device_wanted(dev, 0))
		return false;
	if (ask || gopher_filters_processes())
		gopher_current(who);
	return gopher_process_wanted(who->tgid, who->cgroup);
}

static __always_inline struct inode *folio_inode(void *folio, const bool typed)
{
	struct address_space *mapping = gopher_folio_mapping(folio, typed);

	return mapping ? GOPHER_READ(typed, mapping, host) : NULL;
}

static __always_inline int on_add(void *folio, const bool typed)
{
	struct inode *inode = folio_inode(folio, typed);
	struct gopher_task who = {};
	struct io_pages *p;
	u32 dev;

	if (!inode)
		return 0;
	dev = inode_dev(inode, typed);
	if (!page_wanted(dev, &who, false))
		return 0;
	p = pages_of(dev);
	if (p)
		p->added += gopher_folio_pages(folio, typed) * io_page_size;
	return 0;
}

/* The mapping is taken from the folio: the tracepoint's own argument may be NULL, which verifiers
 * from 6.2 to 6.12 do not know and would take for impossible. */
static __always_inline int on_dirty(void *folio, const bool typed)
{
	struct inode *inode = folio_inode(folio, typed);
	struct gopher_task who = {};
	struct io_process_stats *s;
	struct io_pages *p;
	u64 bytes;
	u32 dev;

	if (!inode)
		return 0;
	dev = inode_dev(inode, typed);
	if (!page_wanted(dev, &who, io_by_process))
		return 0;
	bytes = gopher_folio_pages(folio, typed) * io_page_size;
	p = pages_of(dev);
	if (p)
		p->dirtied += bytes;
	s = io_by_process ? process_of(&who, dev, IO_OP_DIRTIED) : NULL;
	if (s)
		__sync_fetch_and_add(&s->bytes, bytes);
	return 0;
}

/* What is left of the pages that were allowed: the rest was written. */
static __always_inline int on_written(struct inode *inode, struct writeback_control *wbc,
				      long allowed, const bool typed)
{
	long pages = allowed - GOPHER_READ(typed, wbc, nr_to_write);
	struct gopher_task who = {};
	struct io_pages *p;
	u32 dev;

	if (pages <= 0)
		return 0;
	dev = inode_dev(inode, typed);
	if (!page_wanted(dev, &who, false))
		return 0;
	p = pages_of(dev);
	if (p)
		p->written += pages * io_page_size;
	return 0;
}

#include "io_programs.bpf.h"
