"""Devices: the default nodes and links below /dev, and the rules of who may use which device."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import ASKED, DEFAULT
from ocirun.planner.device_program import ALL, MKNOD, Rule, access_bits, program
from ocirun.planner.mounts import clean, is_bind
from ocirun.planner.namespaces import index_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

_S_IFCHR = 0o020000
_POINTER = "/linux/resources/devices"

#: The devices every container has (config-linux.md, default devices): name, major, minor.
DEFAULT_DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)

#: The links every container has (runtime-linux.md), and ptmx of the container's own devpts: target, name.
DEFAULT_LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
)

#: Appended to the rules of every config, as runc does and engines rely on: any node may be made, and the
#: default devices, terminals and tun/tap used.
DEFAULT_RULES = (
    Rule(True, "c", None, None, MKNOD),
    Rule(True, "b", None, None, MKNOD),
    *[Rule(True, "c", major, minor, ALL) for _, major, minor in DEFAULT_DEVICES],
    Rule(True, "c", 136, None, ALL),  # /dev/pts/*
    Rule(True, "c", 5, 2, ALL),  # /dev/ptmx
    Rule(True, "c", 10, 200, ALL),  # /dev/net/tun
)


def make(draft: Draft) -> Sequence[Step]:
    """The default nodes and links, unless the config binds a /dev of its own making."""
    if _brings_dev(draft):
        return ()
    nodes = _bound(draft) or [
        steps.make_device(
            path=f"/dev/{name}", kind=_S_IFCHR, major=major, minor=minor, mode=0o666, uid=0, gid=0,
            pointer="/linux/devices", why=DEFAULT,
        )
        for name, major, minor in DEFAULT_DEVICES
    ]  # fmt: skip
    links = [
        steps.make_symlink(target=target, path=f"/dev/{name}", pointer="/linux/devices", why=DEFAULT)
        for target, name in DEFAULT_LINKS
    ]
    return nodes + links


def open_devices(draft: Draft) -> Sequence[Step]:
    """The host's default nodes, to be bound: in a user namespace nobody may make a device (mknod(2))."""
    if index_of(draft, "user") < 0 or _brings_dev(draft):
        return ()
    return [
        steps.open_device(
            path=f"/dev/{name}", major=major, minor=minor, device=f"device.{name}",
            pointer="/linux/devices", why=DEFAULT,
        )
        for name, major, minor in DEFAULT_DEVICES
    ]  # fmt: skip


def _bound(draft: Draft) -> list[Step]:
    """Those that were opened, in place."""
    return [
        steps.attach(
            tree=str(step.args[-1]), target=str(step.args[0]), set=0, clear=0, rset=0, rclear=0,
            propagation=0, pointer="/linux/devices", why=DEFAULT,
        )
        for step in open_devices(draft)
    ]  # fmt: skip


def _brings_dev(draft: Draft) -> bool:
    """Whether the config binds a /dev of its own making."""
    mounts = draft.config.get("mounts", ())
    return any(is_bind(mount) and clean(mount["destination"]) == "/dev" for mount in mounts)


def allow(draft: Draft) -> Sequence[Step]:
    """The rules in their order, then the default ones, as one program on the cgroup; what no rule allows is
    denied."""
    asked = draft.linux.get("resources", {}).get("devices", ())
    rules = [_rule(draft, number) for number in range(len(asked))]
    code = program([*rules, *DEFAULT_RULES])
    return (
        steps.allow_devices(cgroup="cgroup", program=code, pointer=_POINTER, why=ASKED if asked else DEFAULT),
    )


def _rule(draft: Draft, number: int) -> Rule:
    """One rule of the config; absent members stand for all, as does -1, which runc takes for it."""
    entry = draft.linux.get("resources", {}).get("devices", [])[number]
    pointer = f"{_POINTER}/{number}"
    kind = entry.get("type", "a") or "a"
    if kind not in ("a", "b", "c"):
        draft.fault(pointer + "/type", kind, "must be a, b or c")
    access = access_bits(entry.get("access", "") or "rwm")
    if not access:
        draft.fault(pointer + "/access", entry.get("access"), "must be made of the letters r, w and m")
    numbers: list[int | None] = []
    for name, value in (("major", entry.get("major", -1)), ("minor", entry.get("minor", -1))):
        if not -1 <= value <= 0xFFFFFFFF:
            draft.fault(f"{pointer}/{name}", value, "is no device number")
        numbers.append(None if value == -1 else value)
    return Rule(entry["allow"], kind, numbers[0], numbers[1], access)
