/* hist.bpf.h - histogram slots whose upper bounds are powers of two, exactly as Prometheus' `le`.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Slot i holds what is <= unit << i and > unit << (i - 1). Arrays have 16 or 32 slots, so that a
 * mask is the bound that the verifier wants; what lies above the last bound of the metric is added
 * up by user space (+Inf).
 */
#ifndef GOPHER_HIST_BPF_H
#define GOPHER_HIST_BPF_H

#include "gopher/kernel.h"
#include <bpf/bpf_helpers.h>

/* Position of the highest bit of a number whose lower bits are all set, by a De Bruijn product. */
const __u8 gopher_high_bit[32] = {
	0, 9,  1,  10, 13, 21, 2,  29, 11, 14, 16, 18, 22, 25, 3, 30,
	8, 12, 20, 28, 15, 17, 24, 7,  19, 27, 23, 6,  26, 5,  4, 31,
};

/* Bits needed for v, which is below 1 << 31. Without a branch on purpose: each one doubles what
 * the verifier walks, and three branchy logarithms in one program exceeded its million. */
static __always_inline u64 gopher_bits(u64 v)
{
	v |= v >> 1;
	v |= v >> 2;
	v |= v >> 4;
	v |= v >> 8;
	v |= v >> 16;
	/* log2(0) would be 0 as log2(1) is: doubled first, so that 0 needs no bit. */
	v = v * 2 + 1;
	return gopher_high_bit[(v * 0x07C4ACDDull >> 27) & 31];
}

/* Slot 0 to 31, bounds of 1 us << i. Whole microseconds that are fully below the value decide, so a
 * value that equals a bound is in that bound's slot. */
static __always_inline u64 gopher_time_slot(u64 ns)
{
	u64 us = (ns - !!ns) / 1000;

	if (us >> 31)
		us = 0x7fffffff;
	return gopher_bits(us) & 31;
}

/* Slot 0 to 15, bounds of 512 bytes << i. */
static __always_inline u64 gopher_size_slot(u64 bytes)
{
	u64 sectors = (bytes - !!bytes) >> 9;

	if (sectors >> 15)
		sectors = 0x7fff;
	return gopher_bits(sectors) & 15;
}

#endif
