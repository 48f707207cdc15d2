/* kernel.h - the kernel types and fields that are read, for CO-RE; instead of a vmlinux.h.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Only what is read is declared: libbpf finds the real offsets by name when it loads, so the same
 * source compiles for any architecture without a kernel at hand. What differs between kernels is
 * in compat.bpf.h.
 */
#ifndef GOPHER_KERNEL_H
#define GOPHER_KERNEL_H

/* bpf_tracing.h then takes the registers from the types below and not from libc's. */
#define __VMLINUX_H__

#include <linux/bpf.h>
#include <stdbool.h>
#include "gopher/types.h"

#ifndef NULL
#define NULL ((void *)0)
#endif

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* ---- registers, for kprobes ---- */

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di, si, dx, cx, r8, r9, r10, ax, orig_ax, ip, sp, bp;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	u64 regs[31];
	u64 sp, pc, pstate;
};
struct pt_regs {
	u64 regs[31];
	u64 orig_x0;
};
#else
#error "define __TARGET_ARCH_x86 or __TARGET_ARCH_arm64"
#endif

/* ---- tasks and cgroups ---- */

struct kernfs_node {
	u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup_subsys_state *subsys[4];
	struct cgroup *dfl_cgrp;
};

struct task_struct {
	unsigned int flags;
	int pid;
	int tgid;
	u64 start_boottime;
	struct task_struct *group_leader;
	struct css_set *cgroups;
	char comm[GOPHER_COMM_LEN];
};

/* Numbers differ between configurations: bpf_core_enum_value() finds them. */
enum cgroup_subsys_id {
	cpu_cgrp_id = 1,
	memory_cgrp_id = 4,
	pids_cgrp_id = 11,
};

/* ---- block layer ---- */

struct blkcg {
	struct cgroup_subsys_state css;
};

struct blkcg_gq {
	struct blkcg *blkcg;
};

struct request_queue {
	int id;
	void *mq_ops; /* NULL: a bio-based device */
	struct gendisk *disk;
};

struct gendisk {
	int major;
	int first_minor;
	struct request_queue *queue;
};

struct block_device {
	u32 bd_dev;
	struct gendisk *bd_disk;
};

struct bvec_iter {
	u64 bi_sector;
	unsigned int bi_size;
};

struct bio {
	struct block_device *bi_bdev;
	unsigned int bi_opf;
	u8 bi_status;
	struct bvec_iter bi_iter;
	struct blkcg_gq *bi_blkg;
};

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int rq_flags;
	unsigned int __data_len;
	u64 __sector;
	struct bio *bio;
	struct block_device *part;
	u64 start_time_ns;
	u64 io_start_time_ns;
};

struct scsi_cmnd;

enum req_flag_bits {
	__REQ_SYNC = 11,
	__REQ_META = 12,
	__REQ_FUA = 17,
	__REQ_PREFLUSH = 18,
	__REQ_RAHEAD = 19,
};

/* ---- page cache ---- */

struct super_block {
	u32 s_dev;
};

struct inode {
	u16 i_mode;
	u32 i_rdev;
	struct super_block *i_sb;
};

struct address_space {
	struct inode *host;
};

struct page {
	unsigned long flags;
	struct address_space *mapping;
};

struct folio {
	unsigned long flags;
	struct address_space *mapping;
};

struct writeback_control {
	long nr_to_write;
};

enum pageflags {
	PG_head = 6,
};

#pragma clang attribute pop

#endif
