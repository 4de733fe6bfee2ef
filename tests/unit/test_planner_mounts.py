"""Mounts: the words of their options, binds and new file systems."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from ocirun.errors import ConfigError, HostError
from ocirun.plan.table import TABLE
from ocirun.planner import plan
from ocirun.planner.mount_options import (
    ATIME_MASK,
    LINKS,
    NOATIME,
    NODEV,
    NODIRATIME,
    NOEXEC,
    NOSUID,
    NOSYMFOLLOW,
    PROPAGATIONS,
    RDONLY,
    SILENT,
    STRICTATIME,
    MountOptions,
    known_words,
)
from ocirun.planner.mounts import clean
from tests.golden import cases

if TYPE_CHECKING:
    from ocirun_spec.types import Mount

    from ocirun.plan.model import Argument, Plan

#: The words that the specification says a runtime must, should or may know (config.md).
SPEC_WORDS = (
    "async atime bind defaults dev diratime dirsync exec lazytime loud mand noatime nodev nodiratime "
    "noexec iversion noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private rbind "
    "relatime ro rprivate rshared rslave runbindable rw shared silent slave strictatime suid symfollow "
    "sync remount tmpcopyup unbindable ratime rdev rdiratime rexec rnoatime rnodev rnodiratime rnoexec "
    "rnorelatime rnostrictatime rnosuid rnosymfollow rrelatime rro rrw rstrictatime rsuid rsymfollow "
    "idmap ridmap"
).split()


#: What a remount clears that does not name it.
REPLACED = RDONLY | NOSUID | NODEV | NOEXEC | NOSYMFOLLOW


def with_mount(mount: Mount) -> Plan:
    config = cases.config()
    config["mounts"] = [mount]
    return plan(config, cases.a_host(), cases.options())


def step_for(plan_: Plan, verb: str) -> dict[str, Argument]:
    """The arguments by name of the one step with this verb that the mount asked for."""
    (step,) = [step for step in plan_.steps if step.verb == verb and step.pointer == "/mounts/0"]
    names = [name for name, _ in next(row for row in TABLE if row.name == verb).args]
    return dict(zip(names, step.args, strict=True))


def faults(mount: Mount) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        with_mount(mount)
    return [fault.pointer for fault in caught.value.faults]


def test_every_word_of_the_specification_is_known() -> None:
    assert sorted((*SPEC_WORDS, *LINKS)) == known_words()
    assert [word for word in SPEC_WORDS if MountOptions([word]).data] == []


@pytest.mark.parametrize(
    ("words", "set_", "clear"),
    [
        ("ro nosuid", RDONLY | NOSUID, 0),
        ("ro rw", 0, RDONLY),
        ("rw ro", RDONLY, 0),
        ("suid dev", 0, NOSUID | NODEV),
        ("noatime", NOATIME, ATIME_MASK),
        ("noatime strictatime", STRICTATIME, ATIME_MASK),
        ("noatime atime", 0, ATIME_MASK),
        ("noatime norelatime", NOATIME, ATIME_MASK),
        ("strictatime nostrictatime", 0, ATIME_MASK),
        ("relatime", 0, ATIME_MASK),
        ("defaults silent loud noiversion", 0, 0),
    ],
)
def test_later_words_win(words: str, set_: int, clear: int) -> None:
    options = MountOptions(words.split())

    assert (options.top.set, options.top.clear) == (set_, clear)


@pytest.mark.parametrize(
    ("words", "attributes"),
    [("ro rrw", 0), ("rw rro", RDONLY), ("rro rw", RDONLY), ("nosuid rnoatime", NOSUID | NOATIME),
     ("noatime rstrictatime", STRICTATIME), ("strictatime rrelatime", 0)],
)  # fmt: skip
def test_of_a_single_mount_the_recursive_words_win(words: str, attributes: int) -> None:
    assert MountOptions(words.split()).attributes == attributes


def test_recursive_words_are_kept_apart() -> None:
    options = MountOptions(["ro", "rnosuid", "rrw", "rnoatime"])

    assert (options.top.set, options.top.clear) == (RDONLY, 0)
    assert (options.below.set, options.below.clear) == (NOSUID | NOATIME, RDONLY | ATIME_MASK)


@pytest.mark.parametrize("word", PROPAGATIONS)
def test_words_of_propagation_become_flags(word: str) -> None:
    step = step_for(with_mount({"destination": "/a", "source": "/b", "options": ["rbind", word]}), "attach")

    assert step["propagation"] == (PROPAGATIONS[word],)


def test_words_of_propagation_keep_their_order() -> None:
    options = ["rbind", "rslave", "shared"]
    step = step_for(with_mount({"destination": "/a", "source": "/b", "options": options}), "attach")

    assert step["propagation"] == (PROPAGATIONS["rslave"], PROPAGATIONS["shared"])


def test_unknown_words_go_to_a_new_file_system_with_the_flags_it_has() -> None:
    options = ["size=1m", "sync", "nosuid", "lazytime", "nolazytime", "mode=0700"]
    step = step_for(with_mount({"destination": "/a", "type": "tmpfs", "options": options}), "mount")

    assert step["options"] == ("size=1m", "mode=0700", "sync")
    assert step["set"] == NOSUID


def test_unknown_words_on_a_bind_mount_are_wrong() -> None:
    assert faults({"destination": "/a", "source": "/b", "options": ["bind", "nosiud"]}) == [
        "/mounts/0/options/1"
    ]


def test_what_is_for_a_file_system_is_warned_of_on_a_bind_mount() -> None:
    planned = with_mount(
        {"destination": "/a", "source": "/b", "options": ["bind", "sync", "async", "dirsync", "size=1m"]}
    )

    assert [(fault.pointer, fault.value) for fault in planned.warnings] == [
        ("/mounts/0/options/3", '"dirsync"'),
        ("/mounts/0/options/4", '"size=1m"'),
    ]


def test_a_bind_source_is_relative_to_the_bundle_and_rbind_takes_what_is_below() -> None:
    planned = with_mount(
        {"destination": "a", "type": "ignored", "source": "data", "options": ["bind", "rbind"]}
    )

    assert step_for(planned, "open_tree") == {
        "path": "/bundle/data",
        "recursive": 1,
        "shared": 0,
        "nofollow": 0,
        "tree": "mount.0",
    }
    assert step_for(planned, "attach")["target"] == "/a"
    assert [fault.pointer for fault in planned.warnings] == ["/mounts/0/destination"]


def test_a_bind_mount_needs_a_source() -> None:
    assert faults({"destination": "/a", "options": ["bind"]}) == ["/mounts/0/source"]


@pytest.mark.parametrize("kind", ["", "none", "bind"])
def test_a_mount_that_is_no_bind_needs_a_type(kind: str) -> None:
    assert faults({"destination": "/a", "type": kind, "source": "/b"}) == ["/mounts/0/type"]
    assert faults({"destination": "/a"}) == ["/mounts/0/type"]


def test_a_file_system_needs_no_source() -> None:
    assert step_for(with_mount({"destination": "/a", "type": "proc"}), "mount")["source"] == ""


@pytest.mark.parametrize(("kind", "plain"), [("proc", 1), ("sysfs", 1), ("tmpfs", 0), ("mqueue", 0)])
def test_proc_and_sysfs_take_no_link(kind: str, plain: int) -> None:
    assert step_for(with_mount({"destination": "/a", "type": kind}), "mount")["plain"] == plain


@pytest.mark.parametrize("word", ["ro", "rro"])
def test_a_tmpfs_is_closed_only_after_it_was_filled(word: str) -> None:
    planned = with_mount({"destination": "/dev/", "type": "tmpfs", "options": [word, "nosuid"]})

    assert step_for(planned, "mount")["set"] == NOSUID
    assert step_for(planned, "set_readonly") == {"path": "/dev"}


def test_another_file_system_is_read_only_from_the_start() -> None:
    planned = with_mount({"destination": "/sys", "type": "sysfs", "options": ["ro"]})

    assert step_for(planned, "mount")["set"] == RDONLY
    assert not any(step.verb == "set_readonly" for step in planned.steps)


@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
def test_cgroups_are_mounted_anew_only_in_a_namespace_of_their_own(kind: str) -> None:
    config = cases.config("cgroup-bind")
    config["mounts"] = [
        {"destination": "/c", "type": kind, "source": "cgroup", "options": ["ro", "nsdelegate"]}
    ]
    inherited = plan(config, cases.a_host(), cases.options())

    own = with_mount({"destination": "/c", "type": kind, "source": "cgroup", "options": ["ro", "nsdelegate"]})

    assert step_for(own, "mount")["fstype"] == "cgroup2"
    assert step_for(inherited, "open_tree")["path"] == "/sys/fs/cgroup/machine/one"
    assert step_for(inherited, "attach")["set"] == RDONLY


# -- what is long, and iversion


@pytest.mark.parametrize(
    ("mount", "flags", "options"),
    [
        ({"options": ["size=1m", "sync"]}, 0, ("size=1m", "sync")),
        ({"options": ["a=" + "x" * 255]}, 0, ("a=" + "x" * 255,)),
        ({"options": ["a=" + "x" * 256, "b", "mand"]}, SILENT | 1 << 6, ("a=" + "x" * 256 + ",b",)),
        ({"options": ["a=" + "é" * 128]}, SILENT, ("a=" + "é" * 128,)),
        ({"options": ["x" * 256]}, SILENT, ("x" * 256,)),
        ({"source": "x" * 256}, SILENT, ("",)),
        ({"options": ["iversion", "lazytime", "dirsync"]}, SILENT | 1 << 23 | 1 << 25 | 1 << 7, ("",)),
        ({"options": ["iversion", "noiversion"]}, 0, ()),
        ({"options": ["ro"]}, 0, ("ro",)),
        ({"options": ["ro", "iversion"]}, SILENT | 1 << 23 | 1, ("",)),
    ],
)
def test_what_fsconfig_cannot_say_goes_by_mount(mount: Mount, flags: int, options: tuple[str, ...]) -> None:
    step = step_for(with_mount({"destination": "/a", "type": "ext4", **mount}), "mount")

    assert (step["flags"], step["options"]) == (flags, options)


def test_layers_that_cannot_be_taken_one_by_one_go_as_one_text() -> None:
    word = "lowerdir=" + ":".join(["/" + "l" * 100] * 3)
    mount: Mount = {"destination": "/a", "type": "overlay", "options": [word]}
    config = cases.config()
    config["mounts"] = [mount]
    older = plan(config, cases.a_host(kernel=(6, 1)), cases.options())
    longer = with_mount({**mount, "options": [word, "upperdir=/" + "u" * 256]})

    assert step_for(with_mount(mount), "mount")["options"] == ("lowerdir+=/" + "l" * 100,) * 3
    assert step_for(older, "mount")["options"] == (word,)
    assert step_for(longer, "mount")["options"] == (f"{word},upperdir=/{'u' * 256}",)


def test_what_no_call_takes_is_a_fault_of_the_longest_word() -> None:
    options = ["a=1", "b=" + "x" * 5000, "c=2"]

    assert faults({"destination": "/a", "type": "overlay", "options": options}) == ["/mounts/0/options/1"]
    assert faults({"destination": "/a", "type": "overlay", "source": "x" * 4096}) == ["/mounts/0/source"]


def test_more_layers_than_an_old_kernel_takes_are_a_lack_of_the_host() -> None:
    config = cases.config()
    word = "lowerdir=" + ":".join(["/" + "l" * 100] * 50)
    config["mounts"] = [{"destination": "/a", "type": "overlay", "options": [word]}]

    with pytest.raises(HostError) as caught:
        plan(config, cases.a_host(kernel=(6, 6)), cases.options())

    assert (caught.value.pointer, "6.7" in caught.value.hint) == ("/mounts/0", True)


def test_a_comma_before_a_digit_belongs_to_the_value_of_a_tmpfs_alone() -> None:
    assert MountOptions(["mpol=bind:0,2,size=1m"]).words("tmpfs") == ["mpol=bind:0,2", "size=1m"]
    assert MountOptions(["a=0,2"]).words("ext4") == ["a=0", "2"]


@pytest.mark.parametrize(("kind", "words"), [("ext4", ("ro",)), ("sysfs", ()), ("mqueue", ())])
def test_a_disk_is_read_only_as_a_whole(kind: str, words: tuple[str, ...]) -> None:
    step = step_for(with_mount({"destination": "/a", "type": kind, "options": ["ro"]}), "mount")

    assert (step["options"], step["set"]) == (words, RDONLY)


# -- remount


@pytest.mark.parametrize(
    ("words", "set_", "clear", "drop"),
    [
        ("ro", RDONLY, 0, REPLACED & ~RDONLY),
        ("nosuid rw", NOSUID, RDONLY, REPLACED & ~NOSUID & ~RDONLY),
        ("noatime", NOATIME, ATIME_MASK | NODIRATIME, REPLACED),
        ("nodiratime", NODIRATIME, ATIME_MASK, REPLACED),
        ("relatime", 0, ATIME_MASK | NODIRATIME, REPLACED),
        ("", 0, 0, REPLACED),
    ],
)
def test_a_remount_replaces_the_attributes(words: str, set_: int, clear: int, drop: int) -> None:
    step = step_for(with_mount({"destination": "/a", "options": ["remount", *words.split()]}), "remount")

    assert (step["set"], step["clear"], step["drop"], step["bind"]) == (set_, clear, drop, 0)


def test_a_remount_of_a_bind_leaves_the_file_system_alone() -> None:
    mount: Mount = {
        "destination": "/a",
        "source": "/b",
        "options": ["bind", "remount", "rro", "rw", "rslave"],
    }
    planned = with_mount(mount)
    step = step_for(planned, "remount")

    assert (step["bind"], step["options"], step["rset"]) == (1, (), RDONLY)
    assert step["propagation"] == (PROPAGATIONS["rslave"],)
    assert not any(one.pointer == "/mounts/0" and one.verb == "open_tree" for one in planned.steps)


def test_a_remount_of_all_changes_what_is_named() -> None:
    words = ["remount", "size=2m", "async", "lazytime", "rw"]
    step = step_for(with_mount({"destination": "/a", "type": "tmpfs", "options": words}), "remount")

    assert step["options"] == ("size=2m", "async", "lazytime", "rw")


def test_a_remount_closes_a_tmpfs_in_the_end() -> None:
    planned = with_mount({"destination": "/a", "type": "tmpfs", "options": ["remount", "ro"]})

    assert (step_for(planned, "remount")["set"], step_for(planned, "set_readonly")) == (0, {"path": "/a"})


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        (["remount", "iversion"], "/mounts/0/options/1"),
        (["remount", "a", "b=" + "x" * 256], "/mounts/0/options/2"),
        (["bind", "remount", "size=1"], "/mounts/0/options/2"),
        (["remount", "tmpcopyup"], "/mounts/0/options/1"),
    ],
)
def test_what_a_remount_cannot_change(options: list[str], pointer: str) -> None:
    assert faults({"destination": "/a", "source": "/b", "type": "tmpfs", "options": options}) == [pointer]


# -- what a tmpfs keeps


@pytest.mark.parametrize(
    ("kind", "options", "keep"),
    [
        ("tmpfs", [], 1),
        ("tmpfs", ["mode=0700"], 0),
        ("tmpfs", ["size=1m,mode=0700"], 0),
        ("tmpfs", ["tmpcopyup"], 3),
        ("tmpfs", ["tmpcopyup", "mode=0700"], 2),
        ("ramfs", [], 0),
    ],
)
def test_a_tmpfs_keeps_the_mode_and_if_asked_the_files(kind: str, options: list[str], keep: int) -> None:
    step = step_for(with_mount({"destination": "/a", "type": kind, "options": options}), "mount")

    assert step["keep"] == keep


@pytest.mark.parametrize(
    ("words", "nofollow", "link"),
    [
        (["bind"], 0, 0),
        (["bind", "src-nofollow"], 1, 0),
        (["bind", "dest-nofollow"], 0, 1),
        (["rbind", "dest-nofollow", "src-nofollow"], 1, 1),
        (["bind", "copy-symlink"], 1, 2),
    ],
)
def test_links_at_the_ends_of_a_bind(words: list[str], nofollow: int, link: int) -> None:
    planned = with_mount({"destination": "/a", "source": "/b", "options": words})

    assert step_for(planned, "open_tree")["nofollow"] == nofollow
    assert step_for(planned, "attach")["link"] == link


@pytest.mark.parametrize("word", LINKS)
@pytest.mark.parametrize("words", [[], ["remount"], ["remount", "bind"]])
def test_words_for_links_are_of_new_bind_mounts(words: list[str], word: str) -> None:
    place = f"/mounts/0/options/{len(words)}"
    assert faults({"destination": "/a", "type": "tmpfs", "source": "/b", "options": [*words, word]}) == [
        place
    ]


@pytest.mark.parametrize("word", ["src-nofollow", "dest-nofollow"])
def test_what_copies_a_link_stands_alone(word: str) -> None:
    words = ["bind", word, "copy-symlink"]
    assert faults({"destination": "/a", "source": "/b", "options": words}) == ["/mounts/0/options/1"]


@pytest.mark.parametrize(("kind", "options"), [("ramfs", ["tmpcopyup"]), ("tmpfs", ["tmpcopyup", "rbind"])])
def test_only_a_new_tmpfs_copies(kind: str, options: list[str]) -> None:
    mount: Mount = {"destination": "/a", "type": kind, "source": "/b", "options": options}

    assert faults(mount) == ["/mounts/0/options/0"]


# -- what is shared, and what is the host's


@pytest.mark.parametrize(
    ("words", "root", "user", "shared"),
    [
        (["rshared"], "rshared", False, 1),
        (["shared", "private"], "shared", False, 1),
        (["rslave", "rshared"], "rshared", False, 0),
        (["rshared"], "", False, 0),
        ([], "rshared", False, 0),
        (["rshared"], "rshared", True, 0),
    ],
)
def test_a_tree_is_shared_with_the_host_only_when_all_want_it(
    words: list[str], root: str, *, user: bool, shared: int
) -> None:
    config = cases.config("user-namespace" if user else "default")
    config["mounts"] = [{"destination": "/a", "source": "/b", "options": ["rbind", *words]}]
    if root:
        cast("dict[str, object]", config.get("linux"))["rootfsPropagation"] = root

    assert step_for(plan(config, cases.a_host(), cases.options()), "open_tree")["shared"] == shared


@pytest.mark.parametrize(
    ("user", "network", "bound"),
    [
        ({}, None, True),
        ({}, {"path": "/n"}, True),
        ({}, {}, False),
        ({"path": "/u"}, None, True),
        ({"path": "/u"}, {"path": "/n"}, False),
        (None, None, False),
    ],
)
def test_a_sysfs_that_the_kernel_will_surely_refuse_is_bound(
    user: dict[str, str] | None, network: dict[str, str] | None, *, bound: bool
) -> None:
    config = cases.config("user-namespace")
    kinds = {"mount": {}, "user": user, "network": network}
    namespaces = [{"type": kind, **members} for kind, members in kinds.items() if members is not None]
    config["mounts"] = [{"destination": "/sys", "type": "sysfs", "options": ["ro"]}]
    cast("dict[str, object]", config.get("linux"))["namespaces"] = namespaces
    config.pop("hostname", None)
    planned = plan(config, cases.a_host(), cases.options())

    verbs = [step.verb for step in planned.steps if step.pointer == "/mounts/0"]
    assert verbs == (["open_tree", "attach"] if bound else ["mount"])
    if bound:
        step = step_for(planned, "attach")
        assert (step["set"], step["rset"]) == (RDONLY, RDONLY)


# -- words of mount(8)


def test_words_of_mount_8_are_taken_for_those_they_stand_for() -> None:
    options = MountOptions(["auto", "x-any=1", "comment=text", "owner", "suid", "user=name"])

    assert (options.top.set, [word for _, word in options.data]) == (NODEV, ["user=name"])


# -- destinations


@pytest.mark.parametrize("destination", ["..", "/a/..", "a/../.."])
def test_the_root_cannot_be_mounted_over(destination: str) -> None:
    assert faults({"destination": destination, "type": "tmpfs"}) == ["/mounts/0/destination"]


def test_a_destination_must_not_be_empty() -> None:
    assert faults({"destination": "", "type": "tmpfs"}) == ["/mounts/0/destination"]


def test_what_is_covered_later_is_closed_at_once() -> None:
    config = cases.config()
    config["mounts"] = [
        {"destination": "/a", "type": "tmpfs", "options": ["ro"]},
        {"destination": "/a/", "source": "/b", "options": ["rbind"]},
    ]
    planned = plan(config, cases.a_host(), cases.options())

    assert step_for(planned, "mount")["set"] == RDONLY
    assert not any(step.verb == "set_readonly" for step in planned.steps)


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [("/dev/", "/dev"), ("dev", "/dev"), ("//dev/./pts", "/dev/pts"), ("/", "/"), ("/a/../b", "/a/../b")],
)
def test_paths_are_cleaned_without_looking_at_links(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned
