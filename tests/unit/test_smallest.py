"""The smallest limit of memory: how it is found, and that the page says what was found."""

from __future__ import annotations

import pytest

from conformance import smallest


@pytest.mark.parametrize("least", [1, 2, 26, smallest.STEPS - 1, smallest.STEPS])
def test_the_least_that_is_enough_is_found(least: int) -> None:
    assert smallest.smallest(lambda steps: steps >= least) == least


def test_the_page_is_made_of_the_figures() -> None:
    assert (smallest.DOCS / "smallest.md").read_text() == smallest.page(smallest.load())


def test_ocirun_needs_at_most_as_much_as_crun() -> None:
    found = smallest.load().bytes
    assert found["ocirun"] <= found["crun"]
