"""Mounts that show the files of other owners than the file system has (config.md, idmap and ridmap).

The kernel takes the mapping from a user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP) and maps only mounts
that were never attached, of a file system that the caller is root of.  So stage does it, with a namespace
that it makes for nothing else, or with the one that the container joins.
"""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.planner.mount_options import COPY, RDONLY
from ocirun.planner.mounts import WITHOUT_DISK, call, clean
from ocirun.planner.namespaces import index_of, is_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import IDMapping, Mount

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft
    from ocirun.planner.mount_options import MountOptions
    from ocirun.planner.mounts import Mounts

#: File systems that show what belongs to a namespace or to the kernel: none of them can be mapped.
OF_THE_KERNEL = frozenset("proc sysfs cgroup cgroup2 mqueue devpts".split())
#: A file of mappings takes one write of less than a page (user_namespaces(7)).
_PAGE = 4096
_MEMBERS = {"uids": "uidMappings", "gids": "gidMappings"}


def plan(draft: Draft, planned: Mounts, number: int, mount: Mount, options: MountOptions) -> None:
    """Adds the steps that map ``mount.N``; what is no bind mount is made by stage as well."""
    _check(draft, number, mount, options)
    texts = _texts(draft, f"/mounts/{number}", mount, options)
    slot = "namespace.user" if texts is None else _mapping(planned, number, texts)
    planned.mapped.append(
        steps.map_ids(
            tree=f"mount.{number}",
            mapping=slot,
            recursive=int(options.idmap_below),
            pointer=f"/mounts/{number}",
        )
    )
    if not options.bind and options.remount < 0:
        planned.filesystems.append(open_filesystem(draft, number, mount, options, options.attributes))
        planned.made.append(_attach(number, mount, options))


def _mapping(planned: Mounts, number: int, texts: tuple[str, str]) -> str:
    """The slot of the mapping; one that an earlier mount has is used again."""
    if texts not in planned.mappings:
        planned.mappings[texts] = slot = f"mapping.{number}"
        uids, gids = texts
        planned.mapping.append(
            steps.make_mapping(proc="proc", uids=uids, gids=gids, mapping=slot, pointer=f"/mounts/{number}")
        )
    return planned.mappings[texts]


def open_filesystem(draft: Draft, number: int, mount: Mount, options: MountOptions, attributes: int) -> Step:
    """The step that makes ``mount.N``, with these ``attributes``, where init cannot."""
    pointer, kind, source = f"/mounts/{number}", mount.get("type", ""), mount.get("source", "")
    readonly = kind not in WITHOUT_DISK and bool(attributes & RDONLY)
    flags, words = call(draft, pointer, kind, source, options, readonly=readonly)
    return steps.open_filesystem(
        fstype=kind,
        source=source,
        flags=flags,
        options=words,
        set=attributes,
        tree=f"mount.{number}",
        pointer=pointer,
    )


def _attach(number: int, mount: Mount, options: MountOptions) -> Step:
    """The mount, which was born with its attributes."""
    return steps.attach(
        tree=f"mount.{number}",
        target=clean(mount["destination"]),
        link=0,
        set=0,
        clear=0,
        rset=0,
        rclear=0,
        propagation=options.propagation,
        pointer=f"/mounts/{number}",
    )


def _check(draft: Draft, number: int, mount: Mount, options: MountOptions) -> None:
    pointer, bind = f"/mounts/{number}", options.bind > 0
    if options.remount >= 0:
        draft.fault(pointer, mount["destination"], "cannot map what is mounted already", "map it there")
    if not bind and mount.get("type", "") in OF_THE_KERNEL:
        rule = "is a file system that has no owners to map"
        draft.fault(f"{pointer}/type", mount.get("type"), rule, "leave the mappings out")
    if options.copy >= 0:
        draft.gap(f"{pointer}/options/{options.copy}", COPY, "beside a mapping of ids is not built")
    if draft.host.unprivileged and (bind or draft.host.euid):
        draft.lack(
            pointer,
            "the ids of a file system of the host can be mapped by root of the host alone (mount_setattr(2))",
            "leave the mapping out, or run as root",
        )


def _texts(draft: Draft, pointer: str, mount: Mount, options: MountOptions) -> tuple[str, str] | None:
    """The texts for uid_map and gid_map of the mapping; None for that of the namespace that is joined."""
    own = mount.get("uidMappings") or mount.get("gidMappings")
    if own and options.mapping:
        place = f"{pointer}/options/{options.idmap}"
        draft.fault(
            place, options.mapping, "cannot stand beside the mappings of the mount", "give one of them"
        )
    if own:
        return _text(draft, pointer, mount.get("uidMappings", ())), _text(
            draft, pointer, mount.get("gidMappings", ())
        )
    if options.mapping:
        return _told(draft, f"{pointer}/options/{options.idmap}", options.mapping)
    if not is_new(draft, "user") and index_of(draft, "user") >= 0:
        return None
    linux = draft.linux
    return _text(draft, pointer, linux.get("uidMappings", ())), _text(
        draft, pointer, linux.get("gidMappings", ())
    )


def _text(draft: Draft, pointer: str, mappings: Sequence[IDMapping]) -> str:
    text = "".join([f"{one['containerID']} {one['hostID']} {one['size']}\n" for one in mappings])
    if len(text) >= _PAGE:
        draft.fault(pointer, len(text), "has longer mappings than the kernel takes (user_namespaces(7))")
    return text


def _told(draft: Draft, pointer: str, word: str) -> tuple[str, str]:
    """The mapping of ``idmap=uids=0-1000-10#…;gids=…``, crun's: the id on the file system, the one that is
    seen, how many; with "@" the one that is seen is of the container."""
    texts = {"uids": "", "gids": ""}
    for part in word.split(";"):
        kind, _, ranges = part.partition("=")
        for one in ranges.split("#") if kind in texts else ("",):
            numbers = one.removeprefix("@").split("-")
            if len(numbers) != 3 or not all(number.isdecimal() and number.isascii() for number in numbers):
                rule = "must be uids=FROM-TO-SIZE#…;gids=…"
                draft.fault(pointer, part, rule, "give the mount uidMappings and gidMappings instead")
                continue
            first, seen, size = map(int, numbers)
            if one.startswith("@"):
                seen = _on_the_host(draft, pointer, kind, seen, size)
            texts[kind] += f"{first} {seen} {size}\n"
    for kind in [kind for kind, text in texts.items() if not text]:
        draft.fault(pointer, word, f"must map {kind} as well: the kernel maps users and groups together")
    return texts["uids"], texts["gids"]


def _on_the_host(draft: Draft, pointer: str, kind: str, first: int, size: int) -> int:
    """The id of the host for the ``first`` of ``size`` ids of the container."""
    users, groups = draft.linux.get("uidMappings", ()), draft.linux.get("gidMappings", ())
    for one in users if kind == "uids" else groups:
        if one["containerID"] <= first and first + size <= one["containerID"] + one["size"]:
            return one["hostID"] + first - one["containerID"]
    rule = f"is not in one range of /linux/{_MEMBERS[kind]}"
    draft.fault(pointer, f"@…-{first}-{size}", rule, "split it, or leave the @ out for ids of the host")
    return first
