"""What every test shares: the checkout on the import path, for `conformance` and the tests' own modules.

`--import-mode=importlib` leaves sys.path alone, and neither package is installed.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

#: A property of a test whose guest was booted once more: what its kernel said before.
PANIC = "kernel panic"

_CHECKOUT = str(Path(__file__).parents[1])
if _CHECKOUT not in sys.path:
    sys.path.insert(0, _CHECKOUT)


def pytest_configure() -> None:
    """A job in the background of a shell ignores SIGINT and SIGQUIT, and so would all we start."""
    for signum, action in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(signum) == signal.SIG_IGN:
            signal.signal(signum, action)


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
