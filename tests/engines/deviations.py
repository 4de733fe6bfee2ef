"""Where a runtime is known to do otherwise: the oracle by what it is, ours by what is not built yet.

A key is the name of a test function, or that and the ids of its other parameters as pytest prints them.
"""

from __future__ import annotations

_LOSES = "loses the task with its exit status"
_EVENT = "loses the delete event when it is told to shut down before that is out"
_OVER = "may write one stream over the other where both go into one file"
_SOCKET = "forgets the socket of a shim that was killed"

#: What fails with the oracle's shim, whichever program it executes.
_SHIM_FAILS = {
    "test_an_exit_while_containerd_is_down_is_not_lost": _LOSES,
    "test_the_exit_event_of_the_time_without_containerd_comes": _LOSES,
}
_SHIM_RACES = {
    "test_the_life_of_a_container": _EVENT,
    "test_a_program_that_cannot_be_executed_was_added_only": _EVENT,
    "test_the_container_exits_after_its_executed_programs": _EVENT,
    "test_a_container_that_ends_at_once_has_every_event_ten_times_over": _EVENT,
    "test_events_come_after_a_restart": _EVENT,
    "test_a_paused_task_is_told_and_resumed": _EVENT,
    "test_containerd_killed_while_it_starts_a_container": "lost the output of a program that ended at once",
    "test_both_streams_go_into_one_log_file": _OVER,
}
_SHIM_LEAVES = {
    "test_two_containers_of_one_group_share_a_shim": "forgets the socket of a group",
    "test_a_killed_shim_does_no_harm_to_others": _SOCKET,
    "test_a_killed_shim_takes_executed_programs_along": _SOCKET,
    "test_a_killed_shim_takes_its_container_along": _SOCKET,
    "test_a_killed_shim_takes_its_container_along_and_containerd_tells": _SOCKET,
    "test_a_new_container_starts_after_a_shim_was_killed": _SOCKET,
    "test_a_shim_that_died_meanwhile_leaves_nothing": _SOCKET,
}

#: The test fails.
DEVIATIONS: dict[str, dict[str, str]] = {"ocirun": {}, "cli": _SHIM_FAILS, "runc": _SHIM_FAILS}

#: The test may fail: what goes wrong is a race.
RACES: dict[str, dict[str, str]] = {"ocirun": {}, "cli": _SHIM_RACES, "runc": _SHIM_RACES}

#: The test passes, but something may stay behind.
MAY_LEAVE: dict[str, dict[str, str]] = {
    "ocirun": {},
    "cli": {},
    "runc": {
        "test_containerd_killed_while_it_starts_a_container": "forgets the cgroup",
    },
}

#: The test passes, but something stays behind.
LEAVES: dict[str, dict[str, str]] = {
    "ocirun": {},
    "cli": _SHIM_LEAVES,
    "runc": {
        **_SHIM_LEAVES,
        "test_containerd_killed_while_a_hook_runs": "forgets the cgroup",
    },
}


def deviation(test: str, runtime: str) -> str:
    """Why this test fails with this runtime, "" when it must pass."""
    return _look_up(DEVIATIONS, test, runtime)


def race(test: str, runtime: str) -> str:
    """Why this test may fail with this runtime, "" when it must pass."""
    return _look_up(RACES, test, runtime)


def leaving(test: str, runtime: str) -> str:
    """What this test leaves behind with this runtime, "" when nothing may remain."""
    return _look_up(LEAVES, test, runtime)


def perhaps_leaving(test: str, runtime: str) -> str:
    """What this test may leave behind with this runtime, "" when nothing may remain."""
    return _look_up(MAY_LEAVE, test, runtime)


def _look_up(tables: dict[str, dict[str, str]], test: str, runtime: str) -> str:
    table = tables.get(runtime, {})
    return table.get(test) or table.get(test.partition("[")[0], "")
