"""The observed tests once more where there is nothing but cgroup v2, with runc and crun as oracles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.vm.machine import Machine
from tests.vm.guests import GROUPS, LACKING

if TYPE_CHECKING:
    from tests.vm.guests import Guests

#: The first of them builds the image.
pytestmark = pytest.mark.timeout(1500)
SECONDS = 1200


@pytest.mark.parametrize("group", GROUPS)
def test_what_is_observed_is_the_same_in_user_mode_linux(guests: Guests, group: str) -> None:
    files = [f"tests/host/{name}.py" for name in GROUPS[group]]
    guests.check(Machine(), *files, seconds=SECONDS, lacking=LACKING)


def test_the_containers_of_a_user_of_systemd_run_in_user_mode_linux(guests: Guests) -> None:
    files = [f"tests/host/{name}.py" for name in ("test_delegated", "test_users_scopes", "test_users_shim")]
    guests.check(Machine(systemd=True), *files, seconds=SECONDS, lacking=())


def test_cgroups_that_systemd_makes_are_observed_in_user_mode_linux(guests: Guests) -> None:
    guests.check(Machine(systemd=True), "tests/host/test_systemd.py", seconds=SECONDS, lacking=())


def test_labels_are_observed_where_there_is_selinux(guests: Guests) -> None:
    guests.check(Machine(selinux=True), "tests/host/test_selinux.py", seconds=SECONDS, lacking=())


def test_services_whose_program_is_a_container_run_in_user_mode_linux(guests: Guests) -> None:
    guests.check(Machine(systemd=True), "tests/host/test_notify_units.py", seconds=SECONDS, lacking=())


@pytest.mark.parametrize("systemd", [False, True])
def test_the_containers_of_engines_run_in_user_mode_linux(guests: Guests, systemd: bool) -> None:
    guests.check(Machine(systemd=systemd), "tests/vm/inside/test_engines.py", seconds=SECONDS, lacking=())


def test_the_containers_of_a_users_engine_run_in_user_mode_linux(guests: Guests) -> None:
    file = "tests/vm/inside/test_users_containerd.py"
    guests.check(Machine(systemd=True), file, seconds=SECONDS, lacking=())
