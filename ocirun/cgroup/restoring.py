"""What the files of a cgroup held before they were written to, so that what fails half-way is taken back
(cgroup-v2.rst, Interface Files)."""

from __future__ import annotations

from ocirun.cgroup.settings import write
from ocirun.files import read_file

#: Files with a line for each device or resource, and what stands there for no limit: it is written where
#: there was no line.
_KEYED = {
    "io.max": "rbps=max wbps=max riops=max wiops=max",
    "io.weight": "default",
    "io.latency": "target=0",
    "rdma.max": "hca_handle=max hca_object=max",
    "misc.max": "max",
    "dmem.max": "max",
}


class Before:
    """The contents of files, each noted before it is written to, and the way back to them."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: list[tuple[str, str]] = []

    def note(self, path: str, value: str) -> None:
        """``value`` is about to be written to the file at ``path``; one that cannot be read is left out.

        A controller that is enabled stays: those in the cgroups beside it may have limits of it by now, which
        would be gone with it.
        """
        where, _, name = path.rpartition("/")
        if name == "cgroup.subtree_control":
            return
        if name == "cpu.idle":  # the kernel forgets the weight of who is idle; taken back after it
            self._keep(f"{where}/cpu.weight", "")
        self._keep(path, value)

    def _keep(self, path: str, value: str) -> None:
        try:
            text = read_file(path).decode("utf-8", "surrogateescape")
        except OSError:
            return
        self._kept += ((path, words) for words in reversed(_back(path.rpartition("/")[2], value, text)))

    def restore(self) -> list[str]:
        """Writes all back, the last first; gives the paths of those that the kernel did not take.  It may be
        done again."""
        refused: list[str] = []
        for path, text in reversed(self._kept):
            try:
                write(path, text)
            except OSError:
                refused.append(path)
        return refused


def _back(name: str, value: str, text: str) -> list[str]:
    """What is to be written to the file ``name``, which holds ``text``, when ``value`` has been; in order."""
    if name == "io.bfq.weight":  # the default, which is first, takes all others away (bfq-cgroup.c)
        return text.splitlines()
    if name not in _KEYED:
        return [text.strip()]
    first = value.partition(" ")[0]
    key = first if ":" in first or name in ("rdma.max", "misc.max", "dmem.max") else "default"
    lines = [line for line in text.splitlines() if line.partition(" ")[0] == key]
    return lines[:1] or [f"{key} {_KEYED[name]}"]
