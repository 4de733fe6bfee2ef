"""Sockets of datagrams whose reader has no room for one more."""

from __future__ import annotations

import contextlib
import socket


def fill(address: str | bytes, said: bytes) -> None:
    """Says it to who listens at ``address`` until no more of it fits (net.unix.max_dgram_qlen)."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as other,
        contextlib.suppress(BlockingIOError),
    ):
        while True:
            other.sendto(said, address)
