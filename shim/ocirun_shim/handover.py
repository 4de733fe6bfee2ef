"""What a worker hands to its keeper when it has nothing to do: descriptors, and the state of the shim.

The state is a value of plain lists, dicts, texts, numbers and bytes in a memfd; where it names a descriptor
it has the place of that in a list.  Both ends run the same code, in processes forked from each other, so that
the form needs no version (marshal).
"""

from __future__ import annotations

import marshal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


#: Where among all descriptors that of the log is: what fails first has to have it first.
LOG = 1


class Parcel:
    """Descriptors by their place; the number that one has differs from process to process."""

    __slots__ = ("_places", "fds")

    def __init__(self, fds: Sequence[int] = ()) -> None:
        self.fds = list(fds)
        self._places = {fd: place for place, fd in enumerate(self.fds)}

    def put(self, fd: int) -> int:
        """The place of ``fd``, the same for the same descriptor; -1 for none."""
        if fd < 0:
            return -1
        if fd not in self._places:
            self._places[fd] = len(self.fds)
            self.fds.append(fd)
        return self._places[fd]

    def take(self, place: int) -> int:
        """The descriptor that is at ``place`` now; -1 for none."""
        return self.fds[place] if place >= 0 else -1


def pack(state: Mapping[str, object], parcel: Parcel) -> list[int]:
    """The descriptors to hand over, a new memfd with ``state`` first; that one is the caller's to close.

    Raises OSError where there is no room, ValueError for a state that is not plain.
    """
    plain: Any = state  # what marshal takes has no name that a TypedDict would match
    file = os.memfd_create("ocirun-shim", os.MFD_CLOEXEC)
    try:
        left = memoryview(marshal.dumps(plain))
        while left:
            left = left[os.write(file, left) :]
    except BaseException:
        os.close(file)
        raise
    return [file, *parcel.fds]


def unpack(fds: Sequence[int]) -> tuple[object, Parcel]:
    """The state and the descriptors that ``pack`` gave; closes the memfd."""
    file = fds[0]
    size = os.fstat(file).st_size
    state: object = marshal.loads(os.pread(file, size, 0))  # noqa: S302 - of our own making, never on a disk
    os.close(file)
    return state, Parcel(fds[1:])
