"""The rules of paths, wherever they stand: what no kernel takes, whatever file system it is on."""

from __future__ import annotations

from ocirun.config.access import an_object, objects, string, strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun.config.access import Found, Object

#: NAME_MAX, and PATH_MAX without the NUL (linux/limits.h), in bytes.
LONGEST_NAME, LONGEST_PATH = 255, 4095
_BINDS = ("bind", "rbind")
#: Parts of a path that lead no further than the root.
_NOWHERE = frozenset({"", ".", ".."})


def check_paths(config: Object, found: Found) -> None:
    """Report every path that is too long for open(2), and masked and read-only paths that are not absolute
    (config-linux.md)."""
    for pointer, path in _paths(config):
        if len(path) * 4 > LONGEST_NAME:  # a shorter one cannot have a part that is too long
            _lengths(pointer, path, found)
    linux = an_object(config, "linux")
    for member in ("maskedPaths", "readonlyPaths"):
        for index, path in strings(linux, member):
            if not path.startswith("/"):
                found(
                    f"/linux/{member}/{index}",
                    "must be an absolute path",
                    "it is a path inside the container",
                )
            elif member == "maskedPaths" and not path.strip("/.") and _NOWHERE.issuperset(path.split("/")):
                found(
                    f"/linux/{member}/{index}",
                    "must be below the root, which cannot be hidden",
                    "name what is in it",
                )


def _lengths(pointer: str, path: str, found: Found) -> None:
    told = path.encode("utf-8", "replace")
    if len(told) > LONGEST_PATH:
        found(pointer, f"must not be longer than {LONGEST_PATH} bytes", "the kernel takes no longer path")
    elif any(len(part) > LONGEST_NAME for part in told.split(b"/")):
        found(
            pointer,
            f"must not have a part longer than {LONGEST_NAME} bytes",
            "no file has a name as long as that",
        )


def _paths(config: Object) -> Iterator[tuple[str, str]]:
    """Pointer and text of each path of the document."""
    linux = an_object(config, "linux")
    for holder, name, pointer in (
        (an_object(config, "root"), "path", "/root/path"),
        (an_object(config, "process"), "cwd", "/process/cwd"),
    ):
        yield from _one(holder, name, pointer)
    for index, mount in objects(config, "mounts"):
        yield from _one(mount, "destination", f"/mounts/{index}/destination")
        if any(word in _BINDS for _, word in strings(mount, "options")):
            yield from _one(mount, "source", f"/mounts/{index}/source")
    for member in ("devices", "namespaces"):
        for index, entry in objects(linux, member):
            yield from _one(entry, "path", f"/linux/{member}/{index}/path")
    for member in ("maskedPaths", "readonlyPaths"):
        yield from ((f"/linux/{member}/{index}", path) for index, path in strings(linux, member))


def _one(holder: Object, name: str, pointer: str) -> Iterator[tuple[str, str]]:
    path = string(holder, name)
    if path is not None:
        yield pointer, path
