"""Laws of where things come from: which member of the config may ask for a verb, and who fills a slot."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ocirun.plan.view import PLUGINS, RAW_FILTER, RECEIVER, VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun.plan.model import Step
    from ocirun.plan.view import View

_OF_THE_ROOT = ("/root/path", "rootfs[[]*")
_TREES = (*_OF_THE_ROOT, "/mounts/*")
#: verb -> the pointers that it may bear; what is not here belongs to the lifecycle and has none.
ASKERS: dict[str, tuple[str, ...]] = {
    "make_cgroup": ("/linux/cgroupsPath",),
    "make_scope": ("/linux/cgroupsPath",),
    "limit_processes": ("/linux/resources/pids/limit", "/linux/resources/unified/pids.max"),
    "enter_subgroup": ("/annotations/run.oci.delegate-cgroup",),
    "vacate_cgroup": ("/linux/resources",),
    "set_cgroup": ("/linux/resources", "/linux/resources/*"),
    "own_cgroup": ("/mounts/*",),
    "make_user_namespace": ("/linux/uidMappings",),
    "enter_user_namespace": ("/linux/namespaces/*/path",),
    "drop_groups": ("/process/user/additionalGids",),
    "open_tree": _TREES,
    "open_filesystem": _TREES,
    "enter_view": ("/linux/namespaces/*",),
    "leave_view": ("/linux/namespaces/*",),
    "make_mapping": ("/mounts/*",),
    "map_ids": ("/mounts/*",),
    "open_device": ("/linux/maskedPaths", "/linux/devices", "/linux/devices/*"),
    "allow_devices": ("/linux/resources/devices",),
    "open_namespace": ("/linux/namespaces/*/path", ""),
    "set_oom_score": ("/process/oomScoreAdj",),
    "set_initial_affinity": ("/process/execCPUAffinity/initial",),
    "set_affinity": ("/process/execCPUAffinity/final", ""),
    "join_namespaces": ("/linux/namespaces",),
    "join_namespace": ("/linux/namespaces/*/path",),
    "set_id_maps": ("/linux/uidMappings",),
    "clone_init": ("/linux/namespaces", ""),
    "join_cgroup_namespace": ("/linux/namespaces/*/path", "/linux/namespaces"),
    "make_time_namespace": ("/linux/timeOffsets", "/linux/namespaces/*"),
    "become_root": ("/linux/namespaces/*",),
    "set_link_up": ("/linux/namespaces/*",),
    "make_resctrl": ("/linux/intelRdt",),
    "enter_resctrl": ("/linux/intelRdt",),
    "move_net_devices": ("/linux/netDevices",),
    "set_propagation": ("/linux/rootfsPropagation",),
    "attach_root": ("/root/path", "/mounts/*"),
    "mount": ("/mounts/*",),
    "remount": ("/mounts/*",),
    "unmount": ("/mounts/*",),
    "attach": (*_TREES, "/linux/devices", "/linux/devices/*"),
    "make_device": ("/linux/devices", "/linux/devices/*"),
    "make_symlink": ("/linux/devices",),
    "make_directory": ("/process/cwd",),
    "make_console": ("/process/terminal",),
    "send_console": ("/process/terminal",),
    "run_hook": ("/hooks/prestart/*", "/hooks/createRuntime/*"),
    "run_hook_inside": ("/hooks/createContainer/*", "/hooks/startContainer/*"),
    "take_terminal": ("/process/terminal",),
    "set_root_readonly": ("/root/readonly", "/linux/readonlyPaths/*"),
    "set_readonly": ("/mounts/*",),
    "set_hostname": ("/hostname",),
    "set_domainname": ("/domainname",),
    "label_keyring": ("/process/selinuxLabel",),
    "set_selinux": ("/process/selinuxLabel",),
    "set_apparmor": ("/process/apparmorProfile",),
    "set_sysctl": ("/linux/sysctl/*",),
    "readonly_path": ("/linux/readonlyPaths/*",),
    "mask_path": ("/linux/maskedPaths/*",),
    "set_root_propagation": ("/linux/rootfsPropagation",),
    "forbid_new_privileges": ("/process/noNewPrivileges",),
    "set_scheduler": ("/process/scheduler",),
    "set_io_priority": ("/process/ioPriority",),
    "set_personality": ("/linux/personality",),
    "set_memory_policy": ("/linux/memoryPolicy",),
    "enter_cwd": ("/process/cwd",),
    "set_rlimit": ("/process/rlimits/*",),
    "own_stdio": ("/process/user/uid",),
    "drop_bounding": ("/process/capabilities/bounding",),
    "set_groups": ("/process/user/additionalGids",),
    "set_ids": ("/process/user",),
    "set_capabilities": ("/process/capabilities",),
    "raise_ambient": ("/process/capabilities/ambient",),
    "set_umask": ("/process/user/umask",),
    "load_seccomp": ("/linux/seccomp", f"/annotations/{RAW_FILTER}"),
    "send_listener": ("/linux/seccomp/listenerPath", *(f"/annotations/{one}" for one in (RECEIVER, PLUGINS))),
    "find_home": ("/process/env",),
    "find_program": ("/process/args/0",),
    "exec": ("/process/args",),
}
#: (verb, slot that it uses) -> the (verb, slot that it fills) of which one must have filled it.
FILLERS: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("send_console", "console"): (("make_console", "console"),),
    ("take_terminal", "terminal"): (("make_console", "terminal"),),
    ("allow_devices", "cgroup"): (("open_cgroup", "cgroup"),),
    ("clone_init", "cgroup"): (("open_cgroup", "cgroup"),),
    ("set_oom_score", "proc"): (("open_proc", "proc"),),
    ("set_id_maps", "proc"): (("open_proc", "proc"),),
    ("make_mapping", "proc"): (("open_proc", "proc"),),
    ("map_ids", "tree"): (("open_tree", "tree"), ("open_filesystem", "tree")),
    ("map_ids", "mapping"): (("make_mapping", "mapping"), ("open_namespace", "namespace")),
    ("make_time_namespace", "proc"): (("open_proc", "proc"),),
    ("set_sysctl", "proc"): (("open_proc", "proc"),),
    ("label_keyring", "proc"): (("open_proc", "proc"),),
    ("set_selinux", "proc"): (("open_proc", "proc"),),
    ("join_namespaces", "init"): (("open_init", "init"),),
    ("join_namespace", "namespace"): (("open_namespace", "namespace"),),
    ("join_cgroup_namespace", "init"): (("open_init", "init"), ("open_namespace", "namespace")),
    ("send_listener", "listener"): (("load_seccomp", "listener"),),
    ("attach_root", "root"): (("open_tree", "tree"), ("open_filesystem", "tree")),
    ("attach", "tree"): (("open_tree", "tree"), ("open_filesystem", "tree"), ("open_device", "device")),
    ("mask_path", "null"): (("open_device", "device"),),
    ("close_descriptors", "gate"): (("open_handshake", "gate"),),
    ("close_descriptors", "proof"): (("open_handshake", "proof"),),
    ("await_start", "gate"): (("open_handshake", "gate"),),
    ("await_start", "proof"): (("open_handshake", "proof"),),
}
#: Uses of a slot that must be asked for by the member that asked for its filling.
SAME_ASKER = (
    ("attach", "tree"),
    ("attach_root", "root"),
    ("join_namespace", "namespace"),
    ("map_ids", "tree"),
)


def asker_fits(step: Step) -> bool:
    """Whether ``step`` bears the pointer of a member that can ask for such a step."""
    return any(fnmatchcase(step.pointer, pattern) for pattern in ASKERS.get(step.verb, ("",)))


def askers_fit(view: View) -> Iterator[str]:
    """Every step bears such a pointer."""
    for number, step in enumerate(view.steps, 1):
        if not asker_fits(step):
            yield f"step {number}: {step.pointer or 'nothing'} does not ask for {step.verb}"


def slots_of_their_kind(view: View) -> Iterator[str]:
    """A slot holds what its user takes it for; a tree or namespace is the one that its own member opened."""
    filled: dict[str, tuple[Step, str]] = {}
    for number, step in enumerate(view.steps, 1):
        for (name, kind), argument in zip(VERBS[step.verb].args, step.args, strict=True):
            value = str(argument) if kind in ("slot", "out") else ""
            if kind == "out":
                filled[value] = (step, name)
            if kind != "slot" or value not in filled or (step.verb, name) not in FILLERS:
                continue
            filler, told = filled[value]
            if (filler.verb, told) not in FILLERS[step.verb, name]:
                yield f"step {number}: {value} is no {name} for {step.verb}, but of {filler.verb}"
            elif (step.verb, name) in SAME_ASKER and filler.pointer not in (step.pointer, *_callers(step)):
                yield f"step {number}: {value} was opened for {filler.pointer}, not for {step.pointer}"
            elif step.verb == "mask_path" and filler.pointer != "/linux/maskedPaths":
                yield f"step {number}: {value} was not opened to lay over masked files"
            elif _is_default(step) and filler.verb == "open_device" and filler.args[0] != step.args[1]:
                yield f"step {number}: the device {filler.args[0]!s} is put on {step.args[1]!s}"


def _is_default(step: Step) -> bool:
    """Whether ``step`` attaches a device that every container has; one of the config may have another name on
    the host."""
    return step.verb == "attach" and step.pointer == "/linux/devices"


def _callers(step: Step) -> tuple[str, ...]:
    """Who opens for ``step`` beside the member it stands for: a caller gives the root as mounts, too."""
    return ("rootfs[0]",) if step.pointer == "/root/path" else ()


def no_twins(view: View) -> Iterator[str]:
    """Nothing is done twice."""
    seen: dict[object, int] = {}
    for number, step in enumerate(view.steps, 1):
        if step in seen:
            yield f"step {number}: {step.verb} is there twice, first as step {seen[step]}"
        seen.setdefault(step, number)
