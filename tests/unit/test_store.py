"""Ids, state directories and their locks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirun.errors import StateError
from ocirun.lifecycle.store import Store, check_id
from ocirun.waiting import Wait, drive


@pytest.mark.parametrize("good", ["a", "A-1_2+3.4", "0", "a" * 255])
def test_an_id_as_runc_knows_it_is_taken(good: str) -> None:
    check_id(good)


@pytest.mark.parametrize("bad", ["", "a/b", "..", ".hidden", "a b", "é", "a" * 256, "a\0b"])
def test_another_id_is_refused_with_the_rule(bad: str) -> None:
    with pytest.raises(StateError) as caught:
        check_id(bad)
    assert caught.value.code == "container-id-invalid"


def test_a_directory_is_made_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "root"))
    store.make("a").close()
    with pytest.raises(StateError, match="already exists"):
        store.make("a")
    assert store.ids() == ["a"]
    assert (tmp_path / "root" / "a").stat().st_mode & 0o777 == 0o700


def test_an_unknown_container_has_no_lock(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="does not exist"):
        drive(Store(str(tmp_path)).lock("a"))


def test_a_second_lock_waits_for_the_first_and_finds_the_directory_gone(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    first = store.make("a")
    assert first.acquire()

    def waiter(what: Wait) -> tuple[int, ...]:
        del what
        first.remove()
        first.close()
        return ()

    with pytest.raises(StateError, match="does not exist"):
        drive(store.lock("a"), waiter)


def test_a_file_in_place_of_a_directory_is_no_container(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(StateError, match="does not exist"):
        drive(Store(str(tmp_path)).lock("a"))


def test_what_was_made_beside_the_socket_of_notifications_goes_too(tmp_path: Path) -> None:
    """Root of a container may mount the place anew for writing; deeper than any path is long."""
    lock = Store(str(tmp_path)).make("a")
    place = tmp_path / "a" / "notify"
    for name in ("0", "1/2/3", "b/0/1"):
        (place / name).mkdir(parents=True)
        (place / name / "1").touch()
    (place / "c").symlink_to(tmp_path)
    fd = os.open(place, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=fd)
        below = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    lock.remove()
    lock.close()
    assert list(tmp_path.iterdir()) == []
