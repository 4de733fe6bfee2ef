"""Why a program is not found or cannot be executed, as far as the root file system tells.  Cold.

The kernel says one errno for many causes.  What it opens is opened here in the same order: the program, the
interpreter of a script, the interpreter's own, the loader of an ELF program; the first that it would refuse
is the cause.
"""

from __future__ import annotations

import errno
import os
import stat

from ocirun.executor.binary import ELF, EMPTY, SCRIPT, Head
from ocirun.executor.inside import NOTHING
from ocirun.nearest import nearest
from ocirun.walk import SEARCH, denial, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun.executor.inside import Finding, Inside
    from ocirun.walk import Walk

NOT_FOUND, NOT_EXECUTABLE = "program-not-found", "program-not-executable"
NO_INTERPRETER, NO_LOADER = "program-interpreter-missing", "program-loader-missing"
NOEXEC, FORMAT, FOREIGN = "program-on-noexec-mount", "program-format", "program-architecture"
NO_SEARCH = "no-search-permission"

VANISHED = (NOT_FOUND, "the file vanished between create and start")
#: How many interpreters of interpreters the kernel admits, and one more (binfmt_script in exec.c).
_NESTED = 6
#: How many names of an image are looked at in search of one that is near.
_NAMES = 5000
_USUAL = (
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/opt/bin",
)
_LIBRARIES = (("ld-musl", "musl (Alpine)"), ("ld-linux", "glibc (Debian, Fedora)"), ("ld64", "glibc"))


def entries_of(search: str) -> list[str]:
    """The directories of a PATH; an empty entry is the working directory (execvp(3))."""
    return [entry or "." for entry in search.split(":")]


def located(inside: Inside, name: str, search: str) -> str:
    """The path that the lookup of ``name`` ends with: the first that may be executed."""
    if "/" in name:
        return name
    paths = [f"{entry}/{name}" for entry in entries_of(search)]
    return next((path for path in paths if inside.is_program(path)), name)


# -- what the kernel would refuse ----------------------------------------------------------------------------


def refusal(inside: Inside, path: str) -> Finding:
    """Why ``path`` cannot be executed; ``NOTHING`` where nothing is in the way."""
    if "/" not in path:
        return VANISHED  # create has found it along PATH
    what, head = "", None
    for _ in range(_NESTED):
        walk = inside.walk(path)
        try:
            found = _of_file(inside, walk, path, what, head)
            if found != NOTHING or (head is not None and head.kind == ELF):
                return found  # a loader is executed by no other
            head = Head(inside.head(walk))
        finally:
            walk.close()
        found = of_head(head, path, what)
        if found != NOTHING or not head.interpreter:
            return found
        what = _described(head, path, what)
        path = head.interpreter
    return FORMAT, f"{what}: interpreters of interpreters, deeper than the kernel goes"


def _described(head: Head, path: str, before: str) -> str:
    """The way so far, down to the interpreter or loader that comes next, as a clause."""
    next_ = shown(head.interpreter)
    if head.kind == SCRIPT:
        if before:
            return f"{before}, itself a script that names the interpreter {next_}"
        return f"the script {shown(path)} names the interpreter {next_}"
    who = f"{before}, which" if before else "it"
    return f"{who} is linked dynamically and its loader {next_}"


def _of_file(inside: Inside, walk: Walk, path: str, what: str, head: Head | None) -> Finding:
    """What is wrong with the file itself: where it is, its kind, its mode, its mount."""
    if walk.blocked:
        return NO_SEARCH, f"{what}: {walk.blocked}" if what else walk.blocked
    if walk.fd < 0:
        return _missing(walk, path, what, head)
    facts = walk.facts()
    subject = what + ", which" * (head is not None and head.kind == SCRIPT) if what else shown(path)
    if not stat.S_ISREG(facts.st_mode):
        kind = "a directory" if stat.S_ISDIR(facts.st_mode) else "no regular file"
        return NOT_EXECUTABLE, f"{subject} is {kind}"
    if not inside.who.may(SEARCH, facts):
        told = denial(walk.at, facts, SEARCH, inside.who, "execute")
        return NOT_EXECUTABLE, f"{what + ': ' if what else ''}{told}: chmod +x in the image"
    point = inside.noexec(walk)
    if point:
        return NOEXEC, f"{subject} is on {shown(point)}, which is mounted with the option noexec"
    return NOTHING


def _missing(walk: Walk, path: str, what: str, head: Head | None) -> Finding:
    if walk.errno == errno.ELOOP:
        return NOT_FOUND, f"{what or shown(path)} leads through too many symbolic links"
    link = f": {shown(walk.link)} is a symbolic link to what is not there" if walk.link else ""
    if head is None:
        return NOT_FOUND, f"{shown(walk.at)} is not in the image{link}"
    if head.kind == ELF:
        return NO_LOADER, f"{what} is not in the image{link}{_library(path)}"
    if path.endswith("\r"):
        before = what.removesuffix(f"names the interpreter {shown(path)}")
        told = f"has a first line that ends in CR LF, so the kernel looks for {path!r}: convert it to LF"
        return NO_INTERPRETER, before + told
    return NO_INTERPRETER, f"{what}, which is not in the image{link}"


def _library(loader: str) -> str:
    """For which C library a program was built that wants this loader."""
    name = loader.rpartition("/")[2]
    library = next((library for start, library in _LIBRARIES if name.startswith(start)), "")
    return f": it was built for {library}, and the image has another C library or none" if library else ""


def of_head(head: Head, path: str, what: str) -> Finding:
    """What is wrong with how the file at ``path`` begins, to which ``what`` tells the way, "" for the program
    itself."""
    subject = f"{what}, " if what else ""
    if head.kind == EMPTY:
        return FORMAT, f"{subject}which is empty" if what else "the file is empty"
    if head.kind == SCRIPT:
        return NOTHING if head.interpreter else (FORMAT, "the #! line names no interpreter")
    if head.kind == ELF:
        reason = head.foreign()
        return (FOREIGN, f"{subject}{reason}") if reason else NOTHING
    told = "it is neither an ELF program nor a script with #!: give it a first line such as #!/bin/sh"
    return FORMAT, f"{subject}and {shown(path)} is neither an ELF program nor a script" if what else told


# -- what may have been meant --------------------------------------------------------------------------------


def lookup(inside: Inside, name: str, search: str, refused: str) -> Finding:
    """Why the lookup of ``name`` along ``search`` found no program; ``refused`` is what it came upon last, a
    path, or the name itself."""
    if "/" in refused:
        found = refusal(inside, refused)
        return (found[0], f"{found[1]}{_near_path(inside, refused)}") if found[0] == NOT_FOUND else found
    elsewhere = [f"{place}/{name}" for place in _USUAL if place not in entries_of(search)]
    there = next((path for path in elsewhere if inside.is_program(path)), "")
    where = "PATH is not set in process.env, or empty" if not search else ""
    if there:
        return NOT_FOUND, f"{where or 'PATH of process.env does not lead there'}, but there is a {there}"
    near = nearest(name, sorted(_names(inside, entries_of(search))))
    if near and inside.is_program(located(inside, near, search)):
        return NOT_FOUND, f"did you mean {shown(near)}?"
    return NOT_FOUND, where or f"the image has no such program in {shown(search)}"


def _near_path(inside: Inside, path: str) -> str:
    """A name in the same directory that is near, as a question."""
    directory, _, name = path.rpartition("/")
    near = nearest(name, sorted(_names(inside, [directory or "/"])))
    found = f"{directory}/{near}"
    return f"; did you mean {shown(found)}?" if near and inside.is_program(found) else ""


def _names(inside: Inside, directories: Sequence[str]) -> set[str]:
    """The names in these directories, as far as they are few enough to read."""
    found: set[str] = set()
    for directory in dict.fromkeys(directories):
        walk = inside.walk(directory)
        try:
            if walk.fd >= 0 and stat.S_ISDIR(walk.facts().st_mode):
                found.update(_listed(walk, _NAMES - len(found)))
        finally:
            walk.close()
    return found


def _listed(walk: Walk, most: int) -> Iterator[str]:
    fd = walk.reopen(os.O_DIRECTORY)
    try:
        with os.scandir(fd) as entries:
            for _, entry in zip(range(most), entries, strict=False):
                yield entry.name
    finally:
        os.close(fd)
