"""Limits of the container: ``linux.resources`` as files of cgroup2 (config-linux.md, Control groups;
cgroup-v2.rst, Controllers).

0 stands for a member that is not there, as in every peer, but for ``pids.limit`` and ``cpu.idle``.
"""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import ASKED
from ocirun.planner.cgroup import absolute, exists, is_absolute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun_spec.types import BlockIO, Resources

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

HERE = "/linux/resources"
_NO_RESOURCES: Resources = {}
#: Files by which the runtime itself holds the container.
_OURS = ("cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze", "cgroup.type")


class Setting:
    """What one member asks to be written: files and values in turn, of which the first file that is there is
    meant; a refusal matters unless not ``needed``.  ``controller`` is "" for the core of cgroup2."""

    __slots__ = ("controller", "needed", "pointer", "writes")

    def __init__(self, pointer: str, controller: str, *writes: str, needed: bool = True) -> None:
        self.pointer = pointer
        self.controller = controller
        self.writes = writes
        self.needed = needed


def limit(draft: Draft, where: str = "") -> Sequence[Step]:
    """The steps that enable the controllers in every cgroup above, then set the limits.

    ``where`` is the directory of the cgroup, "" for that which the config names.
    """
    wanted = settings(draft)
    if not wanted or not (where or exists(draft)):
        return ()
    where = where or absolute(draft)
    return [*enable(draft, where, wanted), *(step(where, one) for one in wanted)]


def settings(draft: Draft) -> list[Setting]:
    """What is to be written, in order; what cannot be followed is noted in ``draft``."""
    resources = draft.linux.get("resources", _NO_RESOURCES)
    _judge_legacy(draft, resources)
    found: list[Setting] = []
    for kind in (_memory, _cpu, _cpuset, _pids, _block_io, _huge_pages, _rdma):
        found += kind(resources)
    found += _unified(draft, resources)
    for one in found:
        _need_controller(draft, one)
    return found


def weight_of_shares(shares: int) -> int:
    """cpu.weight for the cpu.shares of cgroup v1: the curve through 2 → 1, 1024 → 100, 262144 → 10000 that
    runc and crun have used since 2025, ceil(10^((log2(x)² + 125·log2(x))/612 - 7/34))."""
    import math

    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def weight_of_io(weight: int) -> int:
    """io.weight (1 to 10000) for a blkio weight of cgroup v1 (10 to 1000)."""
    return 1 + (weight - 10) * 9999 // 990


def _bytes(value: int) -> str:
    return "max" if value < 0 else str(value)


def _memory(resources: Resources) -> Iterator[Setting]:
    memory = resources.get("memory", {})
    place = f"{HERE}/memory"
    size, both = memory.get("limit", 0), memory.get("swap", 0)
    if size:
        yield Setting(f"{place}/limit", "memory", "memory.max", _bytes(size))
    if reservation := memory.get("reservation", 0):
        yield Setting(f"{place}/reservation", "memory", "memory.low", _bytes(reservation))
    if both < 0 or (size < 0 and not both):
        # a kernel without accounting of swap has no limit of it either
        pointer = f"{place}/{'swap' if both else 'limit'}"
        yield Setting(pointer, "memory", "memory.swap.max", "max", needed=False)
    elif both:
        # and where nothing is counted, none to be used is left unsaid, as with runc and crun
        most = both - size
        yield Setting(f"{place}/swap", "memory", "memory.swap.max", str(most), needed=most != 0)


def _cpu(resources: Resources) -> Iterator[Setting]:
    """The burst must never be above the quota, so it is written before a quota that falls and after one that
    rises."""
    cpu = resources.get("cpu", {})
    place = f"{HERE}/cpu"
    if "idle" in cpu:
        yield Setting(f"{place}/idle", "cpu", "cpu.idle", str(cpu["idle"]))
    shares = cpu.get("shares", 0)
    if shares and not cpu.get("idle", 0):  # an idle cgroup has no weight (cgroup-v2.rst)
        yield Setting(f"{place}/shares", "cpu", "cpu.weight", str(weight_of_shares(shares)))
    burst = str(cpu.get("burst", 0))
    quota, period = cpu.get("quota", 0), cpu.get("period", 0)
    if quota or period:
        if "burst" in cpu:
            yield Setting(f"{place}/burst", "cpu", "cpu.max.burst", burst, needed=False)
        most = str(quota) if quota > 0 else "max"
        pointer = f"{place}/{'quota' if quota else 'period'}"
        yield Setting(pointer, "cpu", "cpu.max", f"{most} {period}" if period else most)
    if "burst" in cpu:
        yield Setting(f"{place}/burst", "cpu", "cpu.max.burst", burst)


def _cpuset(resources: Resources) -> Iterator[Setting]:
    cpu = resources.get("cpu", {})
    for member, value in (("cpus", cpu.get("cpus", "")), ("mems", cpu.get("mems", ""))):
        if value:
            yield Setting(f"{HERE}/cpu/{member}", "cpuset", f"cpuset.{member}", value)


def _pids(resources: Resources) -> Iterator[Setting]:
    """0 is a limit (config-linux.md): nothing can be started beside init, which 1 says as well, and lets init
    be born."""
    pids = resources.get("pids")
    if pids is not None:
        most = pids["limit"]
        yield Setting(f"{HERE}/pids/limit", "pids", "pids.max", _bytes(most) if most else "1")


def _block_io(resources: Resources) -> Iterator[Setting]:
    io = resources.get("blockIO", {})
    place = f"{HERE}/blockIO"
    weight = io.get("weight", 0)
    if weight:
        own = str(weight_of_io(weight))
        yield Setting(f"{place}/weight", "io", "io.bfq.weight", str(weight), "io.weight", own)
    for number, device in enumerate(io.get("weightDevice", ())):
        if weight := device.get("weight", 0):
            pointer = f"{place}/weightDevice/{number}/weight"
            words = f"{device['major']}:{device['minor']}"
            own = f"{words} {weight_of_io(weight)}"
            yield Setting(pointer, "io", "io.bfq.weight", f"{words} {weight}", "io.weight", own)
    yield from _throttles(io, place)


def _throttles(io: BlockIO, place: str) -> Iterator[Setting]:
    for member, key, listed in (
        ("throttleReadBpsDevice", "rbps", io.get("throttleReadBpsDevice", ())),
        ("throttleWriteBpsDevice", "wbps", io.get("throttleWriteBpsDevice", ())),
        ("throttleReadIOPSDevice", "riops", io.get("throttleReadIOPSDevice", ())),
        ("throttleWriteIOPSDevice", "wiops", io.get("throttleWriteIOPSDevice", ())),
    ):
        for number, device in enumerate(listed):
            rate = device.get("rate", 0) or "max"
            line = f"{device['major']}:{device['minor']} {key}={rate}"
            yield Setting(f"{place}/{member}/{number}", "io", "io.max", line)


def _huge_pages(resources: Resources) -> Iterator[Setting]:
    """The limit of reservations where the kernel has it, and that of faults (config-linux.md, Huge page
    limits; hugetlb in cgroup-v2.rst)."""
    for number, one in enumerate(resources.get("hugepageLimits", ())):
        pointer, stem, most = (
            f"{HERE}/hugepageLimits/{number}",
            f"hugetlb.{one['pageSize']}",
            str(one["limit"]),
        )
        yield Setting(f"{pointer}/limit", "hugetlb", f"{stem}.rsvd.max", most, needed=False)
        yield Setting(pointer, "hugetlb", f"{stem}.max", most)


def _rdma(resources: Resources) -> Iterator[Setting]:
    for name, limits in resources.get("rdma", {}).items():
        handles, objects = limits.get("hcaHandles"), limits.get("hcaObjects")
        words = [f"hca_handle={handles}"] if handles is not None else []
        words += [f"hca_object={objects}"] if objects is not None else []
        yield Setting(f"{HERE}/rdma/{_escaped(name)}", "rdma", "rdma.max", " ".join((name, *words)))


def _unified(draft: Draft, resources: Resources) -> list[Setting]:
    """Files by their names, last, so that they win."""
    found: list[Setting] = []
    for name, value in resources.get("unified", {}).items():
        pointer = f"{HERE}/unified/{_escaped(name)}"
        if name in _OURS:
            draft.fault(pointer, value, "is a file by which the runtime holds the container")
            continue
        controller = name.partition(".")[0]
        found.append(Setting(pointer, "" if controller == "cgroup" else controller, name, value))
    return found


def _judge_legacy(draft: Draft, resources: Resources) -> None:
    """What only cgroup v1 had: an error where it is a limit that nothing replaces (config-linux.md, Unified),
    a warning where the kernel itself has given it up.  60 is the swappiness that everybody has."""
    memory, cpu = resources.get("memory", {}), resources.get("cpu", {})
    io, network = resources.get("blockIO", {}), resources.get("network", {})
    rule = "has no counterpart in cgroup2"
    for place, value in (
        ("memory/disableOOMKiller", memory.get("disableOOMKiller", False)),
        ("cpu/realtimeRuntime", cpu.get("realtimeRuntime", 0)),
        ("cpu/realtimePeriod", cpu.get("realtimePeriod", 0)),
        ("blockIO/leafWeight", io.get("leafWeight", 0)),
        ("network/classID", network.get("classID", 0)),
        ("network/priorities", network.get("priorities", ())),
        *(
            (f"blockIO/weightDevice/{number}/leafWeight", one.get("leafWeight", 0))
            for number, one in enumerate(io.get("weightDevice", ()))
        ),
    ):
        if value:
            draft.fault(f"{HERE}/{place}", value, rule, "leave it out")
    swappiness = memory.get("swappiness", 60)
    if swappiness != 60:
        draft.fault(f"{HERE}/memory/swappiness", swappiness, rule, "leave it out; memory/swap limits swap")
    for member, value in (("kernel", memory.get("kernel", 0)), ("kernelTCP", memory.get("kernelTCP", 0))):
        if value not in (0, -1):
            draft.warn(f"{HERE}/memory/{member}", value, rule + ", and is ignored")


def _need_controller(draft: Draft, one: Setting) -> None:
    controller = one.controller
    if draft.options.no_cgroup:
        return  # that there is no cgroup at all was told
    systemd = draft.options.systemd
    by_user = systemd is not None and systemd.user
    offered = systemd.controllers if systemd is not None and by_user else draft.host.controllers
    if not controller or controller in offered or not one.needed or _asks_nothing(one):
        return
    if draft.host.reach or by_user:
        from ocirun.planner import unprivileged

        unprivileged.lack_controller(draft, one.pointer, controller)
        return
    if controller in draft.host.legacy:
        hint = (
            "on this hybrid host it is on cgroup v1, which ocirun does not use; "
            "boot with systemd.unified_cgroup_hierarchy=1, or leave the limit out"
        )
    elif draft.host.hybrid:
        hint = "this kernel has it neither there nor on cgroup v1: see /proc/cgroups and cgroup_disable="
    else:
        hint = f"see {draft.host.cgroup_mount or '/sys/fs/cgroup'}/cgroup.controllers"
    draft.lack(one.pointer, f"the {controller} controller is not on cgroup2", hint)


def _asks_nothing(one: Setting) -> bool:
    """Whether it is so without the controller: no limit, and not idle."""
    return one.writes[1] == "max" or one.writes[:2] in (("cpu.idle", "0"), ("cpu.max.burst", "0"))


def enable(draft: Draft, where: str, wanted: Sequence[Setting]) -> Iterator[Step]:
    """A controller is had below a cgroup only where its cgroup.subtree_control says so (cgroup-v2.rst,
    Enabling and Disabling)."""
    names = sorted({one.controller for one in wanted} & draft.host.controllers)
    mount = draft.host.cgroup_mount
    needed = 1
    if draft.host.unprivileged:
        # those above belong to who has delegated ours, and elsewhere it is not ours to enable anything
        reach = draft.host.reach
        if reach is not None and reach.cgroup is not None and where.startswith(f"{mount}{reach.cgroup}/"):
            mount += reach.cgroup
        elif is_absolute(draft):  # what lies above may be his all the same, as in a cgroup namespace
            needed = 0
        else:
            return
    parts = where[len(mount) :].strip("/").split("/")
    for depth in range(len(parts)):
        above = "/".join((mount, *parts[:depth]))
        for name in names:
            yield steps.set_cgroup(
                path=above,
                writes=("cgroup.subtree_control", f"+{name}"),
                needed=needed,
                pointer=HERE,
                why=ASKED,
            )


def step(where: str, one: Setting) -> Step:
    """The step that sets a limit in the cgroup at ``where``."""
    needed = int(one.needed and not _asks_nothing(one))
    return steps.set_cgroup(path=where, writes=one.writes, needed=needed, pointer=one.pointer, why=ASKED)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
