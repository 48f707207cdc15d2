/* io.h - keys, values and records that bpf/io.bpf.c shares with probes/io.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef GOPHER_IO_H
#define GOPHER_IO_H

#include "gopher/types.h"

enum io_op {
	IO_OP_READ,
	IO_OP_WRITE,
	IO_OP_FLUSH,
	IO_OP_DISCARD,
	IO_OP_SECURE_ERASE,
	IO_OP_WRITE_ZEROES,
	IO_OP_ZONE,
	IO_OP_PASSTHROUGH,
	IO_OPS,
	/* Not operations: keys of the page cache in the maps that are keyed by operation. */
	IO_OP_PAGES = 14,
	IO_OP_DIRTIED = 15,
};

enum io_class { IO_SYNC, IO_ASYNC, IO_READAHEAD, IO_METADATA, IO_CLASSES };

enum {
	IO_TIME_SLOTS = 32,    /* bounds 1 us << i */
	IO_SIZE_SLOTS = 16,    /* bounds 512 bytes << i */
	IO_PROCESS_SLOTS = 16, /* bounds 2 us << 2i */
	IO_CACHE_BITS = 7,
	IO_CACHE_DEVS = 1 << IO_CACHE_BITS,
	IO_KINDS = 32, /* op << 2 | class */
	IO_PROBES = 8, /* places that are tried for a slot */
};

/* What a slot of io_stats and io_pages counts. */
struct io_key {
	u32 dev;
	u8 op;
	u8 class_;
	u16 pad;
};
GOPHER_ASSERT_SIZE(struct io_key, 8);

/* Where a key's slot is remembered. Read and written word by word: a mix of two requests' words is
 * harmless. */
struct io_cached {
	u64 slot; /* dev << 32 | slot + 1; no device is 0:0 */
	u64 end;  /* sector after the last request of this kind */
};
GOPHER_ASSERT_SIZE(struct io_cached, 16);

/* Running totals of one CPU. The counts are u32 and wrap: user space takes differences, which are
 * right as long as less than 1 << 32 requests complete between two polls; half the memory. */
struct io_stats {
	u64 bytes;
	u64 queue_ns, device_ns, driver_ns;
	u64 unsplit_ns; /* of requests whose time is known, but not when they were issued */
	u64 unsplit;	/* how many these are */
	u64 untimed;	/* neither the kernel took a start time (iostats off) nor did we */
	u64 sequential;
	u32 total[IO_TIME_SLOTS];
	u32 queue[IO_TIME_SLOTS];
	u32 device[IO_TIME_SLOTS];
	u32 driver[IO_TIME_SLOTS];
	u32 size[IO_SIZE_SLOTS]; /* of requests that carry data */
};
GOPHER_ASSERT_SIZE(struct io_stats, 640);

struct io_pages {
	u64 added, dirtied, written; /* bytes */
};
GOPHER_ASSERT_SIZE(struct io_pages, 24);

struct io_error_key {
	u32 dev;
	u32 op;
	s32 error; /* as the kernel gave it: a negative errno, or a blk_status_t */
	u32 pad;
};
GOPHER_ASSERT_SIZE(struct io_error_key, 16);

struct io_process_key {
	u64 start_ns;
	u64 cgroup;
	u32 tgid; /* 0: kernel workers, of which there are two kinds: */
	u32 writeback;
	u32 dev;
	u32 op; /* enum io_op, or IO_OP_DIRTIED */
};
GOPHER_ASSERT_SIZE(struct io_process_key, 32);

struct io_process_stats {
	char comm[GOPHER_COMM_LEN];
	u64 requests, bytes, ns;
	u64 time[IO_PROCESS_SLOTS]; /* only of requests whose time is known */
};
GOPHER_ASSERT_SIZE(struct io_process_stats, 168);

/* A request, or a bio of a bio-based device, between its start and its end; key: its address. */
struct io_inflight {
	u64 start_ns; /* CLOCK_MONOTONIC; 0: only `issued_ns` and `driver_ns` are known */
	u64 issued_ns;
	u64 driver_ns;
	u64 sector;
	u32 bytes;
	u32 dev;
	u32 part;
	u8 op;
	u8 class_;
	u8 bio;
	u8 pad;
	struct gopher_task who;
};
GOPHER_ASSERT_SIZE(struct io_inflight, 88);

enum io_event_kind {
	IO_EVENT_ERROR = 1,
	IO_EVENT_SLOW = 2,
	IO_EVENT_UNSTUCK = 4, /* it took longer than what counts as stuck, and is done */
};

struct io_record {
	u64 time_ns;  /* CLOCK_MONOTONIC */
	u64 request;  /* its address: the key in io_inflight */
	u64 start_ns; /* as there; else as the kernel noted it */
	u64 sector;
	u64 total_ns, queue_ns, device_ns, driver_ns; /* 0: not known */
	u32 dev;
	u32 part; /* 0: not known */
	u32 bytes;
	s32 error; /* as in io_error_key */
	u8 op;
	u8 class_;
	u8 kinds; /* enum io_event_kind */
	u8 known; /* 1: `who` is */
	u32 pad;
	struct gopher_task who;
};
GOPHER_ASSERT_SIZE(struct io_record, 128);

/* Slots of io_lost, each a stage with a name in probes/io. */
enum io_lost {
	IO_LOST_STATS,	 /* no slot left: a request is not in any metric */
	IO_LOST_PAGES,	 /* the same, of the page cache */
	IO_LOST_PROCESS, /* no entry left: not attributed */
	IO_LOST_INFLIGHT,
	IO_LOST_ERRORS,
	IO_LOSSES,
};

#endif
