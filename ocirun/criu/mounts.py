"""Which mounts of a container criu must not look into: they came from outside, and come from there again.

A checkpoint names each by the place where it is mounted; a restore says by the same name what is to be there.
"""

from __future__ import annotations

from ocirun import device_nodes
from ocirun.planner.devices import DEFAULT_DEVICES
from ocirun.planner.mounts import is_bind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ocirun_spec.types import Config, Mount

#: Masked files are all the same file, which is there on every host.
NULL = "/dev/null"


class Row:
    """A line of mountinfo: what of its file system is mounted, ``root``, and where
    (proc_pid_mountinfo(5))."""

    __slots__ = ("number", "point", "root")

    def __init__(self, line: str) -> None:
        words = line.split(" ")
        self.number = int(words[0])
        self.root, self.point = _plain(words[3]), _plain(words[4])


def _plain(text: str) -> str:
    """Blanks, tabs, line ends and backslashes are written as octal numbers."""
    head, *rest = text.split("\\")
    return head + "".join([chr(int(one[:3], 8)) + one[3:] for one in rest])


def rows(mountinfo: str) -> list[Row]:
    """All mounts of a mountinfo, the topmost of each place last."""
    return [Row(line) for line in mountinfo.split("\n") if line]


def binds(config: Config) -> list[Mount]:
    """The mounts of ``config`` whose content is outside."""
    return [mount for mount in config.get("mounts", ()) if is_bind(mount)]


def _devices(config: Config) -> list[tuple[str, str]]:
    """Where the devices of a container are, after the pointers of those that the config names: in a user
    namespace they are bound, for they cannot be made."""
    listed = config.get("linux", {}).get("devices", ())
    asked = [(f"/linux/devices/{number}", device["path"]) for number, device in enumerate(listed)]
    return [*(("", f"/dev/{name}") for name, _, _ in DEFAULT_DEVICES), *asked]


def of_dump(config: Config, present: Iterable[Row], resolve: Callable[[str], str]) -> list[tuple[str, str]]:
    """Places and names for a checkpoint, from the mounts that are ``present`` in the container.

    ``resolve`` gives the place that a path of the config leads to in the container.
    """
    tops = {row.point: row for row in present}
    asked = [mount["destination"] for mount in binds(config)]
    asked += [path for _, path in _devices(config)]
    places = [path if path in tops else resolve(path) for path in asked]
    found = dict.fromkeys((place, place) for place in places if place in tops)
    for path in config.get("linux", {}).get("maskedPaths", ()):
        row = tops.get(path)
        if row is not None and row.root.endswith("/null"):
            found[path, NULL] = None
    return [*found]


def of_restore(config: Config, bundle: str, resolve: Callable[[str], str]) -> list[tuple[str, str]]:
    """Names and sources for a restore; ``resolve`` gives the place that a path of the config leads to in the
    root file system, sources that are not absolute lie in the ``bundle``."""
    elsewhere = device_nodes.elsewhere(config.get("linux", {}).get("devices", ()))
    found = [(path, elsewhere.get(pointer, path)) for pointer, path in _devices(config)]
    for mount in binds(config):
        source = mount.get("source", "")
        found.append((resolve(mount["destination"]), source if source[:1] == "/" else f"{bundle}/{source}"))
    return [*dict.fromkeys([*found, (NULL, NULL)])]
