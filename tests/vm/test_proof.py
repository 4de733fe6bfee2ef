"""The same below a stock kernel, which has every controller: emulated, so that it takes long (make proof)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.vm.machine import PROCESSORS, Machine
from tests.vm.guests import FULL_GROUPS, NOT_THERE

if TYPE_CHECKING:
    from tests.vm.guests import Guests

pytestmark = [pytest.mark.proof, pytest.mark.timeout(6000)]

#: With two processors the emulated kernel has panicked, in a busy host, before a dozen containers came back.
ALONE = 1


@pytest.mark.parametrize("group", FULL_GROUPS)
def test_what_is_observed_is_the_same_below_a_stock_kernel(guests: Guests, group: str) -> None:
    files = [f"tests/host/{name}.py" for name in FULL_GROUPS[group]]
    processors = ALONE if group == "checkpoints" else PROCESSORS
    machine = Machine(full=True, systemd=group == "systemd", processors=processors)
    guests.check(machine, *files, seconds=5000, lacking=NOT_THERE)


def test_checkpoints_of_containerd_are_the_same_with_both_shims(guests: Guests) -> None:
    machine = Machine(full=True, processors=ALONE)
    guests.check(machine, "tests/vm/inside/test_checkpoints.py", seconds=5000, lacking=())
