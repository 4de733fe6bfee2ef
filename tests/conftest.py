"""What every test shares: the checkout on the import path, for `conformance` and the tests' own modules.

`--import-mode=importlib` leaves sys.path alone, and neither package is installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

#: A property of a test whose guest was booted once more: what its kernel said before.
PANIC = "kernel panic"

_CHECKOUT = str(Path(__file__).parents[1])
if _CHECKOUT not in sys.path:
    sys.path.insert(0, _CHECKOUT)


def pytest_configure() -> None:
    """What holds for the whole run, before any test is read."""
    _take_signals_back()
    if importlib.util.find_spec("hypothesis"):  # a guest has none
        _draw_the_same_examples()


def _draw_the_same_examples() -> None:
    """Properties are tried with the same examples each time, however slow the machine is.

    What one example in a million breaks is for who looks for it: ``--hypothesis-profile=search``, make proof.
    """
    from hypothesis import settings

    same = settings.get_profile("ci")
    settings.register_profile("search", same, derandomize=False)
    settings.load_profile("ci")


def _take_signals_back() -> None:
    """A job in the background of a shell ignores SIGINT and SIGQUIT, and so would all we start."""
    for signum, action in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(signum) == signal.SIG_IGN:
            signal.signal(signum, action)


@pytest.fixture(scope="session", autouse=True)
def _what_is_built_once_is_no_part_of_a_test() -> Iterator[None]:
    """Whoever comes first builds what is in the cache, the others wait for him: none of them is too slow."""
    from conformance import peers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "locked", _without_the_clock(peers.locked))
        yield


def _without_the_clock(
    locked: Callable[[Path], AbstractContextManager[None]],
) -> Callable[[Path], AbstractContextManager[None]]:
    """``locked``, while the alarm by which pytest-timeout ends a test stands still."""

    @contextlib.contextmanager
    def stopped(path: Path) -> Generator[None]:
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            with locked(path):
                yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, left)

    return stopped


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was tried twice is told, though it has passed."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == PANIC:
                    terminalreporter.write_line(f"a guest was booted twice: {report.nodeid}: {value}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Each worker removes the launchers it has built."""
    from tests import launchers

    launchers.clean_up()
