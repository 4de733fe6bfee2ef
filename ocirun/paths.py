"""Paths as text, without a look at the file system: what the hot commands need of os.path.

They speak to the module ``posix``: importing ``os`` takes as long as starting the interpreter (it builds the
abstract classes of collections.abc).
"""

from __future__ import annotations

import posix

from ocirun.errors import UsageError


def join(directory: str, name: str) -> str:
    """``name`` as seen from ``directory``; an absolute one stands alone (os.path.join)."""
    if name[:1] == "/" or not directory:
        return name
    return f"{directory}{name}" if directory[-1] == "/" else f"{directory}/{name}"


def dirname(path: str) -> str:
    """What stands before the last "/", "/" for what lies in it (os.path.dirname)."""
    head = path[: path.rfind("/") + 1]
    return head.rstrip("/") or head


def basename(path: str) -> str:
    """What stands after the last "/" (os.path.basename)."""
    return path[path.rfind("/") + 1 :]


def normal(path: str) -> str:
    """``path`` without ".", empty names, and names that ".." takes back (os.path.normpath)."""
    # POSIX leaves the meaning of exactly two to the system, and os.path.normpath keeps them
    root = "//" if path[:2] == "//" and path[2:3] != "/" else "/" * (path[:1] == "/")
    kept: list[str] = []
    for name in path.split("/"):
        if name in ("", ".") or (name == ".." and root and not kept):
            continue
        if name == ".." and kept and kept[-1] != "..":
            kept.pop()
        else:
            kept.append(name)
    return root + "/".join(kept) or "."


def absolute(path: str) -> str:
    """``path`` as seen from the working directory, normal (os.path.abspath).

    Raises UsageError where that was removed.
    """
    return normal(path if path[:1] == "/" else join(_here(), path))


def _here() -> str:
    try:
        return posix.getcwd()
    except FileNotFoundError:
        told = "the working directory does not exist any more"
        raise UsageError(told, hint="change to one that does, or give absolute paths") from None
