"""Where a path of the config leads below a root, and the making of mount points there (for criu)."""

from __future__ import annotations

import os
from contextlib import suppress

from ocirun import paths
from ocirun.errors import HostError, words_of
from ocirun.planner.mounts import clean, is_bind
from ocirun.walk import Identity, Walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_spec.types import Config

_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def resolver(root: str) -> Callable[[str], str]:
    """What gives the place that a path leads to below the directory ``root``, links followed; the path as it
    is where it leads nowhere."""

    def resolve(path: str) -> str:
        directory = _open_root(root)
        try:
            walk = Walk(directory, path, Identity())
        finally:
            os.close(directory)
        try:
            return walk.at if walk.fd >= 0 else clean(path)
        finally:
            walk.close()

    return resolve


def make_places(rootfs: str, config: Config, bundle: str) -> None:
    """Makes the mount points that are missing below ``rootfs``, as create does in the container: criu makes
    none.  What lies below another mount comes with that.

    Raises HostError.
    """
    covered: list[str] = []
    directory = _open_root(rootfs)
    try:
        for number, mount in enumerate(config.get("mounts", ())):
            place = clean(mount["destination"])
            if not any(place.startswith(f"{above}/") for above in covered):
                source = paths.join(bundle, mount.get("source", ""))
                walk = _Making(directory, place, directory=not is_bind(mount) or os.path.isdir(source))
                walk.close()
                if walk.errno:
                    raise _refused(f"make the mount point {place} in", rootfs, walk.errno, number)
            covered.append(place)
    finally:
        os.close(directory)


def place_in(root: int, path: str, pointer: str) -> int:
    """A descriptor of the directory ``path`` below the open directory ``root``, which is made where it is
    missing; raises HostError for ``pointer``."""
    walk = _Making(root, path, directory=True)
    try:
        if walk.errno:
            raise HostError(
                f"make the mount point {path} in the root file system: {words_of(walk.errno)}",
                errno=walk.errno,
                path=path,
                pointer=pointer,
            )
        return os.dup(walk.fd)
    finally:
        walk.close()


class _Making(Walk):
    """A walk that makes what is missing, also what a link leads to: a ``directory`` at its end, or a file.

    ``..`` goes back to where it came from, and never above the root: the path alone would not tell where
    that is.
    """

    __slots__ = ("_directory", "_pending")

    def __init__(self, root: int, path: str, *, directory: bool) -> None:
        self._directory = directory
        super().__init__(root, path, Identity())

    def _follow(self, pending: list[str]) -> None:
        self._pending = pending
        super()._follow(pending)

    def _enter(self, name: str) -> str | None:
        above = self._stack[-1]
        is_last = all(one in ("", ".") for one in self._pending)
        with suppress(FileExistsError):  # of whatever kind: a link is followed
            if is_last and not self._directory:
                os.close(os.open(name, _NEW_FILE, 0o644, dir_fd=above))
            else:
                os.mkdir(name, 0o755, dir_fd=above)
        return super()._enter(name)


def _open_root(path: str) -> int:
    try:
        return os.open(path, _PLACE)
    except OSError as error:
        raise _refused("open the root file system", path, error.errno or 0) from error


def _refused(doing: str, path: str, number: int, mount: int | None = None) -> HostError:
    return HostError(
        f"{doing} {path}: {words_of(number)}",
        errno=number,
        path=path,
        pointer="/root/path" if mount is None else f"/mounts/{mount}/destination",
    )
