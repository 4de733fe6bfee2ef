"""The numbers of a cgroup in the shape of ``runc events``, whose readers are many (types/events.go of runc).

That shape is cgroup v1's: nanoseconds, swap with memory in it, I/O by its direction.  What Go leaves out
when it is 0 is left out here; what cgroup2 does not have is 0, as there.
"""

from __future__ import annotations

from ocirun.cgroup.stats import NO_LIMIT, Stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocirun.cgroup.resctrl import Wanted

#: Members of the section cpuset, which cgroup2 has no numbers for.
_CPUSET = (
    "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
    "memory_spread_slab", "memory_pressure", "sched_load_balance", "sched_relax_domain_level",
)  # fmt: skip
#: Names in io.stat: which list they go to, and what it calls them.
_IO = {
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
}
_MICROSECOND = 1000


def runc_stats(stats: Stats, service: Wanted | None = None) -> dict[str, object]:
    """One reading, the members in runc's order; ``service`` is the class of Intel RDT, None for none."""
    return {
        "cpu": _cpu(stats),
        "cpuset": dict.fromkeys(_CPUSET, 0),
        "memory": _memory(stats),
        "pids": _some({"current": stats.number("pids.current"), "limit": _limit(stats, "pids.max")}),
        "blkio": _io(stats),
        "hugetlb": {size: _huge_pages(stats, size) for size in stats.page_sizes()},
        "intel_rdt": _classes(service),
        "network_interfaces": None,
    }


def _classes(service: Wanted | None) -> dict[str, object]:
    if service is None:
        return {}
    from ocirun.cgroup.rdt_stats import rdt_stats

    return rdt_stats(service)


def _some(numbers: Mapping[str, int]) -> dict[str, object]:
    """Those that are not 0."""
    return {name: value for name, value in numbers.items() if value}


def _limit(stats: Stats, name: str) -> int:
    """0 for no limit."""
    limit = stats.number(name)
    return 0 if limit == NO_LIMIT else limit


def _cpu(stats: Stats) -> dict[str, object]:
    found = stats.keyed("cpu.stat")
    times = {name: found.get(f"{name}_usec", 0) * _MICROSECOND for name in ("usage", "system", "user")}
    throttling = {
        "periods": found.get("nr_periods", 0),
        "throttledPeriods": found.get("nr_throttled", 0),
        "throttledTime": found.get("throttled_usec", 0) * _MICROSECOND,
    }
    usage = {**_some({"total": times["usage"]}), "kernel": times["system"], "user": times["user"]}
    return {"usage": usage, "throttling": _some(throttling), **_pressure(stats, "cpu")}


def _memory(stats: Stats) -> dict[str, object]:
    raw = dict(sorted(stats.keyed("memory.stat").items()))
    usage, limit = stats.number("memory.current"), stats.number("memory.max")
    swap = stats.number("memory.swap.max")
    both = swap if swap == NO_LIMIT else swap + limit
    return {
        **_some({"cache": raw.get("file", 0)}),
        "usage": _entry(limit, usage, stats.number("memory.peak")),
        "swap": _entry(both, usage + stats.number("memory.swap.current"), stats.number("memory.swap.peak")),
        "kernel": _entry(0, 0, 0),
        "kernelTCP": _entry(0, 0, 0),
        **({"raw": raw} if raw else {}),
        **_pressure(stats, "memory"),
    }


def _entry(limit: int, usage: int, most: int) -> dict[str, object]:
    return {"limit": limit, **_some({"usage": usage, "max": most}), "failcnt": 0}


def _io(stats: Stats) -> dict[str, object]:
    lists: dict[str, list[dict[str, object]]] = {}
    for device, pairs in stats.nested("io.stat").items():
        major, _, minor = device.partition(":")
        numbers = _some({"major": int(major), "minor": int(minor)})
        for name, value in pairs.items():
            if name in _IO:
                where, operation = _IO[name]
                one = {**numbers, "op": operation, **_some({"value": int(value)})}
                lists.setdefault(where, []).append(one)
    ordered = {name: lists[name] for name in dict.fromkeys(name for name, _ in _IO.values()) if name in lists}
    return {**ordered, **_pressure(stats, "io")}


def _huge_pages(stats: Stats, size: str) -> dict[str, object]:
    failed = stats.keyed(f"hugetlb.{size}.events").get("max", 0)
    return {**_some({"usage": stats.number(f"hugetlb.{size}.current")}), "failcnt": failed}


def _pressure(stats: Stats, kind: str) -> dict[str, object]:
    """Pressure stall information, where the kernel has it (psi.rst)."""
    lines = stats.nested(f"{kind}.pressure")
    if not lines:
        return {}
    return {"psi": {name: _stalled(lines.get(name, {})) for name in ("some", "full")}}


def _stalled(pairs: Mapping[str, str]) -> dict[str, object]:
    averages = {name: _shortest(float(pairs.get(name, 0))) for name in ("avg10", "avg60", "avg300")}
    return {**averages, "total": int(pairs.get("total", 0))}


def _shortest(number: float) -> int | float:
    """Go writes 0, not 0.0."""
    return int(number) if number.is_integer() else number
