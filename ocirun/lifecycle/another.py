"""Whether a cgroup has another container by now, told by the note that somebody has left on it.

Cold: asked only where that note does not name, letter by letter, the state directory of the container itself.
"""

from __future__ import annotations

import posix as os

from ocirun import journal, paths
from ocirun.errors import StateError
from ocirun.lifecycle.frozen import frozen
from ocirun.lifecycle.process import pid_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.journal import Journal

#: No journal is so long; the file may be anybody's.
_LONGEST = 1 << 20
_S_IFMT, _S_IFREG = 0o170000, 0o100000


def is_another(told: str, directory: str) -> bool:
    """Whether the note of root of the host is of another state directory than ``directory``; one of these can
    have several names."""
    return not _is_same(told, directory)


def is_of_another(told: str, where: str, directory: str, entries: Journal) -> bool:
    """Whether ``told``, which a user has noted at the cgroup ``where``, is another container that has it, and
    not ``directory``, whose journal has these ``entries``.

    Our own container may have written it: with a writable mount it owns the cgroup.  It cannot make a state
    directory beside ours, while any other place could be one in its root file system.  That is believed only
    where the note saves nobody: where all of the container end with its init, who is ended by himself.
    """
    if told[:1] != "/" or "\0" in told or told.endswith(("/.", "/..")) or _is_same(told, directory):
        return False
    beside = _is_same(paths.dirname(told), paths.dirname(directory))
    if not beside and not (_is_short(told) and _all_end_with_init(entries, directory)):
        return False
    try:
        return journal.read(told, lenient=True).cgroup == where
    except StateError:
        return False


def _is_same(one: str, other: str) -> bool:
    try:
        first, second = os.stat(one), os.stat(other)
    except (OSError, ValueError):  # gone, or no path
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def _is_short(directory: str) -> bool:
    """Whether the journal there is a file that can be read without harm."""
    try:
        found = os.stat(f"{directory}/journal", follow_symlinks=False)
    except OSError:
        return False
    return found.st_mode & _S_IFMT == _S_IFREG and found.st_size <= _LONGEST


def _all_end_with_init(entries: Journal, directory: str) -> bool:
    """Whether the container has a pid namespace of its own, which ends with its init (pid_namespaces(7)), and
    this init can be named from here."""
    if entries.head.get("pids") != pid_namespace():
        return False
    try:
        listed = frozen(directory, entries).get("linux", {}).get("namespaces", [])
    except StateError:
        return False
    return any(one["type"] == "pid" and not one.get("path") for one in listed)
