"""The mounts of the config, in listed order (config.md): new file systems, and trees of the host bound in."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.planner import cgroup
from ocirun.planner.mount_options import (
    ATIME_MASK,
    BINDS,
    CLASSIC,
    COPY,
    COPY_LINK,
    LONGEST_TEXT,
    NODEV,
    NODIRATIME,
    NOEXEC,
    NOSUID,
    NOSYMFOLLOW,
    OFF,
    RDONLY,
    REFUSED,
    REMOUNT,
    SHARING,
    SILENT,
    SOURCE_LINK,
    TARGET_LINK,
    MountOptions,
    fits,
    length,
)
from ocirun.planner.namespaces import index_of, is_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun_spec.types import Mount

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

#: Kernel file systems whose mount point must be a plain directory: a link there would put them, and with them
#: what masks and write-protects them, elsewhere (CVE-2019-19921, CVE-2023-27561).
KERNEL = ("proc", "sysfs")
_CGROUPS = ("cgroup", "cgroup2")
#: File systems without a disk, or shared with others: read-only is each mount of it, not what it is on.
WITHOUT_DISK = frozenset(
    "proc sysfs tmpfs ramfs devpts mqueue cgroup cgroup2 bpf debugfs tracefs securityfs hugetlbfs".split()
)
#: What SELinux labels by its policy: what is the kernel's own, or there already when it is mounted.
_LABELLED = ("proc", "sysfs", "mqueue", *_CGROUPS)
#: The annotation, crun's, that says which of the options of SELinux (mount(8)) gives it.
LABEL_WORD = "run.oci.mount_context_type"
#: Since when overlay has the parameter ``lowerdir+``.
_LAYERS_ONE_BY_ONE = (6, 7)
#: What mount(2) clears in a remount that does not name it.
_REPLACED = RDONLY | NOSUID | NODEV | NOEXEC | NOSYMFOLLOW
#: Bits of what a tmpfs keeps of the directory below it.
_KEEP_MODE, _KEEP_FILES = 1, 2
#: A link that was opened is copied to the target, where 1 would follow no link.
_COPIED = 2


class Mounts:
    """The steps of the mounts: ``opened`` by stage, which opens what is bound, makes those ``filesystems``
    that are ``mapped``, and the ``mapping`` for them; ``made`` by init, which mounts, attaches and changes;
    ``closed`` in the end, the tmpfs that asked for ``ro``, which are written to while the rest is made in
    them (as runc).

    ``mappings`` are the slots of those that were made, by their texts."""

    __slots__ = ("closed", "filesystems", "made", "mapped", "mapping", "mappings", "opened")

    def __init__(self) -> None:
        self.opened: list[Step] = []
        self.filesystems: list[Step] = []
        self.mapping: list[Step] = []
        self.mapped: list[Step] = []
        self.mappings: dict[tuple[str, str], str] = {}
        self.made: list[Step] = []
        self.closed: list[Step] = []


def plan(draft: Draft, *, running: bool = False) -> Mounts:
    """The steps of all mounts of the config, in listed order; in a container that is ``running`` each is
    made as it stays, for who is inside may have put another one in its place in the end."""
    planned = Mounts()
    listed = [(mount, MountOptions(mount.get("options", ()))) for mount in draft.config.get("mounts", ())]
    # what is covered, or changed by a later entry, is not closed in the end
    last = {clean(mount["destination"]): number for number, (mount, _) in enumerate(listed)}
    for number, (mount, options) in enumerate(listed):
        pointer, target = f"/mounts/{number}", clean(mount["destination"])
        mapped = is_mapped(mount, options)
        over = _is_over_root(mount, options)
        late = not mapped and last[target] == number and not running and _is_late_readonly(mount, options)
        if late:
            planned.closed.append(steps.set_readonly(path=target, pointer=pointer))
        if running or not over:  # whoever runs stands in the root that would be covered
            check_destination(draft, f"{pointer}/destination", mount["destination"])
        _check(draft, pointer, mount, options)
        if mapped:
            _map(draft, planned, number, mount, options)
        if options.remount >= 0:
            planned.made.append(_remount(pointer, mount, options, late=late))
            continue
        source = _bind_source(draft, pointer, mount, options)
        if source:
            planned.opened.append(_open(draft, pointer, source, options, f"mount.{number}"))
        if over:
            _cover(draft, planned, number, mount, options, late=late)
        elif source:
            planned.made.append(_bind(pointer, mount, options, f"mount.{number}"))
        elif not mapped:
            planned.made.append(_new(draft, pointer, mount, options, late=late))
    return planned


def is_mapped(mount: Mount, options: MountOptions) -> bool:
    """Whether the owners of the files in ``mount`` are others than on its file system."""
    return options.idmap >= 0 or bool(mount.get("uidMappings") or mount.get("gidMappings"))


def _map(draft: Draft, planned: Mounts, number: int, mount: Mount, options: MountOptions) -> None:
    """Few mounts are mapped: only for those is their planner loaded."""
    from ocirun.planner import idmap

    idmap.plan(draft, planned, number, mount, options)


def _cover(
    draft: Draft, planned: Mounts, number: int, mount: Mount, options: MountOptions, *, late: bool
) -> None:
    """Hardly any root is covered: only for those is their planner loaded."""
    from ocirun.planner import over_root

    over_root.plan(draft, planned, number, mount, options, late=late)


def _is_over_root(mount: Mount, options: MountOptions) -> bool:
    """Whether ``mount`` is a new one at "/" itself; what only leads there is refused."""
    return mount["destination"] != "" and clean(mount["destination"]) == "/" and options.remount < 0


def _is_late_readonly(mount: Mount, options: MountOptions) -> bool:
    """Whether ``mount`` is a tmpfs, or on /dev, made or changed to be read-only in the end."""
    written = mount.get("type") == "tmpfs" or clean(mount["destination"]) == "/dev"
    made_here = not options.bind or options.remount >= 0
    return written and made_here and bool(options.attributes & RDONLY)


def is_bind(mount: Mount) -> bool:
    """Whether the options, which alone decide it, make ``mount`` a bind mount."""
    words = mount.get("options", ())
    return REMOUNT not in words and any(word in BINDS for word in words)


def clean(path: str) -> str:
    """``path`` as an absolute one without doubled, single-dot or trailing parts; ".." stays: only the root
    file system can tell where it leads."""
    return "/" + "/".join([part for part in path.split("/") if part not in ("", ".")])


def call(
    draft: Draft, pointer: str, kind: str, source: str, options: MountOptions, *, readonly: bool
) -> tuple[int, list[str]]:
    """How a file system is made: 0 and parameters for fsconfig(2), or, where those are too long or lack the
    word, the flags and the one text of mount(2).

    Notes what neither takes.  ``pointer`` is that of the mount, of which the entries of /options are cited
    when it has such.
    """
    extra = ["ro"] if readonly else []
    label = _label(draft, pointer, kind, options)
    word = label_word(draft) if label else ""
    parameters = [*options.parameters(kind), *extra, *([f"{word}={label}"] if label else [])]
    names = [*options.names(), *extra]
    layered = any(one.startswith("lowerdir+=") for one in parameters)
    new_enough = not layered or draft.host.kernel >= _LAYERS_ONE_BY_ONE
    fitting = all(fits(one) for one in (f"source={source}", *parameters))
    if fitting and new_enough and "iversion" not in names:
        return 0, parameters
    # here the commas of a label would end it
    text = ",".join([*options.words(kind), *([f'{word}="{label}"'] if label else [])])
    told = f"longer than the {LONGEST_TEXT} bytes that mount(2) takes"
    if length(source) > LONGEST_TEXT:
        draft.fault(_place(pointer, "source"), source, f"source is {told}")
    if length(text) > LONGEST_TEXT:
        told = f"options are {told}"
        if fitting and not new_enough:
            draft.lack(pointer, told, "Linux 6.7 takes the layers of an overlay one by one")
        else:
            number, word = max(options.data, key=lambda one: len(one[1]))
            draft.fault(_place(pointer, f"options/{number}"), word, told, "shorten this one")
    flags = SILENT
    for name in names:
        flags |= CLASSIC[name]
    return flags, [text]


def label_word(draft: Draft) -> str:
    """The option that gives a label to a new file system; as with crun an annotation says it."""
    return draft.config.get("annotations", {}).get(LABEL_WORD, "context")


def _label(draft: Draft, pointer: str, kind: str, options: MountOptions) -> str:
    """The label of SELinux for all files of a new file system, "" where it gets none: it has its own then."""
    label = draft.linux.get("mountLabel", "") if draft.host.selinux else ""
    if label and kind == "mqueue":
        rule = "keeps the label that the policy has for it: to label what is there already is not built"
        draft.warn(_place(pointer, "type"), kind, rule)
    own = any("context=" in word for _, word in options.data)
    return "" if kind in _LABELLED or own or not pointer.startswith("/") else label


def _place(pointer: str, member: str) -> str:
    """The pointer of a member of the mount; one of the root has none but its own."""
    return f"{pointer}/{member}" if pointer.startswith("/") else pointer


def _new(draft: Draft, pointer: str, mount: Mount, options: MountOptions, *, late: bool) -> Step:
    kind, source, target = mount.get("type", ""), mount.get("source", ""), clean(mount["destination"])
    attributes = options.attributes & ~RDONLY if late else options.attributes
    readonly = bool(attributes & RDONLY) and kind not in WITHOUT_DISK
    flags, words = call(draft, pointer, kind, source, options, readonly=readonly)
    return steps.mount(
        fstype="cgroup2" if kind in _CGROUPS else kind,
        source=source,
        target=target,
        flags=flags,
        options=words,
        set=attributes,
        propagation=options.propagation,
        plain=int(kind in KERNEL or target == "/dev" or target.startswith("/dev/")),
        keep=_kept(kind, options),
        pointer=pointer,
    )


def _kept(kind: str, options: MountOptions) -> int:
    """What a tmpfs keeps of the directory below: its mode, unless it is given one, and if asked the files."""
    if kind != "tmpfs":
        return 0
    given = any(word.startswith("mode=") for word in options.words(kind))
    return (0 if given else _KEEP_MODE) | (_KEEP_FILES if options.copy >= 0 else 0)


def _remount(pointer: str, mount: Mount, options: MountOptions, *, late: bool) -> Step:
    """What mount(2) does: attributes that are not named go, but for those of access times, which go together;
    flags of the file system are left alone, unless they are named."""
    top, words = options.top, []
    clear = top.clear
    if (top.set | top.clear) & (ATIME_MASK | NODIRATIME):
        clear |= ATIME_MASK | NODIRATIME & ~top.set
    if not options.bind:
        changed = [name if on else OFF[name] for name, (on, _) in options.flags.items() if on or name in OFF]
        writable = ["rw"] if top.clear & RDONLY else []
        words = [*options.words(mount.get("type", "")), *changed, *writable]
    below = options.below
    return steps.remount(
        target=clean(mount["destination"]),
        bind=int(options.bind > 0),
        options=words,
        drop=_REPLACED & ~top.set & ~top.clear,
        set=top.set & ~RDONLY if late else top.set,
        clear=clear | RDONLY if late else clear,
        rset=below.set & ~RDONLY if late else below.set,
        rclear=below.clear,
        propagation=options.propagation,
        pointer=pointer,
    )


def _open(draft: Draft, pointer: str, source: str, options: MountOptions, slot: str) -> Step:
    """The tree of the host.  What is mounted on it inside shows outside only when both the mount and the root
    are to be shared (as runc), and never out of a user namespace, which must not tell those above it."""
    asked = options.propagations[:1] and options.propagations[0] in SHARING
    root = draft.linux.get("rootfsPropagation", "") in SHARING
    shared = bool(asked) and root and index_of(draft, "user") < 0
    return steps.open_tree(
        path=source,
        recursive=options.bind - 1,
        shared=int(shared),
        nofollow=int(SOURCE_LINK in options.links or COPY_LINK in options.links),
        tree=slot,
        pointer=pointer,
    )


def _bind(pointer: str, mount: Mount, options: MountOptions, slot: str) -> Step:
    return steps.attach(
        tree=slot,
        target=clean(mount["destination"]),
        link=_COPIED if COPY_LINK in options.links else int(TARGET_LINK in options.links),
        set=options.top.set,
        clear=options.top.clear,
        rset=options.below.set,
        rclear=options.below.clear,
        propagation=options.propagation,
        pointer=pointer,
    )


def _bind_source(draft: Draft, pointer: str, mount: Mount, options: MountOptions) -> str:
    """The path on the host that is bound; "" for a new file system."""
    kind = mount.get("type", "")
    if options.bind:
        source = mount.get("source", "")
        if not source:
            draft.fault(f"{pointer}/source", mount.get("source"), "must be given for a bind mount")
        return source if source.startswith("/") else f"{draft.options.bundle}/{source}"
    if kind in _CGROUPS and index_of(draft, "cgroup") < 0:
        # Without a namespace of its own a new mount would show the whole hierarchy of the host.
        options.bind = BINDS["rbind"]
        if not cgroup.exists(draft):
            draft.lack(
                pointer,
                "a container without a cgroup and without a cgroup namespace has none to show",
                'add {"type": "cgroup"} to /linux/namespaces, or leave the mount out',
            )
        return cgroup.absolute(draft)
    if kind in _CGROUPS:
        _spare_the_caller(draft, pointer, options)
    if kind == "sysfs" and _owns_no_network(draft):
        # The kernel makes a sysfs only for who owns its network (as crun); below the host's there is more.
        options.bind = BINDS["rbind"]
        options.below.set |= options.top.set
        return "/sys"
    return ""


def _spare_the_caller(draft: Draft, pointer: str, options: MountOptions) -> None:
    """Without a cgroup of its own root in the container would write to that of whoever has created it: kill
    him, or lift his limits."""
    if cgroup.exists(draft) or options.attributes & RDONLY:
        return
    draft.warn(pointer, None, "is mounted read-only: without a cgroup of its own it shows that of the caller")
    options.top.set |= RDONLY
    options.below.clear &= ~RDONLY


def _owns_no_network(draft: Draft) -> bool:
    """Whether the container has a user namespace that surely does not own its network namespace."""
    if is_new(draft, "user"):
        return not is_new(draft, "network")
    return index_of(draft, "user") >= 0 and (index_of(draft, "network") < 0 or draft.host.foreign)


def _check(draft: Draft, pointer: str, mount: Mount, options: MountOptions) -> None:
    for number, word in options.refused:
        draft.gap(f"{pointer}/options/{number}", word, REFUSED[word.partition("=")[0]])
    if options.copy >= 0 and (mount.get("type") != "tmpfs" or options.bind or options.remount >= 0):
        draft.fault(f"{pointer}/options/{options.copy}", COPY, "can be used only with a new tmpfs")
    _check_links(draft, pointer, options)
    if options.bind:
        _check_bind(draft, pointer, options)
    elif options.remount >= 0:
        _check_remount(draft, pointer, options)
    elif mount.get("type", "") in ("", "none", "bind"):
        draft.fault(
            f"{pointer}/type", mount.get("type"), "must name a file system", 'or add "rbind" to the options'
        )


def _check_links(draft: Draft, pointer: str, options: MountOptions) -> None:
    """What is not followed, or copied, is the link that a bind mount has at one of its ends."""
    for word, number in options.links.items():
        if not options.bind or options.remount >= 0:
            rule = "can be used only with a new bind mount"
        elif COPY_LINK in options.links and word != COPY_LINK:
            rule = f"cannot stand beside {COPY_LINK}, which mounts nothing where it meets a link"
        else:
            continue
        draft.fault(f"{pointer}/options/{number}", word, rule, "leave it out")


def check_destination(draft: Draft, pointer: str, destination: str) -> None:
    """Notes a destination, from the member at ``pointer``, where nothing can be mounted."""
    if not destination:
        draft.fault(pointer, destination, "must not be empty")
    elif _is_root(destination):
        draft.fault(
            pointer, destination, "must be below the root, which cannot be mounted over", "change /root/path"
        )
    elif not destination.startswith("/"):
        draft.warn(pointer, destination, "should be absolute", "it is taken as relative to /")


def _is_root(path: str) -> bool:
    """Whether ``path`` leads to the root as far as the text tells; links of the image are looked at later."""
    depth = 0
    for part in clean(path).split("/")[1:]:
        depth = max(depth - 1, 0) if part == ".." else depth + bool(part)
    return depth == 0


def _check_bind(draft: Draft, pointer: str, options: MountOptions) -> None:
    """A bind mount shows a file system that is mounted already: its data cannot be changed from here, and
    mount(2), which options that nobody knows are for, takes no notice of them then.  But a word without a
    value may be a misspelt attribute, which nobody must lose."""
    ignored = [(name, number) for name, (on, number) in options.flags.items() if on]
    for number, word in options.data:
        if "=" in word and options.remount < 0:
            ignored.append((word, number))
        else:
            draft.fault(f"{pointer}/options/{number}", word, "is not an option of a bind mount")
    for word, number in ignored:
        rule = "has no effect on a bind mount: the file system keeps its own"
        draft.warn(f"{pointer}/options/{number}", word, rule)


def _check_remount(draft: Draft, pointer: str, options: MountOptions) -> None:
    for number, word in options.data:
        if not all(fits(part) for part in word.split(",")):
            draft.fault(f"{pointer}/options/{number}", word, "is longer than the 255 bytes a remount takes")
    on, number = options.flags.get("iversion", (False, 0))
    if on:
        draft.fault(f"{pointer}/options/{number}", "iversion", "can be given to a new file system alone")
