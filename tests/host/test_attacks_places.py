"""Links where we write on the host: in the state directory and for the files that a caller names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.host import execs
from tests.host.runtimes import new_id
from tests.host.test_attacks import outside

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

__all__ = ["outside"]


@pytest.mark.parametrize("command", ["create", "exec"])
def test_a_pid_file_that_is_a_link_is_replaced_and_not_followed(
    ocirun: Runtime, bundle: Bundle, scratch: Path, outside: Path, command: str
) -> None:
    """Neither it nor the file beside it that becomes it."""
    pid_file = scratch / "pid"
    container = ocirun.running(bundle.sleeping())
    pid_file.symlink_to(outside / "file")
    (scratch / ".pid").symlink_to(outside / "file")
    if command == "create":
        ident = new_id()
        ocirun.call("create", "--pid-file", str(pid_file), "--bundle", str(bundle.path), ident).ok()
        ocirun.call("delete", "--force", ident).ok()
    else:
        execs.execute(container, "true", flags=("--pid-file", str(pid_file))).ok()
    assert not pid_file.is_symlink()
    assert int(pid_file.read_text()) > 0
    assert not os.path.lexists(scratch / ".pid")


@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_what_is_no_state_directory_is_not_followed(
    ocirun: Runtime, bundle: Bundle, outside: Path, kind: str
) -> None:
    ident = new_id()
    place = ocirun.root / ident
    if kind == "file":
        place.write_text("")
    else:
        place.symlink_to(outside / ("directory" if kind == "link" else "missing"))
    ocirun.attempt(bundle.sleeping(), ident=ident).refused("already exists")
    for command in ("start", "delete", "pause", "resume", "update --pids-limit 5", "kill"):
        assert ocirun.call(*command.split(), ident).code == 1, command
    assert ocirun.call("exec", ident, "true").code == 255
    ocirun.call("delete", "--force", ident)
    assert os.path.lexists(place)
    place.unlink()


def test_the_state_directory_is_nobody_elses(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.create(bundle.sleeping())
    directory = ocirun.root / container.id
    assert (directory.stat().st_mode & 0o7777, directory.stat().st_uid) == (0o700, 0)
    for file in directory.iterdir():
        assert (file.lstat().st_mode & 0o777, file.lstat().st_uid) == (0o600, 0), file


@pytest.mark.parametrize("name", ["gate", "proof", "journal", "config.json"])
def test_a_link_in_the_state_directory_is_not_written_through(
    ocirun: Runtime, bundle: Bundle, scratch: Path, outside: Path, name: str
) -> None:
    container = ocirun.create(bundle.sleeping())
    file, aside = ocirun.root / container.id / name, scratch / "aside"
    file.rename(aside)
    file.symlink_to(outside / "file")
    result = ocirun.call("start", container.id)
    assert result.code == (0 if name == "config.json" else 1)
    if name == "journal":
        ocirun.call("delete", "--force", container.id).refused(str(file), "read")
    file.unlink()
    aside.rename(file)
    container.delete("--force").ok()
