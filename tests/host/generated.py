"""Documents for config.json, by the thousand: sound and cheap ones, and ones that are broken in every way."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, cast

from hypothesis import strategies as st

from tests.golden import cases
from tests.property.config_documents import Pointer, change, pointers

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = Any

#: One value of each type, and what is in the way of a type: out of range, no text, too long.
WRONG: list[Json] = [None, True, -1, 1 << 70, 1.5, "", "x", "a\0b", "\ud800", "x" * 5000, [], {}]


def _sometimes(**members: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    """Objects with any of these members."""
    return st.fixed_dictionaries({}, optional=members)


def _some(*values: Json) -> st.SearchStrategy[list[Json]]:
    """Any of these values, each once."""
    return st.lists(st.sampled_from(values), unique_by=str, max_size=4)


_CAPABILITIES = _some("CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SYS_CHROOT", "CAP_NO_SUCH")
_NAMES = st.text("abcé.-", min_size=1, max_size=8).map(lambda name: f"n{name}")
_IDS = st.integers(0, 65535)
_OPTIONS = _some("nosuid", "nodev", "noexec", "ro", "noatime", "rprivate", "nosymfollow", "rnodiratime")
_PROCESS = _sometimes(
    user=st.fixed_dictionaries(
        {"uid": _IDS, "gid": _IDS},
        optional={"umask": st.integers(0, 0o777), "additionalGids": st.lists(_IDS, max_size=4)},
    ),
    terminal=st.booleans(),
    consoleSize=st.fixed_dictionaries({"width": _IDS, "height": _IDS}),
    cwd=st.just("/") | _NAMES.map(lambda name: f"/tmp/{name}"),  # noqa: S108 - inside
    env=st.lists(_NAMES.map(lambda name: f"{name}=é"), max_size=3).map(lambda env: ["PATH=/bin", *env]),
    noNewPrivileges=st.booleans(),
    oomScoreAdj=st.integers(900, 1000),
    rlimits=_some(
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}
    ),
    capabilities=_sometimes(
        **dict.fromkeys(("bounding", "permitted", "effective", "inheritable", "ambient"), _CAPABILITIES)
    ),
)
_MOUNTS = st.lists(
    st.fixed_dictionaries(
        {
            "destination": _NAMES.map(lambda name: f"/mnt/{name}"),
            "type": st.just("tmpfs"),
            "options": _OPTIONS,
        },
        optional={"source": _NAMES},
    )
    | st.fixed_dictionaries(
        {
            "destination": _NAMES.map(lambda name: f"/mnt/{name}"),
            "source": st.just("rootfs/etc"),
            "options": _OPTIONS.map(lambda words: [*words, "rbind"]),
        }
    ),
    max_size=3,
)
_LINUX = _sometimes(
    maskedPaths=_some("/proc/keys", "/sys/firmware", "/etc/passwd", "/no/such/path"),
    readonlyPaths=_some("/proc/sys", "/etc", "/no/such/path"),
    rootfsPropagation=st.sampled_from(["slave", "rslave", "private", "rprivate", "shared", "unbindable"]),
    sysctl=_sometimes(
        **{"kernel.msgmax": st.just("8192"), "net.ipv4.ip_forward": st.just("1"), "kernel.domainname": _NAMES}
    ),
    devices=_some(
        {"path": "/dev/fifo", "type": "p", "fileMode": 0o600, "uid": 1, "gid": 2},
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600},
    ),
)
_USERS: Json = [
    {"containerID": 0, "hostID": 0, "size": 65000}, {"containerID": 65000, "hostID": 70000, "size": 70000}
]  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> Json:
    """Configs without a fault, which this host can make."""
    document: Json = cases.config()
    document["process"].update(draw(_PROCESS))
    document["mounts"] += draw(_MOUNTS)
    document["linux"].update(draw(_LINUX))
    document["root"]["readonly"] = draw(st.booleans())
    document["hostname"] = draw(_NAMES)
    document["annotations"] = draw(st.dictionaries(_NAMES, st.text(), max_size=3))
    if draw(st.booleans()):
        document["linux"]["namespaces"] += [{"type": "user"}]
        document["linux"] |= {"uidMappings": _USERS, "gidMappings": _USERS}
        # the access times of the host's mounts are locked there (mount_namespaces(7))
        for mount in document["mounts"]:
            if "rbind" in mount.get("options", []):
                mount["options"] = [word for word in mount["options"] if "atime" not in word]
    if draw(st.booleans()):
        document["linux"]["namespaces"] += [{"type": "time"}]
        document["linux"]["timeOffsets"] = {"boottime": {"secs": draw(st.integers(0, 1000))}}
    return document


def sound() -> st.SearchStrategy[bytes]:
    """The texts of such configs."""
    return documents().map(as_text)


@st.composite
def odd(draw: st.DrawFn) -> bytes:
    """The text of such a config, with up to three changes."""
    document = copy.deepcopy(draw(documents()))
    for _ in range(draw(st.integers(1, 3))):
        document = change(draw, document)
    return as_text(_harmless(document))


def as_text(document: Json) -> bytes:
    """The JSON text, over several lines."""
    return json.dumps(document, indent=1).encode()


def _harmless(document: Json) -> Json:
    """``document`` with the root of the bundle, not one of the host's directories, a cgroup below ours, and
    new namespaces in place of those of others."""
    root, linux = _member(document, "root"), _member(document, "linux")
    if isinstance(_member(root, "path"), str):
        root["path"] = "rootfs"
    if isinstance(linux, dict):
        cast("dict[str, Json]", linux).pop("cgroupsPath", None)
    listed = _member(linux, "namespaces")
    for one in cast("list[object]", listed) if isinstance(listed, list) else ():
        if isinstance(one, dict):
            cast("dict[str, Json]", one).pop("path", None)
    return document


def _member(value: Json, name: str) -> Json:
    return cast("dict[str, Json]", value).get(name) if isinstance(value, dict) else None


def mutants(*names: str) -> Iterator[tuple[str, bytes]]:
    """Every member of these golden bundles taken out, and replaced by each of WRONG; with a name each.

    What another bundle has in common with the default one is mutated in the default one alone.
    """
    default = {pointer: _at(cases.config(), pointer) for pointer in pointers(cases.config())}
    for name in names:
        document: Json = _harmless(cases.config(name))
        for pointer in pointers(document)[1:]:
            if name == "default" or default.get(pointer, _NOWHERE) != _at(document, pointer):
                yield from _at_every_value(name, document, pointer)


_NOWHERE = object()


def each_member(document: Json) -> Iterator[tuple[str, bytes]]:
    """Every member of ``document`` taken out, and replaced by each of WRONG; with a name each."""
    for pointer in pointers(document)[1:]:
        yield from _at_every_value("", document, pointer)


def _at(document: Json, pointer: Pointer) -> Json:
    for part in pointer:
        document = document[part]
    return document


def _at_every_value(name: str, document: Json, pointer: Pointer) -> Iterator[tuple[str, bytes]]:
    told = f"{name} {'/'.join(map(str, pointer))}"
    for value in (_NOWHERE, *WRONG):
        changed_one = copy.deepcopy(document)
        holder = _at(changed_one, pointer[:-1])
        if value is _NOWHERE:
            del holder[pointer[-1]]
        else:
            holder[pointer[-1]] = value
        yield f"{told}: {'removed' if value is _NOWHERE else repr(value)[:20]}", as_text(changed_one)


def spoilt_texts() -> Iterator[tuple[str, bytes]]:
    """The text of the default bundle, spoilt in ways that a parser must know; with a name each."""
    text = as_text(cases.config())
    for end in range(0, len(text), 7):
        yield f"cut off at {end}", text[:end]
    for at in range(1, len(text), 41):
        for what in (b"\0", b"\xff", b"\xed\xa0\x80", b"\\", b'"', b"}", b"1e999", b"\xef\xbb\xbf", b"//"):
            yield f"{what!r} at {at}", text[:at] + what + text[at:]
    whole = text.decode()
    for told, before, after in (
        ("a name twice", '"hostname"', '"hostname": "x", "hostname"'),
        ("infinity", '"runc"', "1e999"),
        ("no number", '"runc"', "NaN"),
        ("a long number", '"runc"', "9" * 5000),
        ("a long fraction", '"runc"', "1." + "9" * 5000),
        ("a long text", '"runc"', '"' + "x" * (1 << 20) + '"'),
        ("half a pair", '"runc"', '"\\ud800"'),
        ("a NUL", '"runc"', '"a\\u0000b"'),
        ("deep arrays", '"runc"', "[" * 100_000 + "]" * 100_000),
        ("deep objects", '"runc"', '{"a":' * 100_000 + "1" + "}" * 100_000),
        ("no end of depth", '"runc"', "[" * 1_000_000),
    ):
        yield told, whole.replace(before, after).encode()
    yield "a byte order mark", b"\xef\xbb\xbf" + text
    yield "UTF-16", whole.encode("utf-16")
    yield "UTF-32", whole.encode("utf-32")
    yield "many members", as_text({**cases.config(), "annotations": {f"a{n}": "b" for n in range(50_000)}})
    yield "twice the document", text + text
