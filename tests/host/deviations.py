"""Where a runtime is known to behave otherwise: it must fail the test, and is in the news when it passes.

A key is the name of a test function, or that and the ids of its other parameters as pytest prints them.
"""

from __future__ import annotations

import os

from ocirun.host import release

_OR = "puts the flags of opposite options together instead of letting the last one win"
_UNKNOWN = "does not know the option and hands it to the file system, or ignores it"
_ATIME = "asks mount_setattr(2) for a new access time mode without clearing the old one"
_PROPAGATION = "loses the propagation of the mount"

_UNNAMED = "takes the flags away that nobody named, as soon as one is named"
_NO_RECURSION = "ignores the recursive words for what is no bind mount"
_CLOSED_LATE = "closes it in the end all the same"
_NEEDS_PROC = "reads /proc/sys/kernel/cap_last_cap of the container"
_CAPABILITY = "sets the owner last, which takes capabilities away"

_FIFO = "opens the FIFO and waits for ever"
_GROUPS_OF_ROOT = "gives the container the supplementary groups of the caller"

_NO_POSTSTOP = "runs no poststop hooks after a failed create"

_UNKNOWN_FLAG = "does not know the flag before 1.5"
_LISTENS_LATE = "connects at create, and sends nothing before the start"
_TSYNC = "asks for TSYNC and a listener as the kernel takes them for a contradiction"

_WATCHES_NOBODY = "says that it is ready, and not whom to watch"

_OFFSETS = "may not open its timens_offsets in a user namespace"

_ANY_FILE = "takes any file for the device"
_ACCEPTED = "the container, as it accepts the value"

_NO_EVENTS = "has no command events"
_BY_SYSTEMD = "gives it away only where systemd makes it"
_HALF = "says that it sets the rest back, and does not"
_FAILED_RUN = "the cgroup of a run that fails"
_IGNORED = "ignores it where no cgroup is to be made"
_OWN_SWAP = "writes only the file of memory, so that both together change"
_NO_MEMORY_POLICY = "has memory policies since 1.4 only"
_NO_LIMIT = "takes a limit of 0 processes for none"
_WHOLE_TREE = "shows the whole hierarchy of the host"
_BARE = "lays the covers over what was put there instead, and leaves the kernel's own bare"

_CREATE_CONTAINER = (
    "test_create_container_hooks_run_in_the_namespaces_of_the_container_before_the_root_is_switched"
)

_NO_LINKS = "does not know crun's options for links"
#: The tests of these options that succeed.
_LINKS = (
    "a_link_is_copied",
    "a_link_that_is_there_already_stays",
    "a_link_is_copied_behind_a_link_of_the_image",
    "what_is_no_link_is_bound",
    "a_link_of_the_source_is_bound_itself",
    "a_link_of_the_source_is_not_followed",
    "a_link_of_the_image_is_mounted_over",
)

_UNLOCKED = "locks nothing"
_BIND_ALONE = "maps bind mounts alone"

_NO_MOUNTS = "has no command mounts"
#: The tests of that command that succeed.
_CHANGED = (
    "mounts_are_added_in_their_order_and_taken_away",
    "a_new_file_system_has_its_options",
    "a_waiting_container_starts_with_them",
    "a_paused_container_takes_them",
    "the_host_sees_nothing_of_it",
    "a_destination_behind_a_link_stays_inside",
)
_NOT_STRICT = "leaves out what it does not know, whatever is annotated"
_NO_POLICY = "takes SELinux without a policy for none"
_UMASK = "sets 0022"
_NOT_OVER = "refuses a mount over the root"
_HOSTS_NULL = "masks with the /dev/null of the container at create, and with that of the host at restore"
_NO_SYMFOLLOW = "mounts the cgroup with nosymfollow, which criu does not write down"

_STAYS = "the container, which it does not delete at its end"

_SWAP = "tells systemd the limit of memory and swap together as that of swap"

#: The test fails.
DEVIATIONS: dict[str, dict[str, str]] = {
    "runc": {
        "test_a_label_without_selinux_is_told_and_does_no_harm": "refuses it",
        "test_a_call_that_nobody_knows_is_left_out_unless_the_annotation_refuses_it": _NOT_STRICT,
        "test_the_keyring_of_a_session_has_the_label_of_the_program": _NO_POLICY,
        "test_a_user_namespace_changes_nothing_of_it": _NO_POLICY,
        "test_a_label_for_an_executed_process_is_taken": _NO_POLICY,
        "test_what_a_container_had_it_has_again": _HOSTS_NULL,
        "test_a_bind_mount_is_the_root": _NOT_OVER,
        "test_the_root_it_covers_is_gone": _NOT_OVER,
        "test_an_overlay_takes_what_the_container_writes": _NOT_OVER,
        "test_what_only_cgroup_v1_had_is_refused": "ignores it without a word",
        **{f"test_{name}": _NO_LINKS for name in _LINKS},
        "test_the_payload_has_a_cgroup_of_its_own_below": "does not know crun's annotation",
        **{f"test_{name}": _NO_MOUNTS for name in _CHANGED},
        "test_what_lies_below_need_not_come_with_it": "has the kernel refuse it",
        "test_a_remount_keeps_what_is_locked": "has the kernel refuse it",
        "test_a_new_file_system_is_mapped": _BIND_ALONE,
        "test_a_new_file_system_that_is_mapped_has_its_options": _BIND_ALONE,
        "test_an_option_brings_its_mapping": "does not know crun's option",
        "test_a_fifo_has_no_numbers_whatever_is_said": "wants them to be 0",
        "test_a_process_is_executed_from_anywhere": "leaves it in the cgroup of the caller, without a word",
        **{
            f"test_the_memory_policy_is_the_configured_one[{name}]": _NO_MEMORY_POLICY
            for name in ("bind", "static", "relative", "preferred", "preferred-many", "local")
        },
        "test_an_exec_has_the_memory_policy_of_the_container": _NO_MEMORY_POLICY,
        "test_an_update_is_known_to_systemd": "leaves the swap of the unit as it was",
        "test_without_a_cgroup_namespace_its_own_cgroup_is_all_there_is": _WHOLE_TREE,
        "test_a_root_that_is_a_link_is_what_it_leads_to": "refuses a root that is a link",
        "test_root_in_the_container_cannot_look_into_the_waiting_init": "it is dumpable while it waits",
        "test_a_kernel_file_system_that_is_moved_away_is_not_left_bare[sys]": _BARE,
        "test_a_file_that_is_not_the_device_is_an_error": _ANY_FILE,
        "test_the_sysfs_of_a_network_that_belongs_to_others_is_the_hosts": "has the kernel refuse it",
        "test_a_device_has_another_name_on_the_host": "looks for the name that it has inside",
        "test_a_device_may_stand_twice[True]": "makes a file where the first one is",
        "test_a_parameter_does_not_contradict_a_name[domainname]": "takes the parameter",
        "test_without_a_capabilities_member_there_is_no_capability": "leaves the capabilities of the caller",
        "test_without_a_configured_umask_it_is_the_callers": _UMASK,
        "test_data_for_a_file_system_is_ignored_on_a_bind_mount_as_mount_2_does": "refuses it",
        "test_an_option_sets_its_flag[tmpfs-defaults]": _UNKNOWN,
        "test_an_option_sets_its_flag[bind-defaults]": _UNKNOWN,
        "test_an_option_sets_its_flag[tmpfs-ro,defaults]": _UNKNOWN,
        "test_an_option_sets_its_flag[bind-ro,defaults]": _UNKNOWN,
        **{
            f"test_an_option_sets_how_access_times_are_kept[{kind}-strictatime,{option}]": _OR
            for kind in ("tmpfs", "bind")
            for option in ("noatime", "relatime")
        },
        "test_recursive_options_count_for_a_new_file_system": _NO_RECURSION,
        "test_a_bind_keeps_the_flags_that_nobody_named": _UNNAMED,
        "test_a_remount_opens_a_tmpfs_again": _CLOSED_LATE,
        "test_a_config_without_mounts_is_complete": _NEEDS_PROC,
        "test_a_procfs_of_processes_alone": _NEEDS_PROC,
        "test_a_sysfs_whose_network_is_not_its_own_is_the_hosts": "lets it fail",
        "test_extended_attributes_are_kept": "does not copy them",
        "test_devices_fifos_and_sockets_are_made_again": "changes the owner of what it did not make",
        "test_a_namespace_that_init_has_from_its_creator_is_joined": "joins only what the config lists",
        "test_the_bundle_is_not_read_again": "reads the process from the bundle at each exec",
        "test_a_process_file_says_all": "ignores the umask",
        "test_one_in_which_groups_are_denied_is_joined_without_those_of_root": _GROUPS_OF_ROOT,
        "test_a_passwd_that_never_answers_hangs_nobody": _FIFO,
        "test_a_parameter_is_written_though_the_image_brings_its_own_proc": "refuses a bind mount on /proc",
        "test_a_parameter_is_not_written_to_what_is_mounted_over_it": "refuses a bind mount below /proc",
        "test_an_executed_process_has_its_own_score": "takes that of the container",
        "test_a_limit_of_none_is_a_limit": _NO_LIMIT,
        "test_what_was_written_before_a_refusal_is_taken_back": _HALF,
        "test_the_user_owns_what_the_kernel_delegates": _BY_SYSTEMD,
        "test_a_process_is_executed_in_what_its_user_owns": _BY_SYSTEMD,
        "test_with_it_a_user_parts_his_cgroup_and_lifts_no_limit": _BY_SYSTEMD,
        "test_rules_of_devices_are_replaced": "ignores the rules of an update",
        "test_who_is_idle_has_no_weight": "writes the weight all the same, which the kernel refuses",
        "test_a_label_for_mounts_is_left_out_where_nothing_has_a_label": "lets the kernel refuse it",
        "test_they_run_in_order_with_the_state_and_their_own_environment": "runs poststart hooks in create",
        _CREATE_CONTAINER: "tells create's hooks creating",
        "test_every_flag_is_taken[WAIT_KILLABLE_RECV]": _UNKNOWN_FLAG,
        "test_every_flag_is_taken_beside_a_listener[WAIT_KILLABLE_RECV]": _UNKNOWN_FLAG,
        "test_every_flag_is_taken_beside_a_listener[TSYNC+WAIT_KILLABLE_RECV]": _UNKNOWN_FLAG,
        "test_an_errno_beside_an_action_that_takes_none_is_an_error": "ignores the errno",
        "test_who_is_in_a_threaded_cgroup_below_is_listed_and_signalled": "tells him twice",
    },
    "crun": {
        "test_a_label_without_selinux_is_told_and_does_no_harm": "refuses it",
        "test_the_sysfs_of_a_network_that_belongs_to_others_is_the_hosts": "leaves it writable",
        "test_a_bind_mount_is_the_root[//./]": "knows the root by no other name",
        "test_a_mount_behind_a_link_of_the_image": "looks for it in the wrong place",
        "test_a_restore_in_the_foreground_has_the_status_of_the_program": _STAYS,
        "test_hooks_run_as_for_a_new_container": "runs none at a restore",
        "test_what_a_container_had_it_has_again": _NO_SYMFOLLOW,
        "test_without_a_configured_umask_it_is_the_callers": _UMASK,
        "test_a_cgroup_that_nobody_writes_to_is_not_given_away": "gives it to root of the user namespace",
        "test_a_new_file_system_has_its_options": "gives it none",
        "test_a_destination_behind_a_link_stays_inside": "does not make what a link points to",
        "test_what_the_kernel_has_given_up_is_told_and_ignored": "refuses it",
        "test_stalls_are_told_where_the_kernel_counts_them": _NO_EVENTS,
        "test_a_detached_run_tells_whom_to_watch": _WATCHES_NOBODY,
        "test_start_waits_until_it_is_ready": _WATCHES_NOBODY,
        "test_an_abstract_name": _WATCHES_NOBODY,
        "test_a_process_is_executed_from_anywhere": "may not, and does not ask systemd",
        "test_the_processes_are_listed": "says that the container is not using cgroups",
        "test_a_signal_for_all_reaches_all": "reaches nobody without a cgroup, and says nothing",
        "test_a_limit_is_refused": _IGNORED,
        "test_a_place_is_refused": _IGNORED,
        "test_that_of_its_creator_is_not_shown_writable": "shows it as it is",
        "test_the_tree_of_the_host_is_not_shown": _WHOLE_TREE,
        "test_a_template_gets_the_first_number_that_is_free": "looks for a device of that name afterwards",
        "test_a_name_that_the_container_has_is_an_error": "has moved the device by then, and leaves it there",
        "test_what_the_host_forbids_stays_forbidden": _UNLOCKED,
        "test_what_the_host_forbids_below_stays_forbidden": _UNLOCKED,
        "test_what_lies_below_need_not_come_with_it": "takes the flags of the host away by itself",
        "test_a_source_of_the_bundle_is_mapped": "looks for it from the descriptor -1",
        "test_a_new_file_system_that_is_mapped_has_its_options": "gives it none",
        "test_a_link_of_the_source_is_not_followed": "follows it, unless dest-nofollow is there as well",
        "test_the_agent_gets_the_state_of_init_when_it_is_created": _LISTENS_LATE,
        "test_an_agent_that_dies_holds_nobody": _LISTENS_LATE,
        "test_an_executed_process_has_a_listener_of_its_own": "says that its pid is 0",
        "test_every_flag_is_taken_beside_a_listener[TSYNC]": _TSYNC,
        "test_every_flag_is_taken_beside_a_listener[TSYNC+WAIT_KILLABLE_RECV]": _TSYNC,
        "test_a_relative_path_counts_from_the_bundle": "takes no relative one",
        "test_a_listener_whom_nobody_needs_is_not_spoken_to": "connects to it all the same",
        **{
            f"test_sockets_that_systemd_hands_over_are_the_programs[{preserve}]": "sets LISTEN_PID alone"
            for preserve in (0, 1)
        },
        "test_sockets_that_are_for_another_process_are_not": "does not look at LISTEN_PID",
        "test_an_exec_is_told_of_none": "gives an exec the sockets as well",
        "test_the_unit_and_its_cgroup_have_the_limits": _SWAP,
        "test_the_limits_survive_a_reload": _SWAP,
        "test_an_update_is_known_to_systemd": _SWAP,
        "test_seconds_are_taken_for_microseconds": "gives systemd the number with the type it has",
        "test_an_exec_has_the_cpus_that_the_config_says_and_init_has_not": "reads the Process object alone",
        "test_an_exec_has_the_memory_policy_of_the_container": "takes no notice of it",
        "test_an_exec_that_does_not_say_has_those_of_init": "reads the Process object alone",
        "test_a_process_is_executed_before_the_start": "nobody but root may look at its waiting init",
        "test_without_a_cgroup_namespace_its_own_cgroup_is_all_there_is": _WHOLE_TREE,
        "test_a_console_that_is_a_link_leads_nowhere[missing]": "makes the file on the host (CVE-2026-88264)",
        "test_a_kernel_file_system_that_is_moved_away_is_not_left_bare": _BARE,
        "test_a_number_is_that_number[4294967294:4294967294]": "refuses the greatest id",
        "test_a_profile_on_a_host_without_apparmor_is_an_error": "ignores the profile",
        "test_a_file_that_is_not_the_device_is_an_error": _ANY_FILE,
        "test_a_cgroup_that_was_killed_once_serves_again": "the kernel kills its init at birth, each time",
        "test_a_failing_hook_fails_create_which_undoes_all_and_runs_poststop[prestart]": _NO_POSTSTOP,
        "test_a_failing_hook_fails_create_which_undoes_all_and_runs_poststop[createRuntime]": _NO_POSTSTOP,
        "test_start_container_hooks_run_as_the_program_will_and_before_it": "tells starting",
        "test_a_failing_create_container_hook_fails_create_which_undoes_all_and_runs_poststop": _NO_POSTSTOP,
        "test_an_unknown_capability_is_a_warning": "refuses an unknown capability",
        "test_a_mount_of_the_default_config_is_what_it_says[/sys/fs/cgroup]": "adds nosymfollow",
        **{
            f"test_an_option_sets_its_flag[{kind}-{options}]": _OR
            for kind in ("tmpfs", "bind")
            for options in ("nosuid,suid", "nodev,dev", "noexec,exec", "ro,rw", "nodiratime,diratime")
        },
        **{
            f"test_an_option_sets_its_flag[{options}]": _UNKNOWN
            for options in (
                "tmpfs-symfollow,nosymfollow",
                "tmpfs-nosymfollow,symfollow",
                "bind-symfollow,nosymfollow",
            )
        },
        **{
            f"test_an_option_sets_how_access_times_are_kept[{kind}-{options}]": _OR
            for kind in ("tmpfs", "bind")
            for options in (
                "noatime,atime",
                "strictatime,noatime",
                "strictatime,relatime",
                "strictatime,nostrictatime",
            )
        },
        "test_an_option_of_the_file_system_is_taken_back[sync,async]": _OR,
        "test_an_option_of_the_file_system_is_taken_back[mand,nomand]": _OR,
        "test_iversion_goes_with_the_other_options_by_another_call": _UNKNOWN,
        "test_a_recursive_option_takes_the_flag_from_the_mounts_below": _UNNAMED,
        "test_a_recursive_option_takes_back_only_its_own_way_of_access_times": _ATIME,
        "test_recursive_options_come_after_the_plain_ones[ro,rrw-upper0-lower0]": _OR,
        "test_recursive_options_come_after_the_plain_ones[rro,rrw-upper1-lower1]": _OR,
        "test_recursive_options_count_for_a_new_file_system[ro,rrw-expected0]": _OR,
        "test_a_bind_keeps_the_flags_that_nobody_named": _UNNAMED,
        "test_propagation_of_a_new_file_system[shared]": _PROPAGATION,
        "test_propagation_of_a_new_file_system[unbindable]": _PROPAGATION,
        "test_propagation_of_a_new_file_system[rshared]": _PROPAGATION,
        "test_words_of_propagation_take_effect_one_after_the_other": "takes one word alone",
        "test_a_remount_opens_a_tmpfs_again": _CLOSED_LATE,
        "test_extended_attributes_are_kept": _CAPABILITY,
        "test_without_a_process_a_container_is_created_entered_and_never_started": "start says that it has",
        "test_one_in_which_groups_are_denied_is_joined_without_those_of_root": _GROUPS_OF_ROOT,
        "test_a_disk_that_cannot_be_written_is_mounted_read_only": "mounts it writable first",
        "test_a_config_without_mounts_is_complete": "wants a list of mounts, be it empty",
        "test_a_mount_point_that_is_missing_in_a_read_only_mount_is_an_error": (
            "makes it before it closes the mount: in what the host has there"
        ),
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
        "test_one_that_is_joined_has_the_mappings_that_are_told": "believes whatever is told",
        "test_the_offsets_hold_with_a_user_namespace": _OFFSETS,
        "test_an_executed_process_has_the_clocks_of_the_container[True]": _OFFSETS,
        "test_a_time_namespace_is_joined": "its first process ends without a word",
        "test_an_executed_process_has_its_own_score": "ignores it",
        "test_a_limit_of_none_is_a_limit": _NO_LIMIT,
        "test_what_was_written_before_a_refusal_is_taken_back": "leaves what it has written",
        "test_memory_and_swap_together_stay_what_they_are": _OWN_SWAP,
        "test_memory_above_memory_and_swap_together_is_refused": _OWN_SWAP,
        "test_no_limit_of_memory_is_none_of_swap": _OWN_SWAP,
        "test_a_limit_of_swap_counts_from_that_of_memory": "does not look at the present limit",
        "test_the_user_owns_what_the_kernel_delegates[1000]": "gives it to the root of the container",
        "test_a_process_is_executed_in_what_its_user_owns[1000]": "gives it to the root of the container",
        "test_a_cgroup_that_is_mounted_read_only_stays_roots": "gives it away all the same",
        "test_no_other_cgroup_can_be_named[../]": "goes where it leads (before 1.29)",
        **{
            f"test_events_{name}": _NO_EVENTS
            for name in (
                "tell_the_numbers_of_now",
                "tell_numbers_at_an_interval_and_end_with_the_container",
                "tell_who_was_killed_for_want_of_memory",
                "of_a_stopped_container_are_refused",
            )
        },
        "test_a_period_alone_keeps_the_quota": "sets the quota to none",
        "test_a_quota_alone_keeps_the_period": "sets the period to its default",
        "test_kernel_memory_is_ignored_with_a_warning": "refuses it",
        "test_nothing_asked_for_is_no_limit_and_is_counted": "takes 0 for a limit of memory",
        "test_a_call_that_is_newer_than_the_profile_does_not_exist": "gives the errno of the default",
        "test_who_is_in_a_threaded_cgroup_below_is_listed_and_signalled": "fails on it",
    },
}

#: Something is left behind.
LEAVING: dict[str, dict[str, str]] = {
    "runc": {
        "test_a_call_that_nobody_knows_is_left_out_unless_the_annotation_refuses_it": _ACCEPTED,
        "test_a_file_that_is_not_the_device_is_an_error": _ACCEPTED,
        "test_an_errno_beside_an_action_that_takes_none_is_an_error": _ACCEPTED,
    },
    "crun": {
        "test_a_restore_in_the_foreground_has_the_status_of_the_program": _STAYS,
        "test_what_no_cgroup_can_have_is_refused": _FAILED_RUN,
        "test_what_only_cgroup_v1_had_is_refused": _FAILED_RUN,
        **{
            f"test_{name}": "the cgroup"
            for name in (
                "a_source_of_the_bundle_is_mapped",
                "without_any_mapping_it_is_an_error",
                "a_file_system_of_the_kernel_has_no_owners",
                "what_cannot_be_mapped_is_named",
                "what_is_mapped_is_not_mapped_again",
            )
        },
        "test_the_unit_and_its_cgroup_have_the_limits": _SWAP,
        "test_the_limits_survive_a_reload": _SWAP,
        "test_an_update_is_known_to_systemd": _SWAP,
        "test_seconds_are_taken_for_microseconds": "gives systemd the number with the type it has",
        "test_a_file_that_is_not_the_device_is_an_error": _ACCEPTED,
        "test_a_clock_before_its_beginning_is_refused": "the cgroup",
        "test_the_offsets_hold_with_a_user_namespace": "the cgroup",
        "test_an_executed_process_has_the_clocks_of_the_container[True]": "the cgroup",
        "test_a_time_namespace_is_joined": "the cgroup",
        "test_a_path_to_a_namespace_of_another_type_is_refused": "the cgroup",
        "test_a_path_that_does_not_exist_is_refused": "the cgroup",
        "test_an_unknown_namespace": "the cgroup",
        "test_a_swap_limit_below_that_of_memory_is_refused": "the cgroup",
        "test_nothing_asked_for_is_no_limit_and_is_counted": "the cgroup",
        "test_a_namespace_that_is_listed_twice": "the cgroup",
        "test_an_unknown_limit": "the cgroup",
        "test_a_processor_that_is_not_there_is_refused": "the cgroup",
        "test_a_resource_of_misc_that_is_not_there_is_refused": "the cgroup",
        "test_a_value_of_the_wrong_type[create]": _ACCEPTED,
        "test_processes_left_without_a_pid_namespace_die_at_the_end[pid]": "process, cgroup and state",
    },
}


#: Tests that fail on later kernels alone: from which on.
SINCE = {"test_a_cgroup_that_was_killed_once_serves_again": (6, 13)}


def deviation(name: str, runtime: str) -> str:
    """The reason why test ``name`` fails for ``runtime``, "" when it should not."""
    if release(os.uname().release) < SINCE.get(name.partition("[")[0], (0, 0)):
        return ""
    return _look_up(DEVIATIONS.get(runtime, {}), name)


def leaving(name: str, runtime: str) -> str:
    """What test ``name`` leaves behind with ``runtime``, "" when nothing."""
    return _look_up(LEAVING.get(runtime, {}), name)


def _look_up(table: dict[str, str], name: str) -> str:
    return table.get(name, "") or table.get(name.partition("[")[0], "")
