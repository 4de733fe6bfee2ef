"""Devices: the default nodes and links below /dev, and the rules of who may use which device."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import ASKED, DEFAULT
from ocirun.planner.cgroup import exists
from ocirun.planner.device_program import ALL, MKNOD, Rule, access_bits, program
from ocirun.planner.mounts import clean, is_bind
from ocirun.planner.namespaces import index_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import Device

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

_S_IFIFO, _S_IFCHR, _S_IFBLK = 0o010000, 0o020000, 0o060000
_PERMISSIONS = 0o7777
#: What /linux/devices calls them; "u" is a character device without a buffer (mknod(1)).
_KINDS = {"c": _S_IFCHR, "u": _S_IFCHR, "b": _S_IFBLK, "p": _S_IFIFO}
_POINTER = "/linux/resources/devices"
_UNRULED = "has no effect without a cgroup: root in the container may use every device of the host"

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


class _Node:
    """A device of the container; ``pointer`` and ``why`` say who asked for it."""

    __slots__ = ("gid", "kind", "major", "minor", "mode", "path", "pointer", "slot", "uid", "why")

    def __init__(self, path: str, kind: int, numbers: tuple[int, int], pointer: str, why: str) -> None:
        self.path = path
        self.kind = kind
        self.major, self.minor = numbers
        self.pointer = pointer
        self.why = why
        self.mode, self.uid, self.gid = 0o666, 0, 0
        self.slot = f"device.{path.removeprefix('/dev/')}"


def _nodes(draft: Draft) -> list[_Node]:
    """The default devices but those that the config describes itself, then those of the config.

    What the config puts below a /dev that it binds is that directory's own affair.
    """
    asked = [_asked(entry, number) for number, entry in enumerate(draft.linux.get("devices", ()))]
    if asked:
        _part(asked)
    if _brings_dev(draft):
        return [node for node in asked if not node.path.startswith("/dev/")]
    described = {node.path for node in asked}
    defaults = [
        _Node(f"/dev/{name}", _S_IFCHR, (major, minor), "/linux/devices", DEFAULT)
        for name, major, minor in DEFAULT_DEVICES
    ]
    return [*(node for node in defaults if node.path not in described), *asked]


def _part(nodes: Sequence[_Node]) -> None:
    """Gives those that stand twice a slot each (the rules say that they are one device)."""
    taken: set[str] = set()
    for node in nodes:
        if node.slot in taken:
            node.slot += f" {node.pointer}"
        taken.add(node.slot)


def _asked(entry: Device, number: int) -> _Node:
    """One device of the config; without fileMode everybody may use it, as with runc.

    Podman writes st_mode as stat(2) has it, with the kind of file in it, and the peers leave that out.  A
    FIFO has no numbers, whatever stands there (as crun).
    """
    kind = _KINDS[entry["type"]]
    numbers = (0, 0) if kind == _S_IFIFO else (entry.get("major", 0), entry.get("minor", 0))
    node = _Node(clean(entry["path"]), kind, numbers, f"/linux/devices/{number}", ASKED)
    node.mode = entry.get("fileMode", node.mode) & _PERMISSIONS
    node.uid, node.gid = entry.get("uid", 0), entry.get("gid", 0)
    return node


def make(draft: Draft) -> Sequence[Step]:
    """The nodes, and the default links unless the config binds a /dev of its own making."""
    nodes = [_bind(node) if _is_bound(draft, node) else _make(node) for node in _nodes(draft)]
    if _brings_dev(draft):
        return nodes
    links = [
        steps.make_symlink(target=target, path=f"/dev/{name}", pointer="/linux/devices", why=DEFAULT)
        for target, name in DEFAULT_LINKS
    ]
    return nodes + links


def open_devices(draft: Draft) -> Sequence[Step]:
    """The host's nodes, to be bound: in a user namespace nobody may make a device (mknod(2)).

    What has another name there is opened by that; its numbers are checked.
    """
    if not _binds(draft):
        return ()
    return [
        steps.open_device(
            path=draft.host.nodes.get(node.pointer, node.path), kind=node.kind, major=node.major,
            minor=node.minor, device=node.slot, pointer=node.pointer, why=node.why,
        )
        for node in _nodes(draft) if _is_bound(draft, node)
    ]  # fmt: skip


def _is_bound(draft: Draft, node: _Node) -> bool:
    return node.kind != _S_IFIFO and _binds(draft)


def _binds(draft: Draft) -> bool:
    return draft.host.unprivileged or index_of(draft, "user") >= 0


def _make(node: _Node) -> Step:
    return steps.make_device(
        path=node.path, kind=node.kind, major=node.major, minor=node.minor, mode=node.mode,
        uid=node.uid, gid=node.gid, pointer=node.pointer, why=node.why,
    )  # fmt: skip


def _bind(node: _Node) -> Step:
    return steps.attach(
        tree=node.slot, target=node.path, link=0, set=0, clear=0, rset=0, rclear=0, propagation=(),
        pointer=node.pointer, why=node.why,
    )  # fmt: skip


def _brings_dev(draft: Draft) -> bool:
    """Whether the config binds a /dev of its own making."""
    mounts = draft.config.get("mounts", ())
    return any(is_bind(mount) and clean(mount["destination"]) == "/dev" for mount in mounts)


def allow(draft: Draft) -> Sequence[Step]:
    """The rules in their order, then the default ones, as one program on the cgroup; what no rule allows is
    denied."""
    asked = draft.linux.get("resources", {}).get("devices", ())
    rules = [_rule(draft, number) for number in range(len(asked))]
    if draft.host.unprivileged or not exists(draft):
        # A program takes CAP_BPF on the host (bpf(2)).  Who has it not can make no node, and open no more
        # of them than the host lets him: that is the rule then, as with the peers.
        if rules and not draft.host.unprivileged and index_of(draft, "user") < 0:
            draft.warn(_POINTER, asked, _UNRULED, "take CAP_MKNOD from it, or have a cgroup made")
        return ()
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
