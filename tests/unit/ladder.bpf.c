/* ladder.bpf.c - programs of several kinds that do nothing, for the tests of the ladder.
 * SPDX-License-Identifier: Apache-2.0 */
#include "gopher/ring.bpf.h"

char _license[] SEC("license") = "Dual BSD/GPL";

GOPHER_RING(events, 4096);

SEC("?fentry/do_nanosleep")
int switch__fentry(void* ctx __attribute__((unused))) { return 0; }
SEC("?tp_btf/sched_switch")
int switch__tp_btf(void* ctx __attribute__((unused))) { return 0; }
SEC("?raw_tp/sched_switch")
int switch__raw_tp(void* ctx __attribute__((unused))) { return 0; }
SEC("?kprobe/do_nanosleep")
int extra__kprobe(void* ctx __attribute__((unused))) { return 0; }
