"""The device programs that the kernel holds, whoever loaded them (bpf(2))."""

from __future__ import annotations

import ctypes
import errno
import os
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALL = {"x86_64": 321}.get(os.uname().machine, 280)  # asm/unistd.h; the others share one number
_NEXT_ID, _OPEN_BY_ID, _INFO = 11, 13, 15  # enum bpf_cmd
_CGROUP_DEVICE = 15  # enum bpf_prog_type
_libc = ctypes.CDLL(None, use_errno=True)


def tags() -> Counter[bytes]:
    """The tag, which is a digest of its code, of each device program, and how many have it."""
    return Counter(tag for kind, tag in filter(None, map(_told, _ids())) if kind == _CGROUP_DEVICE)


def _bpf(command: int, attributes: bytearray) -> int:
    """Raises OSError."""
    size = len(attributes)
    buffer = (ctypes.c_char * size).from_buffer(attributes)
    result: int = _libc.syscall(_CALL, command, buffer, size)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _ids() -> Iterator[int]:
    last = 0
    while True:
        attributes = bytearray(last.to_bytes(4, "little") + bytes(8))
        try:
            _bpf(_NEXT_ID, attributes)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return
        last = int.from_bytes(attributes[4:8], "little")
        yield last


def _told(ident: int) -> tuple[int, bytes] | None:
    """Type and tag; None for a program that is gone by now (struct bpf_prog_info)."""
    try:
        fd = _bpf(_OPEN_BY_ID, bytearray(ident.to_bytes(4, "little") + bytes(8)))
    except FileNotFoundError:
        return None
    info = bytearray(16)
    address = ctypes.addressof((ctypes.c_char * len(info)).from_buffer(info))
    try:
        _bpf(
            _INFO,
            bytearray(
                fd.to_bytes(4, "little") + len(info).to_bytes(4, "little") + address.to_bytes(8, "little")
            ),
        )
    finally:
        os.close(fd)
    return int.from_bytes(info[:4], "little"), bytes(info[8:16])
