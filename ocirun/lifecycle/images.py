"""The images of a checkpoint, of which a directory has the earlier ones or the new ones, never half of each.

criu writes over what it finds.  So the earlier ones are set aside in a directory among them, where they lie
on the same file system; they come back when the new checkpoint fails, and go when it is whole.
"""

from __future__ import annotations

import os
from contextlib import suppress

DESCRIPTORS = "descriptors.json"
_ASIDE = ".earlier"
#: Says that the images beside it are whole: criu needs it for each restore, and it is written last.
_INVENTORY = "inventory.img"


class Images:
    """The open directory ``fd`` of images; raises OSError."""

    __slots__ = ("_aside", "_fd")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._aside = -1

    def set_aside(self) -> None:
        """Makes room for new images; those that a killed checkpoint has set aside are put back first."""
        with suppress(FileExistsError):
            os.mkdir(_ASIDE, 0o700, dir_fd=self._fd)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._aside = os.open(_ASIDE, flags, dir_fd=self._fd)
        if _INVENTORY in os.listdir(self._aside):
            _move(self._aside, self._fd)
        _move(self._fd, self._aside)

    def put_back(self) -> None:
        """Removes what is new, half of which could be taken for a whole checkpoint, and has the earlier."""
        _remove_from(self._fd)
        _move(self._aside, self._fd)
        self._let_go()

    def forget_earlier(self) -> None:
        """The new ones are whole."""
        _remove_from(self._aside)
        self._let_go()

    def _let_go(self) -> None:
        os.close(self._aside)
        with suppress(OSError):  # somebody has put more into it
            os.rmdir(_ASIDE, dir_fd=self._fd)


def _found(directory: int) -> list[str]:
    """The names of images, that of the inventory first."""
    with os.scandir(directory) as entries:
        files = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
    found = [name for name in files if name.endswith(".img") or name in (DESCRIPTORS, "parent")]
    return sorted(found, key=lambda name: name != _INVENTORY)


def _move(source: int, target: int) -> None:
    for name in _found(source):
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)


def _remove_from(directory: int) -> None:
    for name in _found(directory):
        os.unlink(name, dir_fd=directory)
