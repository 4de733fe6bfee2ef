"""Somebody who may write beside the source or the destination of a bind mount exchanges it for a link."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.attackers import Creates, exchanging, standing_still
from tests.host.test_attacks import outside

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

__all__ = ["outside"]


@pytest.mark.slow
@pytest.mark.parametrize("option", ["src-nofollow", "copy-symlink"])
def test_a_source_that_becomes_a_link_shows_nothing_of_what_it_leads_to(
    ocirun: Runtime, bundle: Bundle, scratch: Path, outside: Path, option: str
) -> None:
    volume = scratch / "volume"
    volume.mkdir()
    (volume / "mine").write_text("mine")
    (volume / "link").symlink_to(outside / "file")
    bundle.writable().bind(volume / "mine", "/mnt/mine", option).sleeping()
    creates = Creates(ocirun, bundle)
    seen = set[str]()
    with exchanging(scratch, volume / "mine", volume / "link") as attacker:
        while len(seen) < 2 and not creates.over:
            with creates.one() as pid, standing_still(attacker):
                assert pid, creates.refused
                place = observe.inside(pid, "/mnt/mine")
                roots = {mount.root for mount in observe.mounts(pid) if mount.point == "/mnt/mine"}
                assert all("/volume/" in root for root in roots)
                seen.add("link" if place.is_symlink() else place.read_text())
            (bundle.rootfs / "mnt/mine").unlink(missing_ok=True)
    assert seen == {"link", "mine"}, "the attacker was there"


@pytest.mark.slow
def test_a_destination_that_becomes_a_link_leads_the_mount_nowhere(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    bundle.file("/mnt/place", "").file("/etc/target", "of the image")
    (bundle.rootfs / "mnt/link").symlink_to("/etc/target")
    bundle.bind(bundle.path / "config.json", "/mnt/place", "dest-nofollow").sleeping()
    creates = Creates(ocirun, bundle)
    with exchanging(scratch, bundle.rootfs / "mnt/place", bundle.rootfs / "mnt/link") as attacker:
        for _ in range(40):
            with creates.one() as pid, standing_still(attacker):
                points = {mount.point for mount in observe.mounts(pid)} if pid else set[str]()
                assert not pid or points & {"/mnt/place", "/mnt/link"}
                assert "/etc/target" not in points
    assert creates.made
    unexplained = [told for told in creates.refused if "(ESTALE)" not in told]
    assert unexplained == []
