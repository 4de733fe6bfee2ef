"""Network devices of the host in the network namespace of a container (config-linux.md, Network devices).

What moves them is a child of ours: netlink may keep its caller waiting, the library is large, and who speaks
in another network namespace has to enter it with a thread.  It goes nowhere else.
"""

from __future__ import annotations

import errno
import os
import time

from ocirun.errors import HostError, words_of
from ocirun.jsontext import dumps, loads
from ocirun.network.moving import Device, RefusedError, move, move_back
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Sequence
    from typing import Any

    from ocirun.waiting import Task
else:
    import _signal

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


def move_in(network: int, names: Sequence[str]) -> Task[list[Device]]:
    """Moves devices into the network namespace open at ``network``; ``names`` are those here and there, in
    turn.

    Gives what ``give_back`` needs.  Raises HostError, when all are back.
    """
    devices = [Device(names[at], names[at + 1]) for at in range(0, len(names), 2)]
    told = yield from _in_child(lambda writer: _move_and_tell(network, devices, writer))
    if "moved" in told:
        return [
            Device(name, target, up=up, addresses=addresses) for name, target, up, addresses in told["moved"]
        ]
    raise _explained(told, devices)


def give_back(network: int, moved: Sequence[Device]) -> Task[None]:
    """Moves devices back, as they were, of a container that was not created after all; raises HostError."""
    told = yield from _in_child(lambda writer: _tell(writer, lambda: _moved_back(network, moved)))
    if told:
        raise _explained(told, moved)


def _in_child(work: Callable[[int], None]) -> Task[dict[str, Any]]:
    """What a child says that does ``work`` with the end of a pipe."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()  # noqa: TID251 - the child enters a network namespace alone; what runs there is the helper
    if not child:
        try:
            os.close(reader)
            work(writer)
        finally:
            os._exit(0)
    os.close(writer)
    said = b""
    until = time.monotonic() + _PATIENCE
    try:
        while (yield Wait(reads=(reader,), until=until)):
            piece = os.read(reader, 1 << 16)
            if not piece:
                break
            said += piece
    finally:
        os.close(reader)  # one that still works finds nobody to tell, and undoes it
        os.waitpid(child, 0 if said else os.WNOHANG)
    if not said:
        raise HostError(
            f"moving network devices did not end within {_PATIENCE:.0f} seconds, or was killed", pointer=_HERE
        )
    told: Any = loads(said)
    return told  # type: ignore[no-any-return]


def _move_and_tell(network: int, devices: Sequence[Device], writer: int) -> None:
    """The child: where nobody listens any more, the devices come back."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
    moved: list[Device] = []

    def moving() -> dict[str, object]:
        here = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        moved.extend(move(here, network, devices))
        return {"moved": [[one.name, one.target, one.up, one.addresses] for one in moved]}

    try:
        _tell(writer, moving)
    except BrokenPipeError:
        _moved_back(network, moved)


def _moved_back(network: int, moved: Sequence[Device]) -> dict[str, object]:
    move_back(os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC), network, moved)
    return {}


def _tell(writer: int, work: Callable[[], dict[str, object]]) -> None:
    try:
        told = work()
    except RefusedError as error:
        told = {"number": error.number, "operation": error.operation, "errno": error.code}
    except ImportError as error:
        told = {"operation": "import", "text": str(error)}
    except OSError as error:
        told = {"operation": "netlink", "text": str(error)}
    os.write(writer, dumps(told).encode())


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
