"""What an update leaves out stays as it is, though the kernel has two limits in one file, or one where the
specification has two: so those are completed with what the cgroup says now."""

from __future__ import annotations

from ocirun.cgroup.files import is_gone
from ocirun.errors import StateError
from ocirun.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeGuard

    from ocirun_spec.types import Config, Resources

    from ocirun.planner.draft import Draft

HERE = "/linux/resources"


class Present:
    """The limits of the cgroup ``where`` as they are; ``config`` is that of its container.  -1: no limit."""

    __slots__ = ("_config", "_where")

    def __init__(self, where: str, config: Config) -> None:
        self._where = where
        self._config = config

    def number(self, name: str, field: int = 0) -> int:
        """The number in that field of a file, -1 for "max" and where there is no such file."""
        try:
            words = read_file(f"{self._where}/{name}").split()
        except OSError as error:
            if not is_gone(error):
                raise
            return -1
        return int(words[field]) if len(words) > field and words[field].isdigit() else -1

    def memory_and_swap(self) -> int:
        """The limit of both together, -1 without one, or where the config has set swap by its file."""
        unified = self._config.get("linux", {}).get("resources", {}).get("unified", {})
        memory, swap = self.number("memory.max"), self.number("memory.swap.max")
        return -1 if "memory.swap.max" in unified or min(memory, swap) < 0 else memory + swap


def completed(wanted: Mapping[str, object], present: Present) -> dict[str, object]:
    """``wanted``, a Resources object from outside, with what it means besides.

    A limit of swap alone is one of memory and swap for the present limit of memory; one of memory alone does
    not change what both are together, as with runc; a period alone keeps the quota, which it would lose.
    """
    found = dict(wanted)
    memory, cpu = found.get("memory"), found.get("cpu")
    if _is_object(memory):
        found["memory"] = {**memory, **_missing_memory(memory, present)}
    if _is_object(cpu) and cpu.get("period") and not cpu.get("quota"):
        quota = present.number("cpu.max")
        found["cpu"] = {**cpu, **({"quota": quota} if quota > 0 else {})}
    return found


def _missing_memory(memory: dict[str, object], present: Present) -> dict[str, int]:
    limit, swap = memory.get("limit"), memory.get("swap")
    if swap and not limit:
        size = present.number("memory.max")
        return {"limit": size} if size >= 0 else {}
    together = present.memory_and_swap()
    if isinstance(limit, int) and 0 < limit <= together and not swap:
        return {"swap": together}
    return {}


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def contradictions(draft: Draft, resources: Resources, present: Present) -> None:
    """Notes in ``draft`` what the kernel would refuse beside what the container has."""
    memory, cpu = resources.get("memory", {}), resources.get("cpu", {})
    limit, together = memory.get("limit", 0), present.memory_and_swap()
    if 0 <= together < limit and not memory.get("swap", 0):
        rule = f"must not be above {together}, the limit of memory and swap together that the container has"
        draft.fault(f"{HERE}/memory/limit", limit, rule, "give swap as well, -1 for any")
    quota, burst = cpu.get("quota", 0), cpu.get("burst", 0)
    saved, given = present.number("cpu.max.burst"), present.number("cpu.max")
    if 0 < quota < saved and "burst" not in cpu:
        rule = f"must not be below the burst {saved} that the container has"
        draft.fault(f"{HERE}/cpu/quota", quota, rule, "give a burst as well, 0 for none")
    if 0 < given < burst and not quota:
        rule = f"must not be above the quota {given} that the container has"
        draft.fault(f"{HERE}/cpu/burst", burst, rule, "give a quota as well")


def check_use(resources: Resources, present: Present) -> None:
    """With checkBeforeUpdate a limit below what is used is refused (config-linux.md, Memory)."""
    memory = resources.get("memory", {})
    if not memory.get("checkBeforeUpdate", False):
        return
    used = max(0, present.number("memory.current"))
    _check(memory.get("limit", 0), used, "limit", "memory limit")
    swapped = max(0, present.number("memory.swap.current"))
    _check(memory.get("swap", 0), used + swapped, "swap", "limit of memory and swap")


def _check(limit: int, used: int, member: str, name: str) -> None:
    if 0 < limit < used:
        raise StateError(
            f"the new {name} {limit} is below the {used} bytes in use",
            pointer=f"{HERE}/memory/{member}",
            hint="give more, or leave checkBeforeUpdate out",
        )
