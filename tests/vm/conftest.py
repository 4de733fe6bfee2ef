"""The fixtures of the tests in a guest: the programs compiled for it, once for all processes of pytest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance import peers
from conformance.vm import project
from conformance.vm.image import MachineError, image
from tests.conftest import PANIC
from tests.vm.guests import Guests, cannot

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
#: Inside a guest there are the tests of ``inside`` instead of those that boot one.
IN_GUEST = Path("/job/script").exists()

collect_ignore_glob = ["test_*.py"] if IN_GUEST else ["inside/*"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in a guest take long and need one processor each: they start first."""
    items.sort(key=lambda item: HERE not in item.path.parents)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of the project, compiled in a guest by whoever comes first."""
    base = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent  # that of all workers
    directory = base / "programs"
    try:
        image()
    except MachineError as error:
        cannot(str(error))
    with peers.locked(base / "programs.lock"):
        if not directory.exists():
            project.compile_programs(base / "programs.new")
            (base / "programs.new").rename(directory)
    return directory


@pytest.fixture
def guests(programs: Path, tmp_path: Path, record_property: Callable[[str, object], None]) -> Guests:
    """Guests with this project; a panic is in the summary and in the report, whatever came of the test."""
    return Guests(programs, tmp_path, lambda panic: record_property(PANIC, panic))
