"""Stages: a real engine for each process of pytest, as long as it is clean, and what is left over on it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import pytest

from conformance import engines, peers
from conformance.containerd import Containerd
from conformance.docker import Docker
from conformance.podman import Podman
from conformance.private_view import EnvironmentFaultError, PrivateView, programs
from tests.engines import leftovers
from tests.engines.deviations import leaving, perhaps_leaving
from tests.engines.scenes import RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHIM = Path(sys.executable).parent / "containerd-shim-ocirun-v2"
View = TypeVar("View", bound=PrivateView)


class Played(Protocol):
    """What all scenes have: the end of whatever the test has left to them."""

    def clean_up(self) -> None:
        """Removes it by force."""


Scene = TypeVar("Scene", bound=Played)


class Stage(Generic[View]):
    """An engine while it is clean; after a test that left something there is a new one.

    ``tops`` are where files are counted.
    """

    def __init__(self, build: Callable[[], View], tops: tuple[str, ...] = ("/run",)) -> None:
        self.tops = tops
        self._build = build
        self._current: View | None = None

    def view(self) -> View:
        """The one there is, or a new one; skips or fails the test when it cannot be had."""
        if self._current is None:
            try:
                self._current = self._build().__enter__()
            except peers.PeerError as error:
                _cannot(str(error))
                raise
        return self._current

    def close(self) -> None:
        """Ends the one there is."""
        if self._current is not None:
            self._current.__exit__(None, None, None)
            self._current = None


def containerd(suite: str) -> Containerd:
    """The containerd of a suite; raises PeerError."""
    return Containerd(_engine(suite), programs())


def docker() -> Docker:
    """sid's dockerd; raises PeerError."""
    return Docker(_engine("sid"), engines.docker(), programs())


def podman() -> Podman:
    """sid's Podman; raises PeerError."""
    _oracle()
    return Podman(engines.podman(), programs())


def _engine(suite: str) -> engines.Engine:
    _oracle()
    found = engines.engine(suite)
    if found is None:
        raise peers.PeerError(engines.reason(suite))
    return found


def _oracle() -> None:
    if peers.peer("runc") is None:
        raise peers.PeerError(peers.reason("runc"))


def _cannot(reason: str) -> None:
    if os.environ.get("OCIRUN_REQUIRE_PEERS") == "1":
        pytest.fail(f"the engines and runc are required: {reason}")
    pytest.skip(reason)


def played(
    stage: Stage[View], request: pytest.FixtureRequest, scene_of: Callable[[View, str], Scene]
) -> Iterator[Scene]:
    """A scene; fails the test when it leaves anything behind, and gives the next one a clean stage."""
    if request.param != "runc" and not SHIM.exists():
        pytest.fail(f"{SHIM} is missing: make setup")
    view = stage.view()
    before = leftovers.take(view, stage.tops)
    scene = scene_of(view, request.param)
    found: dict[str, list[str]] = {"everything": ["it could not be counted"]}
    name = name_and_runtime(request.node)
    known, possible = leaving(*name), perhaps_leaving(*name)
    grace = leftovers.SHORT_GRACE if known or possible else leftovers.GRACE
    try:
        yield scene
        found = _left(scene, view, before, grace, stage.tops)
    finally:
        if found:
            stage.close()
    if known and not found:
        pytest.fail(f"left nothing behind, though it is known to: {known}")
    if found and not known and not possible:
        pytest.fail("left behind: " + "; ".join(f"{name}: {', '.join(what)}" for name, what in found.items()))


def _left(
    scene: Played, view: PrivateView, before: leftovers.Traces, grace: float, tops: tuple[str, ...]
) -> dict[str, list[str]]:
    """What remains after the clean-up, which itself fails where the engine hangs."""
    try:
        scene.clean_up()
    except (AssertionError, EnvironmentFaultError) as error:
        return {"everything, as it could not be cleaned up": [str(error)]}
    return leftovers.settled(before, view, grace, tops)


def name_and_runtime(item: pytest.Item) -> tuple[str, str]:
    """The name of the test without the runtime among its parameters, and the runtime."""
    name, _, rest = item.name.rstrip("]").partition("[")
    parameters = rest.split("-")
    (runtime,) = [one for one in parameters if one in RUNTIMES] or ["ocirun"]
    others = "-".join(one for one in parameters if one != runtime)
    return f"{name}[{others}]" if others else name, runtime
