"""The small files that a shim leaves in the bundle, for containerd and for `delete`."""

from __future__ import annotations

import os

from ocirun.files import read_file, write_whole
from ocirun.jsontext import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard


def write_record(bundle: str, name: str, text: str) -> None:
    """Writes the file ``name`` of the bundle, whole or not at all: it may be read at any time.

    Raises OSError, for example when the bundle is gone.
    """
    beside = f"{bundle}/.{name}"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        write_whole(fd, text.encode())
    finally:
        os.close(fd)
    os.rename(beside, f"{bundle}/{name}")


def read_record(bundle: str, name: str) -> object:
    """The value of the JSON file ``name`` of the bundle; None where there is none, or it is no JSON."""
    try:
        return loads(read_file(f"{bundle}/{name}", os.O_NONBLOCK | os.O_NOFOLLOW))
    except (OSError, ValueError):
        return None


def members(value: object) -> dict[str, object]:
    """The members of a JSON object; none of any other value."""
    return value if _is_object(value) else {}


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)
