"""A plan for people (``ocirun plan``) and for programs (``--format json``).

One line a step: who performs it, its number, the verb, what it does, the slots it fills, the member of the
config that asked for it, and what undoes it.
"""

from __future__ import annotations

from ocirun.errors import escaped
from ocirun.plan.model import DEFAULT, LIFECYCLE
from ocirun.plan.table import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.plan.model import Argument, Plan, Step
    from ocirun.plan.table import Verb

_VERBS = {verb.name: verb for verb in TABLE}

#: Flags of clone3 (linux/sched.h), in the order in which people name them.
_NAMESPACES = (
    (0x10000000, "user"),
    (0x20000000, "pid"),
    (0x40000000, "network"),
    (0x08000000, "ipc"),
    (0x04000000, "uts"),
    (0x00020000, "mount"),
    (0x02000000, "cgroup"),
    (0x00000080, "time"),
)
#: Attributes of a mount (linux/mount.h): the word when it is set, the word when it is cleared.
_ATTRIBUTES = (
    (0x1, "ro", "rw"),
    (0x2, "nosuid", "suid"),
    (0x4, "nodev", "dev"),
    (0x8, "noexec", "exec"),
    (0x10, "noatime", ""),
    (0x20, "strictatime", ""),
    (0x80, "nodiratime", "diratime"),
    (0x200000, "nosymfollow", "symfollow"),
)
#: Flags of mount(2) that are no attributes of one mount.
_CLASSIC = (
    (1 << 4, "sync"),
    (1 << 6, "mand"),
    (1 << 7, "dirsync"),
    (1 << 23, "iversion"),
    (1 << 25, "lazytime"),
)
_ATIME, _ATIME_CHOSEN = 0x70, 0x30
_PROPAGATION = ((1 << 17, "unbindable"), (1 << 18, "private"), (1 << 19, "slave"), (1 << 20, "shared"))
_REC = 0x4000
_LIMITS = (
    "cpu fsize data stack core rss nproc nofile memlock as locks sigpending msgqueue nice rtprio rttime"
).split()
_CAPABILITIES = (
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable "
    "net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio "
    "sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config "
    "mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm "
    "block_suspend audit_read perfmon bpf checkpoint_restore"
).split()


#: Properties that every scope of a container has; its slice is told by its cgroup.
_EVERY_SCOPE = (
    "Description Slice Delegate DefaultDependencies CPUAccounting IOAccounting MemoryAccounting "
    "TasksAccounting"
).split()
#: sched(7), sched_setattr(2), ioprio_set(2), set_mempolicy(2), personality(2): words by number or by bit.
_POLICIES = {0: "other", 1: "fifo", 2: "rr", 3: "batch", 5: "idle", 6: "deadline"}
_SCHEDULER_FLAGS = (
    "reset_on_fork reclaim dl_overrun keep_policy keep_params util_clamp_min util_clamp_max"
).split()
_IO_CLASSES = ("none", "realtime", "best-effort", "idle")
_MODES = "default preferred bind interleave local preferred_many weighted_interleave".split()
_MEMORY_FLAGS = ((1 << 13, "numa_balancing"), (1 << 14, "relative_nodes"), (1 << 15, "static_nodes"))
_DOMAINS = {0: "linux", 8: "linux32"}
#: As many CPUs as a kernel can have.
_EVERY = 8192

#: The widest cell that the others of its column are aligned to; a longer one only pushes its own line out.
_WIDEST = 72


class Arguments:
    """The arguments of one step by name, as numbers and as text."""

    __slots__ = ("_values",)

    def __init__(self, step: Step) -> None:
        names = [name for name, _ in _VERBS[step.verb].args]
        self._values: dict[str, Argument] = dict(zip(names, step.args, strict=True))

    def number(self, name: str) -> int:
        """An argument that is a number."""
        value = self._values[name]
        assert isinstance(value, int)
        return value

    def text(self, name: str) -> str:
        """An argument as text: a list as its parts with blanks between."""
        value = self._values[name]
        if isinstance(value, tuple):
            return " ".join(str(one) for one in value)
        return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)

    def words(self, name: str) -> list[str]:
        """The parts of an argument that is a list of texts."""
        value = self._values[name]
        assert isinstance(value, tuple)
        return [str(one) for one in value]

    def size(self, name: str) -> int:
        """How long an argument of bytes is."""
        value = self._values[name]
        assert isinstance(value, bytes)
        return len(value)

    def bits(self, name: str) -> int:
        """An argument of bytes as one number, the lowest first."""
        value = self._values[name]
        assert isinstance(value, bytes)
        return int.from_bytes(value, "little")

    def has(self, name: str) -> bool:
        """Whether an argument is neither empty nor zero."""
        return bool(self._values[name])


# -- words for numbers
# -----------------------------------------------------------------------------------------


def attributes(set_: int, clear: int, prefix: str = "") -> list[str]:
    """The words for mount attributes that are set and cleared; ``prefix`` is "r" for the recursive ones."""
    words = [
        prefix + (word if set_ & bit else other) for bit, word, other in _ATTRIBUTES if (set_ | clear) & bit
    ]
    if clear & _ATIME == _ATIME and not set_ & _ATIME_CHOSEN:
        words.append(prefix + "relatime")
    return [word for word in words if word != prefix]


def propagation(flags: int) -> str:
    """The word for flags of propagation, "" for none."""
    for bit, word in _PROPAGATION:
        if flags & bit:
            return ("r" if flags & _REC else "") + word
    return ""


def capabilities(bits: int) -> str:
    """The names of a set of capabilities; "none", and "all but …" where that is shorter."""
    names = [name for number, name in enumerate(_CAPABILITIES) if bits >> number & 1]
    missing = [name for name in _CAPABILITIES if name not in names]
    if not names:
        return "none"
    if not missing:
        return "all"
    return "all but " + " ".join(missing) if len(missing) < 6 < len(names) else " ".join(names)


def _limit(value: int) -> str:
    return "unlimited" if value == 0xFFFFFFFFFFFFFFFF else str(value)


# -- one description a verb
# ------------------------------------------------------------------------------------


def _mount(a: Arguments) -> str:
    kept = ["", "", "tmpcopyup", "tmpcopyup"][a.number("keep")]
    words = [*attributes(a.number("set"), 0), *_options(a), kept, *_propagations(a)]
    return _with(f"{a.text('fstype')} on {a.text('target')}", list(dict.fromkeys(words)))


def _attach(a: Arguments) -> str:
    link = ("", "dest-nofollow", "copy-symlink")[a.number("link")]
    return _with(f"{a.text('tree')} on {a.text('target')}", [*_both(a), *_propagations(a), link])


def _remount(a: Arguments) -> str:
    changed = attributes(a.number("set"), a.number("clear") | a.number("drop"))
    below = attributes(a.number("rset"), a.number("rclear"), "r")
    words = [*changed, *below, *a.text("options").split(" "), *_propagations(a)]
    return _with(a.text("target") + ("" if a.has("bind") else " and its file system"), words)


def _filter(a: Arguments) -> str:
    what = "instruction" if a.text("origin").startswith("raw ") else "rule"
    return f"{a.text('rules')} {what}{'s' * (a.number('rules') != 1)}, {a.text('origin')}"


def _open_tree(a: Arguments) -> str:
    below = " and below" if a.has("recursive") else ""
    words = [word for word in ("shared", "nofollow") if a.has(word)]
    return ", ".join([a.text("path") + below, *words])


def _options(a: Arguments) -> list[str]:
    """The options of a new file system, and the flags that it is given by mount(2)."""
    words = [word for bit, word in _CLASSIC if a.number("flags") & bit]
    return [*a.text("options").split(" "), *words, "by mount(2)" if a.has("flags") else ""]


def _propagations(a: Arguments) -> list[str]:
    return [propagation(int(flags)) for flags in a.text("propagation").split()]


def _both(a: Arguments) -> list[str]:
    """The attributes of a mount, and those of all mounts below it."""
    below = attributes(a.number("rset"), a.number("rclear"), "r")
    return attributes(a.number("set"), a.number("clear")) + below


def _filesystem(a: Arguments) -> str:
    words = [*attributes(a.number("set"), 0), *_options(a)]
    return _with(f"{a.text('fstype')} of {a.text('source')}", list(dict.fromkeys(words)))


def _with(text: str, words: list[str]) -> str:
    rest = ",".join(word for word in words if word)
    return f"{text} ({rest})" if rest else text


def _kind(a: Arguments) -> str:
    return next((name for flag, name in _NAMESPACES if a.number("kind") == flag), a.text("kind"))


def _mappings(text: str) -> str:
    """Mappings as the kernel takes them, one after the other."""
    return ", ".join(text.splitlines())


def _namespaces(a: Arguments) -> str:
    names = [name for flag, name in _NAMESPACES if a.number("namespaces") & flag]
    return " ".join(names)


def _device(a: Arguments) -> str:
    return f"{a.text('path')} ({a.text('major')}:{a.text('minor')})"


def _capability_sets(a: Arguments) -> str:
    names = ("permitted", "effective", "inheritable")
    sets = {name: capabilities(a.number(name)) for name in names}
    if sets["permitted"] == sets["effective"]:
        return f"{sets['permitted']}; inheritable {sets['inheritable']}"
    return "; ".join(f"{name} {text}" for name, text in sets.items())


def _program(a: Arguments) -> str:
    return a.text("name") + (f" along {a.text('search')}" if "/" not in a.text("name") else "")


def _size(a: Arguments) -> str:
    return f"{a.text('columns')} by {a.text('rows')}" if a.has("columns") and a.has("rows") else ""


def _rlimit(a: Arguments) -> str:
    soft, hard = _limit(a.number("soft")), _limit(a.number("hard"))
    return f"{_LIMITS[a.number('resource')]} {soft}" + (f", at most {hard}" if hard != soft else "")


def _scope(a: Arguments) -> str:
    """The scope, where it is, and its limits; the rest of its properties is the same for all."""
    words = a.words("properties")
    pairs = zip(words[::2], words[1::2], strict=True)
    told = [f"{name}={value.removeprefix('uint64 ')}" for name, value in pairs if name not in _EVERY_SCOPE]
    owner = ["of the user's manager"] if a.number("user") else []
    inner = [f"init in {a.text('inner')}"] if a.has("inner") else []
    return _with(f"{a.text('unit')} at {a.text('path')}", [*owner, *inner, *told])


def _owner(a: Arguments) -> str:
    owner, group = a.number("owner"), a.number("group")
    return "root" if owner == -1 else str(owner) if group == -1 else f"{owner}:{group}"


def _numbers(bits: int) -> str:
    """The numbers of the bits that are set, as the config lists them."""
    if bits + 1 == 1 << _EVERY:
        return "all"
    ranges: list[str] = []
    while bits:
        low = (bits & -bits).bit_length() - 1
        rest = bits >> low
        count = (~rest & rest + 1).bit_length() - 1
        ranges.append(f"{low}-{low + count - 1}" if count > 1 else str(low))
        bits = rest >> count << low + count
    return ",".join(ranges)


def _scheduler(a: Arguments) -> str:
    flags = [name for bit, name in enumerate(_SCHEDULER_FLAGS) if a.number("flags") >> bit & 1]
    given = [
        f"{name} {a.text(name)}"
        for name in ("nice", "priority", "runtime", "deadline", "period")
        if a.number(name)
    ]
    return " ".join([_POLICIES.get(a.number("policy"), a.text("policy")), *given, *flags])


def _memory_policy(a: Arguments) -> str:
    flags = [name for bit, name in _MEMORY_FLAGS if a.number("flags") & bit]
    return " ".join([_MODES[a.number("mode")], *filter(None, (_numbers(a.bits("nodes")),)), *flags])


def _users(a: Arguments) -> str:
    by = ", ".join(a.text(name) for name in ("newuidmap", "newgidmap") if a.has(name))
    return f"{_mapping(a)} by {by}" if by else _mapping(a)


def _mapping(a: Arguments) -> str:
    return f"users {_mappings(a.text('uids'))}; groups {_mappings(a.text('gids'))}"


def _map_ids(a: Arguments) -> str:
    below = " and below" if a.has("recursive") else ""
    return f"{a.text('tree')}{below} by {a.text('mapping')}"


#: verb -> its description; for the others the arguments themselves are it.
_DESCRIPTIONS: dict[str, Callable[[Arguments], str]] = {
    "make_cgroup": lambda a: " ".join(filter(None, (a.text("path"), a.text("controllers")))),
    "make_scope": _scope,
    "limit_processes": lambda a: f"{a.text('path')} {a.text('most')}",
    "stop_scope": lambda a: a.text("unit"),
    "set_cgroup": lambda a: f"{a.text('path')} {a.text('writes')}",
    "own_cgroup": lambda a: f"{a.text('path')} by {_owner(a)}",
    "open_tree": _open_tree,
    "open_filesystem": _filesystem,
    "attach_root": lambda a: _with(a.text("root"), [*_both(a), *_propagations(a)]),
    "keep_tree": lambda a: _with(f"{a.text('tree')} on {a.text('target')}", _both(a)),
    "open_device": _device,
    "allow_devices": lambda a: f"{a.size('program') // 8} instructions of eBPF",
    "pivot_root": lambda a: "staying above the old one" if a.number("stay") else "",
    "run_hook": lambda a: f"{a.text('kind')} {a.text('path')}",
    "run_hook_inside": lambda a: f"{a.text('kind')} {a.text('path')}",
    "join_scope": lambda a: " ".join(filter(None, (a.text("unit"), a.text("inner")))),
    "open_init": lambda a: a.text("pid"),
    "open_namespace": lambda a: f"{_kind(a)} {a.text('path')}",
    "join_namespace": _kind,
    "set_id_maps": lambda a: f"users {_mappings(a.text('uids'))}; groups {_mappings(a.text('gids'))}",
    "make_user_namespace": _users,
    "become_root": lambda a: f"with new {_namespaces(a)}" if a.has("namespaces") else "",
    "make_mapping": _mapping,
    "map_ids": _map_ids,
    "make_time_namespace": lambda a: ", ".join(a.text("offsets").splitlines()),
    "set_initial_affinity": lambda a: _numbers(a.bits("cpus")),
    "set_affinity": lambda a: _numbers(a.bits("cpus")),
    "set_scheduler": _scheduler,
    "set_io_priority": lambda a: f"{_IO_CLASSES[a.number('kind')]} {a.text('priority')}",
    "set_personality": lambda a: _DOMAINS.get(a.number("domain"), a.text("domain")),
    "set_memory_policy": _memory_policy,
    "enter_subgroup": lambda a: f"{a.text('path')}/{a.text('inner')} by {_owner(a)}",
    "unmount": lambda a: f"{a.text('directory').rstrip('/')}/{a.text('name')}",
    "label_keyring": lambda a: a.text("label"),
    "set_selinux": lambda a: a.text("label"),
    "set_oom_score": lambda a: a.text("score"),
    "set_apparmor": lambda a: a.text("change"),
    "set_sysctl": lambda a: f"{a.text('path')} = {a.text('value')}",
    "join_namespaces": _namespaces,
    "join_cgroup_namespace": lambda a: a.text("init"),
    "clone_init": _namespaces,
    "remove_cgroup": lambda a: a.text("path"),
    "set_propagation": lambda a: f"/ {propagation(a.number('flags'))}",
    "mount": _mount,
    "attach": _attach,
    "remount": _remount,
    "make_device": lambda a: f"{_device(a)} mode {a.number('mode'):04o}",
    "make_symlink": lambda a: f"{a.text('path')} to {a.text('target')}",
    "make_directory": lambda a: f"{a.text('path')} mode {a.number('mode'):04o}",
    "make_console": _size,
    "take_terminal": lambda a: f"terminal of {a.text('owner')}",
    "readonly_path": lambda a: a.text("path"),
    "mask_path": lambda a: a.text("path"),
    "set_rlimit": _rlimit,
    "own_stdio": lambda a: f"by {a.text('uid')}",
    "drop_bounding": lambda a: f"but {capabilities(a.number('keep'))}",
    "set_groups": lambda a: a.text("groups") or "none",
    "set_ids": lambda a: f"{a.text('uid')}:{a.text('gid')}",
    "set_capabilities": _capability_sets,
    "raise_ambient": lambda a: capabilities(a.number("capabilities")),
    "set_umask": lambda a: f"{a.number('mask'):04o}" if a.number("mask") >= 0 else "the caller's",
    "send_listener": lambda a: a.text("path"),
    "load_seccomp": _filter,
    "find_home": lambda a: f"of {a.text('uid')}",
    "find_program": _program,
    "close_descriptors": lambda a: f"from {3 + a.number('preserve')}",
    "await_start": lambda a: a.text("gate"),
    "exec": lambda a: a.text("args"),
}


def describe(step: Step) -> str:
    """What ``step`` does, in the words of the config: ``proc on /proc``, ``/dev/null (1:3)``."""
    arguments = Arguments(step)
    if step.verb in _DESCRIPTIONS:
        return _DESCRIPTIONS[step.verb](arguments)
    named = [name for name, kind in _VERBS[step.verb].args if kind != "out"]
    return " ".join(arguments.text(name) for name in named)


# -- the whole
# -------------------------------------------------------------------------------------------------


def show(plan: Plan) -> str:
    """``plan`` as text: a head line, then one aligned line a step."""
    rows = [_row(step) for step in plan.steps]
    widths = [max((len(row[at]) for row in rows if len(row[at]) <= _WIDEST), default=0) for at in range(4)]
    lines = [_head(plan)]
    for number, (step, row) in enumerate(zip(plan.steps, rows, strict=True), 1):
        cells = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        undo = _VERBS[step.verb].undo
        lines.append(
            f"{_VERBS[step.verb].actor:>6} {number:>3}  {cells}  {f'undo {undo}' if undo else ''}".rstrip()
        )
    return "\n".join(lines) + "\n"


def as_json(plan: Plan) -> dict[str, object]:
    """``plan`` as values for a JSON document: id, traces it leaves, steps with their arguments by name."""
    return {
        "id": plan.id,
        "leaves": _leaves(plan),
        "warnings": [fault.render("config.json") for fault in plan.warnings],
        "steps": [_entry(number, step) for number, step in enumerate(plan.steps, 1)],
    }


def _head(plan: Plan) -> str:
    return f"{plan.id} · {len(plan.steps)} steps · leaves: {', '.join(_leaves(plan)) or 'nothing'}"


def _leaves(plan: Plan) -> list[str]:
    return [_VERBS[step.verb].leaves for step in plan.steps if _VERBS[step.verb].leaves]


def _row(step: Step) -> tuple[str, str, str, str]:
    outs = [
        str(value)
        for (_, kind), value in zip(_VERBS[step.verb].args, step.args, strict=True)
        if kind == "out" and value
    ]
    return step.verb, escaped(describe(step)), f"→ {', '.join(outs)}" if outs else "", _asked_by(step)


def _asked_by(step: Step) -> str:
    if step.why == LIFECYCLE:
        return "lifecycle"
    return f"default of {step.pointer}" if step.why == DEFAULT else step.pointer


def _entry(number: int, step: Step) -> dict[str, object]:
    verb: Verb = _VERBS[step.verb]
    arguments = {name: _value(value) for (name, _), value in zip(verb.args, step.args, strict=True)}
    return {
        "step": number,
        "actor": verb.actor,
        "verb": step.verb,
        "arguments": arguments,
        "description": describe(step),
        "pointer": step.pointer,
        "why": step.why or "asked",
        "undo": verb.undo,
    }


def _value(value: Argument) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return list(value) if isinstance(value, tuple) else value
