/* probe.h - the C ABI between gopherd and a probe plugin (C11 and C++20).
 * SPDX-License-Identifier: Apache-2.0
 *
 * A plugin is a shared object that exports one symbol, `gopher_probe`, a `struct gopher_probe_ops`.
 * It takes nothing from the daemon by name: what it may call arrives as `struct gopher_host`.
 *
 * Compatibility: `gopher_probe_ops` and `gopher_host` grow at the end and are guarded by `size`; a
 * change of any other struct here bumps GOPHER_PROBE_ABI, and a plugin of another ABI is refused.
 *
 * Ownership: tables are static data of the plugin. A pointer passed to a host function is read
 * before the function returns and never kept. Threads: all ops of an instance, and the ring
 * callbacks it registered, run on one worker thread, never two at a time, so a probe has no locks.
 * Errors: negative errno; nothing may throw across this line. Times are nanoseconds.
 */
#ifndef GOPHER_PROBE_H
#define GOPHER_PROBE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In C++ a table names only what it sets; the rest is zero without a warning. */
#ifdef __cplusplus
#define GOPHER_ZERO = {}
#else
#define GOPHER_ZERO
#endif

#define GOPHER_PROBE_ABI 1u
#define GOPHER_PROBE_SYMBOL "gopher_probe"

enum { GOPHER_MAX_LABELS = 12, GOPHER_MAX_FIELDS = 24, GOPHER_MAX_PROGRAMS = 8 };

/* What a number, a label or an event field is; the daemon alone turns it into text. */
enum gopher_type {
  GOPHER_U64 = 1,     /* .num */
  GOPHER_I64 = 2,     /* .snum */
  GOPHER_F64 = 3,     /* .real */
  GOPHER_BOOL = 4,    /* .num, 0 or 1 */
  GOPHER_STR = 5,     /* .str, NUL-terminated, or .len bytes when len is not 0 */
  GOPHER_ENUM = 6,    /* .num is an index into the table's `values` */
  GOPHER_PROCESS = 7, /* .process; becomes the labels pid, comm, cgroup */
  GOPHER_CGROUP = 8,  /* .num: inode of the cgroup | hierarchy << 60; becomes its path */
  GOPHER_DEV = 9, /* .num is major << 20 | minor, the kernel's dev_t; becomes the name in lsblk */
  GOPHER_ERRNO = 10, /* .snum, sign ignored; becomes "EIO" */
  GOPHER_ADDR = 11,  /* .data: 4 or 16 bytes in network order, .len says which */
  GOPHER_NS = 12,    /* .num nanoseconds; becomes seconds */
  GOPHER_BYTES = 13  /* .num bytes */
};

/* On a hybrid host each cgroup hierarchy numbers its own; the upper bits say which one it is. */
enum {
  GOPHER_HIERARCHY_SHIFT = 60,
  GOPHER_HIERARCHY_V2 = 0,
  GOPHER_HIERARCHY_MEMORY = 1,
  GOPHER_HIERARCHY_CPU = 2,
  GOPHER_HIERARCHY_PIDS = 3
};

enum gopher_kind { GOPHER_COUNTER = 1, GOPHER_GAUGE = 2, GOPHER_HISTOGRAM = 3 };

enum gopher_severity { GOPHER_DEBUG = 1, GOPHER_INFO = 2, GOPHER_WARNING = 3, GOPHER_ERROR = 4 };

/* A process is its tgid and its start, so that a reused pid is somebody else. */
struct gopher_process {
  uint32_t tgid;
  uint32_t reserved;
  uint64_t start_ns;  /* CLOCK_BOOTTIME; 0: unknown or a kernel thread's collective name */
  uint64_t cgroup_id; /* as GOPHER_CGROUP; 0: unknown */
  char comm[16];
};

struct gopher_value {
  union {
    uint64_t num;
    int64_t snum;
    double real;
  };
  union {
    const char* str;
    const void* data;
    const struct gopher_process* process;
  };
  uint32_t len;
  uint32_t reserved;
};

/* ---- tables ---- */

struct gopher_label {
  const char* name GOPHER_ZERO;
  const char* const* values GOPHER_ZERO; /* GOPHER_ENUM only */
  uint32_t type GOPHER_ZERO;             /* enum gopher_type */
  uint32_t n_values GOPHER_ZERO;
};

struct gopher_metric {
  const char* name GOPHER_ZERO; /* gopher_<probe>_..., ends in _total only for a counter */
  const char* help GOPHER_ZERO; /* one sentence */
  struct gopher_label labels[GOPHER_MAX_LABELS] GOPHER_ZERO;
  const double* bounds
      GOPHER_ZERO; /* GOPHER_HISTOGRAM: upper bounds, ascending, without +Inf; base unit */
  uint32_t kind GOPHER_ZERO;     /* enum gopher_kind */
  uint32_t n_labels GOPHER_ZERO; /* metric_table() counts them */
  uint32_t n_bounds GOPHER_ZERO;
  uint32_t budget GOPHER_ZERO; /* most series of this metric; 0: the daemon's default */
  uint32_t ttl_s GOPHER_ZERO; /* a series without update dies after this; 0: the daemon's default */
  uint32_t reserved GOPHER_ZERO;
};

struct gopher_field {
  const char* name GOPHER_ZERO;
  const char* help GOPHER_ZERO;
  const char* const* values GOPHER_ZERO; /* GOPHER_ENUM only */
  uint32_t type GOPHER_ZERO;
  uint32_t n_values GOPHER_ZERO;
};

struct gopher_event {
  const char* name GOPHER_ZERO; /* e.g. "io_error" */
  const char* help GOPHER_ZERO;
  struct gopher_field fields[GOPHER_MAX_FIELDS] GOPHER_ZERO;
  uint32_t n_fields GOPHER_ZERO; /* event_table() counts them */
  uint32_t severity GOPHER_ZERO; /* enum gopher_severity */
  uint32_t max_per_minute
      GOPHER_ZERO; /* per process; what is above is folded; 0: the daemon's default */
  uint32_t reserved GOPHER_ZERO;
};

enum gopher_option_type {
  GOPHER_OPT_BOOL = 1,   /* bool */
  GOPHER_OPT_INT = 2,    /* int64_t, checked against min and max */
  GOPHER_OPT_DOUBLE = 3, /* double, checked against min and max */
  GOPHER_OPT_STRING = 4, /* const char *, checked against choices if any */
  GOPHER_OPT_LIST = 5    /* struct gopher_strings: strings or integers given as a list */
};

struct gopher_strings {
  const char* const* items GOPHER_ZERO;
  uint32_t n GOPHER_ZERO;
  uint32_t reserved GOPHER_ZERO;
};

/* The daemon checks the configuration against these and fills the probe's config struct. Strings in
 * it belong to the daemon and live as long as the instance. */
struct gopher_option {
  const char* name GOPHER_ZERO;
  const char* help GOPHER_ZERO;
  const char* unit GOPHER_ZERO; /* "", "s", "ms", "bytes" ...: for the documentation */
  const char* default_value
      GOPHER_ZERO; /* as it would stand in gopher.conf, e.g. "true", "250", "[]" */
  const char* const* choices GOPHER_ZERO; /* GOPHER_OPT_STRING only; n_choices 0: any */
  double min GOPHER_ZERO, max GOPHER_ZERO;
  uint32_t type GOPHER_ZERO;
  uint32_t offset GOPHER_ZERO; /* of the field in the config struct */
  uint32_t n_choices GOPHER_ZERO;
  uint32_t reserved GOPHER_ZERO;
};

/* One place in the kernel that a probe wants to see, and the programs that can see it, best first.
 * Programs are named <hook>__<rung>, stand in `?` sections, and only the chosen one is loaded. */
struct gopher_hook {
  const char* name GOPHER_ZERO;
  const char* help GOPHER_ZERO; /* what is lost without it */
  const char* programs[GOPHER_MAX_PROGRAMS] GOPHER_ZERO;
  uint32_t n_programs GOPHER_ZERO; /* hook_table() counts them */
  uint32_t required GOPHER_ZERO;   /* 1: without it the probe fails; 0: it degrades */
};

/* ---- what a probe may call ---- */

enum gopher_op {
  GOPHER_ADD = 1, /* counter: add `value`; histogram: add `buckets` and `sum` */
  GOPHER_SET = 2  /* gauge: set to `value` */
};

struct gopher_sample {
  const struct gopher_value* labels GOPHER_ZERO; /* as many as the metric's table says */
  const uint64_t* buckets
      GOPHER_ZERO;          /* histogram: n_bounds + 1 counts, not cumulative, the last is +Inf */
  double value GOPHER_ZERO; /* base unit: seconds, bytes, 1 */
  double sum GOPHER_ZERO;   /* histogram: sum of the observations, base unit */
  uint32_t metric GOPHER_ZERO; /* index into ops.metrics */
  uint32_t op GOPHER_ZERO;     /* enum gopher_op */
};

/* Unique and sortable by time: milliseconds since the epoch in the upper 48 bits of hi. */
struct gopher_event_id {
  uint64_t hi, lo;
};

struct gopher_event_record {
  const struct gopher_process* process GOPHER_ZERO;   /* NULL: none */
  const struct gopher_value* fields GOPHER_ZERO;      /* as many as the event's table says */
  const struct gopher_event_id* recovers GOPHER_ZERO; /* the event that this one ends; NULL: none */
  uint64_t time_ns GOPHER_ZERO;     /* CLOCK_MONOTONIC, as bpf_ktime_get_ns(); 0: now */
  uint64_t correlation GOPHER_ZERO; /* the same for events that belong together; 0: none */
  uint32_t event GOPHER_ZERO;       /* index into ops.events */
  uint32_t severity GOPHER_ZERO;    /* 0: the table's */
};

typedef int (*gopher_ring_fn)(void* arg, const void* data, size_t len);

enum gopher_filter_bits {
  GOPHER_FILTER_PID = 1u,    /* watch only the processes in gopher_filter_pids */
  GOPHER_FILTER_CGROUP = 2u, /* or those in the cgroups of gopher_filter_cgroups */
  GOPHER_FILTER_DEV = 4u     /* watch only the devices in gopher_filter_devs */
};

/* How `load` gets a fresh skeleton: called again after a rung that loaded would not attach, since
 * libbpf cannot load an object twice. `open` returns 0 and sets *skel; `close` destroys it. */
struct bpf_object_skeleton;
struct gopher_skeleton_source {
  int (*open)(void* arg, struct bpf_object_skeleton** skel);
  void (*close)(void* arg);
  void* arg;
};

struct gopher_host {
  uint32_t abi, size;
  void* ctx;            /* first argument of every function */
  uint32_t filter_bits; /* enum gopher_filter_bits in force; constant while the instance runs */
  uint32_t reserved;
  /* One line, level as syslog's (3 error, 4 warning, 6 info, 7 debug). */
  void (*log)(void* ctx, int level, const char* text);
  /* Choose a rung for each hook, load the object and attach; links stay in the skeleton and go
   * with it. A hook whose `wanted` bit is 0 is left out. Plugin and daemon share libbpf.so.1.
   * 0; -EOPNOTSUPP: a required hook cannot be had on this kernel; else libbpf's error. */
  int (*load)(void* ctx, const struct gopher_skeleton_source* src, const struct gopher_hook* hooks,
              uint32_t n_hooks, uint64_t wanted);
  /* Is this hook attached, and by which of its programs? Index, or -ENOENT. */
  int (*rung)(void* ctx, uint32_t hook);
  /* Drain this ring buffer map on the worker's timer; the per-CPU array `drops_fd` (u64) counts
   * what did not fit. `fn` returns 0, or -EINVAL for a record that it cannot read (counted). */
  int (*add_ring)(void* ctx, int ring_fd, int drops_fd, gopher_ring_fn fn, void* arg);
  void (*sample)(void* ctx, const struct gopher_sample* sample);
  /* id may be NULL. 0, or -EINVAL. A folded or dropped event is counted and also gives an id. */
  int (*event)(void* ctx, const struct gopher_event_record* event, struct gopher_event_id* id);
  /* n more of whatever the probe counts were lost at `stage` (e.g. "map_full"). */
  void (*lost)(void* ctx, const char* stage, uint64_t n);
  /* Since the last call or start: why one signal is missing; NULL clears. State `degraded`. */
  void (*degraded)(void* ctx, const char* reason);
  /* Text of one value as the daemon writes it in a label ("sda1", "EIO"); returns its length. */
  size_t (*text)(void* ctx, uint32_t type, const struct gopher_value* value, char* buf,
                 size_t size);
};

/* ---- what a probe is ---- */

struct gopher_probe_ops {
  uint32_t abi, size;
  const char *name, *version, *summary;
  const struct gopher_option* options;
  const struct gopher_metric* metrics;
  const struct gopher_event* events;
  const struct gopher_hook* hooks;
  uint32_t n_options, n_metrics, n_events, n_hooks;
  size_t config_size;
  /* `start` ... `stop` may repeat; `destroy` follows every successful `create`. `start` returning
   * -EOPNOTSUPP means that this kernel cannot: it is not retried. Anything else is, with backoff.
   * `poll` comes every interval and once more right before `stop`. */
  int (*create)(const struct gopher_host* host, const void* config, void** self);
  int (*start)(void* self);
  int (*poll)(void* self, uint64_t now_ns);
  int (*stop)(void* self);
  void (*destroy)(void* self);
};

#ifdef __cplusplus
}
#endif

#endif
