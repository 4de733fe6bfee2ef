"""A systemd that takes our call and never answers: an error in time, and nothing of the container is left."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

REPOSITORY = Path(__file__).parents[2]
#: The command with less patience.
IMPATIENT = """
from ocirun.cgroup import bus
from ocirun.cli.main import main
bus.PATIENCE = 0.5
main()
"""


@pytest.fixture
def mute(scratch: Path) -> Iterator[str]:
    """The address of a bus at which nobody speaks."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(scratch / "bus"))
        listening.listen()
        yield f"unix:path={scratch / 'bus'}"


def test_a_create_gives_up_and_leaves_nothing(ocirun: Runtime, bundle: Bundle, mute: str) -> None:
    words = ("--root", str(ocirun.root), "--systemd-cgroup", "create", "--bundle", str(bundle.write().path))
    done = subprocess.run(
        (sys.executable, "-c", IMPATIENT, *words, new_id()), cwd=REPOSITORY, check=False, capture_output=True,
        text=True, timeout=30, env={**ocirun.environment, "DBUS_SYSTEM_BUS_ADDRESS": mute},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "systemd does not answer within" in done.stderr
    assert not list(ocirun.root.iterdir())
