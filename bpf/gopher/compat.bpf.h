/* compat.bpf.h - every difference between kernels, each with the commit or version that made it.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A type that ends in ___something is a flavour: CO-RE drops the suffix and looks for the rest, so
 * two shapes of one kernel type can stand side by side. Each question is answered when the object
 * is loaded, and the verifier drops the branch that does not apply.
 */
#ifndef GOPHER_COMPAT_BPF_H
#define GOPHER_COMPAT_BPF_H

#include "gopher/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* Read one field. Under a BTF-typed rung (tp_btf, fentry) the verifier knows the type of the
 * pointer and takes a plain load, 1 to 9 instructions; elsewhere it is a probe read of about 100.
 * `typed` is a constant where a handler is inlined, so one handler serves both kinds of rung. */
#define GOPHER_READ(typed, ptr, field)                                                             \
	({                                                                                         \
		typeof(ptr) __from = (ptr);                                                        \
		typeof(__from->field) __value;                                                     \
		if (typed)                                                                         \
			__value = __from->field;                                                   \
		else                                                                               \
			bpf_core_read(&__value, sizeof(__value), &__from->field);                  \
		__value;                                                                           \
	})

/* Argument n of a raw tracepoint. In assembly so that clang cannot merge two of them into one load
 * at a computed offset, which the verifier refuses on a context. */
#define GOPHER_ARG(ctx, n)                                                                         \
	({                                                                                         \
		u64 __arg;                                                                         \
		asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(__arg) : "r"(ctx), "i"((n)*8));       \
		(void *)__arg;                                                                     \
	})

/* x below a power of two, in the verifier's eyes too: 5.10's forgets all bounds at an OR, into
 * which clang turns additions, and clang would drop a mask that it knows to change nothing. */
#define GOPHER_BELOW(x, power)                                                                     \
	({                                                                                         \
		u64 __x = (x);                                                                     \
		barrier_var(__x);                                                                  \
		__x &((power)-1);                                                                  \
	})

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* ---- tasks ---- */

/* bpf_get_current_task_btf(): 5.11, 3ca1032ab7ab. */
static __always_inline bool gopher_has_current_btf(void)
{
	return bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf);
}

/* start_boottime: 5.5, cf25e24db61c; before that real_start_time held the same. */
struct task_struct___before_5_5 {
	u64 real_start_time;
};

static __always_inline u64 gopher_task_start(struct task_struct *t, const bool typed)
{
	if (bpf_core_field_exists(t->start_boottime))
		return GOPHER_READ(typed, t, start_boottime);
	return GOPHER_READ(typed, (struct task_struct___before_5_5 *)t, real_start_time);
}

/* ---- block layer: tracepoint arguments ---- */

/* Until 5.11 (a54895fa057c; also in late 5.10.y) the request's queue came first. The type that a
 * tracepoint's typedef names tells how many arguments there are. */
typedef void (*btf_trace_block_rq_insert___queue)(void *, struct request_queue *, struct request *);
typedef void (*btf_trace_block_rq_issue___queue)(void *, struct request_queue *, struct request *);
typedef void (*btf_trace_block_rq_merge___queue)(void *, struct request_queue *, struct request *);
/* The same for bios: 5.11, e8a676d61c07. */
typedef void (*btf_trace_block_bio_queue___queue)(void *, struct request_queue *, struct bio *);
typedef void (*btf_trace_block_getrq___queue)(void *, struct request_queue *, struct bio *, int);

#define GOPHER_ARG_AFTER_QUEUE(ctx, tracepoint)                                                    \
	({                                                                                         \
		void *__object;                                                                    \
		if (bpf_core_type_exists(btf_trace_##tracepoint##___queue))                        \
			__object = GOPHER_ARG(ctx, 1);                                             \
		else                                                                               \
			__object = GOPHER_ARG(ctx, 0);                                             \
		__object;                                                                          \
	})

/* ---- block layer: disks and partitions ---- */

/* request.rq_disk went in 5.17 (f3fa33acca9f); request_queue.disk came in 5.15 (d152c682f03c). */
struct request___before_5_17 {
	struct gendisk *rq_disk;
};

static __always_inline struct gendisk *gopher_rq_disk(struct request *rq, const bool typed)
{
	struct request___before_5_17 *old = (void *)rq;

	if (bpf_core_field_exists(old->rq_disk))
		return GOPHER_READ(typed, old, rq_disk);
	return GOPHER_READ(typed, GOPHER_READ(typed, rq, q), disk);
}

/* A partition is a block_device since 5.11 (8446fe9255be), before it was a hd_struct. */
struct device {
	u32 devt;
};
struct hd_struct {
	struct device __dev;
};
struct request___hd_struct {
	struct hd_struct *part;
};

/* Number of the partition, or of the disk; 0 where the request is not accounted to any. */
static __always_inline u32 gopher_rq_part(struct request *rq, const bool typed)
{
	if (bpf_core_type_exists(struct hd_struct)) {
		struct hd_struct *old = GOPHER_READ(typed, (struct request___hd_struct *)rq, part);

		return old ? GOPHER_READ(typed, old, __dev.devt) : 0;
	}
	struct block_device *part = GOPHER_READ(typed, rq, part);

	return part ? GOPHER_READ(typed, part, bd_dev) : 0;
}

/* bio.bi_disk and bi_partno became bi_bdev in 5.12 (309dca309fc3). */
struct bio___before_5_12 {
	struct gendisk *bi_disk;
};

static __always_inline struct gendisk *gopher_bio_disk(struct bio *bio, const bool typed)
{
	struct bio___before_5_12 *old = (void *)bio;

	if (bpf_core_field_exists(old->bi_disk))
		return GOPHER_READ(typed, old, bi_disk);
	struct block_device *bdev = GOPHER_READ(typed, bio, bi_bdev);

	return bdev ? GOPHER_READ(typed, bdev, bd_disk) : NULL;
}

/* Before 5.12 only the partition's place in its disk is there: then the disk stands for it. */
static __always_inline u32 gopher_bio_part(struct bio *bio, const bool typed)
{
	struct bio___before_5_12 *old = (void *)bio;

	if (bpf_core_field_exists(old->bi_disk))
		return 0;
	struct block_device *bdev = GOPHER_READ(typed, bio, bi_bdev);

	return bdev ? GOPHER_READ(typed, bdev, bd_dev) : 0;
}

/* ---- block layer: requests ---- */

/* Flags of a request were macros until 6.11 made their bits an enum (5f89154e8e9e), which got a
 * name only later (enum rqf_flags, in 6.18). In between a field that came with 6.11 as well tells
 * them apart: queue_limits.features (1122c0c1cc71). */
enum rqf_flags {
	__RQF_FLUSH_SEQ = 1,
	__RQF_IO_STAT = 8,
};
struct queue_limits {
	unsigned int features;
};

#define GOPHER_RQF(flags, bit, bit_of_6_11, bit_before)                                            \
	({                                                                                         \
		u64 __bit = bit_before;                                                            \
		if (bpf_core_enum_value_exists(enum rqf_flags, bit))                               \
			__bit = bpf_core_enum_value(enum rqf_flags, bit);                          \
		else if (bpf_core_field_exists(struct queue_limits, features))                     \
			__bit = bit_of_6_11;                                                       \
		(flags) >> __bit & 1;                                                              \
	})

#define GOPHER_RQF_FLUSH_SEQ(flags) GOPHER_RQF(flags, __RQF_FLUSH_SEQ, 1, 4)

/* Has the kernel taken the request's start time? Without this flag (iostats off, passthrough) newer
 * kernels leave in start_time_ns what an earlier use of the request left there: on 6.18 requests
 * then seemed to take minutes. */
#define GOPHER_RQF_IO_STAT(flags) GOPHER_RQF(flags, __RQF_IO_STAT, 8, 13)

/* The numbers of operations (enum req_op, req_opf until 6.0, ff07a02e9e8e) are the same from 5.10
 * to 7.3: read 0, write 1, flush 2, discard 3, secure erase 5, write zeroes 9, zone management 11
 * to 19 and passthrough from 32 on. Zone append is 21 until 6.0, then 7, which before 5.18
 * (73bd66d9c834) was "write same"; a write each time. */
#define GOPHER_REQ_OP_MASK 0x3f

/* scsi_cmnd.request went in 5.16 (51f3a4788928): since then the command follows its request. */
struct scsi_cmnd___before_5_16 {
	struct request *request;
};

static __always_inline void *gopher_scsi_request(void *cmd)
{
	struct scsi_cmnd___before_5_16 *old = cmd;

	if (bpf_core_field_exists(old->request))
		return BPF_CORE_READ(old, request);
	return cmd - bpf_core_type_size(struct request);
}

/* ---- page cache ---- */

/* page.flags and folio.flags are a struct since 6.18 (53fbef56e07d). */
struct memdesc_flags {
	unsigned long f;
};
struct folio___6_18 {
	struct memdesc_flags flags;
};
/* Pages of a large folio: _nr_pages (6.15, 4996fc547f5b), _folio_nr_pages (6.2, c3a15bff46cb; also
 * in 6.1.y), before that compound_nr of the second page. */
struct folio___6_15 {
	unsigned int _nr_pages;
};
struct folio___6_2 {
	unsigned int _folio_nr_pages;
};
struct page___before_6_2 {
	unsigned int compound_nr;
};

static __always_inline u64 gopher_large_folio_pages(struct folio *folio, const bool typed)
{
	if (bpf_core_field_exists(((struct folio___6_15 *)folio)->_nr_pages))
		return GOPHER_READ(typed, (struct folio___6_15 *)folio, _nr_pages);
	if (bpf_core_field_exists(((struct folio___6_2 *)folio)->_folio_nr_pages))
		return GOPHER_READ(typed, (struct folio___6_2 *)folio, _folio_nr_pages);
	struct page___before_6_2 *second = (void *)folio + bpf_core_type_size(struct page);

	if (bpf_core_field_exists(second->compound_nr))
		return BPF_CORE_READ(second, compound_nr);
	return 1;
}

/* Pages behind the argument of a page cache tracepoint: a folio since 5.16 to 5.18 (7b230db3b8d3
 * and later), before that a page. */
static __always_inline u64 gopher_folio_pages(struct folio *folio, const bool typed)
{
	struct folio___6_18 *newer = (void *)folio;
	unsigned long flags;

	if (bpf_core_field_exists(newer->flags.f))
		flags = GOPHER_READ(typed, newer, flags.f);
	else if (bpf_core_field_exists(folio->flags))
		flags = GOPHER_READ(typed, folio, flags);
	else
		return 1;
	if (!(flags & (1ul << bpf_core_enum_value(enum pageflags, PG_head))))
		return 1;
	return gopher_large_folio_pages(folio, typed);
}

static __always_inline struct address_space *gopher_folio_mapping(void *folio, const bool typed)
{
	if (bpf_core_type_exists(struct folio))
		return GOPHER_READ(typed, (struct folio *)folio, mapping);
	return GOPHER_READ(typed, (struct page *)folio, mapping);
}

#pragma clang attribute pop

#endif
