"""When and where the program runs: scheduler, I/O priority, CPUs, memory nodes, execution domain.

Only configs that ask for one of them load this.  The rules of the config have judged the values.
"""

from __future__ import annotations

from ocirun.plan import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

#: sched(7), sched_setattr(2) (linux/sched.h); the specification names SCHED_ISO (4) too, which no kernel has.
POLICIES: dict[str, int] = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS: dict[str, int] = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
#: ioprio_set(2) (linux/ioprio.h).
IO_CLASSES: dict[str, int] = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
#: set_mempolicy(2) (linux/mempolicy.h).
MEMORY_MODES: dict[str, int] = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS: dict[str, int] = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}
#: personality(2).
DOMAINS: dict[str, int] = {"LINUX": 0, "LINUX32": 8}


def plan(draft: Draft) -> Sequence[Step]:
    """What is set in the container, once no privilege can be gained any more, as with runc."""
    return [*scheduler(draft), *io_priority(draft), *personality(draft), *memory_policy(draft)]


def scheduler(draft: Draft) -> Sequence[Step]:
    """``process.scheduler``; what is not given is 0 (config.md, Linux Process)."""
    asked = draft.process.get("scheduler")
    if asked is None:
        return ()
    policy = POLICIES.get(asked["policy"])
    if policy is None:
        rule = "is a policy that no kernel has"
        draft.gap("/process/scheduler/policy", asked["policy"], rule, "choose one of sched(7)")
        return ()
    return (
        steps.set_scheduler(
            policy=policy,
            flags=sum({SCHEDULER_FLAGS[flag] for flag in asked.get("flags", ())}),
            nice=asked.get("nice", 0),
            priority=asked.get("priority", 0),
            runtime=asked.get("runtime", 0),
            deadline=asked.get("deadline", 0),
            period=asked.get("period", 0),
            pointer="/process/scheduler",
        ),
    )


def io_priority(draft: Draft) -> Sequence[Step]:
    """``process.ioPriority``, for the group of processes that the program leads."""
    asked = draft.process.get("ioPriority")
    if asked is None:
        return ()
    kind = IO_CLASSES[asked["class"]]
    return (
        steps.set_io_priority(kind=kind, priority=asked.get("priority", 0), pointer="/process/ioPriority"),
    )


def personality(draft: Draft) -> Sequence[Step]:
    """``linux.personality``."""
    domain = draft.linux.get("personality", {}).get("domain")
    if domain is None:
        return ()
    return (steps.set_personality(domain=DOMAINS[domain], pointer="/linux/personality"),)


def memory_policy(draft: Draft) -> Sequence[Step]:
    """``linux.memoryPolicy``."""
    asked = draft.linux.get("memoryPolicy", {})
    if "mode" not in asked:
        return ()
    return (
        steps.set_memory_policy(
            mode=MEMORY_MODES[asked["mode"]],
            flags=sum({MEMORY_FLAGS[flag] for flag in asked.get("flags", ())}),
            nodes=mask(asked.get("nodes", "")),
            pointer="/linux/memoryPolicy",
        ),
    )


def initial_affinity(draft: Draft) -> Sequence[Step]:
    """``process.execCPUAffinity.initial``: the process is born with the CPUs of stage."""
    told = draft.process.get("execCPUAffinity", {}).get("initial")
    if not told:
        return ()
    return (steps.set_initial_affinity(cpus=mask(told), pointer="/process/execCPUAffinity/initial"),)


def final_affinity(draft: Draft) -> Sequence[Step]:
    """``process.execCPUAffinity.final``; without it the first ones stay (config.md, Linux Process)."""
    told = draft.process.get("execCPUAffinity", {}).get("final")
    if not told:
        return ()
    return (steps.set_affinity(cpus=mask(told), pointer="/process/execCPUAffinity/final"),)


def mask(listed: str) -> bytes:
    """The bits of a list such as "0-2,7", in whole words of 64 bits."""
    bits = 0
    for part in listed.replace(" ", "").split(","):
        low, _, high = part.partition("-")
        if low:
            first = int(low)
            bits |= ((2 << int(high or low) - first) - 1) << first
    return bits.to_bytes(-(-bits.bit_length() // 64) * 8, "little")
