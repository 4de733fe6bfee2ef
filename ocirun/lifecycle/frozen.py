"""The config of a container as it was at create, and the proof that nobody has changed it since.

It was checked before it was frozen, so that nobody has to check it again; a checksum in the head of the
journal tells a damaged one (a crash, a full disk, an editor) from the one that was checked.
"""

from __future__ import annotations

import posix as os

from ocirun import paths
from ocirun.digest import digest
from ocirun.errors import StateError
from ocirun.files import is_there, read_file, write_whole
from ocirun.jsontext import loads
from ocirun.lifecycle.store import state_io, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun_spec.types import Config

    from ocirun.journal import Journal


def freeze(directory: str, source: bytes) -> None:
    """Keeps the config as it was read: nobody reads the bundle again.  Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(paths.join(directory, "config.json"), flags, 0o600)
    try:
        write_whole(fd, source)
    finally:
        os.close(fd)


def checksum(source: bytes) -> int:
    """What the head of the journal has as ``config``."""
    return int.from_bytes(digest(source)[:4], "little")


def frozen(directory: str, entries: Journal) -> Config:
    """The config in the state directory of the container of that journal.

    Raises StateError where it is gone or cannot be read, or is not the one that was frozen.
    """
    path = paths.join(directory, "config.json")
    try:
        # O_NONBLOCK: whatever is in its place must give an error, not hang us
        source = read_file(path, os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        if not is_there(directory):
            raise unknown(paths.basename(directory)) from None
        raise _damaged(path, "it is gone") from None
    except OSError as error:
        raise state_io(error, "read", path) from error
    if checksum(source) != entries.head.get("config", checksum(source)):  # older journals have none
        raise _damaged(path, "it is not what create has checked")
    try:
        value: Any = loads(source)
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    config: Config = value
    return config


def _damaged(path: str, how: str) -> StateError:
    return StateError(
        f"{path} is damaged: {how}",
        path=path,
        code="state-io",
        hint="`ocirun delete --force` removes the container; create it anew",
    )
