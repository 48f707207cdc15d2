/* io_maps.bpf.h - the io probe's constants and maps.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef GOPHER_IO_MAPS_BPF_H
#define GOPHER_IO_MAPS_BPF_H

#include "io.h"
#include "gopher/filter.bpf.h"
#include "gopher/hist.bpf.h"
#include "gopher/ring.bpf.h"
#include "gopher/task.bpf.h"

/* ---- set before the load ---- */

const volatile __u32 io_slot_mask = 255; /* slots - 1, a power of two */
const volatile __u32 io_page_size = 4096;
const volatile __u64 io_slow_ns = ~0ull; /* all ones: no such event */
const volatile __u64 io_stuck_ns = ~0ull;
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

struct io_cached io_cache[IO_CACHE_DEVS * IO_KINDS];
__u64 io_page_cache[IO_CACHE_DEVS];

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

#endif
