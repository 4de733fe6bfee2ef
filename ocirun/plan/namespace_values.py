"""What the config says of the arguments of steps for namespaces (ocirun.plan.values)."""

from __future__ import annotations

from ocirun.plan.view import asks_somebody, entry_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.plan.model import Step
    from ocirun.plan.view import Expected, Values, View

#: linux/sched.h.
_FLAGS = {
    "time": 0x80, "mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000,
    "user": 0x10000000, "pid": 0x20000000, "network": 0x40000000,
}  # fmt: skip


def _new(view: View) -> set[str]:
    return _made(view) | {one["type"] for one in view.linux.get("namespaces", ()) if not one.get("path")}


def _listed(view: View) -> set[str]:
    return _made(view) | {one["type"] for one in view.linux.get("namespaces", ())}


def _made(view: View) -> set[str]:
    """What an ordinary user's container has whether the config lists it or not."""
    return {"user"} if "make_user_namespace" in view.places else set()


def _late(view: View) -> set[str]:
    """The ipc namespace with its mqueue belongs to the root of the user namespace, where there is one."""
    return _new(view) & {"ipc"} if "user" in _listed(view) else set()


def _sum(kinds: set[str]) -> int:
    return sum(_FLAGS[kind] for kind in kinds)


def _clone(view: View, _step: Step) -> Expected:
    """All that are new are born with init, but for the time namespace, which clone3 freezes."""
    entered = {"user"} if "make_user_namespace" in view.places else set[str]()
    namespaces = 0 if view.enters else _sum(_new(view) - _late(view) - {"time"} - entered)
    return {"namespaces": namespaces, "sharing": int(asks_somebody(view))}


def _root(view: View, _step: Step) -> Expected:
    return {"namespaces": 0 if view.enters else _sum(_late(view))}


def _joined(view: View, step: Step) -> Expected:
    """Of a container all but its cgroup namespace, and those that not every kernel or container has."""
    always = {"mount", "uts", "ipc", "pid", "network"}
    if view.unprivileged:  # he may join what the container owns, and what he shares with it he is in
        given, least = int(str(step.args[1])), _sum(_listed(view) - {"cgroup"})
        return {
            "namespaces": given
            if given & ~_sum({*_FLAGS} - {"cgroup"}) == 0 and given & least == least
            else least
        }
    return {"namespaces": _sum(always | _listed(view) & {"user", "time"})}


def _opened(view: View, step: Step) -> Expected:
    if not step.pointer:  # that of a container with a user namespace, by its init
        pids = [view.steps[number - 1].args[0] for number in view.places.get("open_init", ())]
        return {"kind": _FLAGS["cgroup"], "path": f"/proc/{(*pids, 0)[0]!s}/ns/cgroup"}
    namespace = entry_at(view.config, step.pointer.removesuffix("/path"))
    return {"kind": _FLAGS.get(str(namespace.get("type")), 0), "path": namespace.get("path")}


def _path(view: View, step: Step) -> Expected:
    return {"path": entry_at(view.config, step.pointer.removesuffix("/path")).get("path")}


def _maps(view: View, _step: Step) -> Expected:
    uids, gids = view.linux.get("uidMappings", ()), view.linux.get("gidMappings", ())
    uid_lines = [f"{one['containerID']} {one['hostID']} {one['size']}\n" for one in uids]
    gid_lines = [f"{one['containerID']} {one['hostID']} {one['size']}\n" for one in gids]
    return {"uids": "".join(uid_lines), "gids": "".join(gid_lines)}


def _entered(view: View, step: Step) -> Expected:
    """As ``_maps``; more than one id only a program maps that has the right to it, found by its name."""
    found: dict[str, object] = {**_maps(view, step)}
    uids, gids = view.linux.get("uidMappings", ()), view.linux.get("gidMappings", ())
    if not uids and not gids:
        return _automatic(step)
    for place, (name, lines) in enumerate((("newuidmap", uids), ("newgidmap", gids)), 2):
        given, single = str(step.args[place]), sum(one["size"] for one in lines) == 1
        fits = given.rpartition("/")[2] == name or (single and not given)
        found[name] = given if fits else name
    return found


def _automatic(step: Step) -> Expected:
    """The config has no mappings, so these are the host's to give: root first, and no gap; a program where
    there is more than one."""
    found: dict[str, object] = {}
    for place, (text, program) in enumerate((("uids", "newuidmap"), ("gids", "newgidmap"))):
        given, mapper = str(step.args[place]), str(step.args[place + 2])
        lines = [line.split() for line in given.splitlines()]
        inside = 0
        for line in lines:
            whole = len(line) == 3 and all(word.isdigit() for word in line) and line[0] == str(inside)
            inside += int(line[2]) if whole else -1
        fits = given.endswith("\n") and inside >= len(lines) > 0
        found[text] = given if fits else "the own id, then those of /etc/subuid"
        single = inside == 1
        found[program] = mapper if (single and not mapper) or mapper.endswith(f"/{program}") else program
    return found


def _clocks(view: View, _step: Step) -> Expected:
    offsets = view.linux.get("timeOffsets", {})
    lines = [
        f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n"
        for clock, offset in (("monotonic", offsets.get("monotonic")), ("boottime", offsets.get("boottime")))
        if offset is not None
    ]
    return {"offsets": "".join(lines)}


NAMESPACE_VALUES: dict[str, Values] = {
    "clone_init": _clone,
    "become_root": _root,
    "join_namespaces": _joined,
    "open_namespace": _opened,
    "join_namespace": _opened,
    "set_id_maps": _maps,
    "make_user_namespace": _entered,
    "enter_user_namespace": _path,
    "make_time_namespace": _clocks,
}
