"""Where a peer is known to behave otherwise: a test that fails for it is expected, and one that passes is news.

A key is the name of a test function, or that and the ids of its other parameters as pytest prints them.
"""

from __future__ import annotations

_OR = "puts the flags of opposite options together instead of letting the last one win"
_UNKNOWN = "does not know the option and hands it to the file system, or ignores it"
_ATIME = "asks mount_setattr(2) for a new access time mode without clearing the old one"
_PROPAGATION = "loses the propagation of the mount"

#: The test fails.
DEVIATIONS: dict[str, dict[str, str]] = {
    "runc": {
        "test_without_a_capabilities_member_there_is_no_capability": "leaves the capabilities of the caller",
        "test_an_option_sets_its_flag[tmpfs-defaults]": _UNKNOWN,
        "test_an_option_sets_its_flag[bind-defaults]": _UNKNOWN,
    },
    "crun": {
        "test_an_unknown_capability_is_a_warning": "refuses an unknown capability",
        "test_a_mount_of_the_default_config_is_what_it_says[/sys/fs/cgroup]": "adds nosymfollow",
        **{
            f"test_an_option_sets_its_flag[{kind}-{options}]": _OR
            for kind in ("tmpfs", "bind")
            for options in ("nosuid,suid", "nodev,dev", "noexec,exec", "ro,rw", "nodiratime,diratime")
        },
        "test_an_option_sets_its_flag[tmpfs-nosymfollow]": _UNKNOWN,
        "test_an_option_sets_its_flag[bind-nosymfollow]": _UNKNOWN,
        **{
            f"test_an_option_that_changes_nothing_is_accepted[{option}]": _UNKNOWN
            for option in ("loud", "silent", "noiversion", "symfollow")
        },
        "test_a_recursive_option_holds_for_the_mounts_below[rnosymfollow]": _UNKNOWN,
        "test_a_recursive_option_holds_for_the_mounts_below[rnoatime]": _ATIME,
        "test_a_recursive_option_holds_for_the_mounts_below[rnodiratime]": _ATIME,
        "test_rstrictatime_holds_for_the_mounts_below": _ATIME,
        **{
            f"test_propagation_is_as_the_option_says[{option}]": _PROPAGATION
            for option in ("shared", "rshared", "unbindable", "runbindable")
        },
        "test_a_slave_mount_receives_what_is_mounted_on_the_host": _PROPAGATION,
        "test_processes_left_without_a_pid_namespace_die_at_the_end[pid]": "waits for all of them",
        "test_signals_are_neither_ignored_nor_blocked": "leaves HUP and INT ignored",
        "test_the_terminal_is_the_console_of_the_container": "makes /dev/console a link",
        "test_a_foreground_terminal_has_the_size_of_the_callers": "does not copy the size at the start",
    },
}

#: Something is left behind.
LEAVING: dict[str, dict[str, str]] = {
    "crun": {
        "test_a_path_to_a_namespace_of_another_type_is_refused": "the cgroup",
        "test_a_path_that_does_not_exist_is_refused": "the cgroup",
        "test_processes_left_without_a_pid_namespace_die_at_the_end[pid]": "process, cgroup and state",
    },
}


def deviation(name: str, runtime: str) -> str:
    """The reason why test ``name`` fails for ``runtime``, "" when it should not."""
    return _look_up(DEVIATIONS.get(runtime, {}), name)


def leaving(name: str, runtime: str) -> str:
    """What test ``name`` leaves behind with ``runtime``, "" when nothing."""
    return _look_up(LEAVING.get(runtime, {}), name)


def _look_up(table: dict[str, str], name: str) -> str:
    return table.get(name, "") or table.get(name.partition("[")[0], "")
