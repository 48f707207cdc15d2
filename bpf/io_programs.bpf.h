/* io_programs.bpf.h - the io probe's entry points: <hook>__<rung>, thin, one handler for each hook.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The order of the rungs stands in probes/io/tables.hpp.
 */
#ifndef GOPHER_IO_PROGRAMS_BPF_H
#define GOPHER_IO_PROGRAMS_BPF_H

#define ARG(n)			    GOPHER_ARG(ctx, n)
#define ARG_AFTER_QUEUE(tracepoint) GOPHER_ARG_AFTER_QUEUE(ctx, tracepoint)

/* A tracepoint as tp_btf, where fields are plain loads, and as raw_tp; the same arguments. */
#define IO_TRACEPOINT_AS(hook, suffix, tracepoint, handler, ...)                                   \
	SEC("?tp_btf/" #tracepoint)                                                                \
	int hook##__tp_btf##suffix(unsigned long long *ctx)                                        \
	{                                                                                          \
		const bool typed = true;                                                           \
		return handler(__VA_ARGS__);                                                       \
	}                                                                                          \
	SEC("?raw_tp/" #tracepoint)                                                                \
	int hook##__raw_tp##suffix(unsigned long long *ctx)                                        \
	{                                                                                          \
		const bool typed = false;                                                          \
		return handler(__VA_ARGS__);                                                       \
	}
#define IO_TRACEPOINT(hook, tracepoint, handler, ...)                                              \
	IO_TRACEPOINT_AS(hook, , tracepoint, handler, __VA_ARGS__)

/* A function whose only argument is the request, where there is no such tracepoint. */
#define IO_FUNCTION(hook, function, handler)                                                       \
	SEC("?fentry/" #function)                                                                  \
	int hook##__fentry(unsigned long long *ctx)                                                \
	{                                                                                          \
		return handler(ARG(0), true);                                                      \
	}                                                                                          \
	SEC("?kprobe/" #function)                                                                  \
	int hook##__kprobe(struct pt_regs *ctx)                                                    \
	{                                                                                          \
		return handler((void *)PT_REGS_PARM1(ctx), false);                                 \
	}

IO_TRACEPOINT(complete, block_rq_complete, on_complete, ARG(0), (u64)ARG(1), (u64)ARG(2), typed)

IO_TRACEPOINT(start, block_io_start, on_start, ARG(0), typed)
IO_FUNCTION(start, blk_account_io_start, on_start)
IO_TRACEPOINT(getrq, block_getrq, on_getrq, ARG_AFTER_QUEUE(block_getrq), typed)
IO_TRACEPOINT(insert, block_rq_insert, on_insert, ARG_AFTER_QUEUE(block_rq_insert), typed)
IO_TRACEPOINT(issue, block_rq_issue, on_issue, ARG_AFTER_QUEUE(block_rq_issue), typed)
IO_TRACEPOINT(merge, block_rq_merge, on_merge, ARG_AFTER_QUEUE(block_rq_merge), typed)

IO_TRACEPOINT(bio_queue, block_bio_queue, on_bio_queue, ARG_AFTER_QUEUE(block_bio_queue), typed)
IO_TRACEPOINT(bio_complete, block_bio_complete, on_bio_complete, ARG(1), typed)

IO_TRACEPOINT(nvme, nvme_sq, on_driver, ARG(0), typed)
IO_TRACEPOINT(scsi, scsi_dispatch_cmd_done, on_driver_scsi, ARG(0), typed)

IO_TRACEPOINT(add, mm_filemap_add_to_page_cache, on_add, ARG(0), typed)
IO_TRACEPOINT(dirty, writeback_dirty_folio, on_dirty, ARG(0), typed)
IO_TRACEPOINT_AS(dirty, _page, writeback_dirty_page, on_dirty, ARG(0), typed)
IO_TRACEPOINT(written, writeback_single_inode, on_written, ARG(0), ARG(1), (long)ARG(2), typed)

#endif
