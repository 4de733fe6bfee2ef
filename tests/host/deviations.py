"""Where a runtime is known to behave otherwise: it must fail the test, and is in the news when it passes.

A key is the name of a test function, or that and the ids of its other parameters as pytest prints them.
"""

from __future__ import annotations

_OR = "puts the flags of opposite options together instead of letting the last one win"
_UNKNOWN = "does not know the option and hands it to the file system, or ignores it"
_ATIME = "asks mount_setattr(2) for a new access time mode without clearing the old one"
_PROPAGATION = "loses the propagation of the mount"

_FIFO = "opens the FIFO and waits for ever"

_NO_POSTSTOP = "runs no poststop hooks after a failed create"

_OFFSETS = "may not open its timens_offsets in a user namespace"

_NOT_YET = "is not built yet, and refused"

_CREATE_CONTAINER = (
    "test_create_container_hooks_run_in_the_namespaces_of_the_container_before_the_root_is_switched"
)

#: The test fails.
DEVIATIONS: dict[str, dict[str, str]] = {
    "ocirun": {
        "test_a_configured_device_is_made_as_it_says": _NOT_YET,
        "test_a_block_device_is_made": _NOT_YET,
        "test_a_fifo_is_made": _NOT_YET,
        "test_the_root_has_the_configured_propagation[private]": _NOT_YET,
        "test_the_root_has_the_configured_propagation[shared]": _NOT_YET,
        "test_the_root_has_the_configured_propagation[unbindable]": _NOT_YET,
        "test_tmpcopyup_copies_what_the_mount_covers": _NOT_YET,
    },
    "runc": {
        "test_without_a_capabilities_member_there_is_no_capability": "leaves the capabilities of the caller",
        "test_an_option_sets_its_flag[tmpfs-defaults]": _UNKNOWN,
        "test_an_option_sets_its_flag[bind-defaults]": _UNKNOWN,
        "test_a_namespace_that_init_has_from_its_creator_is_joined": "joins only what the config lists",
        "test_the_bundle_is_not_read_again": "reads the process from the bundle at each exec",
        "test_a_process_file_says_all": "ignores the umask",
        "test_a_passwd_that_never_answers_hangs_nobody": _FIFO,
        "test_a_parameter_is_written_though_the_image_brings_its_own_proc": "refuses a bind mount on /proc",
        "test_a_parameter_is_not_written_to_what_is_mounted_over_it": "refuses a bind mount below /proc",
        "test_an_executed_process_has_its_own_score": "takes that of the container",
        "test_they_run_in_order_with_the_state_and_their_own_environment": "runs poststart hooks in create",
    },
    "crun": {
        "test_a_cgroup_that_was_killed_once_serves_again": "the kernel kills its init at birth, each time",
        "test_they_run_in_order_with_the_state_and_their_own_environment": "tells create's hooks created",
        "test_a_failing_hook_fails_create_which_undoes_all_and_runs_poststop[prestart]": _NO_POSTSTOP,
        "test_a_failing_hook_fails_create_which_undoes_all_and_runs_poststop[createRuntime]": _NO_POSTSTOP,
        _CREATE_CONTAINER: "tells create's hooks created",
        "test_start_container_hooks_run_as_the_program_will_and_before_it": "tells starting",
        "test_a_failing_create_container_hook_fails_create_which_undoes_all_and_runs_poststop": _NO_POSTSTOP,
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
        "test_mount_points_made_behind_a_link_stay_inside": "does not make what a link points to",
        "test_a_value_of_the_wrong_type": "takes any text for true",
        "test_processes_left_without_a_pid_namespace_die_at_the_end[pid]": "waits for all of them",
        "test_delete_of_a_running_container_is_refused_and_it_runs_on": "says only what it is not",
        "test_a_command_for_an_unknown_container_is_refused[delete]": "says which directory it cannot open",
        "test_kill_takes_a_signal_by_name_and_number[usr1]": "wants names in capitals",
        "test_kill_of_a_stopped_container_says_that_it_is_not_running": "says process instead of container",
        "test_the_terminal_is_the_console_of_the_container": "makes /dev/console a link",
        "test_a_foreground_terminal_has_the_size_of_the_callers": "does not copy the size at the start",
        "test_by_flags_it_is_like_init_but_for_them": "has no --additional-gids",
        "test_a_capability_is_added_to_what_may_be_used_at_once": "replaces those of the container",
        "test_a_passwd_that_never_answers_hangs_nobody": _FIFO,
        "test_the_offsets_hold_with_a_user_namespace": _OFFSETS,
        "test_an_executed_process_has_the_clocks_of_the_container[True]": _OFFSETS,
        "test_a_time_namespace_is_joined": "its first process ends without a word",
        "test_an_executed_process_has_its_own_score": "ignores it",
    },
}

#: Something is left behind.
LEAVING: dict[str, dict[str, str]] = {
    "crun": {
        "test_a_clock_before_its_beginning_is_refused": "the cgroup",
        "test_the_offsets_hold_with_a_user_namespace": "the cgroup",
        "test_an_executed_process_has_the_clocks_of_the_container[True]": "the cgroup",
        "test_a_time_namespace_is_joined": "the cgroup",
        "test_a_path_to_a_namespace_of_another_type_is_refused": "the cgroup",
        "test_a_path_that_does_not_exist_is_refused": "the cgroup",
        "test_an_unknown_namespace": "the cgroup",
        "test_a_namespace_that_is_listed_twice": "the cgroup",
        "test_an_unknown_limit": "the cgroup",
        "test_a_value_of_the_wrong_type[create]": "the container, as it accepts the value",
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
