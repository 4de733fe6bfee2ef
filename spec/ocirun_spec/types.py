"""The members of config.json as types, for use under TYPE_CHECKING.

Generated from config-schema.json by ocirun_spec.generate: do not edit.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

SchedulerFlag = Literal[
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
]
NamespaceType = Literal[
    "pid",
    "network",
    "mount",
    "ipc",
    "uts",
    "user",
    "cgroup",
    "time",
]
SeccompAction = Literal[
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
]
SeccompArch = Literal[
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
]
SeccompFlag = Literal[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
]
SeccompOperator = Literal[
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
]
MemoryPolicyFlag = Literal[
    "MPOL_F_NUMA_BALANCING",
    "MPOL_F_RELATIVE_NODES",
    "MPOL_F_STATIC_NODES",
]


class Config(TypedDict):
    #: the version of the specification that the document follows, such as "1.3.0"
    ociVersion: str
    #: the root file system
    root: Root
    #: what is mounted over the root file system, in this order
    mounts: NotRequired[list[Mount]]
    #: the program and its surroundings
    process: NotRequired[Process]
    #: the host name inside the container
    hostname: NotRequired[str]
    #: the NIS domain name inside the container
    domainname: NotRequired[str]
    #: programs to run at points of the container's life
    hooks: NotRequired[Hooks]
    #: free text under names, for tools
    annotations: NotRequired[dict[str, str]]
    #: what only Linux has
    linux: NotRequired[Linux]
    #: for Solaris; refused here unless it is empty
    solaris: NotRequired[dict[str, object]]
    #: for Windows; refused here unless it is empty
    windows: NotRequired[dict[str, object]]
    #: for virtual machines; refused here unless it is empty
    vm: NotRequired[dict[str, object]]
    #: for z/OS; refused here unless it is empty
    zos: NotRequired[dict[str, object]]
    #: for FreeBSD; refused here unless it is empty
    freebsd: NotRequired[dict[str, object]]


class Root(TypedDict):
    #: the directory of the root file system, absolute or relative to the bundle
    path: str
    #: whether the root file system is read-only inside
    readonly: NotRequired[bool]


class Mount(TypedDict):
    #: where it is mounted, inside the container
    destination: str
    #: the type of the file system, such as "tmpfs"; "bind" for bind mounts
    type: NotRequired[str]
    #: a device, a name, or for bind mounts a path of the host or of the bundle
    source: NotRequired[str]
    #: mount options, such as ["nosuid", "ro"]
    options: NotRequired[list[str]]
    #: how this mount maps user ids
    uidMappings: NotRequired[list[IDMapping]]
    #: how this mount maps group ids
    gidMappings: NotRequired[list[IDMapping]]


class IDMapping(TypedDict):
    #: the first id inside the container
    containerID: int
    #: the id of the host that it stands for
    hostID: int
    #: how many ids follow one another
    size: int


class Process(TypedDict):
    #: the program and its arguments, such as ["sh", "-c", "date"]
    args: list[str]
    #: the working directory, an absolute path inside the container
    cwd: str
    #: the environment, entries NAME=value
    env: NotRequired[list[str]]
    #: who the program runs as
    user: NotRequired[User]
    #: whether the program gets a terminal
    terminal: NotRequired[bool]
    #: the size of the terminal in characters
    consoleSize: NotRequired[ConsoleSize]
    #: the capability sets of the program
    capabilities: NotRequired[Capabilities]
    #: resource limits as in getrlimit(2)
    rlimits: NotRequired[list[Rlimit]]
    #: whether execve may never give more privileges
    noNewPrivileges: NotRequired[bool]
    #: the name of the AppArmor profile
    apparmorProfile: NotRequired[str]
    #: the SELinux label of the program
    selinuxLabel: NotRequired[str]
    #: from -1000 (never killed) to 1000 (killed first) when memory runs out
    oomScoreAdj: NotRequired[int]
    #: scheduling as in sched_setattr(2)
    scheduler: NotRequired[Scheduler]
    #: I/O priority as in ioprio_set(2)
    ioPriority: NotRequired[IOPriority]
    #: the CPUs of programs started by exec
    execCPUAffinity: NotRequired[ExecCPUAffinity]
    #: for Windows; refused here unless it is empty
    commandLine: NotRequired[str]


class ConsoleSize(TypedDict):
    #: how many lines the terminal has
    height: int
    #: how many columns the terminal has
    width: int


class User(TypedDict):
    #: the user id inside the container
    uid: NotRequired[int]
    #: the group id inside the container
    gid: NotRequired[int]
    #: the file mode creation mask, in decimal: 18 is 0022
    umask: NotRequired[int]
    #: the supplementary group ids inside the container
    additionalGids: NotRequired[list[int]]
    #: for Windows; refused here unless it is empty
    username: NotRequired[str]


class Capabilities(TypedDict):
    #: capabilities that may ever be gained, names such as "CAP_KILL"
    bounding: NotRequired[list[str]]
    #: capabilities that may be made effective
    permitted: NotRequired[list[str]]
    #: capabilities that the kernel checks
    effective: NotRequired[list[str]]
    #: capabilities kept over execve of files that inherit them
    inheritable: NotRequired[list[str]]
    #: capabilities kept over execve of ordinary files
    ambient: NotRequired[list[str]]


class Rlimit(TypedDict):
    #: the resource, as getrlimit(2) names it
    type: str
    #: the limit that the kernel enforces
    soft: int
    #: the ceiling of the soft limit
    hard: int


class Scheduler(TypedDict):
    #: the scheduling policy, see sched(7)
    policy: Literal["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"]
    #: from -20 (most time) to 19
    nice: NotRequired[int]
    #: from 1 to 99, for SCHED_FIFO and SCHED_RR
    priority: NotRequired[int]
    #: flags of sched_setattr(2)
    flags: NotRequired[list[SchedulerFlag]]
    #: nanoseconds of work per period, for SCHED_DEADLINE
    runtime: NotRequired[int]
    #: nanoseconds until the work must be done, for SCHED_DEADLINE
    deadline: NotRequired[int]
    #: nanoseconds of a period, for SCHED_DEADLINE
    period: NotRequired[int]


IOPriority = TypedDict(
    "IOPriority",
    {
        # the I/O scheduling class
        "class": Literal["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"],
        # from 0 (first served) to 7
        "priority": NotRequired[int],
    },
)


class ExecCPUAffinity(TypedDict):
    #: the CPUs before the process is moved into the cgroup
    initial: NotRequired[str]
    #: the CPUs once the process is in the cgroup
    final: NotRequired[str]


class Hooks(TypedDict):
    #: run before createRuntime; deprecated
    prestart: NotRequired[list[Hook]]
    #: run by create outside the container, before the root is switched
    createRuntime: NotRequired[list[Hook]]
    #: run by create inside the container, before the root is switched
    createContainer: NotRequired[list[Hook]]
    #: run by start inside the container, before the program
    startContainer: NotRequired[list[Hook]]
    #: run by start outside the container, after the program was executed
    poststart: NotRequired[list[Hook]]
    #: run by delete outside the container, after everything was removed
    poststop: NotRequired[list[Hook]]


class Hook(TypedDict):
    #: the program of the hook, an absolute path
    path: str
    #: the arguments of the hook, its own name first
    args: NotRequired[list[str]]
    #: the environment of the hook, entries NAME=value
    env: NotRequired[list[str]]
    #: seconds after which the hook is ended
    timeout: NotRequired[int]


class Linux(TypedDict):
    #: the namespaces of the container; those not listed are the caller's
    namespaces: NotRequired[list[Namespace]]
    #: the user ids of the user namespace
    uidMappings: NotRequired[list[IDMapping]]
    #: the group ids of the user namespace
    gidMappings: NotRequired[list[IDMapping]]
    #: the clocks of the time namespace
    timeOffsets: NotRequired[TimeOffsets]
    #: device files to make in the container
    devices: NotRequired[list[Device]]
    #: network devices of the host to move in, by their name there
    netDevices: NotRequired[dict[str, NetDevice]]
    #: the cgroup of the container, a path under the cgroup mount
    cgroupsPath: NotRequired[str]
    #: the limits of the cgroup
    resources: NotRequired[Resources]
    #: the mount propagation of the root file system, with an r of all below it too
    rootfsPropagation: NotRequired[Literal["private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable"]]
    #: the system calls that the program may make
    seccomp: NotRequired[Seccomp]
    #: kernel parameters to set, such as {"net.ipv4.ip_forward": "1"}
    sysctl: NotRequired[dict[str, str]]
    #: absolute paths that cannot be read inside
    maskedPaths: NotRequired[list[str]]
    #: absolute paths that cannot be written inside
    readonlyPaths: NotRequired[list[str]]
    #: the SELinux label of the mounts
    mountLabel: NotRequired[str]
    #: shares of cache and memory bandwidth
    intelRdt: NotRequired[IntelRdt]
    #: NUMA policy as in set_mempolicy(2)
    memoryPolicy: NotRequired[MemoryPolicy]
    #: execution domain as in personality(2)
    personality: NotRequired[Personality]


class Namespace(TypedDict):
    #: the kind of namespace
    type: NamespaceType
    #: a namespace file to join, absolute; leave it out for a new namespace
    path: NotRequired[str]


class TimeOffsets(TypedDict):
    #: what is added to CLOCK_MONOTONIC
    monotonic: NotRequired[TimeOffset]
    #: what is added to CLOCK_BOOTTIME
    boottime: NotRequired[TimeOffset]


class TimeOffset(TypedDict):
    #: seconds
    secs: NotRequired[int]
    #: nanoseconds
    nanosecs: NotRequired[int]


class Device(TypedDict):
    #: c and u: character device, b: block device, p: FIFO
    type: str
    #: the device file, an absolute path inside the container
    path: str
    #: the major device number
    major: NotRequired[int]
    #: the minor device number
    minor: NotRequired[int]
    #: the permissions, in decimal: 438 is 0666; bits of the kind of file are ignored
    fileMode: NotRequired[int]
    #: the owner, an id inside the container
    uid: NotRequired[int]
    #: the owning group, an id inside the container
    gid: NotRequired[int]


class NetDevice(TypedDict):
    #: the name of the device inside the container
    name: NotRequired[str]


class Resources(TypedDict):
    #: which devices may be used; later rules win
    devices: NotRequired[list[DeviceRule]]
    #: limits of memory
    memory: NotRequired[Memory]
    #: limits of processor time
    cpu: NotRequired[CPU]
    #: limit of processes
    pids: NotRequired[Pids]
    #: limits of block devices
    blockIO: NotRequired[BlockIO]
    #: limits of huge pages, by size
    hugepageLimits: NotRequired[list[HugepageLimit]]
    #: network classes and priorities of cgroup v1
    network: NotRequired[Network]
    #: limits of RDMA devices, by name
    rdma: NotRequired[dict[str, Rdma]]
    #: files of cgroup v2 and what is written to them
    unified: NotRequired[dict[str, str]]


class DeviceRule(TypedDict):
    #: whether the rule allows or denies
    allow: bool
    #: a: all devices, c: character, b: block
    type: NotRequired[str]
    #: the major device number; leave it out for any
    major: NotRequired[int]
    #: the minor device number; leave it out for any
    minor: NotRequired[int]
    #: letters of r (read), w (write) and m (mknod)
    access: NotRequired[str]


class Memory(TypedDict):
    #: bytes of memory; -1 for no limit
    limit: NotRequired[int]
    #: bytes that are protected when memory runs short
    reservation: NotRequired[int]
    #: bytes of memory and swap together; -1 for no limit
    swap: NotRequired[int]
    #: bytes of kernel memory, cgroup v1; not recommended
    kernel: NotRequired[int]
    #: bytes of TCP buffers, cgroup v1; not recommended
    kernelTCP: NotRequired[int]
    #: from 0 to 100, cgroup v1
    swappiness: NotRequired[int]
    #: whether nothing is killed when memory runs out, cgroup v1
    disableOOMKiller: NotRequired[bool]
    #: whether children count too, cgroup v1
    useHierarchy: NotRequired[bool]
    #: whether a limit below the present use is refused
    checkBeforeUpdate: NotRequired[bool]


class CPU(TypedDict):
    #: the weight against other cgroups; 1024 is usual
    shares: NotRequired[int]
    #: microseconds of work per period; not positive for no limit
    quota: NotRequired[int]
    #: microseconds that may be saved up for later periods
    burst: NotRequired[int]
    #: microseconds of a period
    period: NotRequired[int]
    #: microseconds of real-time work per period, cgroup v1
    realtimeRuntime: NotRequired[int]
    #: microseconds of a real-time period, cgroup v1
    realtimePeriod: NotRequired[int]
    #: the CPUs to use, such as "0-3,7"
    cpus: NotRequired[str]
    #: the memory nodes to use, such as "0-1"
    mems: NotRequired[str]
    #: 1 to run only when nothing else does, else 0
    idle: NotRequired[int]


class Pids(TypedDict):
    #: the greatest number of processes; -1 for no limit
    limit: int


class BlockIO(TypedDict):
    #: the weight against other cgroups, from 10 to 1000
    weight: NotRequired[int]
    #: the weight against child cgroups, cgroup v1
    leafWeight: NotRequired[int]
    #: weights by device
    weightDevice: NotRequired[list[WeightDevice]]
    #: bytes read per second, by device
    throttleReadBpsDevice: NotRequired[list[ThrottleDevice]]
    #: bytes written per second, by device
    throttleWriteBpsDevice: NotRequired[list[ThrottleDevice]]
    #: reads per second, by device
    throttleReadIOPSDevice: NotRequired[list[ThrottleDevice]]
    #: writes per second, by device
    throttleWriteIOPSDevice: NotRequired[list[ThrottleDevice]]


class WeightDevice(TypedDict):
    #: the major device number
    major: int
    #: the minor device number
    minor: int
    #: the weight for this device, from 10 to 1000
    weight: NotRequired[int]
    #: the weight against child cgroups, cgroup v1
    leafWeight: NotRequired[int]


class ThrottleDevice(TypedDict):
    #: the major device number
    major: int
    #: the minor device number
    minor: int
    #: bytes or operations per second
    rate: NotRequired[int]


class HugepageLimit(TypedDict):
    #: the size of the pages
    pageSize: str
    #: bytes of huge pages
    limit: int


class Network(TypedDict):
    #: the class of packets, cgroup v1
    classID: NotRequired[int]
    #: priorities by interface, cgroup v1
    priorities: NotRequired[list[InterfacePriority]]


class InterfacePriority(TypedDict):
    #: the name of the interface
    name: str
    #: the priority of its packets
    priority: int


class Rdma(TypedDict):
    #: the greatest number of handles
    hcaHandles: NotRequired[int]
    #: the greatest number of objects
    hcaObjects: NotRequired[int]


class Seccomp(TypedDict):
    #: what happens to system calls that no rule names
    defaultAction: SeccompAction
    #: the errno of the default action; EPERM if left out
    defaultErrnoRet: NotRequired[int]
    #: the architectures whose system calls are filtered
    architectures: NotRequired[list[SeccompArch]]
    #: flags of seccomp(2)
    flags: NotRequired[list[SeccompFlag]]
    #: the socket that receives the descriptor of SCMP_ACT_NOTIFY
    listenerPath: NotRequired[str]
    #: text that is sent along to the listener
    listenerMetadata: NotRequired[str]
    #: the rules
    syscalls: NotRequired[list[Syscall]]


class Syscall(TypedDict):
    #: the names of the system calls
    names: list[str]
    #: what happens to them
    action: SeccompAction
    #: the errno of the action; EPERM if left out
    errnoRet: NotRequired[int]
    #: conditions on the arguments; all must hold
    args: NotRequired[list[SyscallArg]]


class SyscallArg(TypedDict):
    #: which argument, from 0 to 5
    index: int
    #: what it is compared with; the mask for SCMP_CMP_MASKED_EQ
    value: int
    #: what the masked argument is compared with
    valueTwo: NotRequired[int]
    #: how it is compared
    op: SeccompOperator


class IntelRdt(TypedDict):
    #: the name of the class of service; / is the default class
    closID: NotRequired[str]
    #: lines for the schemata file
    schemata: NotRequired[list[str]]
    #: the line for the L3 cache
    l3CacheSchema: NotRequired[str]
    #: the line for memory bandwidth
    memBwSchema: NotRequired[str]
    #: whether a monitoring group is made
    enableMonitoring: NotRequired[bool]


class MemoryPolicy(TypedDict):
    #: the policy, see set_mempolicy(2)
    mode: NotRequired[Literal["MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_LOCAL"]]
    #: the memory nodes, such as "0-1"
    nodes: NotRequired[str]
    #: flags of set_mempolicy(2)
    flags: NotRequired[list[MemoryPolicyFlag]]


class Personality(TypedDict):
    #: LINUX32 makes uname show a 32-bit machine
    domain: NotRequired[Literal["LINUX", "LINUX32"]]
    #: none is defined yet
    flags: NotRequired[list[str]]
