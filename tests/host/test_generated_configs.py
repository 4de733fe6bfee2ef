"""Thousands of configs, sound and broken: each ends in a container or in an error that says where."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ocirun.errors import StepError
from ocirun.lifecycle.store import Store
from tests.golden import cases
from tests.host import generated
from tests.host.judging import attempt, complaints, wrong_places
from tests.host.racing import fault
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from hypothesis import strategies as st

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

#: So that the same documents come each time, and all of them.
DRAWING = settings(
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
#: The golden bundles in parts of about the same length.
PARTS = {
    "default": ["default"],
    **{f"part {n}": [name for name in cases.NAMES if name != "default"][n::12] for n in range(12)},
}


class Trial:
    """Tries documents in one bundle, and keeps account of their ends."""

    def __init__(self, scratch: Path, bundle: Bundle) -> None:
        self.store = Store(str(scratch / "state"))
        self.bundle = bundle.path
        self.ends: Counter[str] = Counter()
        self.faults: list[str] = []
        #: Refused by the kernel, though the planner took them.
        self.steps: Counter[str] = Counter()

    def take(self, name: str, source: bytes) -> None:
        """Tries one."""
        (self.bundle / "config.json").write_bytes(source)
        error = attempt(self.store, self.bundle)
        self.ends["created" if error is None else error.code] += 1
        if isinstance(error, StepError):
            self.steps[f"{error.pointer} {error.operation} {error.errno} {str(error)[:90]}"] += 1
        self.faults += [f"{name}: {one}: {error}" for one in complaints(error, source)] if error else []


@pytest.fixture
def trial(scratch: Path, bundle: Bundle) -> Trial:
    """An account without entries."""
    return Trial(scratch, bundle)


def _draw(strategy: st.SearchStrategy[bytes], number: int, take: Callable[[str, bytes], None]) -> None:
    @settings(DRAWING, max_examples=number)
    @given(strategy)
    def one(source: bytes) -> None:
        take("drawn", source)

    one()


@pytest.mark.slow
def test_sound_documents_end_well(trial: Trial) -> None:
    _draw(generated.sound(), 400, trial.take)
    assert trial.steps == {}
    assert trial.ends == {"created": 400}


@pytest.mark.slow
def test_odd_documents_end_well(trial: Trial) -> None:
    _draw(generated.odd(), 800, trial.take)
    assert trial.faults == []
    assert trial.ends["created"] > 50
    assert trial.ends["config-invalid"] > 100


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", PARTS)
def test_every_member_of_every_golden_bundle_may_be_wrong(trial: Trial, part: str) -> None:
    for name, source in generated.mutants(*PARTS[part]):
        trial.take(name, source)
    assert trial.faults == []
    assert trial.ends["config-invalid"] > 200


@pytest.mark.slow
def test_a_text_may_be_spoilt_anywhere(trial: Trial) -> None:
    for name, source in generated.spoilt_texts():
        trial.take(name, source)
    assert trial.faults == []
    assert trial.ends["config-invalid"] > 200


def _by_command(ocirun: Runtime, bundle: Bundle, documents: Iterable[tuple[str, bytes]]) -> list[str]:
    """As Trial.take, by the command line."""
    faults: list[str] = []
    for name, source in documents:
        (bundle.path / "config.json").write_bytes(source)
        ident, log = new_id(), ocirun.file("log")
        called = ("--log", str(log), "--log-format", "json", "create", "--bundle", str(bundle.path), ident)
        result = ocirun.call(*called)
        if wrong := fault("create", result.code, result.stderr, log):
            faults.append(f"{name}: {wrong}")
        for entry in map(json.loads, log.read_text().splitlines()) if result.code else ():
            places = [(one["pointer"], one["line"], one["column"]) for one in entry.get("faults", ())]
            faults += [f"{name}: {wrong}" for wrong in wrong_places(places, source)]
        if not result.code:
            ocirun.call("delete", "--force", ident).ok()
        elif (ocirun.root / ident).exists():
            faults.append(f"{name}: the state directory is left")
    return faults


@pytest.mark.slow
def test_documents_end_well_by_the_command(ocirun: Runtime, bundle: Bundle) -> None:
    chance = random.Random("documents")  # noqa: S311 - a choice, not a secret
    documents = [*generated.mutants(*cases.NAMES)]
    chosen = [*chance.sample(documents, 250), *islice(generated.spoilt_texts(), 1, None, 9)]

    assert _by_command(ocirun, bundle, chosen) == []
