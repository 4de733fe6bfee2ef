"""What every unit test gets back: the signals it had, for commands leave theirs caught at their end."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from ocirun.cli.signals import FORWARDED
from tests.unit.shim_streams import descriptors, fifos, runner, wakeups

if TYPE_CHECKING:
    from collections.abc import Iterator


#: For the tests of the shim.
__all__ = ["descriptors", "fifos", "runner", "wakeups"]


@pytest.fixture(autouse=True)
def signals_put_back() -> Iterator[None]:
    """Restores every handler and closes the descriptor that signals were told through."""
    before = {signum: signal.getsignal(signum) for signum in FORWARDED}
    yield
    for signum, action in before.items():
        if action is not None and signal.getsignal(signum) != action:
            signal.signal(signum, action)
    wakeup = signal.set_wakeup_fd(-1)
    if wakeup >= 0:
        os.close(wakeup)
