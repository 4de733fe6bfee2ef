"""Where a path of the config leads below a root, and the making of mount points there (for criu)."""

from __future__ import annotations

import os

from ocirun import paths
from ocirun.errors import HostError, words_of
from ocirun.planner.mounts import clean, is_bind
from ocirun.walk import Identity, Walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_spec.types import Config

_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def resolver(root: str) -> Callable[[str], str]:
    """What gives the place that a path leads to below the directory ``root``, links followed; the path as it
    is where it leads nowhere."""

    def resolve(path: str) -> str:
        directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
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
    resolve = resolver(rootfs)
    covered: list[str] = []
    for mount in config.get("mounts", ()):
        place = clean(mount["destination"])
        if not any(place.startswith(f"{above}/") for above in covered):
            source = paths.join(bundle, mount.get("source", ""))
            above = resolve(paths.dirname(place))
            _make(rootfs, above, paths.basename(place), directory=not is_bind(mount) or os.path.isdir(source))
        covered.append(place)


def _make(rootfs: str, above: str, last: str, *, directory: bool) -> None:
    """Makes what is missing of ``above`` and ``last`` in it, unless something is there.

    Every name is opened below the one before and no link is followed: one that was put there meanwhile leads
    nobody out of the root.
    """
    opened = [os.open(rootfs, _PLACE)]
    try:
        for name in filter(None, above.split("/")):
            _unless_there(lambda: os.mkdir(name, 0o755, dir_fd=opened[-1]))  # noqa: B023 - called at once
            opened.append(os.open(name, _PLACE, dir_fd=opened[-1]))
        if directory:
            _unless_there(lambda: os.mkdir(last, 0o755, dir_fd=opened[-1]))
        else:
            _unless_there(lambda: os.close(os.open(last, _NEW_FILE, 0o644, dir_fd=opened[-1])))
    except OSError as error:
        raise HostError(
            f"make the mount point {above}/{last} in {rootfs}: {words_of(error.errno or 0)}",
            errno=error.errno or 0,
            path=rootfs,
            pointer="/mounts",
        ) from error
    finally:
        for fd in opened:
            os.close(fd)


def _unless_there(make: Callable[[], None]) -> None:
    try:
        make()
    except FileExistsError:
        return
