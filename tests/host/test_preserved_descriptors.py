"""--preserve-fds: those descriptors reach the program, and no others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.host.bundles import Bundle
from tests.host.runtimes import Runtime, new_id


def _call(
    runtime: Runtime, bundle: Bundle, *, opened: int, preserve: int
) -> subprocess.CompletedProcess[str]:
    """Runs the bundle with ``opened`` extra descriptors from 3 upward, each on /etc/hostname."""
    redirections = " ".join(f"{fd}</etc/hostname" for fd in range(3, 3 + opened))
    closed = " ".join(f"{fd}<&-" for fd in range(3 + opened, 10))
    command = runtime.command(
        "run", "--preserve-fds", str(preserve), "--bundle", str(bundle.write().path), new_id()
    )
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections} {closed}', "sh", *command],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("opened", "preserve"), [(0, 0), (2, 0), (2, 2), (5, 3)])
def test_the_program_has_exactly_those(opened: int, preserve: int, runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("for fd in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$fd ] && echo $fd; done; true")
    done = _call(runtime, bundle, opened=opened, preserve=preserve)
    assert done.returncode == 0, done.stderr
    assert [int(fd) for fd in done.stdout.split()] == list(range(3, 3 + preserve))


def test_they_are_the_callers_own(ocirun: Runtime, bundle: Bundle) -> None:
    done = _call(ocirun, bundle.sh("cat <&3"), opened=1, preserve=1)
    assert done.stdout == Path("/etc/hostname").read_text()


def test_one_that_is_not_open_is_refused_by_number(ocirun: Runtime, bundle: Bundle) -> None:
    done = _call(ocirun, bundle.args("true"), opened=1, preserve=2)
    assert done.returncode == 1
    assert "descriptor 4 of --preserve-fds 2 is not open" in done.stderr
