"""Hundreds of containers, several commands at a time: all come, all go, and nothing remains."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.host import device_programs, execs, leftovers, observe
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Result, Runtime
    from tests.host.view import View

MANY, ABREAST = 200, 8


def _all(what: Callable[[str], Result], idents: list[str]) -> None:
    with ThreadPoolExecutor(ABREAST) as pool:
        for result in pool.map(what, idents):
            assert result.ok().stderr == ""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_containers_come_and_go(ocirun: Runtime, bundle: Bundle, view: View) -> None:
    # a rule of its own: the programs of these containers can be told from those of others
    bundle.sleeping().allow_device("c", 4000, os.getpid(), "r").write()
    before = device_programs.tags()
    idents = [new_id() for _ in range(MANY)]
    pids = ocirun.file("pids")
    pids.mkdir()

    def create(ident: str) -> Result:
        return ocirun.call("create", "--pid-file", str(pids / ident), "--bundle", str(bundle.path), ident)

    _all(create, idents)
    inits = {ident: int((pids / ident).read_text()) for ident in idents}
    assert ocirun.call("list", "--quiet").ok().stdout.split() == sorted(idents)
    assert len({observe.namespace(pid, "pid") for pid in inits.values()}) == MANY
    assert {observe.cgroup(pid) for pid in inits.values()} == {f"/ocirun/{ident}" for ident in idents}
    mine = {tag for tag, number in (device_programs.tags() - before).items() if number == MANY}
    assert len(mine) == 1, "each has a device program"

    _all(lambda ident: ocirun.call("start", ident), idents)
    for pid in inits.values():
        execs.settled(pid)
    _all(lambda ident: ocirun.call("kill", ident, "KILL"), idents)
    observe.eventually(lambda: not any(map(observe.alive, inits.values())), "all have ended")
    _all(lambda ident: ocirun.call("delete", ident), idents)

    assert list(ocirun.root.iterdir()) == []
    ours = {path for path in leftovers.cgroups(view.cgroup2) if path.rpartition("/")[2] in inits}
    assert ours == set()
    observe.eventually(lambda: not mine & device_programs.tags().keys(), "their device programs are gone")


def _create_at_once(ocirun: Runtime, bundle: Bundle, ident: str) -> list[Result]:
    def create(_number: int) -> Result:
        return ocirun.call("create", "--bundle", str(bundle.path), ident)

    with ThreadPoolExecutor(ABREAST) as pool:
        return list(pool.map(create, range(ABREAST)))


@pytest.mark.slow
def test_eight_creates_of_one_id_give_one_container(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.sleeping().write()
    for _ in range(10):
        ident = new_id()
        made = _create_at_once(ocirun, bundle, ident)
        assert sorted(one.code for one in made) == [0] + [1] * (ABREAST - 1)
        for one in made:
            if one.code:
                one.refused("already exists")
        ocirun.call("delete", "--force", ident).ok()
