"""Root inside changes what the destination of a mount leads to before it is taken away."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.host import observe
from tests.host.execs import execute
from tests.host.test_mounts_changed import add, bind, container, listed, points, source, tmpfs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Container, Result

__all__ = ["container", "source"]


def remove(container: Container, destination: str) -> Result:
    """Takes away what is mounted there."""
    return container.runtime.call("mounts", "remove", container.id, listed(container, tmpfs(destination)))


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("place", ["/proc/sys", "/"])
def test_a_link_to_what_protects_the_host_takes_nothing_away(
    container: Container, place: str, above: bool
) -> None:
    """The link is the last part of the destination, or one above it."""
    add(container, tmpfs("/a/data"))
    link = f"ln -s {os.path.dirname(place)} /a" if above else f"mkdir /a; ln -s {place} /a/data"
    name = os.path.basename(place) if above else "data"
    execute(container, "sh", "-c", f"mv /a /b; {link}").ok()
    before = points(container)
    assert {"/proc/sys", "/b/data"} <= {*before}
    why = "there is a symbolic link" if above else "nothing is mounted there"
    remove(container, f"/a/{name or 'proc'}").refused("#/0", why)
    assert points(container) == before
    assert "ro" in observe.mount_at(container.pid, "/proc/sys").options
    remove(container, "/b/data").ok()
    assert "/b/data" not in points(container)


@pytest.mark.parametrize("place", ["/proc/sys", "/proc/kcore", "/proc", "/", "/mnt/../proc/sys", "/bin/.."])
def test_what_protects_the_host_is_not_taken_away(container: Container, place: str) -> None:
    before = points(container)
    remove(container, place).refused("/0/destination: ")
    assert points(container) == before


@pytest.mark.parametrize("mounted", [True, False])
def test_what_a_link_led_elsewhere_is_taken_back(
    container: Container, bundle: Bundle, source: Path, mounted: bool
) -> None:
    """The mount that fails covers the link by which its destination was found, or fails before."""
    (bundle.rootfs / "mnt/self").symlink_to("/mnt")
    (bundle.rootfs / "behind").symlink_to("/srv")
    before = points(container)
    last = bind(source, "/mnt/self") if mounted else bind(source, "/trap", "dest-nofollow")
    path = listed(container, bind(source, "/behind/one"), tmpfs("/srv"), tmpfs("/srv"), last)
    result = container.runtime.call("mounts", "add", container.id, path)
    result.refused("#/3", "check after mounting" if mounted else "ENOENT")
    assert "note:" not in result.stderr
    assert points(container) == before


def test_what_was_copied_as_a_link_is_not_looked_for_in_the_end(
    container: Container, source: Path, scratch: Path
) -> None:
    """The link stays, as mount points do; what was mounted where it leads does, too."""
    add(container, tmpfs("/srv"))
    (scratch / "link").symlink_to("/srv")
    before = points(container)
    copied, mounted = (
        bind(scratch / "link", "/mnt/copy", "copy-symlink"),
        bind(source, "/mnt/b", "copy-symlink"),
    )
    path = listed(container, copied, mounted, tmpfs("/mnt/c", "no-such-option"))
    result = container.runtime.call("mounts", "add", container.id, path)
    result.refused("no-such-option", "#/2")
    assert "note:" not in result.stderr
    assert points(container) == before
    assert os.readlink(observe.inside(container.pid, "/mnt/copy")) == "/srv"
