"""Where the host has the devices that a config names: in a user namespace they are bound, not made.

Engines may give a device another name inside (``--device /dev/fuse:/dev/other``), of which the config tells
the numbers alone.  Only configs that have devices of their own and bind them load this.
"""

from __future__ import annotations

import posix
from stat import S_ISBLK, S_ISCHR

from ocirun.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import Device


def elsewhere(devices: Sequence[Device]) -> dict[str, str]:
    """The path on the host of each device that is not where it is to be inside, by its pointer.

    The kernel tells under which name it has made the node (sysfs, ``DEVNAME`` of the uevent).  What it does
    not know is left out.
    """
    found: dict[str, str] = {}
    for number, device in enumerate(devices):
        block, numbers = device["type"] == "b", (device.get("major", 0), device.get("minor", 0))
        if device["type"] == "p" or _is_there(device["path"], numbers, block=block):
            continue
        name = _name(numbers, block=block)
        if name:
            found[f"/linux/devices/{number}"] = f"/dev/{name}"
    return found


def _is_there(path: str, numbers: tuple[int, int], *, block: bool) -> bool:
    try:
        facts = posix.lstat(path)
        wanted = posix.makedev(*numbers)
    except (OSError, OverflowError, ValueError):
        return False
    return facts.st_rdev == wanted and (S_ISBLK if block else S_ISCHR)(facts.st_mode)


def _name(numbers: tuple[int, int], *, block: bool) -> str:
    """What the kernel calls the node with these numbers, "" where it has none."""
    place = f"/sys/dev/{'block' if block else 'char'}/{numbers[0]}:{numbers[1]}/uevent"
    try:
        lines = read_file(place).splitlines()
    except OSError:
        return ""
    names = [line[8:].decode("utf-8", "surrogateescape") for line in lines if line.startswith(b"DEVNAME=")]
    return names[0] if names else ""
