"""Network devices of the host in the network namespace of a container (config-linux.md, Network devices).

What moves them is a child of ours: netlink may keep its caller waiting, the library is large, and who speaks
in another network namespace has to enter it with a thread.  It goes nowhere else.

It stays until the container is created.  Where we are killed before that, init ends by itself, and with it a
namespace of its own and all devices in there that are not of metal: no later command could find them.  So the
child holds the namespace, and brings them back.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import time

from ocirun.child import Child
from ocirun.errors import HostError, words_of
from ocirun.jsontext import dumps, loads
from ocirun.network.moving import Device, RefusedError, move, move_back

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ocirun.waiting import Task

#: Seconds for all devices: the kernel may be busy with other people's.
_PATIENCE = 60.0
_HERE = "/linux/netDevices"
_OWN = "/proc/self/ns/net"

#: Operation and errno of netlink -> the way out.
_HINTS = {
    ("find", errno.ENODEV): "`ip link` lists those of the network namespace that ocirun runs in",
    ("name", errno.EEXIST): "choose another name, or a template such as eth%d",
    ("name", errno.ENFILE): "choose a shorter one",
    ("move", errno.EINVAL): "a device of its kind stays where it is (a bridge, for one): see `ethtool -k`, "
    "netns-local",
    ("move", errno.EPERM): "that takes CAP_NET_ADMIN over both network namespaces: run as root",
    ("move", errno.EEXIST): "another name of the device (altname) is taken there, or was just now",
    ("address", errno.EACCES): "IPv6 is switched off there: see net.ipv6.conf.default.disable_ipv6",
}


def open_network(pid: int) -> int:
    """The network namespace of ``pid``, a child of ours; raises HostError."""
    path = f"/proc/{pid}/ns/net"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        words = words_of(error.errno or 0)
        raise HostError(f"open {path}: {words}", pointer=_HERE, errno=error.errno or 0, path=path) from error


class Moved:
    """Devices that are in the container, and the child that brings them back unless it was told otherwise
    before ``close``."""

    __slots__ = ("_child", "_devices", "_network")

    def __init__(self, network: int, devices: Sequence[Device], child: _Child) -> None:
        self._network = network
        self._devices = devices
        self._child = child

    def keep(self) -> None:
        """They are the container's for good."""
        self._child.dismiss()

    def give_back(self) -> Task[None]:
        """Moves them back, as they were, from a container that was not created after all; raises HostError.

        Another child does it: the first may have been killed by whatever ended the create.
        """
        self._child.dismiss()
        child = _Child(lambda to: _tell(to, lambda: _moved_back(self._network, self._devices)), self._network)
        told = yield from child.hear()
        child.dismiss()
        if told:
            raise _explained(told, self._devices)

    def close(self) -> None:
        """Lets go of the child."""
        self._child.close()


def move_in(network: int, names: Sequence[str], created: Callable[[], bool]) -> Task[Moved]:
    """Moves devices into the network namespace open at ``network``; ``names`` are those here and there, in
    turn.  ``created`` says whether the container was created, where nobody else can any more.

    Raises HostError, when all are back.
    """
    devices = [Device(names[at], names[at + 1]) for at in range(0, len(names), 2)]
    child = _Child(lambda to: _move_and_guard(network, devices, to, created), network)
    told = yield from child.hear()
    if "operation" in told:
        child.dismiss()
        raise _explained(told, devices)
    moved = [
        Device(name, target, up=up, addresses=addresses) for name, target, up, addresses in told["moved"]
    ]
    return Moved(network, moved, child)


class _Child:
    """A child of ours that does ``work`` with one end of a stream, and holds ``network``."""

    __slots__ = ("_child",)

    def __init__(self, work: Callable[[_socket.socket], None], network: int) -> None:
        self._child = Child(work, (network,))

    def hear(self) -> Task[dict[str, Any]]:
        """What it says of its work; raises HostError where it does not in time, and lets go of it."""
        try:
            said = yield from self._child.hear(time.monotonic() + _PATIENCE)
        except BaseException:
            self.close()
            raise
        if not said:
            self.close()
            words = f"moving network devices did not end within {_PATIENCE:.0f} seconds, or was killed"
            raise HostError(words, pointer=_HERE)
        told: Any = loads(said)
        return told  # type: ignore[no-any-return]

    def dismiss(self) -> None:
        """Has it end with its work done, and waits for it."""
        with contextlib.suppress(OSError):  # it was killed
            self._child.ours.send(b".", _socket.MSG_NOSIGNAL)
        self._child.ours.close()
        self._child.reap(wait=True)
        self._child.close()

    def close(self) -> None:
        """Lets it see that nobody listens any more."""
        self._child.ours.close()
        if self._child.pidfd >= 0:
            self._child.reap()
        self._child.close()


def _move_and_guard(
    network: int, devices: Sequence[Device], to: _socket.socket, created: Callable[[], bool]
) -> None:
    """The child: where we are gone before the container was created, the devices come back."""
    moved: list[Device] = []

    def moving() -> dict[str, object]:
        here = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        moved.extend(move(here, network, devices))
        return {"moved": [[one.name, one.target, one.up, one.addresses] for one in moved]}

    try:
        _tell(to, moving)
        dismissed = bool(to.recv(1))
    except OSError:  # nobody has heard it
        dismissed = False
    if moved and not dismissed and not created():
        _moved_back(network, moved)


def _moved_back(network: int, moved: Sequence[Device]) -> dict[str, object]:
    move_back(os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC), network, moved)
    return {}


def _tell(to: _socket.socket, work: Callable[[], dict[str, object]]) -> None:
    try:
        told = work()
    except RefusedError as error:
        told = {"number": error.number, "operation": error.operation, "errno": error.code}
    except ImportError as error:
        told = {"operation": "import", "text": str(error)}
    except OSError as error:
        told = {"operation": "netlink", "text": str(error)}
    to.sendall(dumps(told).encode(), _socket.MSG_NOSIGNAL)
    to.shutdown(_socket.SHUT_WR)


def _explained(told: dict[str, Any], devices: Sequence[Device]) -> HostError:
    operation, code = str(told["operation"]), int(told.get("errno", 0))
    if operation == "import":
        hint = "pip install pyroute2, or python3-pyroute2 of the distribution"
        return HostError(
            f"network devices need the package pyroute2: {told['text']}", pointer=_HERE, hint=hint
        )
    if operation == "netlink":
        return HostError(f"moving network devices: {told['text']}", pointer=_HERE)
    if operation == "same":
        hint = "leave the path of the network namespace out, or name another"
        return HostError("the container has the network namespace of the host", pointer=_HERE, hint=hint)
    device = devices[int(told["number"])]
    named = operation == "name" and device.name != device.target
    place = f"{_HERE}/{device.name.replace('~', '~0').replace('/', '~1')}"
    return HostError(
        _sentence(operation, device, code),
        pointer=f"{place}/name" if named else place,
        operation="move_net_devices",
        errno=code,
        hint=_HINTS.get((operation, code), ""),
    )


def _sentence(operation: str, device: Device, code: int) -> str:
    sentences = {
        ("find", errno.ENODEV): f"there is no network device {device.name}",
        ("name", errno.EEXIST): f"the container has a network device {device.target}",
        ("name", errno.ENFILE): f"what is free of {device.target} has more than 15 bytes",
    }
    doing = {
        "move": f"move the network device {device.name} into the container",
        "address": f"give the network device {device.name} its addresses back",
        "up": f"set the network device {device.name} up",
    }
    return sentences.get((operation, code)) or f"{doing.get(operation, operation)}: {words_of(code)}"
