"""The cgroup of a container as a scope of systemd: its name, its slice, and the limits as properties.

systemd writes the files of its units itself, whenever it is reloaded too: so it has to know every limit that
it has a property for.  The files are written all the same: they say more than the properties do.
"""

from __future__ import annotations

from ocirun import gvariant
from ocirun.plan import steps
from ocirun.plan.model import ASKED, DEFAULT
from ocirun.planner import lifecycle, scope_limits
from ocirun.planner.draft import Draft

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.resources import Setting

_POINTER = "/linux/cgroupsPath"
_RULE = 'must be "slice:prefix:name" where systemd makes the cgroups'
_HINT = "such as system.slice:ocirun:web, or nothing; a path is for --cgroup-manager cgroupfs"
_ANNOTATION = "org.systemd.property."
_SUBGROUP = "run.oci.systemd.subgroup"
_UNIT_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
_LONGEST_UNIT = 255
#: What is ours to say: by these the container is held.
_OURS = ("PIDs", "PIDFDs", "Slice", "Delegate", "DelegateControllers", "Description")
#: Properties of scopes that people set, by the signature of their values (org.freedesktop.systemd1(5)).
_TYPES = {
    **dict.fromkeys(
        "TimeoutStopUSec RuntimeMaxUSec RuntimeRandomizedExtraUSec MemoryMin MemoryLow MemoryHigh MemoryMax "
        "MemorySwapMax MemoryZSwapMax CPUWeight StartupCPUWeight CPUQuotaPerSecUSec CPUQuotaPeriodUSec "
        "IOWeight StartupIOWeight TasksMax DefaultMemoryLow DefaultMemoryMin".split(),
        "t",
    ),
    **dict.fromkeys("CollectMode KillMode OOMPolicy DevicePolicy ManagedOOMSwap SourcePath".split(), "s"),
    **dict.fromkeys(
        "CPUAccounting MemoryAccounting IOAccounting TasksAccounting IPAccounting DefaultDependencies "
        "SendSIGHUP SendSIGKILL IgnoreOnIsolate MemoryZSwapWriteback".split(),
        "b",
    ),
    **dict.fromkeys("Before After Wants Requires Requisite BindsTo PartOf Conflicts".split(), "as"),
    **dict.fromkeys("KillSignal RestartKillSignal FinalKillSignal".split(), "i"),
    **dict.fromkeys("AllowedCPUs AllowedMemoryNodes StartupAllowedCPUs".split(), "ay"),
    "DeviceAllow": "a(ss)",
}
#: What systemd does not know, so that we enable it ourselves.
_FOREIGN = ("hugetlb", "misc", "rdma")


def unit_of(draft: Draft) -> tuple[str, str]:
    """The slice and the scope that ``linux.cgroupsPath`` names, as the peers understand it."""
    wanted = draft.linux.get("cgroupsPath", "")
    if wanted.count(":") != 2:
        return "", f"ocirun-{draft.options.id}.scope"
    in_slice, prefix, name = wanted.split(":")
    return in_slice, f"{prefix}-{name}.scope"


def slice_of(draft: Draft) -> str:
    """The slice of the scope; without one it is the peers' default."""
    systemd = draft.options.systemd
    return unit_of(draft)[0] or ("user.slice" if systemd is not None and systemd.user else "system.slice")


def expanded(name: str) -> str:
    """The cgroup of a slice below that of its manager: ``a-b.slice`` lies in ``a.slice`` (systemd.slice(5)).

    "" for ``-.slice``, the root.  Raises ValueError for what is no name of a slice.
    """
    stem = name.removesuffix(".slice")
    if stem == name or not set(name) <= _UNIT_CHARACTERS:
        raise ValueError
    if stem == "-":
        return ""
    parts = stem.split("-")
    if not all(parts):
        raise ValueError
    return "".join("/" + "-".join(parts[: count + 1]) + ".slice" for count in range(len(parts)))


def place(draft: Draft) -> str:
    """The cgroup of the scope below the mount of cgroup2."""
    systemd = draft.options.systemd
    try:
        above = expanded(slice_of(draft))
    except ValueError:
        above = ""
    return (systemd.root if systemd is not None else "") + above + "/" + unit_of(draft)[1]


def inner(draft: Draft) -> str:
    """The cgroup below the scope in which init is born, "" for the scope itself."""
    return draft.config.get("annotations", {}).get(_SUBGROUP, "").strip("/")


def check(draft: Draft) -> None:
    """Notes what is wrong with ``linux.cgroupsPath``, and with the annotation of the inner cgroup."""
    wanted = draft.linux.get("cgroupsPath", "")
    if wanted and wanted.count(":") != 2:
        draft.fault(_POINTER, wanted, _RULE, _HINT)
        return
    unit = unit_of(draft)[1]
    if wanted and not wanted.split(":")[2]:
        draft.fault(_POINTER, wanted, _RULE, _HINT)
    elif not set(unit) <= _UNIT_CHARACTERS or len(unit) > _LONGEST_UNIT:
        draft.fault(
            _POINTER, wanted or draft.options.id, f'"{unit}" is no name of a unit',
            "letters, digits and : - _ . \\ @, 255 at most",
        )  # fmt: skip
    try:
        expanded(slice_of(draft))
    except ValueError:
        draft.fault(
            _POINTER,
            wanted,
            f'"{slice_of(draft)}" is no slice',
            "such as system.slice, or -.slice for the root",
        )
    if not {".", "..", ""}.isdisjoint(inner(draft).split("/")) and inner(draft):
        draft.fault(
            f"/annotations/{_SUBGROUP}",
            inner(draft),
            "must name a cgroup below the scope",
            "such as container",
        )


def plan(draft: Draft) -> Sequence[Step]:
    """Stage, the scope with stage in it, and the limits."""
    mount = draft.host.cgroup_mount
    wanted = _settings(draft)
    check(draft)
    user = draft.options.systemd is not None and draft.options.systemd.user
    where = mount + place(draft)
    return (
        *lifecycle.hide(),
        steps.make_scope(
            mount=mount, path=place(draft), inner=inner(draft), unit=unit_of(draft)[1], user=int(user),
            properties=_properties(draft, wanted), pointer=_POINTER,
            why=ASKED if draft.linux.get("cgroupsPath") else DEFAULT,
        ),
        *_limit(draft, where, wanted),
    )  # fmt: skip


def _settings(draft: Draft) -> list[Setting]:
    """As with the files driver: device rules alone are no limits."""
    if not draft.linux.get("resources", {}).keys() - {"devices"}:
        return []
    from ocirun.planner import resources

    return resources.settings(draft)


def _limit(draft: Draft, where: str, wanted: Sequence[Setting]) -> list[Step]:
    """Controllers are enabled by systemd, as far as it knows them.  Stage is in the scope as long as init is
    not born, so that the number of processes is limited only after that."""
    if not wanted:
        return []
    from ocirun.planner import resources

    foreign = [one for one in wanted if one.controller in _FOREIGN]
    enabled = resources.enable(draft, where, foreign) if foreign else ()
    early = [resources.step(where, one) for one in wanted if not _is_tight(one)]
    return [*enabled, *early, *(_room(where) if len(early) < len(wanted) else ())]


def _room(where: str) -> Sequence[Step]:
    """Systemd has set the limit already: it knows it as a property."""
    return (
        steps.set_cgroup(
            path=where, writes=("pids.max", "max"), needed=1, pointer="/linux/resources", why=ASKED
        ),
    )


def tighten(draft: Draft) -> Sequence[Step]:
    """The limit of processes that leaves no room for stage, when it is gone."""
    if not draft.linux.get("resources", {}).keys() & {"pids", "unified"}:
        return ()
    where = draft.host.cgroup_mount + place(draft)
    again = _settings(Draft(draft.config, draft.host, draft.options))  # what is wrong was noted before
    tight = [one for one in again if _is_tight(one)][-1:]
    return [
        steps.limit_processes(path=where, most=one.writes[1], pointer=one.pointer, why=ASKED) for one in tight
    ]


def _is_tight(one: Setting) -> bool:
    file, value = one.writes[:2]
    return file == "pids.max" and value.isdigit() and int(value) <= scope_limits.ROOM


def _properties(draft: Draft, wanted: Sequence[Setting]) -> tuple[str, ...]:
    """Names and values in turn; what the annotations say comes last and takes the place of ours."""
    options = draft.options
    found = {
        "Description": gvariant.quote(f"ocirun container {options.id} ({options.state_directory})"),
        "Slice": gvariant.quote(slice_of(draft)),
        "Delegate": "true",
        "DefaultDependencies": "false",
        "CPUAccounting": "true",
        "IOAccounting": "true",
        "MemoryAccounting": "true",
        "TasksAccounting": "true",
    }
    systemd = options.systemd
    writes = [one.writes for one in wanted]
    found |= scope_limits.of_writes(writes, systemd.version if systemd is not None else 0)
    if systemd is not None and not systemd.user:
        found |= scope_limits.of_devices(draft)
    found |= _annotated(draft)
    return tuple(word for pair in found.items() for word in pair)


def _annotated(draft: Draft) -> dict[str, str]:
    """The annotations ``org.systemd.property.NAME``, as runc and crun take them."""
    found: dict[str, str] = {}
    for key, text in draft.config.get("annotations", {}).items():
        if not key.startswith(_ANNOTATION):
            continue
        pointer = f"/annotations/{key.replace('~', '~0').replace('/', '~1')}"
        name = key.removeprefix(_ANNOTATION)
        if not name.isascii() or not name.isalpha() or len(name) < 3:
            draft.fault(pointer, text, "is no property of a unit: their names have letters alone")
        elif name in _OURS:
            draft.fault(
                pointer, text, "is a property by which the runtime holds the container", "leave it out"
            )
        else:
            _add(draft, found, pointer, name, text)
    return found


def _add(draft: Draft, found: dict[str, str], pointer: str, name: str, text: str) -> None:
    """A name that ends in Sec has seconds, of which systemd wants microseconds in one that ends in USec."""
    try:
        kind, value = gvariant.parse(text)
        if name.endswith("Sec") and name[-4:-3].islower():
            name, kind, text = f"{name.removesuffix('Sec')}USec", "t", _microseconds(kind, value)
    except ValueError as error:
        draft.fault(
            pointer, text, str(error), "the text format of GVariant: uint64 5, 'a text', true, ['a', 'b']"
        )
        return
    wanted = _TYPES.get(name, kind)
    if kind != wanted:
        draft.fault(pointer, text, f"has the type {kind}, {name} wants {wanted}", _EXAMPLES.get(wanted, ""))
    found[name] = text


_EXAMPLES = {
    "t": "such as uint64 5000000", "s": "such as 'inactive'", "b": "true or false", "i": "such as 15",
    "as": "such as ['a.service']", "ay": "such as [byte 0x03]", "a(ss)": "such as [('/dev/kvm', 'rw')]",
}  # fmt: skip


def _microseconds(kind: str, value: object) -> str:
    if kind not in tuple("nqiuxtd") or not isinstance(value, (int, float)) or not 0 <= value < 1 << 43:
        raise ValueError("must be a number of seconds")
    return f"uint64 {int(value * 1_000_000)}"
