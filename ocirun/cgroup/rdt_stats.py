"""The numbers of a class of service in the shape of ``runc events`` (types/events.go of runc; resctrl.rst).

Written from these two; tested in a simulated tree, for no machine of ours has such a CPU.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cgroup.resctrl import Wanted

_MONITORED = ("mbm_total_bytes", "mbm_local_bytes")
_CACHED = ("llc_occupancy",)


def rdt_stats(service: Wanted) -> dict[str, object]:
    """One reading, the members in runc's order; what the CPU has not is left out."""
    first, own = _lines(f"{service.mount}/schemata"), _lines(f"{service.place}/schemata")
    monitored = f"{service.place}/mon_groups/{service.monitor}" if service.monitor else service.place
    return {
        **_allocation(service.mount, "L3", "l3_cache", first, own),
        **_allocation(service.mount, "MB", "mem_bw", first, own),
        **_monitoring(service.mount, monitored),
    }


def _allocation(mount: str, resource: str, name: str, first: list[str], own: list[str]) -> dict[str, object]:
    """What the CPU can divide, how the default class has it and how this one."""
    info = f"{mount}/info/{resource}"
    if not os.path.isdir(info):
        return {}
    if resource == "L3":
        mask = _read(f"{info}/cbm_mask")
        facts = {**({"cbm_mask": mask} if mask else {}), **_numbers(info, "min_cbm_bits", "num_closids")}
    else:
        facts = _numbers(info, "bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids")
    schemas = {f"{name}_schema_root": _last(first, resource), f"{name}_schema": _last(own, resource)}
    return {f"{name}_info": facts, **{member: line for member, line in schemas.items() if line}}


def _monitoring(mount: str, place: str) -> dict[str, object]:
    """What is counted, for each cache in the order of their names."""
    features = _read(f"{mount}/info/L3_MON/mon_features").split()
    found: dict[str, object] = {}
    caches = _caches(place)
    for member, names in (("mbm_stats", _MONITORED), ("cmt_stats", _CACHED)):
        if set(names) & set(features):
            found[member] = [{name: _number(f"{cache}/{name}") for name in names} for cache in caches]
    return found


def _caches(place: str) -> list[str]:
    try:
        names = os.listdir(f"{place}/mon_data")
    except OSError:
        return []
    return [f"{place}/mon_data/{name}" for name in sorted(names)]


def _last(lines: list[str], resource: str) -> str:
    """Code and data can have masks of their own, in lines L3CODE and L3DATA: runc gives the last one."""
    return next((line for line in reversed(lines) if line.startswith(resource)), "")


def _numbers(where: str, *names: str) -> dict[str, object]:
    """Those that are not 0, as Go leaves them out."""
    return {name: number for name in names if (number := _number(f"{where}/{name}"))}


def _number(path: str) -> int:
    """0 also for "Unavailable" and "Error", which the kernel writes where nothing was counted yet."""
    text = _read(path)
    return int(text) if text.isdigit() else 0


def _lines(path: str) -> list[str]:
    return [line.strip() for line in _read(path).splitlines()]


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""
