"""BLAKE2b by the module below hashlib, which would load all of OpenSSL."""

from __future__ import annotations

SIZE = 32


def digest(content: bytes) -> bytes:
    """SIZE bytes that tell ``content`` from any other."""
    import _blake2

    return _blake2.blake2b(content, digest_size=SIZE).digest()
