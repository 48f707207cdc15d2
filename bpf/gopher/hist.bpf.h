/* hist.bpf.h - histogram slots whose upper bounds are powers of two, exactly as Prometheus' `le`.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Slot i holds what is <= unit << i and > unit << (i - 1). Arrays have 16 or 32 slots, so that a
 * mask is the bound that the verifier wants; what lies above the last bound of the metric is added
 * up by user space (+Inf).
 */
#ifndef GOPHER_HIST_BPF_H
#define GOPHER_HIST_BPF_H

#include "gopher/compat.bpf.h"

/* Powers of two needed to reach n: the least i with n <= 1 << i. A table, because BPF cannot count
 * leading zeros, and each shift by a branch doubles what the verifier walks (three such logarithms
 * in one program exceeded its million); a product instead of the table costs 21 instructions. */
const __u8 gopher_log2_up[256] = {
	[0 ... 1] = 0,	 [2] = 1,	  [3 ... 4] = 2,    [5 ... 8] = 3,     [9 ... 16] = 4,
	[17 ... 32] = 5, [33 ... 64] = 6, [65 ... 128] = 7, [129 ... 255] = 8,
};

/* The barriers keep clang from comparing what n was computed from, of which n's own bound does not
 * follow for the verifier; the masks are for paths that 6.1's thinks possible though they
 * contradict themselves (n at least 1 and at most 0). */
static __always_inline u64 gopher_log2(u64 n)
{
	barrier_var(n);
	if (n < 256)
		return gopher_log2_up[GOPHER_BELOW(n, 256)];
	n = (n + 255) >> 8;
	barrier_var(n);
	if (n < 256)
		return 8 + gopher_log2_up[GOPHER_BELOW(n, 256)];
	n = (n + 255) >> 8;
	barrier_var(n);
	if (n < 256)
		return 16 + gopher_log2_up[GOPHER_BELOW(n, 256)];
	n = (n + 255) >> 8;
	if (n < 128)
		return 24 + gopher_log2_up[GOPHER_BELOW(n, 128)];
	return 31;
}

/* Slot 0 to 31, bounds of 1 us << i. Begun microseconds decide, so a value that equals a bound is
 * in that bound's slot. Below 4.29 s the product is the exact quotient, at half the price. */
static __always_inline u64 gopher_time_slot(u64 ns)
{
	u64 up = ns + 999;

	return GOPHER_BELOW(gopher_log2(up >> 32 ? up / 1000 : up * 274877907 >> 38), 32);
}

/* Slot 0 to 15, bounds of 512 bytes << i. */
static __always_inline u64 gopher_size_slot(u64 bytes)
{
	u64 sectors = (bytes + 511) >> 9;

	if (sectors > 1 << 15)
		return 15;
	return GOPHER_BELOW(gopher_log2(sectors), 16);
}

#endif
