"""--preserve-fds: those descriptors reach the program, and no others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.host.bundles import Bundle
from tests.host.runtimes import Runtime, new_id


def _call(
    runtime: Runtime, bundle: Bundle, *, opened: int, preserve: int, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs the bundle with ``opened`` extra descriptors from 3 upward, each on /etc/hostname; ``before`` is
    what the shell does that becomes the runtime."""
    redirections = " ".join(f"{fd}</etc/hostname" for fd in range(3, 3 + opened))
    closed = " ".join(f"{fd}<&-" for fd in range(3 + opened, 10))
    command = runtime.command(
        "run", "--preserve-fds", str(preserve), "--bundle", str(bundle.write().path), new_id()
    )
    return subprocess.run(
        ["sh", "-c", f'{before} exec "$@" {redirections} {closed}', "sh", *command],
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


#: What systemd does for a unit with sockets (sd_listen_fds(3)).
_LISTEN = "export LISTEN_PID=$$ LISTEN_FDS=%d;"
_TELL = "for fd in 3 4 5 6; do [ -e /proc/$$/fd/$fd ] && echo $fd; done; env | grep LISTEN | sort"


@pytest.mark.parametrize("preserve", [0, 1])
def test_sockets_that_systemd_hands_over_are_the_programs(
    preserve: int, runtime: Runtime, bundle: Bundle
) -> None:
    done = _call(runtime, bundle.sh(_TELL), opened=4, preserve=preserve, before=_LISTEN % 2)
    assert done.returncode == 0, done.stderr
    numbers = [str(fd) for fd in range(3, 5 + preserve)]
    assert done.stdout.split() == [*numbers, "LISTEN_FDS=2", "LISTEN_PID=1"]


def test_sockets_that_are_for_another_process_are_not(runtime: Runtime, bundle: Bundle) -> None:
    done = _call(
        runtime, bundle.sh(f"{_TELL}; true"), opened=2, preserve=0, before="export LISTEN_PID=1 LISTEN_FDS=2;"
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_an_exec_is_told_of_none(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    command = runtime.command("exec", container.id, "sh", "-c", f"{_TELL}; true")
    done = subprocess.run(
        ["sh", "-c", f'{_LISTEN % 1} exec "$@" 3</etc/hostname 4<&- 5<&- 6<&-', "sh", *command],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_socket_that_is_not_there_is_refused_by_number(ocirun: Runtime, bundle: Bundle) -> None:
    done = _call(ocirun, bundle.args("true"), opened=1, preserve=0, before=_LISTEN % 2)
    assert done.returncode == 1
    assert "descriptor 4" in done.stderr
    assert "LISTEN_FDS" in done.stderr
