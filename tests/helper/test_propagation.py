"""Nothing that is mounted inside reaches the host, where all mounts are shared, as systemd has them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.executor import wire
from ocirun.plan import steps as verb
from tests.helper import plans
from tests.host import kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.helper.driver import Run
    from tests.helper.plans import Place

pytestmark = pytest.mark.root


@pytest.fixture
def shared(place: Place) -> Iterator[Place]:
    """A place on a shared mount, in a mount namespace of this test alone."""
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    kernel.unshare(kernel.CLONE_NEWNS)
    try:
        kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
        kernel.mount(str(place.rootfs), place.rootfs, flags=kernel.MS_BIND)
        kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_SHARED)
        yield place
    finally:
        kernel.setns(before, kernel.CLONE_NEWNS)
        os.close(before)


def _mounted() -> list[str]:
    return sorted(line.split()[4] for line in Path("/proc/thread-self/mountinfo").read_text().splitlines())


def test_mounts_stay_inside(shared: Place, launch: Callable[..., Run]) -> None:
    before = _mounted()
    inside = [
        plans.mount("tmpfs", "/tmp"),  # noqa: S108
        plans.attach("etc", "/mnt/etc"),
        plans.mount("tmpfs", "/mnt/etc/below"),
        plans.mount("proc", "/proc", plain=True),
    ]
    masks = [
        verb.mask_path(path="/etc/passwd", below="", null="null", pointer=""),
        verb.mask_path(path="/bin", below="", null="null", pointer=""),
    ]
    opened = [
        verb.open_tree(
            path=str(shared.rootfs / "etc"), recursive=1, shared=0, nofollow=0, tree="etc", pointer=""
        )
    ]
    ended = [step for step in plans.end(["/proc/self/exe"], before=masks) if step.verb != "find_program"]
    run = launch([*plans.stage(shared, opened), *plans.root(), *inside, *ended])
    run.until(wire.READY)
    assert _mounted() == before
    seen = Path(f"/proc/{run.pid}/mountinfo").read_text()
    assert " /mnt/etc/below " in seen
    assert "shared:" not in seen, "no mount of the container is a peer of one of the host"
    assert "master:" in seen, "the host's mounts are followed"
