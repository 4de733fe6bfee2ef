"""The mounts of the config, in listed order (config.md): new file systems, and trees of the host bound in."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.planner import cgroup
from ocirun.planner.mount_options import BINDS, LONGEST_VALUE, RDONLY, REFUSED, MountOptions
from ocirun.planner.namespaces import index_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import Mount

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

#: Kernel file systems whose mount point must be a plain directory: a link there would put them, and with them
#: what masks and write-protects them, elsewhere (CVE-2019-19921, CVE-2023-27561).
_PLAIN = ("proc", "sysfs")
#: Since when overlay has the parameter ``lowerdir+``.
_LAYERS_ONE_BY_ONE = (6, 7)
_CGROUPS = ("cgroup", "cgroup2")


def plan(draft: Draft) -> tuple[list[Step], list[Step]]:
    """The steps of stage, which open what is bound, and those of init, which mount and attach."""
    opened: list[Step] = []
    mounted: list[Step] = []
    for number, mount in enumerate(draft.config.get("mounts", ())):
        pointer = f"/mounts/{number}"
        options = MountOptions(mount.get("options", ()))
        _check(draft, pointer, mount, options)
        kind = mount.get("type", "")
        if options.bind:
            source = _bind_source(draft, pointer, mount)
        elif kind in _CGROUPS and index_of(draft, "cgroup") < 0:
            # Without a namespace of its own a new mount would show the whole hierarchy of the host.
            source, options.bind, options.data = cgroup.absolute(draft), BINDS["rbind"], []
        else:
            mounted.append(_new(draft, pointer, mount, kind, options))
            continue
        opened.append(
            steps.open_tree(path=source, recursive=options.bind - 1, tree=f"mount.{number}", pointer=pointer)
        )
        mounted.append(_bind(pointer, mount, options, f"mount.{number}"))
    return opened, mounted


def readonly(draft: Draft) -> Sequence[Step]:
    """The new tmpfs that asked for ``ro``: written to while the rest was made in them, closed now (as
    runc)."""
    return [
        steps.set_readonly(path=clean(mount["destination"]), pointer=f"/mounts/{number}")
        for number, mount in enumerate(draft.config.get("mounts", ()))
        if is_late_readonly(mount)
    ]


def is_late_readonly(mount: Mount) -> bool:
    """Whether ``mount`` is a new tmpfs, or a new file system on /dev, that is to be read-only in the end."""
    options = MountOptions(mount.get("options", ()))
    written = mount.get("type") == "tmpfs" or clean(mount["destination"]) == "/dev"
    return written and not options.bind and bool((options.top.set | options.below.set) & RDONLY)


def is_bind(mount: Mount) -> bool:
    """Whether the options, which alone decide it, make ``mount`` a bind mount."""
    return any(word in BINDS for word in mount.get("options", ()))


def clean(path: str) -> str:
    """``path`` as an absolute one without doubled, single-dot or trailing parts; ".." stays: only the root
    file system can tell where it leads."""
    return "/" + "/".join([part for part in path.split("/") if part not in ("", ".")])


def check_parameters(draft: Draft, pointer: str, source: str, parameters: Sequence[str]) -> None:
    """Notes what fsconfig(2) cannot take: texts of more than 255 bytes, and layers one by one where the
    kernel is too old for that."""
    for parameter in (f"source={source}", *parameters):
        name, _, value = parameter.partition("=")
        if len(value.encode("utf-8", "surrogatepass")) > LONGEST_VALUE:
            draft.gap(
                pointer, value, f"{name} is longer than the {LONGEST_VALUE} bytes that fsconfig(2) takes"
            )
        if name == "lowerdir+" and draft.host.kernel < _LAYERS_ONE_BY_ONE:
            told = f"lowerdir is longer than the {LONGEST_VALUE} bytes that this kernel takes"
            draft.lack(pointer, told, "Linux 6.7 takes the layers one by one")


def _new(draft: Draft, pointer: str, mount: Mount, kind: str, options: MountOptions) -> Step:
    """A new file system; one mount has nothing below it, so the recursive words count like the plain ones."""
    attributes = options.top.set | options.below.set
    if is_late_readonly(mount):
        attributes &= ~RDONLY
    parameters = options.parameters(kind)
    check_parameters(draft, f"{pointer}/options", mount.get("source", ""), parameters)
    target = clean(mount["destination"])
    return steps.mount(
        fstype="cgroup2" if kind in _CGROUPS else kind,
        source=mount.get("source", ""),
        target=target,
        options=parameters,
        set=attributes,
        propagation=options.propagation,
        plain=int(kind in _PLAIN or target == "/dev" or target.startswith("/dev/")),
        pointer=pointer,
    )


def _bind(pointer: str, mount: Mount, options: MountOptions, slot: str) -> Step:
    return steps.attach(
        tree=slot,
        target=clean(mount["destination"]),
        set=options.top.set,
        clear=options.top.clear,
        rset=options.below.set,
        rclear=options.below.clear,
        propagation=options.propagation,
        pointer=pointer,
    )


def _bind_source(draft: Draft, pointer: str, mount: Mount) -> str:
    source = mount.get("source", "")
    if not source:
        draft.fault(f"{pointer}/source", mount.get("source"), "must be given for a bind mount")
    return source if source.startswith("/") else f"{draft.options.bundle}/{source}"


def _check(draft: Draft, pointer: str, mount: Mount, options: MountOptions) -> None:
    destination = mount["destination"]
    if not destination:
        draft.fault(f"{pointer}/destination", destination, "must not be empty")
    elif clean(destination) == "/":
        draft.gap(
            f"{pointer}/destination", destination, "mounting over the root is not built", "change /root/path"
        )
    elif not destination.startswith("/"):
        draft.warn(
            f"{pointer}/destination", destination, "should be absolute", "it is taken as relative to /"
        )
    for number, word in options.refused:
        draft.gap(f"{pointer}/options/{number}", word, REFUSED[word.partition("=")[0]])
    if len(set(options.propagations)) > 1:
        draft.gap(
            f"{pointer}/options", options.propagations, "more than one word of propagation is not built"
        )
    if options.bind:
        _check_bind(draft, pointer, options)
    elif mount.get("type", "") in ("", "none", "bind"):
        draft.fault(
            f"{pointer}/type", mount.get("type"), "must name a file system", 'or add "rbind" to the options'
        )


def _check_bind(draft: Draft, pointer: str, options: MountOptions) -> None:
    """A bind mount shows a file system that is mounted already: its data cannot be changed from here."""
    for number, word in options.data:
        draft.fault(f"{pointer}/options/{number}", word, "is not an option of a bind mount")
    for name, on in options.flags.items():
        if on:
            draft.warn(
                f"{pointer}/options", name, "has no effect on a bind mount: the file system keeps its own"
            )
