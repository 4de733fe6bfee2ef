"""Moves network devices from one network namespace to another; blocking, for a child process of ours.

The kernel takes the addresses from a device that changes its namespace, and sets it down; it keeps the rest,
such as the MTU and the hardware address (net/core/dev.c, __dev_change_net_namespace).
"""

from __future__ import annotations

import errno
import os

from ocirun.full import full_interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias

    from pyroute2 import IPRoute, Message

    #: The attributes of an address as netlink is asked for it.
    Address: TypeAlias = dict[str, str | int]

#: linux/if.h, linux/if_addr.h, linux/rtnetlink.h.
_UP, _PERMANENT, _UNIVERSE = 0x1, 0x80, 0
#: What the kernel finds out by itself: secondary, failed, deprecated and tentative addresses.
_OF_THE_KERNEL = 0x01 | 0x08 | 0x20 | 0x40 | _PERMANENT
#: Attributes of an address that are kept beside its flags.
_KEPT = {
    "IFA_ADDRESS": "address",
    "IFA_LOCAL": "local",
    "IFA_BROADCAST": "broadcast",
    "IFA_RT_PRIORITY": "rt_priority",
}
#: A kernel takes names of fewer bytes (IFNAMSIZ).
_LONGEST = 15


class Device:
    """A device that moves: its ``name`` here, what it is to be called there (``target``, which may hold %d),
    whether it is to be ``up`` there, and with which ``addresses``; without, it has those of before."""

    __slots__ = ("addresses", "name", "target", "up")

    def __init__(
        self, name: str, target: str, *, up: bool = True, addresses: list[Address] | None = None
    ) -> None:
        self.name = name
        self.target = target
        self.up = up
        self.addresses = addresses


class RefusedError(Exception):
    """Device ``number`` of the list cannot be moved: which ``operation`` failed, and how."""

    def __init__(self, number: int, operation: str, code: int) -> None:
        super().__init__(number, operation, code)
        self.number = number
        self.operation = operation
        self.code = code


def move(here: int, there: int, devices: Sequence[Device]) -> list[Device]:
    """Moves ``devices`` between the network namespaces open at ``here``, that of this process, and ``there``.

    Gives what is needed to move them back, in the order of moving.  Raises RefusedError, when those before it
    are back, and ImportError where there is no pyroute2.
    """
    if os.path.samestat(os.fstat(here), os.fstat(there)):
        raise RefusedError(0, "same", errno.EEXIST)
    ours, theirs = _sockets(here, there)
    try:
        return _move_all(ours, theirs, here, there, devices)
    finally:
        ours.close()
        theirs.close()


def move_back(here: int, there: int, moved: Sequence[Device]) -> None:
    """Undoes ``move``: what is at ``there`` comes back to this process's namespace ``here``.  Raises as it
    does, after all were tried."""
    ours, theirs = _sockets(here, there)
    try:
        _return(ours, theirs, here, moved)
    finally:
        ours.close()
        theirs.close()


def _sockets(here: int, there: int) -> tuple[IPRoute, IPRoute]:
    """A socket stays in the namespace that it was made in (network_namespaces(7))."""
    try:
        from pyroute2 import IPRoute, netns
    except ImportError:
        full_interpreter()
        from pyroute2 import IPRoute, netns
    ours = IPRoute()
    netns.setns(there)
    theirs = IPRoute()
    netns.setns(here)
    return ours, theirs


def _move_all(
    ours: IPRoute, theirs: IPRoute, here: int, there: int, devices: Sequence[Device]
) -> list[Device]:
    moved: list[Device] = []
    # A template must not take the very name that another device is to have.
    for number, device in sorted(enumerate(devices), key=lambda one: "%d" in one[1].target):
        try:
            moved.append(_transfer(ours, theirs, there, device))
            _settle(theirs, moved[-1].name, moved[-1].addresses or [], up=device.up)
        except _FailedError as failed:
            _return(ours, theirs, here, moved)
            raise RefusedError(number, failed.operation, failed.code) from None
    return moved


def _return(ours: IPRoute, theirs: IPRoute, here: int, moved: Sequence[Device]) -> None:
    first: RefusedError | None = None
    for number, device in reversed([*enumerate(moved)]):
        try:
            back = _transfer(theirs, ours, here, device)
            _settle(ours, back.name, device.addresses or [], up=device.up)
        except _FailedError as failed:
            first = first or RefusedError(number, failed.operation, failed.code)
    if first is not None:
        raise first


class _FailedError(Exception):
    def __init__(self, operation: str, code: int) -> None:
        super().__init__(operation, code)
        self.operation = operation
        self.code = code


def _transfer(source: IPRoute, target: IPRoute, into: int, device: Device) -> Device:
    """Moves one device over, which takes its addresses; gives it as one that moves back as it was."""
    index, flags = _find(source, device.name)
    if index < 0:
        raise _FailedError("find", errno.ENODEV)
    addresses = [*_permanent(source, index)]
    name = _free_name(device.target, {name for link in target.get_links() for name in _names(link)})
    # The kernel does both or neither, but where another takes the name between our look and this.
    _ask("move", source.link, "set", index=index, net_ns_fd=into, ifname=name)
    return Device(name, device.name, up=bool(flags & _UP), addresses=addresses)


def _settle(where: IPRoute, name: str, addresses: Sequence[Address], *, up: bool) -> None:
    """Gives a device that has moved its addresses back, and sets it up."""
    index, _ = _find(where, name)
    for address in addresses:
        _ask("address", where.addr, "add", index=index, **address)
    if up:
        _ask("up", where.link, "set", index=index, state="up")


def _ask(operation: str, call: Callable[..., object], command: str, **request: object) -> None:
    from pyroute2 import NetlinkError

    try:
        call(command, **request)
    except NetlinkError as error:
        raise _FailedError(operation, error.code) from None


def _find(where: IPRoute, name: str) -> tuple[int, int]:
    """The index and the flags of a device, -1 where there is none of that name."""
    for link in where.get_links():
        if link.get_attr("IFLA_IFNAME") == name:
            return link["index"], link["flags"]
    return -1, 0


def _names(link: Message) -> Iterator[str]:
    """The name of a device and its others, which are taken as well (ip-link(8), altname)."""
    yield link.get_attr("IFLA_IFNAME")
    others = link.get_attr("IFLA_PROP_LIST")
    if others is not None:
        yield from others.get_attrs("IFLA_ALT_IFNAME")


def _free_name(wanted: str, taken: set[str]) -> str:
    """``wanted``, with the lowest number that is free in place of %d, as the kernel gives it."""
    if "%d" not in wanted:
        if wanted in taken:
            raise _FailedError("name", errno.EEXIST)
        return wanted
    free = next(name for name in _numbered(wanted) if name not in taken)
    if len(free.encode()) > _LONGEST:
        raise _FailedError("name", errno.ENFILE)
    return free


def _numbered(template: str) -> Iterator[str]:
    number = 0
    while True:
        yield template.replace("%d", str(number))
        number += 1


def _permanent(where: IPRoute, index: int) -> Iterator[Address]:
    """The addresses to keep: those that do not expire and are good everywhere (config-linux.md, Network
    devices)."""
    for one in where.get_addr(index=index):
        flags = one.get_attr("IFA_FLAGS") or one["flags"]
        if not flags & _PERMANENT or one["scope"] != _UNIVERSE:
            continue
        kept = {key: one.get_attr(name) for name, key in _KEPT.items()}
        yield {
            "family": one["family"],
            "prefixlen": one["prefixlen"],
            "flags": flags & ~_OF_THE_KERNEL,
            **{key: value for key, value in kept.items() if value is not None},
        }
