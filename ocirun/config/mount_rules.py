"""The rules of /mounts and of id mappings."""

from __future__ import annotations

from ocirun.config.access import integer, objects, string, strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.config.access import Found, Namespaces, Object

#: Options that change a mount which is already there; such an entry has no file system of its own.
CHANGES = frozenset({
    "remount", "shared", "rshared", "private", "rprivate", "slave", "rslave", "unbindable", "runbindable",
})  # fmt: skip
#: The greatest number of lines in uid_map and gid_map (user_namespaces(7)).
EXTENTS = 340


def check_mounts(config: Object, namespaces: Namespaces, found: Found) -> None:
    """Report every fault of the mounts."""
    for index, mount in objects(config, "mounts"):
        pointer = f"/mounts/{index}"
        options = {option for _, option in strings(mount, "options")}
        destination(mount, pointer, found)
        source(mount, options, pointer, found)
        if "uidMappings" in mount or "gidMappings" in mount or "idmap" in options or "ridmap" in options:
            mapped(mount, options, namespaces, pointer, found)


def destination(mount: Object, pointer: str, found: Found) -> None:
    """A mount has a place.  It may be relative, which is deprecated and means relative to / (config.md,
    Mounts)."""
    if string(mount, "destination") == "":
        found(f"{pointer}/destination", "must not be empty", "it is a path inside the container")


def source(mount: Object, options: set[str], pointer: str, found: Found) -> None:
    """A bind mount has a source, every other a type, unless it changes a mount that is already there."""
    bound = "bind" in options or "rbind" in options
    if bound and not mount.get("source"):
        found(f"{pointer}/source", "is required for a bind mount", "a path of the host or of the bundle")
    if (
        not bound
        and not mount.get("type")
        and not options & CHANGES
        and isinstance(mount.get("options", []), list)
    ):
        found(f"{pointer}/type", "is required", 'a type of file system such as "tmpfs", or the option "bind"')


def mapped(mount: Object, options: set[str], namespaces: Namespaces, pointer: str, found: Found) -> None:
    """Id mappings of a mount come in pairs; idmap without any needs those of the container (config.md,
    Mounts)."""
    for member, other in (("uidMappings", "gidMappings"), ("gidMappings", "uidMappings")):
        if mount.get(member) and not mount.get(other):
            found(
                f"{pointer}/{other}", f"must stand beside {member}", "a mount maps users and groups together"
            )
        overlapping(mount, member, f"{pointer}/{member}", found)
    own = mount.get("uidMappings") or mount.get("gidMappings")
    if options & {"idmap", "ridmap"} and not own and "user" not in namespaces.kinds:
        at = next(index for index, option in strings(mount, "options") if option in ("idmap", "ridmap"))
        found(f"{pointer}/options/{at}", "needs id mappings", "give the mount uidMappings and gidMappings")


def overlapping(holder: Object, member: str, pointer: str, found: Found) -> None:
    """The kernel takes mappings that are not empty, do not overlap on either side, and are not too many."""
    listed = objects(holder, member)
    if len(listed) > EXTENTS:
        found(pointer, f"must not have more than {EXTENTS} entries", "see user_namespaces(7)")
        return
    for index, item in listed:
        size = integer(item, "size")
        if size == 0:
            found(f"{pointer}/{index}/size", "must be at least 1", "an entry without ids maps nothing")
        for side in ("containerID", "hostID"):
            first = integer(item, side)
            if first is not None and size is not None and first + size > 1 << 32:
                found(
                    f"{pointer}/{index}/size", f"goes beyond the last id from {side} on", "ids have 32 bits"
                )
    for side in ("containerID", "hostID"):
        _disjoint(listed, side, pointer, found)


def _disjoint(listed: list[tuple[int, Object]], side: str, pointer: str, found: Found) -> None:
    extents: list[tuple[int, int, int]] = []
    for index, item in listed:
        first, size = integer(item, side), integer(item, "size")
        if first is not None and size is not None:
            extents.append((first, first + size, index))
    extents.sort()
    end, before = 0, 0
    for first, beyond, index in extents:
        if first < end:
            found(f"{pointer}/{index}/{side}", "overlaps another mapping", f"the other is {pointer}/{before}")
        if beyond > end:
            end, before = beyond, index
