"""Why a mount cannot be mapped, told from a table of mounts."""

from __future__ import annotations

import errno

import pytest

from ocirun.executor.unmappable import Mount, concerned, explain, told
from ocirun.plan import steps

TABLE = [
    Mount(line.encode())
    for line in (
        "1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw",
        "2 1 0:5 / /proc rw - proc proc rw",
        "3 1 0:6 / /srv rw,relatime shared:1 master:2 - fuse.sshfs host rw",
        "4 3 0:7 / /srv/a\\040b rw,idmapped - tmpfs tmpfs rw",
        "5 1 0:8 / /data rw - ext4 /dev/sdb rw",
        "6 1 0:9 / /data rw - overlay overlay rw",
    )
]


@pytest.mark.parametrize(
    ("source", "below", "places"),
    [
        ("/etc", False, ["/"]),
        ("/srv/x", False, ["/srv"]),
        ("/srvx", False, ["/"]),
        ("/srv", True, ["/srv", "/srv/a b"]),
        ("/srv/a b/c", True, ["/srv/a b"]),
        ("/data", False, ["/data"]),
    ],
)
def test_the_mounts_that_a_source_is_made_of(source: str, *, below: bool, places: list[str]) -> None:
    assert [one.place for one in concerned(TABLE, source, below=below)] == places


@pytest.mark.parametrize(
    ("source", "below", "number", "cause"),
    [
        ("/srv/x", False, errno.EINVAL, "/srv is fuse.sshfs, whose ids can be mapped since FUSE servers ask"),
        ("/data", False, errno.EINVAL, "/data is overlay, whose ids this kernel cannot map"),
        ("/", True, errno.EINVAL, "/proc is proc, whose ids this kernel cannot map"),
        ("/etc", False, errno.EINVAL, "/ is ext4, whose ids can be mapped since Linux 5.12"),
        ("/srv", True, errno.EPERM, "/srv/a b is mapped already"),
        ("/etc", False, errno.EPERM, "belongs to another user namespace"),
    ],
)
def test_the_cause_is_named(source: str, number: int, cause: str, *, below: bool) -> None:
    assert cause in explain(concerned(TABLE, source, below=below), number, joined=False)


def test_the_namespace_of_the_host_maps_nothing() -> None:
    found = concerned(TABLE, "/etc", below=False)

    assert "the host's own" in explain(found, errno.EPERM, joined=True)


def test_without_a_table_of_mounts_there_is_no_cause() -> None:
    assert explain([], errno.EINVAL, joined=False) == ""


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.EINVAL, "is tmpfs, whose ids can be mapped since Linux 6.3"),
        (errno.EPERM, "belongs to another user namespace"),
        (errno.EIO, ""),
    ],
)
def test_a_new_file_system_is_its_type(number: int, cause: str) -> None:
    opened = steps.open_filesystem(
        fstype="tmpfs", source="", flags=0, options=[], set=0, tree="mount.0", pointer="/mounts/0"
    )
    failed = steps.map_ids(tree="mount.0", mapping="mapping.0", recursive=0, pointer="/mounts/0")
    what, hint = told([opened, failed], failed, number)

    assert what.startswith("map the ids of tmpfs")
    assert cause in hint
