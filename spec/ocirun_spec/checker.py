"""Check a parsed config.json against the schema, in plain Python without imports.

Generated from config-schema.json by ocirun_spec.generate: do not edit.

Every function takes a value and its JSON pointer.  It calls ``fault(pointer, rule, value)`` for each rule
broken and ``unknown(pointer, kind)`` for each object with a member outside the schema; ``kind`` is a key of
``members.MEMBERS``.  An absent member that is required is told with the pointer it would have, and None.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
    Fault = Callable[[str, str, "Json"], None]
    Unknown = Callable[[str, str], None]


def check(config: Json, fault: Fault, unknown: Unknown) -> None:
    """Report every fault and every object with unknown members of ``config``, a whole config.json."""
    _config(config, "", fault, unknown)


def check_process(process: Json, fault: Fault, unknown: Unknown) -> None:
    """The same for the Process object of an exec, which stands for itself: its pointers begin there."""
    _process(process, "", fault, unknown)


def escape(name: str) -> str:
    """``name`` as one part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")

_OF_CONFIG = frozenset({
    "ociVersion", "root", "mounts", "process", "hostname", "domainname", "hooks", "annotations", "linux",
    "solaris", "windows", "vm", "zos", "freebsd",
})
_OF_ROOT = frozenset({"path", "readonly"})
_OF_MOUNT = frozenset({"destination", "type", "source", "options", "uidMappings", "gidMappings"})
_OF_ID_MAPPING = frozenset({"containerID", "hostID", "size"})
_OF_PROCESS = frozenset({
    "args", "cwd", "env", "user", "terminal", "consoleSize", "capabilities", "rlimits",
    "noNewPrivileges", "apparmorProfile", "selinuxLabel", "oomScoreAdj", "scheduler", "ioPriority",
    "execCPUAffinity", "commandLine",
})
_OF_USER = frozenset({"uid", "gid", "umask", "additionalGids", "username"})
_OF_CONSOLE_SIZE = frozenset({"height", "width"})
_OF_CAPABILITIES = frozenset({"bounding", "permitted", "effective", "inheritable", "ambient"})
_OF_RLIMIT = frozenset({"type", "soft", "hard"})
_OF_SCHEDULER = frozenset({"policy", "nice", "priority", "flags", "runtime", "deadline", "period"})
_SCHED_OTHER = dict.fromkeys([
    "SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE",
])
_SCHEDULER_FLAG = dict.fromkeys([
    "SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX",
])
_OF_IO_PRIORITY = frozenset({"class", "priority"})
_IOPRIO_CLASS_RT = dict.fromkeys(["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"])
_OF_EXEC_CPU_AFFINITY = frozenset({"initial", "final"})
_OF_HOOKS = frozenset({
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
})
_OF_HOOK = frozenset({"path", "args", "env", "timeout"})
_OF_LINUX = frozenset({
    "namespaces", "uidMappings", "gidMappings", "timeOffsets", "devices", "netDevices", "cgroupsPath",
    "resources", "rootfsPropagation", "seccomp", "sysctl", "maskedPaths", "readonlyPaths", "mountLabel",
    "intelRdt", "memoryPolicy", "personality",
})
_OF_NAMESPACE = frozenset({"type", "path"})
_NAMESPACE_TYPE = dict.fromkeys(["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"])
_OF_TIME_OFFSETS = frozenset({"monotonic", "boottime"})
_OF_TIME_OFFSET = frozenset({"secs", "nanosecs"})
_OF_DEVICE = frozenset({"type", "path", "major", "minor", "fileMode", "uid", "gid"})
_OF_NET_DEVICE = frozenset({"name"})
_OF_RESOURCES = frozenset({
    "devices", "memory", "cpu", "pids", "blockIO", "hugepageLimits", "network", "rdma", "unified",
})
_OF_DEVICE_RULE = frozenset({"allow", "type", "major", "minor", "access"})
_OF_MEMORY = frozenset({
    "limit", "reservation", "swap", "kernel", "kernelTCP", "swappiness", "disableOOMKiller",
    "useHierarchy", "checkBeforeUpdate",
})
_OF_CPU = frozenset({
    "shares", "quota", "burst", "period", "realtimeRuntime", "realtimePeriod", "cpus", "mems", "idle",
})
_OF_PIDS = frozenset({"limit"})
_OF_BLOCK_IO = frozenset({
    "weight", "leafWeight", "weightDevice", "throttleReadBpsDevice", "throttleWriteBpsDevice",
    "throttleReadIOPSDevice", "throttleWriteIOPSDevice",
})
_OF_WEIGHT_DEVICE = frozenset({"major", "minor", "weight", "leafWeight"})
_OF_THROTTLE_DEVICE = frozenset({"major", "minor", "rate"})
_OF_HUGEPAGE_LIMIT = frozenset({"pageSize", "limit"})
_OF_NETWORK = frozenset({"classID", "priorities"})
_OF_INTERFACE_PRIORITY = frozenset({"name", "priority"})
_OF_RDMA = frozenset({"hcaHandles", "hcaObjects"})
_PRIVATE = dict.fromkeys([
    "private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable",
])
_OF_SECCOMP = frozenset({
    "defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata",
    "syscalls",
})
_SECCOMP_ACTION = dict.fromkeys([
    "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY",
])
_SECCOMP_ARCH = dict.fromkeys([
    "SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB",
])
_SECCOMP_FLAG = dict.fromkeys([
    "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
])
_OF_SYSCALL = frozenset({"names", "action", "errnoRet", "args"})
_OF_SYSCALL_ARG = frozenset({"index", "value", "valueTwo", "op"})
_SECCOMP_OPERATOR = dict.fromkeys([
    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
])
_OF_INTEL_RDT = frozenset({"closID", "schemata", "l3CacheSchema", "memBwSchema", "enableMonitoring"})
_OF_MEMORY_POLICY = frozenset({"mode", "nodes", "flags"})
_MPOL_DEFAULT = dict.fromkeys([
    "MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY", "MPOL_LOCAL",
])
_MEMORY_POLICY_FLAG = dict.fromkeys([
    "MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES",
])
_OF_PERSONALITY = frozenset({"domain", "flags"})
_LINUX = dict.fromkeys(["LINUX", "LINUX32"])


def _pattern_1(x: str) -> bool:
    """Whether ``^RLIMIT_[A-Z]+$`` matches."""
    return (
        len(x) >= 8
        and x.startswith("RLIMIT_")
        and not x[7:].strip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    )


def _pattern_2(x: str) -> bool:
    """Whether ``^[0-9, -]*$`` matches."""
    return not x.strip("0123456789, -")


def _pattern_3(x: str) -> bool:
    """Whether ``^[cbup]$`` matches."""
    return (
        len(x) == 1
        and x[0] in "cbup"
    )


def _pattern_4(x: str) -> bool:
    """Whether ``^[1-9][0-9]*[KMG]B$`` matches."""
    return (
        len(x) >= 3
        and x[0] in "123456789"
        and x[-2] in "KMG"
        and x[-1] == "B"
        and not x[1:-2].strip("0123456789")
    )


def _pattern_5(x: str) -> bool:
    """Whether ``^MB:[^\\n]*$`` matches."""
    return (
        len(x) >= 3
        and x.startswith("MB:")
        and "\n" not in x[3:]
    )


def _config(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_CONFIG:
        unknown(p, "Config")
    if "ociVersion" not in v:
        fault(f"{p}/ociVersion", "is required", None)
    for m in ("ociVersion", "hostname", "domainname"):
        if m in v and not (isinstance(v[m], str)):
            fault(f"{p}/{m}", "must be a string", v[m])
    if "root" in v:
        _root(v["root"], f"{p}/root", fault, unknown)
    if "mounts" in v:
        _mounts(v["mounts"], f"{p}/mounts", fault, unknown)
    if "process" in v:
        _process(v["process"], f"{p}/process", fault, unknown)
    if "hooks" in v:
        _hooks(v["hooks"], f"{p}/hooks", fault, unknown)
    if "annotations" in v:
        _string_map(v["annotations"], f"{p}/annotations", fault, unknown)
    if "linux" in v:
        _linux(v["linux"], f"{p}/linux", fault, unknown)
    for m in ("solaris", "windows", "vm", "zos", "freebsd"):
        if m in v:
            _any_object(v[m], f"{p}/{m}", fault, unknown)


def _root(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_ROOT:
        unknown(p, "Root")
    if "path" not in v:
        fault(f"{p}/path", "is required", None)
    if "path" in v and not (isinstance(v["path"], str)):
        fault(f"{p}/path", "must be a string", v["path"])
    if "readonly" in v and not (isinstance(v["readonly"], bool)):
        fault(f"{p}/readonly", "must be true or false", v["readonly"])


def _mounts(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        _mount(x, f"{p}/{i}", fault, unknown)


def _mount(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_MOUNT:
        unknown(p, "Mount")
    if "destination" not in v:
        fault(f"{p}/destination", "is required", None)
    for m in ("destination", "type", "source"):
        if m in v and not (isinstance(v[m], str)):
            fault(f"{p}/{m}", "must be a string", v[m])
    if "options" in v:
        _strings(v["options"], f"{p}/options", fault, unknown)
    for m in ("uidMappings", "gidMappings"):
        if m in v:
            _id_mappings(v[m], f"{p}/{m}", fault, unknown)


def _strings(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        if not (isinstance(x, str)):
            fault(f"{p}/{i}", "must be a string", x)


def _id_mappings(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        _id_mapping(x, f"{p}/{i}", fault, unknown)


def _id_mapping(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_ID_MAPPING:
        unknown(p, "IDMapping")
    for m in ("containerID", "hostID", "size"):
        if m not in v:
            fault(f"{p}/{m}", "is required", None)
    for m in ("containerID", "hostID", "size"):
        if m in v and not (type(x := v[m]) is int and 0 <= x <= 4294967295):
            fault(f"{p}/{m}", "must be an integer from 0 to 4294967295", v[m])


def _process(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_PROCESS:
        unknown(p, "Process")
    if "cwd" not in v:
        fault(f"{p}/cwd", "is required", None)
    for m in ("args", "env"):
        if m in v:
            _strings(v[m], f"{p}/{m}", fault, unknown)
    for m in ("cwd", "apparmorProfile", "selinuxLabel", "commandLine"):
        if m in v and not (isinstance(v[m], str)):
            fault(f"{p}/{m}", "must be a string", v[m])
    if "user" in v:
        _user(v["user"], f"{p}/user", fault, unknown)
    for m in ("terminal", "noNewPrivileges"):
        if m in v and not (isinstance(v[m], bool)):
            fault(f"{p}/{m}", "must be true or false", v[m])
    if "consoleSize" in v:
        _console_size(v["consoleSize"], f"{p}/consoleSize", fault, unknown)
    if "capabilities" in v:
        _capabilities(v["capabilities"], f"{p}/capabilities", fault, unknown)
    if "rlimits" in v:
        _rlimits(v["rlimits"], f"{p}/rlimits", fault, unknown)
    if "oomScoreAdj" in v and not (isinstance(x := v["oomScoreAdj"], int) and x is not True and x is not False):
        fault(f"{p}/oomScoreAdj", "must be an integer", v["oomScoreAdj"])
    if "scheduler" in v:
        _scheduler(v["scheduler"], f"{p}/scheduler", fault, unknown)
    if "ioPriority" in v:
        _io_priority(v["ioPriority"], f"{p}/ioPriority", fault, unknown)
    if "execCPUAffinity" in v:
        _exec_cpu_affinity(v["execCPUAffinity"], f"{p}/execCPUAffinity", fault, unknown)


def _user(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_USER:
        unknown(p, "User")
    for m in ("uid", "gid", "umask"):
        if m in v and not (type(x := v[m]) is int and 0 <= x <= 4294967295):
            fault(f"{p}/{m}", "must be an integer from 0 to 4294967295", v[m])
    if "additionalGids" in v:
        _uint32s(v["additionalGids"], f"{p}/additionalGids", fault, unknown)
    if "username" in v and not (isinstance(v["username"], str)):
        fault(f"{p}/username", "must be a string", v["username"])


def _uint32s(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        if not (type(x) is int and 0 <= x <= 4294967295):
            fault(f"{p}/{i}", "must be an integer from 0 to 4294967295", x)


def _console_size(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_CONSOLE_SIZE:
        unknown(p, "ConsoleSize")
    for m in ("height", "width"):
        if m not in v:
            fault(f"{p}/{m}", "is required", None)
    for m in ("height", "width"):
        if m in v and not (type(x := v[m]) is int and 0 <= x <= 18446744073709551615):
            fault(f"{p}/{m}", "must be an integer from 0 to 18446744073709551615", v[m])


def _capabilities(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_CAPABILITIES:
        unknown(p, "Capabilities")
    for m in ("bounding", "permitted", "effective", "inheritable", "ambient"):
        if m in v:
            _strings(v[m], f"{p}/{m}", fault, unknown)


def _rlimits(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        _rlimit(x, f"{p}/{i}", fault, unknown)


def _rlimit(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_RLIMIT:
        unknown(p, "Rlimit")
    for m in ("type", "soft", "hard"):
        if m not in v:
            fault(f"{p}/{m}", "is required", None)
    if "type" in v and not (isinstance(x := v["type"], str) and _pattern_1(x)):
        fault(f"{p}/type", "must be the name of a limit, such as RLIMIT_NOFILE", v["type"])
    for m in ("soft", "hard"):
        if m in v and not (type(x := v[m]) is int and 0 <= x <= 18446744073709551615):
            fault(f"{p}/{m}", "must be an integer from 0 to 18446744073709551615", v[m])


def _scheduler(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_SCHEDULER:
        unknown(p, "Scheduler")
    if "policy" not in v:
        fault(f"{p}/policy", "is required", None)
    if "policy" in v and not (isinstance(x := v["policy"], str) and x in _SCHED_OTHER):
        fault(f"{p}/policy", "must be one of " + ", ".join(_SCHED_OTHER), v["policy"])
    for m in ("nice", "priority"):
        if m in v and not (type(x := v[m]) is int and -2147483648 <= x <= 2147483647):
            fault(f"{p}/{m}", "must be an integer from -2147483648 to 2147483647", v[m])
    if "flags" in v:
        _scheduler_flags(v["flags"], f"{p}/flags", fault, unknown)
    for m in ("runtime", "deadline", "period"):
        if m in v and not (type(x := v[m]) is int and 0 <= x <= 18446744073709551615):
            fault(f"{p}/{m}", "must be an integer from 0 to 18446744073709551615", v[m])


def _scheduler_flags(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        if not (isinstance(x, str) and x in _SCHEDULER_FLAG):
            fault(f"{p}/{i}", "must be one of " + ", ".join(_SCHEDULER_FLAG), x)


def _io_priority(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_IO_PRIORITY:
        unknown(p, "IOPriority")
    if "class" not in v:
        fault(f"{p}/class", "is required", None)
    if "class" in v and not (isinstance(x := v["class"], str) and x in _IOPRIO_CLASS_RT):
        fault(f"{p}/class", "must be one of " + ", ".join(_IOPRIO_CLASS_RT), v["class"])
    if "priority" in v and not (type(x := v["priority"]) is int and -2147483648 <= x <= 2147483647):
        fault(f"{p}/priority", "must be an integer from -2147483648 to 2147483647", v["priority"])


def _exec_cpu_affinity(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_EXEC_CPU_AFFINITY:
        unknown(p, "ExecCPUAffinity")
    for m in ("initial", "final"):
        if m in v and not (isinstance(x := v[m], str) and _pattern_2(x)):
            fault(f"{p}/{m}", 'must be a list of CPU numbers and ranges, such as "0-3,7"', v[m])


def _hooks(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_HOOKS:
        unknown(p, "Hooks")
    for m in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"):
        if m in v:
            _hook_list(v[m], f"{p}/{m}", fault, unknown)


def _hook_list(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        _hook(x, f"{p}/{i}", fault, unknown)


def _hook(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_HOOK:
        unknown(p, "Hook")
    if "path" not in v:
        fault(f"{p}/path", "is required", None)
    if "path" in v and not (isinstance(v["path"], str)):
        fault(f"{p}/path", "must be a string", v["path"])
    for m in ("args", "env"):
        if m in v:
            _strings(v[m], f"{p}/{m}", fault, unknown)
    if "timeout" in v and not (type(x := v["timeout"]) is int and 1 <= x):
        fault(f"{p}/timeout", "must be an integer of at least 1", v["timeout"])


def _string_map(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    for m, x in v.items():
        if m.strip("\n") and not (isinstance(x, str)):
            fault(f"{p}/{escape(m)}", "must be a string", x)


def _linux(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_LINUX:
        unknown(p, "Linux")
    if "namespaces" in v:
        _namespaces(v["namespaces"], f"{p}/namespaces", fault, unknown)
    for m in ("uidMappings", "gidMappings"):
        if m in v:
            _id_mappings(v[m], f"{p}/{m}", fault, unknown)
    if "timeOffsets" in v:
        _time_offsets(v["timeOffsets"], f"{p}/timeOffsets", fault, unknown)
    if "devices" in v:
        _devices(v["devices"], f"{p}/devices", fault, unknown)
    if "netDevices" in v:
        _net_device_map(v["netDevices"], f"{p}/netDevices", fault, unknown)
    for m in ("cgroupsPath", "mountLabel"):
        if m in v and not (isinstance(v[m], str)):
            fault(f"{p}/{m}", "must be a string", v[m])
    if "resources" in v:
        _resources(v["resources"], f"{p}/resources", fault, unknown)
    if "rootfsPropagation" in v and not (isinstance(x := v["rootfsPropagation"], str) and x in _PRIVATE):
        fault(f"{p}/rootfsPropagation", "must be one of " + ", ".join(_PRIVATE), v["rootfsPropagation"])
    if "seccomp" in v:
        _seccomp(v["seccomp"], f"{p}/seccomp", fault, unknown)
    if "sysctl" in v:
        _string_map(v["sysctl"], f"{p}/sysctl", fault, unknown)
    for m in ("maskedPaths", "readonlyPaths"):
        if m in v:
            _strings(v[m], f"{p}/{m}", fault, unknown)
    if "intelRdt" in v:
        _intel_rdt(v["intelRdt"], f"{p}/intelRdt", fault, unknown)
    if "memoryPolicy" in v:
        _memory_policy(v["memoryPolicy"], f"{p}/memoryPolicy", fault, unknown)
    if "personality" in v:
        _personality(v["personality"], f"{p}/personality", fault, unknown)


def _namespaces(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        _namespace(x, f"{p}/{i}", fault, unknown)


def _namespace(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_NAMESPACE:
        unknown(p, "Namespace")
    if "type" not in v:
        fault(f"{p}/type", "is required", None)
    if "type" in v and not (isinstance(x := v["type"], str) and x in _NAMESPACE_TYPE):
        fault(f"{p}/type", "must be one of " + ", ".join(_NAMESPACE_TYPE), v["type"])
    if "path" in v and not (isinstance(v["path"], str)):
        fault(f"{p}/path", "must be a string", v["path"])


def _time_offsets(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_TIME_OFFSETS:
        unknown(p, "TimeOffsets")
    for m in ("monotonic", "boottime"):
        if m in v:
            _time_offset(v[m], f"{p}/{m}", fault, unknown)


def _time_offset(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_TIME_OFFSET:
        unknown(p, "TimeOffset")
    if "secs" in v and not (type(x := v["secs"]) is int and -9223372036854775808 <= x <= 9223372036854775807):
        fault(f"{p}/secs", "must be an integer from -9223372036854775808 to 9223372036854775807", v["secs"])
    if "nanosecs" in v and not (type(x := v["nanosecs"]) is int and 0 <= x <= 4294967295):
        fault(f"{p}/nanosecs", "must be an integer from 0 to 4294967295", v["nanosecs"])


def _devices(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        _device(x, f"{p}/{i}", fault, unknown)


def _device(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_DEVICE:
        unknown(p, "Device")
    for m in ("type", "path"):
        if m not in v:
            fault(f"{p}/{m}", "is required", None)
    if "type" in v and not (isinstance(x := v["type"], str) and _pattern_3(x)):
        fault(f"{p}/type", 'must be "c", "b", "u" or "p"', v["type"])
    if "path" in v and not (isinstance(v["path"], str)):
        fault(f"{p}/path", "must be a string", v["path"])
    for m in ("major", "minor"):
        if m in v and not (type(x := v[m]) is int and -9223372036854775808 <= x <= 9223372036854775807):
            fault(f"{p}/{m}", "must be an integer from -9223372036854775808 to 9223372036854775807", v[m])
    if "fileMode" in v and not (type(x := v["fileMode"]) is int and 0 <= x <= 65535):
        fault(f"{p}/fileMode", "must be an integer from 0 to 65535", v["fileMode"])
    for m in ("uid", "gid"):
        if m in v and not (type(x := v[m]) is int and 0 <= x <= 4294967295):
            fault(f"{p}/{m}", "must be an integer from 0 to 4294967295", v[m])


def _net_device_map(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    for m, x in v.items():
        _net_device(x, f"{p}/{escape(m)}", fault, unknown)


def _net_device(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_NET_DEVICE:
        unknown(p, "NetDevice")
    if "name" in v and not (isinstance(v["name"], str)):
        fault(f"{p}/name", "must be a string", v["name"])


def _resources(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_RESOURCES:
        unknown(p, "Resources")
    if "devices" in v:
        _device_rules(v["devices"], f"{p}/devices", fault, unknown)
    if "memory" in v:
        _memory(v["memory"], f"{p}/memory", fault, unknown)
    if "cpu" in v:
        _cpu(v["cpu"], f"{p}/cpu", fault, unknown)
    if "pids" in v:
        _pids(v["pids"], f"{p}/pids", fault, unknown)
    if "blockIO" in v:
        _block_io(v["blockIO"], f"{p}/blockIO", fault, unknown)
    if "hugepageLimits" in v:
        _hugepage_limits(v["hugepageLimits"], f"{p}/hugepageLimits", fault, unknown)
    if "network" in v:
        _network(v["network"], f"{p}/network", fault, unknown)
    if "rdma" in v:
        _rdma_map(v["rdma"], f"{p}/rdma", fault, unknown)
    if "unified" in v:
        _string_map(v["unified"], f"{p}/unified", fault, unknown)


def _device_rules(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        _device_rule(x, f"{p}/{i}", fault, unknown)


def _device_rule(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_DEVICE_RULE:
        unknown(p, "DeviceRule")
    if "allow" not in v:
        fault(f"{p}/allow", "is required", None)
    if "allow" in v and not (isinstance(v["allow"], bool)):
        fault(f"{p}/allow", "must be true or false", v["allow"])
    for m in ("type", "access"):
        if m in v and not (isinstance(v[m], str)):
            fault(f"{p}/{m}", "must be a string", v[m])
    for m in ("major", "minor"):
        if m in v and not (type(x := v[m]) is int and -9223372036854775808 <= x <= 9223372036854775807):
            fault(f"{p}/{m}", "must be an integer from -9223372036854775808 to 9223372036854775807", v[m])


def _memory(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_MEMORY:
        unknown(p, "Memory")
    for m in ("limit", "reservation", "swap", "kernel", "kernelTCP"):
        if m in v and not (type(x := v[m]) is int and -9223372036854775808 <= x <= 9223372036854775807):
            fault(f"{p}/{m}", "must be an integer from -9223372036854775808 to 9223372036854775807", v[m])
    if "swappiness" in v and not (type(x := v["swappiness"]) is int and 0 <= x <= 18446744073709551615):
        fault(f"{p}/swappiness", "must be an integer from 0 to 18446744073709551615", v["swappiness"])
    for m in ("disableOOMKiller", "useHierarchy", "checkBeforeUpdate"):
        if m in v and not (isinstance(v[m], bool)):
            fault(f"{p}/{m}", "must be true or false", v[m])


def _cpu(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_CPU:
        unknown(p, "CPU")
    for m in ("shares", "burst", "period", "realtimePeriod"):
        if m in v and not (type(x := v[m]) is int and 0 <= x <= 18446744073709551615):
            fault(f"{p}/{m}", "must be an integer from 0 to 18446744073709551615", v[m])
    for m in ("quota", "realtimeRuntime", "idle"):
        if m in v and not (type(x := v[m]) is int and -9223372036854775808 <= x <= 9223372036854775807):
            fault(f"{p}/{m}", "must be an integer from -9223372036854775808 to 9223372036854775807", v[m])
    for m in ("cpus", "mems"):
        if m in v and not (isinstance(v[m], str)):
            fault(f"{p}/{m}", "must be a string", v[m])


def _pids(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_PIDS:
        unknown(p, "Pids")
    if "limit" not in v:
        fault(f"{p}/limit", "is required", None)
    if "limit" in v and not (type(x := v["limit"]) is int and -9223372036854775808 <= x <= 9223372036854775807):
        fault(f"{p}/limit", "must be an integer from -9223372036854775808 to 9223372036854775807", v["limit"])


def _block_io(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_BLOCK_IO:
        unknown(p, "BlockIO")
    for m in ("weight", "leafWeight"):
        if m in v and not (type(x := v[m]) is int and 0 <= x <= 65535):
            fault(f"{p}/{m}", "must be an integer from 0 to 65535", v[m])
    if "weightDevice" in v:
        _weight_devices(v["weightDevice"], f"{p}/weightDevice", fault, unknown)
    for m in (
        "throttleReadBpsDevice",
        "throttleWriteBpsDevice",
        "throttleReadIOPSDevice",
        "throttleWriteIOPSDevice",
    ):
        if m in v:
            _throttle_devices(v[m], f"{p}/{m}", fault, unknown)


def _weight_devices(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        _weight_device(x, f"{p}/{i}", fault, unknown)


def _weight_device(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_WEIGHT_DEVICE:
        unknown(p, "WeightDevice")
    for m in ("major", "minor"):
        if m not in v:
            fault(f"{p}/{m}", "is required", None)
    for m in ("major", "minor"):
        if m in v and not (type(x := v[m]) is int and -9223372036854775808 <= x <= 9223372036854775807):
            fault(f"{p}/{m}", "must be an integer from -9223372036854775808 to 9223372036854775807", v[m])
    for m in ("weight", "leafWeight"):
        if m in v and not (type(x := v[m]) is int and 0 <= x <= 65535):
            fault(f"{p}/{m}", "must be an integer from 0 to 65535", v[m])


def _throttle_devices(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        _throttle_device(x, f"{p}/{i}", fault, unknown)


def _throttle_device(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_THROTTLE_DEVICE:
        unknown(p, "ThrottleDevice")
    for m in ("major", "minor"):
        if m not in v:
            fault(f"{p}/{m}", "is required", None)
    for m in ("major", "minor"):
        if m in v and not (type(x := v[m]) is int and -9223372036854775808 <= x <= 9223372036854775807):
            fault(f"{p}/{m}", "must be an integer from -9223372036854775808 to 9223372036854775807", v[m])
    if "rate" in v and not (type(x := v["rate"]) is int and 0 <= x <= 18446744073709551615):
        fault(f"{p}/rate", "must be an integer from 0 to 18446744073709551615", v["rate"])


def _hugepage_limits(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        _hugepage_limit(x, f"{p}/{i}", fault, unknown)


def _hugepage_limit(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_HUGEPAGE_LIMIT:
        unknown(p, "HugepageLimit")
    for m in ("pageSize", "limit"):
        if m not in v:
            fault(f"{p}/{m}", "is required", None)
    if "pageSize" in v and not (isinstance(x := v["pageSize"], str) and _pattern_4(x)):
        fault(f"{p}/pageSize", 'must be a number with KB, MB or GB, such as "2MB"', v["pageSize"])
    if "limit" in v and not (type(x := v["limit"]) is int and 0 <= x <= 18446744073709551615):
        fault(f"{p}/limit", "must be an integer from 0 to 18446744073709551615", v["limit"])


def _network(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_NETWORK:
        unknown(p, "Network")
    if "classID" in v and not (type(x := v["classID"]) is int and 0 <= x <= 4294967295):
        fault(f"{p}/classID", "must be an integer from 0 to 4294967295", v["classID"])
    if "priorities" in v:
        _interface_prioritys(v["priorities"], f"{p}/priorities", fault, unknown)


def _interface_prioritys(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        _interface_priority(x, f"{p}/{i}", fault, unknown)


def _interface_priority(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_INTERFACE_PRIORITY:
        unknown(p, "InterfacePriority")
    for m in ("name", "priority"):
        if m not in v:
            fault(f"{p}/{m}", "is required", None)
    if "name" in v and not (isinstance(v["name"], str)):
        fault(f"{p}/name", "must be a string", v["name"])
    if "priority" in v and not (type(x := v["priority"]) is int and 0 <= x <= 4294967295):
        fault(f"{p}/priority", "must be an integer from 0 to 4294967295", v["priority"])


def _rdma_map(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    for m, x in v.items():
        _rdma(x, f"{p}/{escape(m)}", fault, unknown)


def _rdma(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_RDMA:
        unknown(p, "Rdma")
    for m in ("hcaHandles", "hcaObjects"):
        if m in v and not (type(x := v[m]) is int and 0 <= x <= 4294967295):
            fault(f"{p}/{m}", "must be an integer from 0 to 4294967295", v[m])


def _seccomp(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_SECCOMP:
        unknown(p, "Seccomp")
    if "defaultAction" not in v:
        fault(f"{p}/defaultAction", "is required", None)
    if "defaultAction" in v and not (isinstance(x := v["defaultAction"], str) and x in _SECCOMP_ACTION):
        fault(f"{p}/defaultAction", "must be one of " + ", ".join(_SECCOMP_ACTION), v["defaultAction"])
    if "defaultErrnoRet" in v and not (type(x := v["defaultErrnoRet"]) is int and 0 <= x <= 4294967295):
        fault(f"{p}/defaultErrnoRet", "must be an integer from 0 to 4294967295", v["defaultErrnoRet"])
    if "architectures" in v:
        _seccomp_archs(v["architectures"], f"{p}/architectures", fault, unknown)
    if "flags" in v:
        _seccomp_flags(v["flags"], f"{p}/flags", fault, unknown)
    for m in ("listenerPath", "listenerMetadata"):
        if m in v and not (isinstance(v[m], str)):
            fault(f"{p}/{m}", "must be a string", v[m])
    if "syscalls" in v:
        _syscalls(v["syscalls"], f"{p}/syscalls", fault, unknown)


def _seccomp_archs(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        if not (isinstance(x, str) and x in _SECCOMP_ARCH):
            fault(f"{p}/{i}", "must be one of " + ", ".join(_SECCOMP_ARCH), x)


def _seccomp_flags(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        if not (isinstance(x, str) and x in _SECCOMP_FLAG):
            fault(f"{p}/{i}", "must be one of " + ", ".join(_SECCOMP_FLAG), x)


def _syscalls(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        _syscall(x, f"{p}/{i}", fault, unknown)


def _syscall(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_SYSCALL:
        unknown(p, "Syscall")
    for m in ("names", "action"):
        if m not in v:
            fault(f"{p}/{m}", "is required", None)
    if "names" in v:
        _syscall_names(v["names"], f"{p}/names", fault, unknown)
    if "action" in v and not (isinstance(x := v["action"], str) and x in _SECCOMP_ACTION):
        fault(f"{p}/action", "must be one of " + ", ".join(_SECCOMP_ACTION), v["action"])
    if "errnoRet" in v and not (type(x := v["errnoRet"]) is int and 0 <= x <= 4294967295):
        fault(f"{p}/errnoRet", "must be an integer from 0 to 4294967295", v["errnoRet"])
    if "args" in v:
        _syscall_args(v["args"], f"{p}/args", fault, unknown)


def _syscall_names(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    if len(v) < 1:
        fault(p, "must have at least 1 item", v)
    for i, x in enumerate(v):
        if not (isinstance(x, str)):
            fault(f"{p}/{i}", "must be a string", x)


def _syscall_args(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        _syscall_arg(x, f"{p}/{i}", fault, unknown)


def _syscall_arg(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_SYSCALL_ARG:
        unknown(p, "SyscallArg")
    for m in ("index", "value", "op"):
        if m not in v:
            fault(f"{p}/{m}", "is required", None)
    if "index" in v and not (type(x := v["index"]) is int and 0 <= x <= 4294967295):
        fault(f"{p}/index", "must be an integer from 0 to 4294967295", v["index"])
    for m in ("value", "valueTwo"):
        if m in v and not (type(x := v[m]) is int and 0 <= x <= 18446744073709551615):
            fault(f"{p}/{m}", "must be an integer from 0 to 18446744073709551615", v[m])
    if "op" in v and not (isinstance(x := v["op"], str) and x in _SECCOMP_OPERATOR):
        fault(f"{p}/op", "must be one of " + ", ".join(_SECCOMP_OPERATOR), v["op"])


def _intel_rdt(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_INTEL_RDT:
        unknown(p, "IntelRdt")
    for m in ("closID", "l3CacheSchema"):
        if m in v and not (isinstance(v[m], str)):
            fault(f"{p}/{m}", "must be a string", v[m])
    if "schemata" in v:
        _strings(v["schemata"], f"{p}/schemata", fault, unknown)
    if "memBwSchema" in v and not (isinstance(x := v["memBwSchema"], str) and _pattern_5(x)):
        fault(f"{p}/memBwSchema", "must be one line that starts with MB:", v["memBwSchema"])
    if "enableMonitoring" in v and not (isinstance(v["enableMonitoring"], bool)):
        fault(f"{p}/enableMonitoring", "must be true or false", v["enableMonitoring"])


def _memory_policy(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_MEMORY_POLICY:
        unknown(p, "MemoryPolicy")
    if "mode" in v and not (isinstance(x := v["mode"], str) and x in _MPOL_DEFAULT):
        fault(f"{p}/mode", "must be one of " + ", ".join(_MPOL_DEFAULT), v["mode"])
    if "nodes" in v and not (isinstance(v["nodes"], str)):
        fault(f"{p}/nodes", "must be a string", v["nodes"])
    if "flags" in v:
        _memory_policy_flags(v["flags"], f"{p}/flags", fault, unknown)


def _memory_policy_flags(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, list):
        fault(p, "must be an array", v)
        return
    for i, x in enumerate(v):
        if not (isinstance(x, str) and x in _MEMORY_POLICY_FLAG):
            fault(f"{p}/{i}", "must be one of " + ", ".join(_MEMORY_POLICY_FLAG), x)


def _personality(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
        return
    if not v.keys() <= _OF_PERSONALITY:
        unknown(p, "Personality")
    if "domain" in v and not (isinstance(x := v["domain"], str) and x in _LINUX):
        fault(f"{p}/domain", "must be one of " + ", ".join(_LINUX), v["domain"])
    if "flags" in v:
        _strings(v["flags"], f"{p}/flags", fault, unknown)


def _any_object(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:
    if not isinstance(v, dict):
        fault(p, "must be an object", v)
