/* io_pages.bpf.h - the io probe's handlers of the page cache.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef GOPHER_IO_PAGES_BPF_H
#define GOPHER_IO_PAGES_BPF_H

#include "io_account.bpf.h"

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
	if (!ask && !gopher_filters_processes())
		return true;
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

#endif
