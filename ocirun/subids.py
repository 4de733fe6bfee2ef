"""Which ids of the host a user was given for his containers: /etc/subuid and /etc/subgid (subuid(5))."""

from __future__ import annotations

from ocirun.files import read_file


def ranges_of(text: str, user: str, uid: int) -> list[tuple[int, int]]:
    """The ranges of ids, first and count, that a text like that of /etc/subuid gives a user (subuid(5))."""
    found: list[tuple[int, int]] = []
    for line in text.splitlines():
        name, _, rest = line.strip().partition(":")
        first, _, count = rest.partition(":")
        if name in (user, str(uid)) and first.isdigit() and count.isdigit():
            found.append((int(first), int(count)))
    return found


def name_of(text: str, uid: int) -> str:
    """The name of a user in a text like that of /etc/passwd; his number where he has none."""
    for line in text.splitlines():
        fields = line.split(":")
        if fields[2:3] == [str(uid)]:
            return fields[0]
    return str(uid)


def read_text(path: str) -> str:
    """A file of the host, "" where it cannot be read."""
    try:
        return read_file(path).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
