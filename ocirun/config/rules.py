"""Rules that no schema can tell: across members, and of values that the kernel or the specification refuse.

Each rule is one function; it takes the part of the document that it looks at and ``found``, which it calls
with the pointer, the rule and the hint of every fault.  What depends on this host is the planner's
business.
"""

from __future__ import annotations

from ocirun_spec.checker import escape

from ocirun.config.access import KINDS, Namespaces, an_object, integer, objects, string, strings, within
from ocirun.config.mount_rules import check_mounts, overlapping
from ocirun.config.path_rules import check_paths
from ocirun.config.resource_rules import check_resources
from ocirun.config.seccomp_rules import check_seccomp
from ocirun.config.sysctl_rules import check_names, check_sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_spec.checker import Json

    from ocirun.config.access import Found, Object

#: The names of getrlimit(2).
RLIMITS = frozenset({
    "RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_LOCKS", "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_RSS", "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME", "RLIMIT_SIGPENDING", "RLIMIT_STACK",
})  # fmt: skip
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
#: HOST_NAME_MAX and the length of a NIS domain name: __NEW_UTS_LEN of the kernel.
UTS_LENGTH = 64
#: The most CPUs and memory nodes that a kernel can be built for (CONFIG_NR_CPUS, CONFIG_NODES_SHIFT).
MOST_CPUS, MOST_NODES = 8192, 1024
#: What a time namespace keeps: time_namespaces(7).
CLOCKS = ("monotonic", "boottime")
#: Nanoseconds; below, sched_setattr(2) takes no deadline.
SHORTEST_RUNTIME = 1024
#: (uid_t) -1, which setuid(2) and chown(2) take for "do not change".
NO_ID = 0xFFFFFFFF


def check_rules(config: Json, found: Found) -> None:
    """Report every fault of ``config`` that the schema does not tell; wrong types are passed over in
    silence."""
    if not isinstance(config, dict):
        return
    namespaces = Namespaces(config)
    version(config, found)
    root(config, found)
    names(config, namespaces, found)
    annotation_names(config, found)
    hooks(config, found)
    check_mounts(config, namespaces, found)
    check_paths(config, found)
    if isinstance(config.get("process"), dict):
        process(an_object(config, "process"), found)
    of = an_object(config, "linux")
    linux(of, namespaces, found)
    if "sysctl" in of:
        check_names(config, found)
    check_seccomp(config, found)


def process(of: Object, found: Found) -> None:
    """The rules of /process."""
    for rule in (
        program,
        directory,
        environment,
        user,
        console,
        rlimits,
        oom,
        scheduler,
        io_priority,
        affinity,
    ):
        rule(of, found)


def check_process_rules(value: Json, found: Found) -> None:
    """The rules of a process that stands for itself, with the pointers of that."""
    if isinstance(value, dict):
        process(value, lambda pointer, rule, hint: found(pointer.removeprefix("/process"), rule, hint))


def linux(of: Object, namespaces: Namespaces, found: Found) -> None:
    """The rules of /linux."""
    for rule in (namespace_list, devices, cgroup, personality, memory_policy, intel_rdt):
        rule(of, found)
    for joint in (mappings, time_offsets, net_devices, check_sysctl):
        joint(of, namespaces, found)
    check_resources(an_object(of, "resources"), found)


# -- the document --------------------------------------------------------------------------------------------


def version(config: Object, found: Found) -> None:
    """The version is a semantic version of major 1 (config.md, Specification version)."""
    told = string(config, "ociVersion")
    if told is None:
        return
    if not _semantic(told):
        found(
            "/ociVersion", "must be a semantic version MAJOR.MINOR.PATCH", 'such as "1.3.0"; see semver.org'
        )
    elif told.partition(".")[0] != "1":
        found(
            "/ociVersion",
            "must be of major version 1",
            "other majors of the specification are not known here",
        )


def _semantic(told: str) -> bool:
    plain, plus, build = told.partition("+")
    numbers, minus, pre = plain.partition("-")
    parts = numbers.split(".")
    return (
        len(parts) == 3
        and all(map(_number, parts))
        and (not plus or all(map(_identifier, build.split("."))))
        and (not minus or all(map(_pre_release, pre.split("."))))
    )


def _number(part: str) -> bool:
    return part.isascii() and part.isdigit() and (part == "0" or part[0] != "0")


def _identifier(part: str) -> bool:
    return part.isascii() and part.replace("-", "0").isalnum()


def _pre_release(part: str) -> bool:
    return _identifier(part) and (not part.isdigit() or _number(part))


def root(config: Object, found: Found) -> None:
    """There is a root on Linux, and it names a directory (config.md, Root)."""
    if "root" not in config:
        found("/root", "is required on Linux", 'such as {"path": "rootfs"}')
    elif string(an_object(config, "root"), "path") == "":
        found("/root/path", "must not be empty", 'usually "rootfs", relative to the bundle')


def names(config: Object, namespaces: Namespaces, found: Found) -> None:
    """The host and domain names have a UTS namespace to be set in, and fit into it."""
    for member in ("hostname", "domainname"):
        told = string(config, member)
        if not told:
            continue
        if "uts" not in namespaces.kinds:
            # without one the name of the host itself would be changed
            found(f"/{member}", "needs a uts namespace", 'add {"type": "uts"} to linux.namespaces')
        if len(told.encode("utf-8", "replace")) > UTS_LENGTH:
            found(f"/{member}", f"must not be longer than {UTS_LENGTH} bytes", "the kernel has no more room")


def annotation_names(config: Object, found: Found) -> None:
    """No annotation has an empty name (config.md, Annotations)."""
    if "" in an_object(config, "annotations"):
        found("/annotations/", "must have a name", 'such as "org.example.key"')


def hooks(config: Object, found: Found) -> None:
    """Hooks name their programs by absolute paths (config.md, POSIX-platform Hooks)."""
    of = an_object(config, "hooks")
    if not of:
        return
    for member in HOOKS:
        for index, hook in objects(of, member):
            path = string(hook, "path")
            if path is not None and not path.startswith("/"):
                found(
                    f"/hooks/{member}/{index}/path",
                    "must be an absolute path",
                    "hooks are not looked up in PATH",
                )
            if strings(hook, "args")[:1] == [(0, "")]:
                found(
                    f"/hooks/{member}/{index}/args/0",
                    "must not be empty",
                    "it is the name the program is given",
                )
            _assignments(hook, f"/hooks/{member}/{index}", found)


def _assignments(of: Object, pointer: str, found: Found) -> None:
    for index, entry in strings(of, "env"):
        if entry.find("=") < 1:
            found(
                f"{pointer}/env/{index}", "must have the form NAME=value", "an empty value is written NAME="
            )


# -- /process ------------------------------------------------------------------------------------------------


def program(of: Object, found: Found) -> None:
    """The arguments have a first entry, which names the program (config.md, POSIX process)."""
    args = of.get("args", [])
    if not isinstance(args, list):
        return
    if not args:
        found("/process/args", "must name a program", 'such as ["sh"]')
    elif args[0] == "":
        found("/process/args/0", "must name a program", "an empty name is never found")


def directory(of: Object, found: Found) -> None:
    """The working directory is absolute."""
    told = string(of, "cwd")
    if told is not None and not told.startswith("/"):
        found("/process/cwd", "must be an absolute path", f'perhaps "/{told}"')


def environment(of: Object, found: Found) -> None:
    """Every entry of env has a name and an equals sign."""
    _assignments(of, "/process", found)


def user(of: Object, found: Found) -> None:
    """Ids are ids, and the umask has permission bits only."""
    of = an_object(of, "user")
    for member in ("uid", "gid"):
        if integer(of, member) == NO_ID:
            found(
                f"/process/user/{member}",
                "is reserved by the kernel",
                "4294967295 is -1 as an unsigned number",
            )
    gids = of.get("additionalGids", [])
    if isinstance(gids, list) and NO_ID in gids:
        found(
            f"/process/user/additionalGids/{gids.index(NO_ID)}",
            "is reserved by the kernel",
            "4294967295 is -1",
        )
    if not within(of, "umask", 0, 0o777):
        found(
            "/process/user/umask",
            "must be at most 511",
            "511 is 0777 in octal; JSON has decimal numbers only",
        )


def console(of: Object, found: Found) -> None:
    """The size fits the 16 bits of struct winsize; without a terminal it is ignored (config.md, Process)."""
    if of.get("terminal") is not True:
        return
    size = an_object(of, "consoleSize")
    for member in ("height", "width"):
        if (integer(size, member) or 0) > 0xFFFF:
            found(f"/process/consoleSize/{member}", "must be at most 65535", "the kernel keeps it in 16 bits")


def rlimits(of: Object, found: Found) -> None:
    """Every limit is known to the kernel, stands once, and is not above its ceiling (config.md, POSIX
    process)."""
    seen: dict[str, int] = {}
    for index, item in objects(of, "rlimits"):
        pointer, kind = f"/process/rlimits/{index}", string(item, "type")
        soft, hard = integer(item, "soft"), integer(item, "hard")
        if kind is not None and kind in seen:
            found(
                f"{pointer}/type",
                "stands twice",
                f"first at /process/rlimits/{seen[kind]}; keep one of the two",
            )
        elif kind is not None and kind.startswith("RLIMIT_") and kind not in RLIMITS:
            found(
                f"{pointer}/type", "is no limit of Linux", "see getrlimit(2): " + ", ".join(sorted(RLIMITS))
            )
        if soft is not None and hard is not None and soft > hard:
            found(f"{pointer}/soft", "must not be above the hard limit", f"the hard limit is {hard}")
        seen.setdefault(kind or "", index)


def oom(of: Object, found: Found) -> None:
    """The score is in the range of proc(5)."""
    if not within(of, "oomScoreAdj", -1000, 1000):
        found("/process/oomScoreAdj", "must be from -1000 to 1000", "see /proc/PID/oom_score_adj in proc(5)")


def scheduler(of: Object, found: Found) -> None:
    """Only what sched_setattr(2) takes together."""
    of = an_object(of, "scheduler")
    policy, here = string(of, "policy"), "/process/scheduler"
    if policy is None:
        return
    if not within(of, "nice", -20, 19):
        found(f"{here}/nice", "must be from -20 to 19", "see sched_setattr(2)")
    priority = integer(of, "priority") or 0
    if policy in ("SCHED_FIFO", "SCHED_RR"):
        if not 1 <= priority <= 99:
            found(f"{here}/priority", f"must be from 1 to 99 with {policy}", "see sched(7)")
    elif priority and policy.startswith("SCHED_"):
        found(f"{here}/priority", f"must be 0 with {policy}", "only SCHED_FIFO and SCHED_RR have priorities")
    for member in ("runtime", "deadline", "period"):
        if policy != "SCHED_DEADLINE" and integer(of, member):
            found(f"{here}/{member}", f"must be 0 with {policy}", "it belongs to SCHED_DEADLINE")
    if policy == "SCHED_DEADLINE":
        _deadline(of, found)


def _deadline(of: Object, found: Found) -> None:
    """The times of a deadline are in their order (sched(7)); a period of 0 is the deadline."""
    here, see = "/process/scheduler", "nanoseconds; see SCHED_DEADLINE in sched(7)"
    runtime, deadline = integer(of, "runtime") or 0, integer(of, "deadline") or 0
    if runtime < SHORTEST_RUNTIME:
        found(f"{here}/runtime", f"must be at least {SHORTEST_RUNTIME} with SCHED_DEADLINE", see)
    if deadline < runtime:
        found(f"{here}/deadline", "must not be below the runtime", see)
    if 0 < (integer(of, "period") or 0) < deadline:
        found(f"{here}/period", "must be 0 or not below the deadline", see)


def io_priority(of: Object, found: Found) -> None:
    """The priority is one of the eight of ioprio_set(2)."""
    if not within(an_object(of, "ioPriority"), "priority", 0, 7):
        found("/process/ioPriority/priority", "must be from 0 to 7", "0 is served first")


def affinity(of: Object, found: Found) -> None:
    """The affinities are lists that can be understood."""
    of = an_object(of, "execCPUAffinity")
    for member in ("initial", "final"):
        told = string(of, member)
        if told and not told.strip("0123456789, -") and not _is_list(told, MOST_CPUS):
            found(
                f"/process/execCPUAffinity/{member}",
                f"must be a list of CPUs below {MOST_CPUS} and ranges",
                'such as "0-3,7"',
            )


def _is_list(told: str, most: int) -> bool:
    """Whether it is a list of numbers below ``most`` and ranges of them."""
    return all(_in_range(part.strip(), most) for part in told.split(","))


def _in_range(part: str, most: int) -> bool:
    low, dash, high = part.partition("-")
    if not all(number.isdigit() and number.isascii() for number in (low, high or "0" * (not dash))):
        return False
    return int(low) <= int(high or low) < most


# -- /linux --------------------------------------------------------------------------------------------------


def namespace_list(of: Object, found: Found) -> None:
    """Each kind of namespace stands once, and paths are absolute (config-linux.md, Namespaces)."""
    seen: dict[str, int] = {}
    for index, item in objects(of, "namespaces"):
        pointer, kind, path = f"/linux/namespaces/{index}", string(item, "type"), string(item, "path")
        if kind is not None and kind in seen:
            found(
                f"{pointer}/type",
                "stands twice",
                f"first at /linux/namespaces/{seen[kind]}; keep one of the two",
            )
        if path is not None and not path.startswith("/"):
            found(f"{pointer}/path", "must be an absolute path", "leave it out for a new namespace")
        if kind in KINDS:
            seen.setdefault(kind, index)


def mappings(of: Object, namespaces: Namespaces, found: Found) -> None:
    """Mappings have a user namespace to be written to, and the kernel takes them (user_namespaces(7))."""
    for member in ("uidMappings", "gidMappings"):
        if of.get(member) and "user" not in namespaces.kinds:
            found(f"/linux/{member}", "needs a user namespace", 'add {"type": "user"} to linux.namespaces')
        overlapping(of, member, f"/linux/{member}", found)


def time_offsets(of: Object, namespaces: Namespaces, found: Found) -> None:
    """Offsets have a new time namespace, whose clocks nobody has read yet (time_namespaces(7))."""
    offsets = an_object(of, "timeOffsets")
    if offsets and "time" not in namespaces.kinds:
        found("/linux/timeOffsets", "needs a time namespace", 'add {"type": "time"} to linux.namespaces')
    elif offsets and "time" in namespaces.joined:
        found(
            "/linux/timeOffsets",
            "cannot be set in a namespace that is joined",
            "take its path or the offsets out",
        )
    for clock in offsets:
        if clock not in CLOCKS:
            pointer = f"/linux/timeOffsets/{escape(clock)}"
            found(pointer, "is no clock of a time namespace", "monotonic or boottime: time_namespaces(7)")
    for clock in CLOCKS:
        if not within(an_object(offsets, clock), "nanosecs", 0, 999_999_999):
            found(
                f"/linux/timeOffsets/{clock}/nanosecs", "must be less than a second", "put the rest into secs"
            )


def net_devices(of: Object, namespaces: Namespaces, found: Found) -> None:
    """Devices are moved into a network namespace, under names that the kernel takes and that differ."""
    devices_ = an_object(of, "netDevices")
    if devices_ and "network" not in namespaces.kinds:
        found("/linux/netDevices", "needs a network namespace", 'add {"type": "network"} to linux.namespaces')
    seen: dict[str, str] = {}
    for name in devices_:
        pointer = f"/linux/netDevices/{escape(name)}"
        told = string(an_object(devices_, name), "name")
        target = told or name
        if not _interface(name):
            found(
                pointer, "must be the name of a network device", "at most 15 bytes, no space, slash or colon"
            )
        if told and not (_interface(told) and "%" not in told.replace("%d", "", 1)):
            found(
                f"{pointer}/name",
                "must be the name of a network device",
                "at most 15 bytes, no space, slash or colon, and no % but one %d, which stands for a number",
            )
        if target in seen and "%d" not in target:
            found(pointer, f"would be called {target} inside like another", f"the other is {seen[target]}")
        seen.setdefault(target, name)


def _interface(name: str) -> bool:
    # dev_valid_name() of the kernel
    fits = 0 < len(name.encode("utf-8", "replace")) < 16 and name not in (".", "..")
    return fits and not any(character in "/:" or character.isspace() for character in name)


def devices(of: Object, found: Found) -> None:
    """Devices have absolute paths, and numbers unless they are FIFOs (config-linux.md, Devices)."""
    for index, item in objects(of, "devices"):
        pointer, path = f"/linux/devices/{index}", string(item, "path")
        if path is not None and not path.startswith("/"):
            found(f"{pointer}/path", "must be an absolute path", "it is a path inside the container")
        for member in () if string(item, "type") == "p" else ("major", "minor"):
            number = integer(item, member)
            if member not in item and string(item, "type") in ("c", "b", "u"):
                found(
                    f"{pointer}/{member}", "is required for this type", "only FIFOs (type p) have no numbers"
                )
            elif number is not None and number < 0:
                found(
                    f"{pointer}/{member}",
                    "must not be negative",
                    "a device file has one number, not a pattern",
                )
    if of.get("devices"):
        same_path(of, found)


def same_path(of: Object, found: Found) -> None:
    """Where two devices have one path, they are one device: the second would have to be an error (ibid.)."""
    first: dict[str, tuple[int, object]] = {}
    for index, item in objects(of, "devices"):
        path, kind = string(item, "path"), string(item, "type")
        if path is None or not isinstance(kind, str):
            continue
        numbers = () if kind == "p" else (item.get("major"), item.get("minor"))
        meant = ("c" if kind == "u" else kind, *numbers)
        place = "/".join([part for part in path.split("/") if part not in ("", ".")])
        before, other = first.setdefault(place, (index, meant))
        if other != meant:
            found(
                f"/linux/devices/{index}/path",
                "names another device",
                f"the first is /linux/devices/{before}",
            )


def cgroup(of: Object, found: Found) -> None:
    """The path of the cgroup does not climb out of where cgroups are made."""
    if ".." in (string(of, "cgroupsPath") or "").split("/"):
        found(
            "/linux/cgroupsPath", "must not have .. in it", "name the cgroup from the cgroup mount downwards"
        )


def personality(of: Object, found: Found) -> None:
    """There is a domain, and no flags, because none is defined (config-linux.md, Personality)."""
    if not isinstance(of.get("personality"), dict):
        return
    of = an_object(of, "personality")
    if "domain" not in of:
        found("/linux/personality/domain", "is required", "LINUX or LINUX32")
    for index, _ in strings(of, "flags"):
        found(f"/linux/personality/flags/{index}", "is no known flag", "the specification defines none")


def memory_policy(of: Object, found: Found) -> None:
    """There is a mode, and nodes exactly where it takes some (config-linux.md, set_mempolicy(2))."""
    if not isinstance(of.get("memoryPolicy"), dict):
        return
    of = an_object(of, "memoryPolicy")
    here, mode, nodes = "/linux/memoryPolicy", string(of, "mode"), string(of, "nodes")
    if "mode" not in of:
        found(f"{here}/mode", "is required", "such as MPOL_BIND")
    if nodes and mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        found(f"{here}/nodes", f"must be empty with {mode}", "this mode chooses the nodes itself")
    if not nodes and mode in (
        "MPOL_BIND",
        "MPOL_INTERLEAVE",
        "MPOL_WEIGHTED_INTERLEAVE",
        "MPOL_PREFERRED_MANY",
    ):
        found(f"{here}/nodes", f"must name nodes with {mode}", 'such as "0-1"')
    if nodes and not _is_list(nodes, MOST_NODES):
        found(f"{here}/nodes", f"must be a list of nodes below {MOST_NODES} and ranges", 'such as "0-1"')
    flags = {flag for _, flag in strings(of, "flags")}
    if "MPOL_F_NUMA_BALANCING" in flags and mode not in (None, "MPOL_BIND", "MPOL_PREFERRED_MANY"):
        found(
            f"{here}/flags",
            "has a flag for other modes",
            "MPOL_F_NUMA_BALANCING goes with MPOL_BIND and MPOL_PREFERRED_MANY: set_mempolicy(2)",
        )
    if {"MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"} <= flags:
        found(f"{here}/flags", "has flags that exclude each other", "static or relative nodes, not both")


def intel_rdt(of: Object, found: Found) -> None:
    """The class is one directory of resctrl, and a schema line is one line (config-linux.md, IntelRdt)."""
    of = an_object(of, "intelRdt")
    name = string(of, "closID")
    if name is not None and name != "/" and ("/" in name or name in ("", ".", "..")):
        found("/linux/intelRdt/closID", "must be the name of one directory", '"/" is the default class')
    for index, line in strings(of, "schemata"):
        if "\n" in line:
            found(f"/linux/intelRdt/schemata/{index}", "must be one line", "make an entry of each line")
