"""Laws of the arguments that say when and where the program runs: what the config says of each."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ocirun.plan.model import Step
    from ocirun.plan.view import Expected, Values, View

#: sched(7) and sched_setattr(2), by name without SCHED_ and SCHED_FLAG_ (linux/sched.h).
_POLICIES = {"OTHER": 0, "FIFO": 1, "RR": 2, "BATCH": 3, "IDLE": 5, "DEADLINE": 6}
_SCHEDULER_FLAGS: Sequence[str] = (
    "RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX"
).split()
#: ioprio_set(2), by number (linux/ioprio.h).
_CLASSES: Sequence[str] = ("NONE", "RT", "BE", "IDLE")
#: set_mempolicy(2), by number (linux/mempolicy.h).
_MODES: Sequence[str] = "DEFAULT PREFERRED BIND INTERLEAVE LOCAL PREFERRED_MANY WEIGHTED_INTERLEAVE".split()
_MEMORY_FLAGS = {"NUMA_BALANCING": 0x2000, "RELATIVE_NODES": 0x4000, "STATIC_NODES": 0x8000}
#: personality(2).
_DOMAINS = {"LINUX": 0, "LINUX32": 8}


def listed(text: str) -> set[int]:
    """The numbers of a list such as "0-2,7"."""
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        low, _, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1) if low else ())
    return found


def packed(numbers: set[int]) -> bytes:
    """A bit for each number, the lowest first, in as few words of 64 bits as hold them."""
    words = max(numbers, default=-1) // 64 + 1
    return bytes(sum(1 << bit for bit in range(8) if 8 * at + bit in numbers) for at in range(8 * words))


def _scheduler(view: View, _step: Step) -> Expected:
    asked = view.process.get("scheduler", {"policy": ""})
    flags = {flag.removeprefix("SCHED_FLAG_") for flag in asked.get("flags", ())}
    return {
        "policy": _POLICIES.get(asked["policy"].removeprefix("SCHED_"), -1),
        "flags": sum(1 << _SCHEDULER_FLAGS.index(flag) for flag in flags),
        "nice": asked.get("nice", 0),
        **{name: asked.get(name, 0) for name in ("priority", "runtime", "deadline", "period")},
    }


def _io_priority(view: View, _step: Step) -> Expected:
    asked = view.process.get("ioPriority", {"class": "IOPRIO_CLASS_NONE"})
    kind = _CLASSES.index(asked["class"].removeprefix("IOPRIO_CLASS_"))
    return {"kind": kind, "priority": asked.get("priority", 0)}


def _personality(view: View, _step: Step) -> Expected:
    return {"domain": _DOMAINS.get(view.linux.get("personality", {}).get("domain", ""), -1)}


def _memory_policy(view: View, _step: Step) -> Expected:
    asked: Mapping[str, Any] = view.linux.get("memoryPolicy", {})
    flags = {flag.removeprefix("MPOL_F_") for flag in asked.get("flags", ())}
    return {
        "mode": _MODES.index(asked.get("mode", "MPOL_DEFAULT").removeprefix("MPOL_")),
        "flags": sum(_MEMORY_FLAGS[flag] for flag in flags),
        "nodes": packed(listed(asked.get("nodes", ""))),
    }


def _affinity(view: View, step: Step) -> Expected:
    """What is asked for; without a pointer all that there can be (sched_setaffinity(2) takes away what there
    is not)."""
    member = step.pointer.rpartition("/")[2]
    told = view.process.get("execCPUAffinity", {}).get(member, "")
    assert isinstance(told, str)
    return {"cpus": packed(listed(told)) if step.pointer else b"\xff" * 1024}


SCHEDULING_VALUES: dict[str, Values] = {
    "set_scheduler": _scheduler,
    "set_io_priority": _io_priority,
    "set_personality": _personality,
    "set_memory_policy": _memory_policy,
    "set_initial_affinity": _affinity,
    "set_affinity": _affinity,
}
