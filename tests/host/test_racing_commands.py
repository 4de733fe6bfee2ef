"""Two commands at once on one container: each ends in success or a named error, and nothing remains."""

from __future__ import annotations

import random
import signal
import time
from itertools import count
from typing import TYPE_CHECKING

import pytest

from tests.host.racing import COMMANDS, STATUSES, Scene, play

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

#: Each pair is launched from so many of the statuses a container can have, other ones for other pairs.
STATUSES_A_PAIR = 3


def _pair(
    ocirun: Runtime, bundle: Bundle, status: str, first: str, second: str, delay: float
) -> Callable[[], Scene]:
    def play_it() -> Scene:
        scene = Scene(ocirun, bundle, f"{status}: {first}, after {delay:.4f} s {second}")
        scene.prepare(status)
        launched = [scene.launch(first)]
        time.sleep(delay)
        launched.append(scene.launch(second))
        scene.finish(launched)
        scene.delete()
        return scene

    return play_it


@pytest.mark.slow
@pytest.mark.parametrize("first", COMMANDS)
def test_two_commands_at_once_end_well(ocirun: Runtime, bundle: Bundle, first: str) -> None:
    bundle.sleeping().write()
    chance = random.Random(first)  # noqa: S311 - moments, not secrets
    numbers = count(list(COMMANDS).index(first))
    scenes = [
        _pair(ocirun, bundle, list(STATUSES)[next(numbers) % len(STATUSES)], first, second, delay)
        for second in COMMANDS
        for delay in (0.0, *(chance.uniform(0, 0.08) for _ in range(STATUSES_A_PAIR - 1)))
    ]

    assert play(scenes) == []
    assert ocirun.call("list", "--quiet").ok().stdout == ""


def _killed(
    ocirun: Runtime, bundle: Bundle, first: str, second: str, chance: random.Random
) -> Callable[[], Scene]:
    delays = [chance.uniform(0, 0.12) for _ in range(2)]

    def play_it() -> Scene:
        scene = Scene(ocirun, bundle, f"create killed after {delays[0]:.4f} s: {first}, {second}")
        creator = scene.launch("create")
        time.sleep(min(delays))
        launched = [scene.launch(first)] if delays[1] < delays[0] else []
        time.sleep(max(delays) - min(delays))
        creator.process.send_signal(signal.SIGKILL)
        creator.process.wait()
        launched += [scene.launch(name) for name in ((second,) if launched else (first, second))]
        scene.finish(launched)
        scene.delete()
        return scene

    return play_it


@pytest.mark.slow
@pytest.mark.parametrize("first", COMMANDS)
def test_two_commands_after_a_killed_creator_end_well(ocirun: Runtime, bundle: Bundle, first: str) -> None:
    bundle.sleeping().write()
    chance = random.Random(f"killed {first}")  # noqa: S311 - moments, not secrets

    assert play([_killed(ocirun, bundle, first, second, chance) for second in COMMANDS]) == []
    assert ocirun.call("list", "--quiet").ok().stdout == ""
