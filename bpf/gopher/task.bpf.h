/* task.bpf.h - the current process as a series and an event want it, its cgroup included.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef GOPHER_TASK_BPF_H
#define GOPHER_TASK_BPF_H

#include "gopher/compat.bpf.h"

/* include/linux/sched.h; macros, so BTF does not have them. Unchanged from 5.10 to 7.3. */
#define GOPHER_PF_WQ_WORKER 0x00000020
#define GOPHER_PF_KTHREAD   0x00200000

/* Its id in one of cgroup v1's hierarchies; 0 at that hierarchy's root, or without it. */
#define gopher_cgroup_v1(set, controller)                                                          \
	({                                                                                         \
		u64 __id = 0;                                                                      \
		if (bpf_core_enum_value_exists(enum cgroup_subsys_id, controller))                 \
			__id = gopher_subsys_cgroup(                                               \
				set, bpf_core_enum_value(enum cgroup_subsys_id, controller));      \
		__id;                                                                              \
	})

static __always_inline u64 gopher_subsys_cgroup(struct css_set *set, u64 subsys)
{
	struct cgroup_subsys_state *css = NULL;
	struct cgroup *cgroup;

	/* The index is known only at load, so the address is computed. */
	bpf_core_read(&css, sizeof(css), (void *)&set->subsys[0] + subsys * sizeof(css));
	cgroup = css ? BPF_CORE_READ(css, cgroup) : NULL;
	return cgroup && BPF_CORE_READ(cgroup, level) > 0 ? BPF_CORE_READ(cgroup, kn, id) : 0;
}

/* The one place that says what "the cgroup of a task" is: on v2 where the task sits in one below
 * the root, else in the first v1 hierarchy that tells something, else the root of v2. So it works
 * on v2, v1 and hybrid hosts alike. */
static __always_inline u64 gopher_task_cgroup(struct task_struct *t, const bool typed)
{
	struct css_set *set = GOPHER_READ(typed, t, cgroups);
	struct cgroup *v2 = GOPHER_READ(typed, set, dfl_cgrp);
	u64 id;

	if (GOPHER_READ(typed, v2, level) > 0)
		return GOPHER_READ(typed, GOPHER_READ(typed, v2, kn), id);
	id = gopher_cgroup_v1(set, memory_cgrp_id);
	if (id)
		return id | GOPHER_CGROUP_MEMORY << GOPHER_CGROUP_SHIFT;
	id = gopher_cgroup_v1(set, cpu_cgrp_id);
	if (id)
		return id | GOPHER_CGROUP_CPU << GOPHER_CGROUP_SHIFT;
	id = gopher_cgroup_v1(set, pids_cgrp_id);
	if (id)
		return id | GOPHER_CGROUP_PIDS << GOPHER_CGROUP_SHIFT;
	return GOPHER_READ(typed, GOPHER_READ(typed, v2, kn), id);
}

/* The cgroup that a bio is charged to: of a write by a kernel worker that is who dirtied the pages.
 * On v2 only: the io controller of v1 numbers its own cgroups. 0: not known, or the root. */
static __always_inline u64 gopher_bio_cgroup(struct bio *bio)
{
	struct cgroup *cgroup = NULL;

	if (bio && bpf_core_field_exists(bio->bi_blkg))
		cgroup = BPF_CORE_READ(bio, bi_blkg, blkcg, css.cgroup);
	if (!cgroup || BPF_CORE_READ(cgroup, root, hierarchy_id) || !BPF_CORE_READ(cgroup, level))
		return 0;
	return BPF_CORE_READ(cgroup, kn, id);
}

/* A kernel worker has no life of its own, one runs now for this and then for that, so all of them
 * are one entry. Other kernel threads (jbd2, a loop device's) do one thing and are named. `out`
 * comes zeroed. */
static __always_inline void gopher_fill_task(struct gopher_task *out, struct task_struct *t,
					     const bool typed)
{
	struct task_struct *leader;

	if (GOPHER_READ(typed, t, flags) & GOPHER_PF_WQ_WORKER) {
		__builtin_memcpy(out->comm, "kworker", 8);
		return;
	}
	leader = GOPHER_READ(typed, t, group_leader);
	out->tgid = GOPHER_READ(typed, t, tgid);
	out->start_ns = gopher_task_start(leader, typed);
	out->cgroup = gopher_task_cgroup(t, typed);
	bpf_core_read(&out->comm, sizeof(out->comm), &leader->comm);
}

/* Not inlined: it is large, and every hook that asks who it is runs it. */
static __noinline int gopher_current(struct gopher_task *out)
{
	if (gopher_has_current_btf())
		gopher_fill_task(out, bpf_get_current_task_btf(), true);
	else
		gopher_fill_task(out, (void *)bpf_get_current_task(), false);
	return 0;
}

#endif
