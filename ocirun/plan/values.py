"""Laws of the arguments of a plan: what the config says of each, and nothing that the planner has worked out.

A function of VALUES gives, for a verb and the pointer of a step, the arguments of which the specification
leaves no choice, with the values that they must have.  What the caller of ``create`` decides beside the
config (descriptors to keep, no pivot_root, a list of mounts as the root) is not looked at here.
"""

from __future__ import annotations

from ocirun.plan.mount_values import MOUNT_VALUES
from ocirun.plan.namespace_values import NAMESPACE_VALUES
from ocirun.plan.origins import asker_fits
from ocirun.plan.scheduling_values import SCHEDULING_VALUES
from ocirun.plan.view import PLUGINS, RAW_FILTER, asks_somebody, entry_at, names, receiver
from ocirun.reach import LEAF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ocirun_spec.types import IDMapping

    from ocirun.plan.model import Step
    from ocirun.plan.view import Expected, Values, View

#: getrlimit(2), by number (asm-generic/resource.h).
_LIMITS = (
    "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"
).split()
#: capabilities(7), by number (linux/capability.h).
_CAPABILITIES: Sequence[str] = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
).split()


def values_of_the_config(view: View) -> Iterator[str]:
    """Every argument that the config decides has the value that it says."""
    if view.config is None:
        return
    for number, step in enumerate(view.steps, 1):
        said = VALUES.get(step.verb)
        wanted: Expected = said(view, step) if said and asker_fits(step) else {}
        for name, value in zip(names(step.verb), step.args, strict=True):
            if name in wanted and wanted[name] != value:
                yield f"step {number}: {name} of {step.verb} is {value!r}, the config says {wanted[name]!r}"


# -- the process


def _ids(view: View, _step: Step) -> Expected:
    return {"uid": view.user.get("uid", 0), "gid": view.user.get("gid", 0)}


def _owner(view: View, _step: Step) -> Expected:
    return {"uid": view.user.get("uid", 0), "owner": view.user.get("uid", 0)}


def _groups(view: View, _step: Step) -> Expected:
    return {"groups": tuple(view.user.get("additionalGids", ()))}


def _umask(view: View, _step: Step) -> Expected:
    return {"mask": view.user.get("umask", -1)}


def _cwd(view: View, _step: Step) -> Expected:
    without = bool(view.config and "process" not in view.config)
    return {"path": "/" if without else view.process.get("cwd", ""), "mode": 0o755}


def _rlimit(view: View, step: Step) -> Expected:
    limit = entry_at(view.config, step.pointer)
    kind = str(limit.get("type", "")).removeprefix("RLIMIT_")
    resource = _LIMITS.index(kind) if kind in _LIMITS else -1
    return {"resource": resource, "soft": limit.get("soft"), "hard": limit.get("hard")}


def _mask(view: View, kind: str) -> int:
    """The capabilities of one set but those that the plan warns of: they cannot be granted here."""
    capabilities: Mapping[str, list[str]] = view.process.get("capabilities", {})  # type: ignore[assignment]
    left_out = {fault.pointer for fault in view.warnings}
    return sum(
        1 << _CAPABILITIES.index(name)
        for name in {
            name.removeprefix("CAP_")
            for number, name in enumerate(capabilities.get(kind, ()))
            if f"/process/capabilities/{kind}/{number}" not in left_out
        }
    )


def _capabilities(view: View, _step: Step) -> Expected:
    return {kind: _mask(view, kind) for kind in ("effective", "permitted", "inheritable")}


def _bounding(view: View, _step: Step) -> Expected:
    return {"keep": _mask(view, "bounding")}


def _ambient(view: View, _step: Step) -> Expected:
    return {"capabilities": _mask(view, "ambient")}


def _oom_score(view: View, _step: Step) -> Expected:
    return {"score": str(view.process.get("oomScoreAdj"))}


def _environment(view: View) -> dict[str, str]:
    """By name the last entry of it; an empty HOME is as good as none."""
    found = {entry.partition("=")[0]: entry for entry in view.process.get("env", ())}
    return {name: entry for name, entry in found.items() if entry != "HOME="}


_LISTEN = ("LISTEN_FDS", "LISTEN_PID")


def _listening(step: Step) -> tuple[str, ...]:
    """What the program is told of sockets that the caller hands over, of which the config knows nothing."""
    entries = step.args[1]
    assert isinstance(entries, tuple)
    told = tuple(str(entry) for entry in entries[-2:])
    number = told[0].removeprefix("LISTEN_FDS=") if told else ""
    return told if told == (f"LISTEN_FDS={number}", "LISTEN_PID=1") and number.isdigit() else ()


def _exec(view: View, step: Step) -> Expected:
    wanted = _environment(view)
    kept = tuple(dict.fromkeys(reversed([entry.partition("=")[0] for entry in view.process.get("env", ())])))
    environment = tuple(wanted[name] for name in reversed(kept) if name in wanted)
    if told := _listening(step):
        environment = (*(entry for entry in environment if entry.partition("=")[0] not in _LISTEN), *told)
    return {"args": tuple(view.process.get("args", ())), "env": environment}


def _program(view: View, _step: Step) -> Expected:
    search = _environment(view).get("PATH", "=").partition("=")[2]
    name = (*view.process.get("args", ()), "")[0]
    return {"name": name, "search": search, "uid": _searcher(view), "gid": view.user.get("gid", 0)}


def _searcher(view: View) -> int:
    """The user of the program; before a filter it is still root, who looks in the name of the user, but for
    one who will be above the modes of files."""
    early = view.filtered and not view.process.get("noNewPrivileges")
    above = {"CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"}
    if early and above & set(view.process.get("capabilities", {}).get("effective", ())):
        return 0
    return view.user.get("uid", 0)


def _apparmor(view: View, _step: Step) -> Expected:
    """What is written to attr/exec: the profile that the next execve takes (aa_change_onexec(2))."""
    return {"change": f"exec {view.process.get('apparmorProfile', '')}"}


def _subgroup(view: View, _step: Step) -> Expected:
    """The one that is named, below that in which init was born, and given to whom that is given to."""
    given = [view.argument("own_cgroup", name) for name in ("owner", "group")]
    owner, group = (-1 if one is None else one for one in given)
    inner = view.annotations.get("run.oci.delegate-cgroup", "").strip("/")
    return {"path": view.home, "inner": inner, "owner": owner, "group": group}


def _selinux(view: View, _step: Step) -> Expected:
    return {"label": view.process.get("selinuxLabel")}


def _filter(view: View, _step: Step) -> Expected:
    """The flags of seccomp(2); without a list it is SPEC_ALLOW.  Who has a listener, NEW_LISTENER, may have
    one that is waited for, and beside that TSYNC has to tell its failure otherwise (TSYNC_ESRCH)."""
    known = {"TSYNC": 1, "LOG": 2, "SPEC_ALLOW": 4}
    profile = view.linux.get("seccomp", {})
    listed = [flag.removeprefix("SECCOMP_FILTER_FLAG_") for flag in profile.get("flags", ["SPEC_ALLOW"])]
    added = 0
    if asks_somebody(view):
        known["WAIT_KILLABLE_RECV"] = 32
        added = 8 | (16 if "TSYNC" in listed else 0)
    flags = sum({known.get(flag, 0) for flag in listed}) | added
    return {"flags": flags, **_raw(view.annotations.get(RAW_FILTER))}


def _raw(text: str | None) -> Expected:
    """A filter that the config brings is loaded as it is."""
    if text is None:
        return {}
    import binascii

    return {"program": binascii.a2b_base64(text)}


def _listener(view: View, _step: Step) -> Expected:
    metadata = (
        "" if view.annotations.get(PLUGINS) else view.linux.get("seccomp", {}).get("listenerMetadata", "")
    )
    return {"path": receiver(view), "metadata": metadata}


def _console(view: View, _step: Step) -> Expected:
    size = view.process.get("consoleSize", {"width": 0, "height": 0})
    return {"columns": size["width"], "rows": size["height"], "bind": int(not view.enters)}


# -- the container


def _hostname(view: View, _step: Step) -> Expected:
    return {"name": view.config.get("hostname") if view.config else ""}


def _domainname(view: View, _step: Step) -> Expected:
    return {"name": view.config.get("domainname") if view.config else ""}


def _sysctl(view: View, step: Step) -> Expected:
    name = step.pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
    # the first of both separates, and the other stands for it in a name (sysctl.d(5))
    dotted = "." in name.partition("/")[0]
    path = name.translate(str.maketrans("./", "/.")) if dotted else name
    parameters = view.linux.get("sysctl", {})
    return {"path": f"sys/{path}", "value": parameters.get(name)}


def _listed_path(view: View, step: Step) -> Expected:
    _, _, member, number = step.pointer.split("/")
    listed: list[str] = view.linux.get(member, [])  # type: ignore[assignment]
    path = _plain(listed[int(number)])
    return {"path": path, "below": "" if ".." in path.split("/") else _kernel_file_system(view, path)}


def _plain(path: str) -> str:
    """Without doubled, single-dot and trailing parts."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def _kernel_file_system(view: View, path: str) -> str:
    """The place of the new procfs or sysfs that ``path`` lies below, "" where the plan mounts none there,
    something else over it, or hides all of it."""
    lies: dict[str, str] = {}
    for step in view.steps:
        if step.verb in ("mount", "attach"):
            given = dict(zip(names(step.verb), step.args, strict=True))
            lies[str(given["target"])] = str(given.get("fstype", "sysfs" if _is_sysfs(view, step) else ""))
    hidden = {_plain(one) for one in view.linux.get("maskedPaths", ())}
    places = [place for place, kind in lies.items() if kind in ("proc", "sysfs") and ".." not in place]
    for place in places:
        if place not in hidden and f"{path}/".startswith(f"{place}/"):
            return place
    return ""


def _is_sysfs(view: View, step: Step) -> bool:
    """Whether ``step`` attaches the sysfs of the host in place of a new one."""
    if not step.pointer.startswith("/mounts/"):
        return False
    mount = entry_at(view.config, step.pointer)
    words: list[str] = mount.get("options", [])
    return mount.get("type") == "sysfs" and not {"bind", "rbind"} & set(words)


def _cgroup(view: View, step: Step) -> Expected:
    """An absolute path is that of the config, any other is below our own (config-linux.md, cgroupsPath); our
    own is below a cgroup that was delegated to who is not root of the host."""
    asked = view.linux.get("cgroupsPath", "")
    parts = [part for part in (asked or view.id).split("/") if part not in ("", ".")]
    if asked.startswith("/"):
        return {"path": "/" + "/".join(parts), "parents": 0}
    own, given = "/" + "/".join(["ocirun", *parts]), str(step.args[1])
    below = view.unprivileged and given.endswith(own)
    return {"path": given if below else own, "parents": len(parts)}


def _joined_scope(view: View, step: Step) -> Expected:
    """The scope is one on the way to the cgroup that the process is born in, the rest lies below it."""
    unit = str(step.args[0])
    _, found, below = f"{view.argument('open_cgroup', 'path')!s}/".partition(f"/{unit}/")
    return {"unit": unit if found else "a part of the path", "inner": below.strip("/")}


def _vacated(view: View, step: Step) -> Expected:
    """What is emptied is above the cgroup of the container, which is not the leaf."""
    where = str(step.args[0])
    return {"path": where if view.cgroup.startswith(f"{where}/ocirun/") else "above", "leaf": LEAF}


def _scope(view: View, step: Step) -> Expected:
    """The unit is named by the last two parts of cgroupsPath, or by the id; the cgroup by the unit."""
    parts = view.linux.get("cgroupsPath", "").split(":")
    unit = "-".join(parts[1:] if len(parts) == 3 else ["ocirun", view.id]) + ".scope"
    path = str(step.args[1])
    inner = view.annotations.get("run.oci.systemd.subgroup", "").strip("/")
    return {"unit": unit, "path": path if path.endswith(f"/{unit}") else f"…/{unit}", "inner": inner}


def _processes(view: View, step: Step) -> Expected:
    resources = view.linux.get("resources", {})
    most = resources.get("pids", {}).get("limit", 0)
    named = resources.get("unified", {}).get("pids.max", "")
    return {"path": view.cgroup, "most": named if step.pointer.endswith("pids.max") else str(most or 1)}


def _open_cgroup(view: View, _step: Step) -> Expected:
    """The one that was made; the cgroup of an exec is the caller's to know."""
    return {"path": view.home} if view.cgroup else {}


def _set_cgroup(view: View, step: Step) -> Expected:
    """Limits are set in the cgroup that was made, controllers enabled above it."""
    where, writes = str(step.args[0]), step.args[1]
    assert isinstance(writes, tuple)
    if writes[:1] != ("cgroup.subtree_control",):
        return {"path": view.cgroup}
    made = ("make_cgroup", "make_scope")
    mount = next((str(one.args[0]) for one in view.steps if one.verb in made), "")
    above = f"{where}/".startswith(f"{mount}/") and view.cgroup.startswith(f"{where}/")
    return {"path": where if above else "above the cgroup"}


def _own_cgroup(view: View, _step: Step) -> Expected:
    """Its user is that of the process, by his id on the host, and in a user namespace so is its group."""
    uid, gid = view.user.get("uid", 0), view.user.get("gid", 0)
    same: list[IDMapping] = [{"containerID": uid, "hostID": uid, "size": 1}]
    owners = _outside(view.linux.get("uidMappings") or same, uid)
    groups = _outside(view.linux.get("gidMappings", []), gid)
    return {"path": view.home, "owner": (*owners, "nobody on the host")[0], "group": (*groups, -1)[0]}


def _outside(mappings: Sequence[IDMapping], inside: int) -> list[int]:
    return [one["hostID"] + inside - one["containerID"] for one in mappings
            if 0 <= inside - one["containerID"] < one["size"]]  # fmt: skip


def _handshake(view: View, _step: Step) -> Expected:
    told = [view.steps[number - 1].args[0] for number in view.places.get("open_handshake", ())]
    where = str(told[0]) if told else ""
    return {"directory": where if where.startswith("/") and where.endswith(f"/{view.id}") else "its own"}


def _keyring(view: View, _step: Step) -> Expected:
    return {"name": f"_ses.{view.id}"}


def _link(_view: View, _step: Step) -> Expected:
    return {"name": "lo"}


def _net_devices(view: View, _step: Step) -> Expected:
    listed = view.linux.get("netDevices", {})
    pairs = ((name, device.get("name") or name) for name, device in listed.items())
    return {"names": tuple(name for pair in pairs for name in pair)}


def _made_class(view: View, _step: Step) -> Expected:
    asked = view.linux.get("intelRdt", {})
    return {
        "group": _class_of(view),
        "own": int("closID" not in asked),
        "l3": asked.get("l3CacheSchema", ""),
        "bandwidth": asked.get("memBwSchema", ""),
        "schemata": tuple(asked.get("schemata", ())),
        "monitor": view.id if asked.get("enableMonitoring") else "",
    }


def _entered_class(view: View, step: Step) -> Expected:
    """All below one mount, which is that of make_resctrl where the plan has one."""
    (places,) = step.args
    assert isinstance(places, tuple)
    given = str(places[0]) if places else ""
    group, made = _class_of(view), view.argument("make_resctrl", "mount")
    mount = given.removesuffix(f"/{group}") if made is None else str(made)
    first = f"{mount}/{group}" if group else mount
    monitored = view.linux.get("intelRdt", {}).get("enableMonitoring")
    return {"places": (first, f"{first}/mon_groups/{view.id}") if monitored else (first,)}


def _class_of(view: View) -> str:
    name = view.linux.get("intelRdt", {}).get("closID", view.id)
    return "" if name == "/" else name


# -- hooks


def _hook(view: View, step: Step) -> Expected:
    _, _, kind, number = step.pointer.split("/")
    hook = entry_at(view.config, step.pointer)
    return {
        **({"state": _state(view, step)} if step.verb == "run_hook_inside" else {}),
        "kind": kind,
        "number": int(number),
        "path": hook.get("path"),
        "args": tuple(hook.get("args") or [hook.get("path")]),
        "env": tuple(hook.get("env", ())),
        "timeout": min(hook.get("timeout", 0), 0xFFFFFFFF),
    }


def _state(view: View, step: Step) -> object:
    """The state of the container (runtime.md#state) from its second member on: init puts its pid before."""
    given = step.args[-1]
    assert isinstance(given, bytes)
    told = (f'"id":"{view.id}"', '"status":"created"', '"bundle":"/')
    whole = given.startswith(b'"ociVersion":') and given.endswith(b"}")
    return given if whole and all(text.encode() in given for text in told) else " ".join(told)


VALUES: dict[str, Values] = {
    "set_ids": _ids,
    "own_stdio": _owner,
    "take_terminal": _owner,
    "find_home": _owner,
    "set_groups": _groups,
    "set_umask": _umask,
    "enter_cwd": _cwd,
    "make_directory": _cwd,
    "set_rlimit": _rlimit,
    "set_capabilities": _capabilities,
    "drop_bounding": _bounding,
    "raise_ambient": _ambient,
    "set_oom_score": _oom_score,
    "exec": _exec,
    "find_program": _program,
    "load_seccomp": _filter,
    "send_listener": _listener,
    "enter_subgroup": _subgroup,
    "label_keyring": _selinux,
    "set_selinux": _selinux,
    "set_apparmor": _apparmor,
    "make_console": _console,
    "set_hostname": _hostname,
    "set_domainname": _domainname,
    "set_sysctl": _sysctl,
    "mask_path": _listed_path,
    "readonly_path": _listed_path,
    "vacate_cgroup": _vacated,
    "join_scope": _joined_scope,
    "make_cgroup": _cgroup,
    "make_scope": _scope,
    "limit_processes": _processes,
    "open_cgroup": _open_cgroup,
    "set_cgroup": _set_cgroup,
    "own_cgroup": _own_cgroup,
    "open_handshake": _handshake,
    "join_keyring": _keyring,
    "set_link_up": _link,
    "move_net_devices": _net_devices,
    "make_resctrl": _made_class,
    "enter_resctrl": _entered_class,
    "run_hook": _hook,
    "run_hook_inside": _hook,
    **SCHEDULING_VALUES,
    **MOUNT_VALUES,
    **NAMESPACE_VALUES,
}
