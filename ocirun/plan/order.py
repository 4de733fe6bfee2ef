"""The order in which the verbs of a plan stand that creates or enters a container."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun.plan.model import Step
    from ocirun.plan.view import View

#: The order in which a plan that creates a container performs its verbs: runc's ``standard_init``, where each
#: position has its reason (docs: the laws of order), written out whole so that equal configs read the same.
#: Verbs in one row may stand in any order among themselves.
ORDER: tuple[tuple[str, ...], ...] = (
    ("make_user_namespace", "enter_user_namespace"),
    ("make_resctrl",),
    ("vacate_cgroup",),
    ("make_cgroup",),
    ("set_cgroup",),
    ("own_cgroup",),
    ("hide_process",),
    ("open_init",),
    ("join_scope",),
    ("open_handshake",),
    ("open_filesystem",),
    ("enter_view",),
    ("open_tree",),
    ("leave_view",),
    ("open_device",),
    ("open_namespace",),
    ("open_cgroup",),
    ("allow_devices",),
    ("open_proc",),
    ("set_oom_score",),
    ("make_mapping",),
    ("map_ids",),
    ("set_initial_affinity",),
    ("drop_groups",),
    ("join_namespaces",),
    ("join_namespace",),
    ("set_id_maps",),
    ("clone_init",),
    ("limit_processes",),
    ("enter_subgroup",),
    ("enter_resctrl",),
    ("set_affinity",),
    ("join_cgroup_namespace",),
    ("make_time_namespace",),
    ("become_root",),
    ("label_keyring",),
    ("join_keyring",),
    ("set_link_up",),
    ("move_net_devices",),
    ("set_propagation",),
    ("attach_root", "mount", "attach", "remount"),
    ("unmount",),
    ("make_device",),
    ("make_symlink",),
    ("make_directory",),
    ("make_console",),
    ("send_console",),
    ("run_hook",),
    ("run_hook_inside createContainer",),
    ("pivot_root",),
    ("new_session",),
    ("take_terminal",),
    ("set_root_readonly",),
    ("set_readonly",),
    ("set_hostname",),
    ("set_domainname",),
    ("set_selinux",),
    ("set_apparmor",),
    ("set_sysctl",),
    ("readonly_path",),
    ("mask_path",),
    ("set_root_propagation",),
    ("forbid_new_privileges",),
    ("set_scheduler",),
    ("set_io_priority",),
    ("set_personality",),
    ("set_memory_policy",),
    ("find_home",),
    ("enter_cwd",),
    ("close_descriptors",),
    ("own_stdio",),
    ("set_rlimit",),
    ("drop_bounding",),
    ("set_groups",),
    ("set_ids",),
    ("set_capabilities",),
    ("raise_ambient",),
    ("set_umask",),
    ("find_program",),
    ("load_seccomp",),
    ("send_listener",),
    ("await_start",),
    ("run_hook_inside startContainer",),
    ("exec",),
)
#: A scope of systemd is made of stage, which is there by then.
SCOPE: tuple[tuple[str, ...], ...] = (
    ("make_user_namespace", "enter_user_namespace"), ("make_resctrl",), ("hide_process",), ("make_scope",),
    ("set_cgroup",), ("own_cgroup",),
)  # fmt: skip
#: What stands before drop_bounding where the filter has to be loaded while CAP_SYS_ADMIN is there: the filter
#: itself, and what it may refuse.
EARLY: tuple[tuple[str, ...], ...] = (
    ("set_groups",), ("set_umask",), ("find_program",), ("load_seccomp",), ("send_listener",),
)  # fmt: skip


def _ranks(order: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    return {name: rank for rank, names in enumerate(order) for name in names}


def _filtered_early(order: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """ORDER with the EARLY verbs at their place before drop_bounding."""
    rest = [names for names in order if names not in EARLY]
    at = rest.index(("drop_bounding",))
    return (*rest[:at], *EARLY, *rest[at:])


def in_a_scope(order: tuple[tuple[str, ...], ...] = ORDER) -> tuple[tuple[str, ...], ...]:
    """ORDER where systemd makes the cgroup."""
    return (*SCOPE, *(names for names in order if names not in (*SCOPE, ("make_cgroup",))))


_RANK = _ranks(ORDER)
#: By whether a filter is loaded early, and whether there is a scope.
_RANKS = {
    (False, False): _RANK,
    (True, False): _ranks(_filtered_early(ORDER)),
    (False, True): _ranks(in_a_scope()),
    (True, True): _ranks(in_a_scope(_filtered_early(ORDER))),
}


def rank(step: Step, ranks: dict[str, int] = _RANK) -> int | None:
    """The place of a step in ORDER, None where it has none; a hook inside has one by its kind."""
    return ranks.get(f"{step.verb} {step.args[0]!s}" if step.verb == "run_hook_inside" else step.verb)


def order_of_creation(view: View) -> Iterator[str]:
    """The verbs follow ORDER; a filter that is loaded without no_new_privs needs CAP_SYS_ADMIN for it
    (seccomp(2)), and goes early."""
    early = "load_seccomp" in view.places and "forbid_new_privileges" not in view.places
    ranks = _RANKS[early, "make_scope" in view.places]
    for number, (step, follower) in enumerate(zip(view.steps, view.steps[1:], strict=False), 1):
        place, following = rank(step, ranks), rank(follower, ranks)
        if place is None:
            yield f"step {number}: {step.verb} has no place in a plan that creates a container"
        elif place > (len(ORDER) if following is None else following):
            yield f"step {number}: {step.verb} must stand after {follower.verb}"
