"""What the config says of the arguments of steps that mount, bind and make devices (ocirun.plan.values)."""

from __future__ import annotations

import re

from ocirun.plan.view import entry_at, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocirun_spec.types import IDMapping

    from ocirun.plan.model import Step
    from ocirun.plan.view import Expected, Values, View

#: mount_setattr(2): word, its contrary, and the bit.
_BITS = (
    ("ro", "rw", 0x1),
    ("nosuid", "suid", 0x2),
    ("nodev", "dev", 0x4),
    ("noexec", "exec", 0x8),
    ("nodiratime", "diratime", 0x80),
    ("nosymfollow", "symfollow", 0x200000),
)
#: The modes of one field of three bits; the last word wins, and a contrary takes back its own mode alone.
_ATIMES = {"noatime": 0x10, "relatime": 0x00, "strictatime": 0x20}
_ATIME_FIELD = 0x70
#: mount(2).
_PROPAGATIONS = {"unbindable": 1 << 17, "private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20}
_RECURSIVE = 0x4000
#: Flags of the file system, by the words that set and unset them, and as bits of mount(2).
_FLAGS = {"sync": 1 << 4, "mand": 1 << 6, "dirsync": 1 << 7, "iversion": 1 << 23, "lazytime": 1 << 25}
_UNSET = {"async": "sync", "nomand": "mand", "noiversion": "iversion", "nolazytime": "lazytime"}
_MS_RDONLY, _MS_SILENT = 1, 1 << 15
_NEUTRAL = ("defaults", "silent", "loud")
_WORDS = frozenset(
    [*(word for on, off, _ in _BITS for word in (on, off)), *_ATIMES, "atime", *_PROPAGATIONS]
    + [f"no{word}" for word in ("strictatime", "relatime")]
)
_KINDS_OF_MOUNT = (
    "bind", "rbind", "remount", "tmpcopyup", "copy-symlink", "src-nofollow", "dest-nofollow", "idmap",
    "ridmap",
)  # fmt: skip
#: Words of mount(8), with what they stand for; the others that are for it alone stand for nothing.
_MOUNT_8 = {
    "user": ("nosuid", "nodev", "noexec"),
    "users": ("nosuid", "nodev", "noexec"),
    "owner": ("nosuid", "nodev"),
    "group": ("nosuid", "nodev"),
    **dict.fromkeys("auto noauto nouser nousers noowner nogroup _netdev".split(), ()),
}
#: What mount(2) takes from a mount that is mounted anew without naming it.
_REPLACED = 0x1 | 0x2 | 0x4 | 0x8 | 0x200000
#: Of these a read-only mount says nothing about a disk.
_WITHOUT_DISK = (
    "proc sysfs tmpfs ramfs devpts mqueue cgroup cgroup2 bpf debugfs tracefs securityfs hugetlbfs"
).split()
#: fsconfig(2) takes no longer value.
_LONGEST = 255
_CGROUPS = ("cgroup", "cgroup2")
_KINDS = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}
#: The default devices (config-linux.md) and links (runtime-linux.md).
_DEVICES = {
    "/dev/null": (1, 3), "/dev/zero": (1, 5), "/dev/full": (1, 7), "/dev/random": (1, 8),
    "/dev/urandom": (1, 9), "/dev/tty": (5, 0),
}  # fmt: skip
_LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/ptmx": "pts/ptmx",
}


def _path(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def _attributes(words: list[str], prefix: str = "") -> tuple[int, int]:
    """The bits that the words set and those that they clear; a word counts where ``prefix`` is before it."""
    found, cleared = 0, 0
    meant = [one for word in words for one in _MOUNT_8.get(word, (word,))]
    plain = [word.removeprefix(prefix) for word in meant if word.startswith(prefix)]
    for on, off, bit in _BITS:
        last = [word for word in plain if word in (on, off)][-1:]
        found |= bit if last == [on] else 0
        cleared |= bit if last == [off] else 0
    mode = 0
    for word in plain:
        taken_back = "noatime" if word == "atime" else word.removeprefix("no")
        if word in _ATIMES:
            mode = _ATIMES[word]
        elif mode == _ATIMES.get(taken_back):
            mode = 0
        else:
            continue
        cleared |= _ATIME_FIELD
    if any(word in ("atime", "nostrictatime", "norelatime") for word in plain):
        cleared |= _ATIME_FIELD
    return found | mode, cleared


def _propagation(words: list[str]) -> tuple[int, ...]:
    """The flags of the words of that kind; with an "r" they count for all below."""
    flags = {**_PROPAGATIONS, **{f"r{word}": bit | _RECURSIVE for word, bit in _PROPAGATIONS.items()}}
    return tuple(flags[word] for word in words if word in flags)


def _mount(view: View, step: Step) -> Expected:
    """A new file system, whichever call makes it."""
    mount = entry_at(view.config, step.pointer)
    words: list[str] = mount.get("options", [])
    target, kind = _path(str(mount.get("destination", ""))), str(mount.get("type", ""))
    top, below = _attributes(words), _attributes(words, "r")
    bits = top[0] & ~below[1] | below[0]
    bits &= ~view.closed_late(step.pointer)
    if kind in _CGROUPS and view.without_cgroup:
        bits |= 0x1  # it would be that of the caller that root in the container writes to
    names = [*_flags(words), *(["ro"] if bits & 1 and kind not in _WITHOUT_DISK else [])]
    given = any(part.startswith("mode=") for part in _data(words, kind))
    return {
        "fstype": "cgroup2" if kind in _CGROUPS else kind,
        "source": mount.get("source", ""),
        "target": target,
        **_call(step, kind, _data(words, kind), names, _label(view, kind, words, step)),
        "set": bits,
        "propagation": _propagation(words),
        "plain": int(kind in ("proc", "sysfs") or target == "/dev" or target.startswith("/dev/")),
        "keep": (int(not given) | 2 * ("tmpcopyup" in words)) * (kind == "tmpfs"),
    }


def _made_aside(view: View, step: Step) -> Expected:
    """A new file system that stage makes, to map it; those of the root only the caller knows."""
    if not step.pointer.startswith("/mounts/"):
        return {}
    made = _mount(view, step)
    return {name: made[name] for name in ("fstype", "source", "flags", "options", "set")}


def _label(view: View, kind: str, words: list[str], step: Step) -> Sequence[str]:
    """The label of the mounts, with its option; whether the host has SELinux, the plan as a whole does not
    tell."""
    label = view.linux.get("mountLabel", "")
    own = any("context=" in word for word in words)
    given = label in str(step.args[names(step.verb).index("options")])
    if not label or not given or own or kind in (*_CGROUPS, "proc", "sysfs", "mqueue"):
        return ()
    return view.annotations.get("run.oci.mount_context_type", "context"), label


def _call(step: Step, kind: str, data: list[str], flags: list[str], label: Sequence[str]) -> Expected:
    """The options as fsconfig(2) takes them, each for itself, or as mount(2) does, in one text; that is the
    call for what fsconfig(2) has no word for, or not the length."""
    given = int(str(step.args[names(step.verb).index("flags")]))
    options = [one for part in data for one in _layers(kind, part)]
    quoted = ['{}="{}"'.format(*label)] if label else []
    plain = ["=".join(label)] if label else []
    if given or "iversion" in flags or any(len(one.partition("=")[2]) > _LONGEST for one in options):
        bits = {**_FLAGS, "ro": _MS_RDONLY}
        return {
            "flags": _MS_SILENT | sum(bits[name] for name in flags),
            "options": (",".join([*data, *quoted]),),
        }
    return {"flags": 0, "options": (*options, *flags, *plain)}


def _layers(kind: str, part: str) -> list[str]:
    """The layers of an overlay one by one, where they are too long for one parameter; there nothing is
    escaped, and data alone is in those after two colons (overlayfs.rst)."""
    name, _, layers = part.partition("=")
    if (kind, name) != ("overlay", "lowerdir") or len(layers) <= _LONGEST:
        return [part]
    lower, *data = re.split(r"(?<!\\)::", layers)
    listed = [("lowerdir+", one) for one in re.split(r"(?<!\\):", lower)]
    listed += [("datadir+", one) for one in data]
    return [key + "=" + re.sub(r"\\(.)", r"\1", value) for key, value in listed]


def _flags(words: list[str]) -> list[str]:
    """The flags of the file system that the last word about each sets."""
    last = {_UNSET.get(word, word): word for word in words if word in _FLAGS or word in _UNSET}
    return [name for name, word in last.items() if name == word]


def _data(words: list[str], kind: str) -> list[str]:
    """What is for the file system, part by part; in a tmpfs a comma before a digit is part of a value."""
    found: list[str] = []
    for part in ",".join(word for word in words if not _is_about_the_mount(word)).split(","):
        if found and kind == "tmpfs" and part[:1].isdigit():
            found[-1] += f",{part}"
        elif part:
            found.append(part)
    return found


def _is_about_the_mount(word: str) -> bool:
    plain = word[1:] if word[:1] == "r" and word not in _WORDS else word
    others = ("", *_KINDS_OF_MOUNT, *_NEUTRAL, *_FLAGS, *_UNSET, *_MOUNT_8)
    return word in others or plain in _WORDS or word.startswith(("x-", "comment=", "idmap=", "ridmap="))


def _unmount(view: View, step: Step) -> Expected:
    """What is mounted where the mount says, be that on a link."""
    path = _path(str(entry_at(view.config, step.pointer).get("destination", "")))
    directory, _, name = path.rpartition("/")
    return {"directory": directory or "/", "name": name}


def _remount(view: View, step: Step) -> Expected:
    """A mount that is there: what is not named goes, as with mount(2), but for access times."""
    mount = entry_at(view.config, step.pointer)
    words: list[str] = mount.get("options", [])
    top, below = _attributes(words), _attributes(words, "r")
    clear = top[1]
    if (top[0] | top[1]) & (_ATIME_FIELD | 0x80):
        clear |= _ATIME_FIELD | 0x80 & ~top[0]
    late = view.closed_late(step.pointer)
    return {
        "target": _path(str(mount.get("destination", ""))),
        "bind": int(bool({"bind", "rbind"} & set(words))),
        "drop": _REPLACED & ~top[0] & ~top[1],
        "set": top[0] & ~late,
        "clear": clear | late,
        "rset": below[0] & ~late,
        "rclear": below[1],
        "propagation": _propagation(words),
        **(
            {} if {"bind", "rbind"} & set(words) else {"options": _changes(words, str(mount.get("type", "")))}
        ),
    }


def _changes(words: list[str], kind: str) -> tuple[str, ...]:
    """The options of the file system that a remount names, the flags that it takes back among them."""
    last = {_UNSET.get(word, word): word for word in words if word in _FLAGS or word in _UNSET}
    told = [word for word in last.values() if word != "noiversion"]
    writable = [word for word in words if word in ("ro", "rw")][-1:] == ["rw"]
    return (*_data(words, kind), *told, *(["rw"] if writable else []))


def _attach(view: View, step: Step) -> Expected:
    """A bind mount of the config, or a device; what the caller gave as mounts of the root only he knows."""
    if step.pointer.startswith("/linux/devices"):
        still = {**dict.fromkeys(("link", "set", "clear", "rset", "rclear"), 0), "propagation": ()}
        return {**still, **({"target": _device(view, step.pointer)["path"]} if step.pointer[14:] else {})}
    if not step.pointer.startswith("/mounts/"):
        return {"link": 0}
    mount = entry_at(view.config, step.pointer)
    words: list[str] = mount.get("options", [])
    top, below = _attributes(words), _attributes(words, "r")
    of_the_host = mount.get("type") == "sysfs" and not {"bind", "rbind"} & set(words)
    if ("open_filesystem", step.pointer) in {(one.verb, one.pointer) for one in view.steps}:
        top = below = (0, 0)  # it was born with them
    return {
        "target": _path(str(mount.get("destination", ""))),
        "link": 2 if "copy-symlink" in words else int("dest-nofollow" in words),
        "set": top[0],
        "clear": top[1],
        "rset": below[0] | top[0] if of_the_host else below[0],
        "rclear": below[1],
        "propagation": _propagation(words),
    }


def _tree(view: View, step: Step) -> Expected:
    """A source, below the bundle unless it is absolute; with all that is mounted below where that is asked
    for."""
    if step.pointer == "/root/path":
        wanted = str(entry_at(view.config, "/root").get("path", ""))
        still = {"recursive": 1, "shared": 0, "nofollow": 0}
        return {"path": _below_a_bundle(view, step.pointer, wanted), **still}
    if not step.pointer.startswith("/mounts/"):
        return {"nofollow": 0}
    mount = entry_at(view.config, step.pointer)
    words = mount.get("options", [])
    shared = _is_shared(view, words)
    if not {"bind", "rbind"} & set(words):  # for a container without a cgroup or a network of its own
        path = "/sys" if mount.get("type") == "sysfs" else view.cgroup
        return {"path": path, "recursive": 1, "shared": shared, "nofollow": 0}
    return {
        "path": _below_a_bundle(view, step.pointer, str(mount.get("source", ""))),
        "recursive": int("rbind" in words),
        "shared": shared,
        "nofollow": int(any(word in words for word in ("copy-symlink", "src-nofollow"))),
    }


def _mapping(view: View, step: Step) -> Expected:
    """The mappings of the mount, those that its option brings, or those of the container."""
    mount = entry_at(view.config, step.pointer)
    told = [word.partition("=")[2] for word in mount.get("options", []) if _is_idmap(word)]
    texts: dict[str, str] = {"uids": "", "gids": ""}
    containers = {"uids": view.linux.get("uidMappings", []), "gids": view.linux.get("gidMappings", [])}
    for kind in texts:
        users = [] if _is_joined(view) else containers[kind]
        for one in mount.get(f"{kind[0]}idMappings") or ([] if told[-1:] > [""] else users):
            texts[kind] += f"{one['containerID']} {one['hostID']} {one['size']}\n"
        for triple in re.findall(rf"{kind}=([^;]*)", told[-1] if told else ""):
            for at, first, seen, size in re.findall(r"(@?)(\d+)-(\d+)-(\d+)", triple):
                texts[kind] += f"{int(first)} {_seen(users, int(seen), at)} {int(size)}\n"
    return texts


def _is_joined(view: View) -> bool:
    """Whether the user namespace has mappings of its own."""
    return any(one["type"] == "user" and one.get("path") for one in view.linux.get("namespaces", ()))


def _is_idmap(word: str) -> bool:
    return word.partition("=")[0] in ("idmap", "ridmap")


def _seen(users: Sequence[IDMapping], wanted: int, at: str) -> int:
    """The id of the host for one of the container, where an "@" says that it is that."""
    return next(
        (
            wanted - one["containerID"] + one["hostID"]
            for one in users
            if at and 0 <= wanted - one["containerID"] < one["size"]
        ),
        wanted,
    )


def _mapped(view: View, step: Step) -> Expected:
    """Below as well where the word says so; by its own mapping, or the one that is joined."""
    mount = entry_at(view.config, step.pointer)
    words = [word.partition("=")[0] for word in mount.get("options", [])]
    wanted = tuple(_mapping(view, step).values())
    made = [str(one.args[3]) for one in view.steps if one.verb == "make_mapping" and one.args[1:3] == wanted]
    return {"recursive": int("ridmap" in words), "mapping": made[0] if made else "namespace.user"}


def _is_shared(view: View, words: list[str]) -> int:
    """Whether the host sees what is mounted there: the mount and the root ask for it, and no user namespace
    is in between."""
    sharing = ("shared", "rshared")
    first = [word for word in words if word in _PROPAGATIONS or word[1:] in _PROPAGATIONS][:1]
    users = any(one["type"] == "user" for one in view.linux.get("namespaces", ()))
    return int(
        bool(first) and first[0] in sharing and view.linux.get("rootfsPropagation") in sharing and not users
    )


def _below_a_bundle(view: View, pointer: str, wanted: str) -> str:
    if wanted.startswith("/"):
        return wanted
    opened = [str(step.args[0]) for step in view.steps if (step.verb, step.pointer) == ("open_tree", pointer)]
    return opened[0] if opened[0].startswith("/") and opened[0].endswith(f"/{wanted}") else f"BUNDLE/{wanted}"


def _attach_root(view: View, step: Step) -> Expected:
    """The root of the config is as it is; a list of mounts has attributes of its own, and so has a mount that
    covers it."""
    if step.pointer.startswith("/mounts/"):
        asked = _attach(view, step)
        return {name: asked[name] for name in ("set", "clear", "rset", "rclear", "propagation")}
    listed = any(step.pointer.startswith("rootfs[") for step in view.steps)
    still = {} if listed else dict.fromkeys(("set", "clear", "rset", "rclear"), 0)
    return {**still, "propagation": ()}


def _cut(_view: View, _step: Step) -> Expected:
    return {"flags": _PROPAGATIONS["slave"] | _RECURSIVE}


def _root_propagation(view: View, _step: Step) -> Expected:
    return {"flags": sum(_propagation([view.linux.get("rootfsPropagation", "")]))}


def _closed(view: View, step: Step) -> Expected:
    return {"path": _path(str(entry_at(view.config, step.pointer).get("destination", "")))}


def _device(view: View, pointer: str) -> Mapping[str, object]:
    """A device of the config; without fileMode everybody may use it."""
    entry = entry_at(view.config, pointer)
    numbered = entry.get("type") != "p"
    return {
        "path": _path(str(entry.get("path", ""))),
        "kind": _KINDS.get(str(entry.get("type")), 0),
        "major": entry.get("major", 0) if numbered else 0,
        "minor": entry.get("minor", 0) if numbered else 0,
        "mode": entry.get("fileMode", 0o666),
        "uid": entry.get("uid", 0),
        "gid": entry.get("gid", 0),
    }


def _node(view: View, step: Step) -> Expected:
    """A node of the config, one of the defaults, or the one that is laid over masked files."""
    if step.pointer.startswith("/linux/devices/"):
        return _device(view, step.pointer)
    path = "/dev/null" if step.pointer == "/linux/maskedPaths" else str(step.args[0])
    major, minor = _DEVICES.get(path, (-1, -1))
    numbers = {"path": path, "kind": _KINDS["c"], "major": major, "minor": minor}
    return {**numbers, "mode": 0o666, "uid": 0, "gid": 0}


def _opened_node(view: View, step: Step) -> Expected:
    """A node of the host: one of the config has there what path it may, its numbers count."""
    found = _node(view, step)
    if not step.pointer.startswith("/linux/devices/"):
        return found
    return {name: value for name, value in found.items() if name != "path"}


def _link(_view: View, step: Step) -> Expected:
    return {"target": _LINKS.get(str(step.args[1]), "")}


MOUNT_VALUES: dict[str, Values] = {
    "mount": _mount,
    "open_filesystem": _made_aside,
    "make_mapping": _mapping,
    "map_ids": _mapped,
    "attach": _attach,
    "remount": _remount,
    "unmount": _unmount,
    "open_tree": _tree,
    "attach_root": _attach_root,
    "set_propagation": _cut,
    "set_root_propagation": _root_propagation,
    "set_readonly": _closed,
    "make_device": _node,
    "open_device": _opened_node,
    "make_symlink": _link,
}
