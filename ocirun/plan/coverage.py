"""Laws of a plan and the config it was made from: what is asked for is done."""

from __future__ import annotations

from ocirun.plan.view import RAW_FILTER, is_list, is_object, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ocirun.plan.view import View

#: Member of the config -> the verbs of which one must do it, when the member asks for something.  A "*"
#: stands for each entry of a list or an object, whose own pointer the step must bear.
COVERAGE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("/root/path", ("open_tree", "attach_root")),
    ("/root/readonly", ("set_root_readonly",)),
    ("/mounts/*", ("mount", "attach", "remount", "attach_root")),
    ("/hostname", ("set_hostname",)),
    ("/domainname", ("set_domainname",)),
    ("/process/oomScoreAdj", ("set_oom_score",)),
    ("/linux/sysctl/*", ("set_sysctl",)),
    ("/process/apparmorProfile", ("set_apparmor",)),
    ("/process/scheduler", ("set_scheduler",)),
    ("/process/ioPriority", ("set_io_priority",)),
    ("/linux/personality", ("set_personality",)),
    ("/linux/memoryPolicy", ("set_memory_policy",)),
    ("/process/terminal", ("make_console",)),
    ("/process/terminal", ("send_console",)),
    ("/process/terminal", ("take_terminal",)),
    ("/process/args", ("exec",)),
    ("/process/rlimits/*", ("set_rlimit",)),
    ("/process/noNewPrivileges", ("forbid_new_privileges",)),
    ("/process/user/umask", ("set_umask",)),
    ("/process/user/additionalGids", ("set_groups",)),
    ("/process/capabilities", ("set_capabilities",)),
    ("/process/capabilities/bounding", ("drop_bounding",)),
    ("/process/capabilities/ambient", ("raise_ambient",)),
    ("/linux/namespaces", ("clone_init",)),
    ("/linux/uidMappings", ("set_id_maps", "join_namespace", "make_user_namespace")),
    ("/linux/intelRdt", ("enter_resctrl",)),
    ("/linux/netDevices", ("move_net_devices",)),
    ("/linux/timeOffsets", ("make_time_namespace",)),
    ("/annotations/run.oci.delegate-cgroup", ("enter_subgroup",)),
    ("/linux/cgroupsPath", ("make_cgroup", "make_scope")),
    ("/linux/devices/*", ("make_device", "attach")),
    ("/linux/resources/devices", ("allow_devices",)),
    ("/linux/resources/hugepageLimits/*", ("set_cgroup",)),
    ("/linux/resources/pids/limit", ("set_cgroup", "limit_processes")),
    ("/linux/resources/cpu/cpus", ("set_cgroup",)),
    ("/linux/resources/cpu/mems", ("set_cgroup",)),
    ("/linux/maskedPaths/*", ("mask_path",)),
    ("/linux/readonlyPaths/*", ("readonly_path", "set_root_readonly")),
    ("/linux/seccomp", ("load_seccomp",)),
    (f"/annotations/{RAW_FILTER}", ("load_seccomp",)),
    ("/hooks/prestart/*", ("run_hook",)),
    ("/hooks/createRuntime/*", ("run_hook",)),
    ("/hooks/createContainer/*", ("run_hook_inside",)),
    ("/hooks/startContainer/*", ("run_hook_inside",)),
)


#: What the container gives to every process in it.
_OF_EVERY_PROCESS = (
    "/linux/seccomp", f"/annotations/{RAW_FILTER}", "/linux/personality", "/linux/memoryPolicy",
    "/linux/intelRdt",
)  # fmt: skip


def covered(view: View) -> Iterator[str]:
    """Every member of the config that asks for something has its step (only when the config is given)."""
    if view.config is None:
        return
    yield from _asked_covered(view, "/")
    yield from _cwd_covered(view)
    yield from _loopback(view)
    yield from _new_time(view)
    yield from _mapped(view)
    yield from _joined(view)
    yield from _root_propagation(view)
    yield from _home(view)


def _asked_covered(view: View, place: str) -> Iterator[str]:
    """Every member below ``place`` that asks for something is cited by a step that does it."""
    assert view.config is not None
    cited = {(step.pointer, step.verb) for step in view.steps}
    for pattern, verbs in COVERAGE:
        if (view.unprivileged or view.without_cgroup) and verbs == ("allow_devices",):
            continue  # which takes CAP_BPF on the host, and a cgroup
        if pattern == "/linux/seccomp" and RAW_FILTER in view.annotations:
            continue  # which has the filter instead
        for pointer in _asked(view.config, pattern) if pattern.startswith(place) else ():
            if not any((pointer, verb) in cited for verb in verbs):
                yield f"{pointer} is asked for and no step does it"


def _asked(config: Mapping[str, object], pattern: str) -> Iterator[str]:
    """The pointers that ``pattern`` stands for in ``config``, where they ask for something."""
    value: object = config
    for part in pattern.removesuffix("/*").split("/")[1:]:
        value = value.get(part) if is_object(value) else None
    if pattern.endswith("/*"):
        entries = range(len(value)) if is_list(value) else value if is_object(value) else ()
        yield from (f"{pattern.removesuffix('*')}{_escaped(str(entry))}" for entry in entries)
    elif value is not None and value is not False and value not in ("", [], {}):
        yield pattern


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _cwd_covered(view: View) -> Iterator[str]:
    """A working directory below the root is made where it is missing."""
    for number in view.places.get("enter_cwd", ()):
        if view.steps[number - 1].args != ("/",) and "make_directory" not in view.places:
            yield f"step {number}: nothing makes the working directory"


def _home(view: View) -> Iterator[str]:
    """HOME is set: by the environment, or looked up."""
    for number in view.places.get("exec", ()):
        environment = view.steps[number - 1].args[names("exec").index("env")]
        assert isinstance(environment, tuple)
        if "find_home" not in view.places and not any(
            str(entry).startswith("HOME=") for entry in environment
        ):
            yield f"step {number}: HOME is neither set nor looked up"


def _new_time(view: View) -> Iterator[str]:
    """A new time namespace, which no clone makes, is made."""
    listed = view.config.get("linux", {}).get("namespaces", []) if view.config else []
    new = any(one["type"] == "time" and not one.get("path") for one in listed)
    if new and "make_time_namespace" not in view.places:
        yield "no step makes the time namespace"


def _mapped(view: View) -> Iterator[str]:
    """A mount that is to show other owners is mapped, and no other."""
    mapped = {step.pointer for step in view.steps if step.verb == "map_ids"}
    for number, mount in enumerate(view.config.get("mounts", []) if view.config else []):
        words = [word.partition("=")[0] for word in mount.get("options", [])]
        asked = any(mount.get(member) for member in ("uidMappings", "gidMappings"))
        asked = asked or "idmap" in words or "ridmap" in words
        if asked != (f"/mounts/{number}" in mapped):
            yield f"/mounts/{number} is {'not ' if asked else ''}mapped"


def _joined(view: View) -> Iterator[str]:
    """A namespace that exists is joined."""
    verbs = ("join_namespace", "join_cgroup_namespace", "enter_user_namespace")
    joined = {step.pointer for step in view.steps if step.verb in verbs}
    listed = view.config.get("linux", {}).get("namespaces", []) if view.config else []
    for number, one in enumerate(listed):
        if one.get("path") and f"/linux/namespaces/{number}/path" not in joined:
            yield f"/linux/namespaces/{number} is not joined"


def _root_propagation(view: View) -> Iterator[str]:
    """A root that is to share, or to be cut off, is told so; a slave it is anyhow."""
    word = view.config.get("linux", {}).get("rootfsPropagation", "") if view.config else ""
    if word not in ("", "slave", "rslave") and "set_root_propagation" not in view.places:
        yield f"the root does not become {word}"


def _loopback(view: View) -> Iterator[str]:
    """A new network namespace has its loopback up."""
    clone_new_network = 0x40000000
    for number in view.places.get("clone_init", ()):
        if int(str(view.steps[number - 1].args[0])) & clone_new_network and "set_link_up" not in view.places:
            yield "the loopback of the new network namespace stays down"


# -- laws for plans that enter
# -----------------------------------------------------------------------------------


def process_covered(view: View) -> Iterator[str]:
    """Every member of the process that asks for something has its step; the config is the container's with
    this process as its own."""
    if view.config is not None:
        yield from _asked_covered(view, "/process/")
        for place in _OF_EVERY_PROCESS:
            yield from _asked_covered(view, place)
        yield from _home(view)
        yield from _affinity(view)


def _affinity(view: View) -> Iterator[str]:
    """The CPUs are those that are asked for, before and in the cgroup; where none are, not those of the
    caller."""
    asked = view.process.get("execCPUAffinity", {})
    initial, final = asked.get("initial"), asked.get("final")
    if bool(initial) != ("set_initial_affinity" in view.places):
        yield "the CPUs before the cgroup are not those that are asked for"
    if bool(final or not initial) != ("set_affinity" in view.places):
        yield "the CPUs in the cgroup are not those that are asked for"


# -- laws for plans that change mounts


def mounts_covered(view: View) -> Iterator[str]:
    """Every mount of the config, which has those alone that are added or taken away, has its step."""
    for number, _ in enumerate(view.config.get("mounts", ()) if view.config else ()):
        verbs = {step.verb for step in view.steps if step.pointer == f"/mounts/{number}"}
        if verbs.isdisjoint(("mount", "attach", "unmount")):
            yield f"/mounts/{number} is asked for and no step does it"
    if "unmount" not in view.places:
        yield from _mapped(view)
