"""What is read of the words of a hook that has ended: bounded, though somebody prints on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ocirun.lifecycle.hooks import _PIECES, _TAIL, _Running

if TYPE_CHECKING:
    from pathlib import Path


def test_the_rest_is_bounded(tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    endless.touch()
    os.truncate(endless, 1 << 30)
    running = _Running.__new__(_Running)
    running._tail, running._pipe = b"", os.open(endless, os.O_RDONLY)
    running._drain()
    assert os.lseek(running._pipe, 0, os.SEEK_CUR) == _PIECES * 65536
    assert running._tail == bytes(_TAIL)
    os.close(running._pipe)
