"""Mounts: the words of their options, binds and new file systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ocirun.errors import ConfigError
from ocirun.plan.table import TABLE
from ocirun.planner import plan
from ocirun.planner.mount_options import (
    ATIME_MASK,
    NOATIME,
    NODEV,
    NOSUID,
    PROPAGATIONS,
    RDONLY,
    STRICTATIME,
    MountOptions,
    known_words,
)
from ocirun.planner.mounts import clean
from tests.golden import cases

if TYPE_CHECKING:
    from ocirun_spec.types import Mount

    from ocirun.plan.model import Argument, Plan

#: The words that the specification says a runtime must or should know (config.md), but for those refused.
SPEC_WORDS = (
    "async atime bind defaults dev diratime dirsync exec lazytime loud mand noatime nodev nodiratime "
    "noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private rbind "
    "relatime ro rprivate rshared rslave runbindable rw shared silent slave strictatime suid symfollow "
    "sync unbindable ratime rdev rdiratime rexec rnoatime rnodev rnodiratime rnoexec rnorelatime "
    "rnostrictatime rnosuid rnosymfollow rrelatime rro rrw rstrictatime rsuid rsymfollow"
).split()


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
    assert sorted(SPEC_WORDS) == known_words()
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


def test_recursive_words_are_kept_apart() -> None:
    options = MountOptions(["ro", "rnosuid", "rrw", "rnoatime"])

    assert (options.top.set, options.top.clear) == (RDONLY, 0)
    assert (options.below.set, options.below.clear) == (NOSUID | NOATIME, RDONLY | ATIME_MASK)


@pytest.mark.parametrize("word", PROPAGATIONS)
def test_words_of_propagation_become_flags(word: str) -> None:
    step = step_for(with_mount({"destination": "/a", "source": "/b", "options": ["rbind", word]}), "attach")

    assert step["propagation"] == PROPAGATIONS[word]


def test_unknown_words_go_to_a_new_file_system_with_the_flags_it_has() -> None:
    options = ["size=1m", "sync", "nosuid", "lazytime", "nolazytime", "mode=0700"]
    step = step_for(with_mount({"destination": "/a", "type": "tmpfs", "options": options}), "mount")

    assert step["options"] == ("size=1m", "mode=0700", "sync")
    assert step["set"] == NOSUID


def test_unknown_words_on_a_bind_mount_are_wrong() -> None:
    assert faults({"destination": "/a", "source": "/b", "options": ["bind", "size=1m"]}) == [
        "/mounts/0/options/1"
    ]


def test_flags_of_a_file_system_on_a_bind_mount_are_warned_of() -> None:
    planned = with_mount(
        {"destination": "/a", "source": "/b", "options": ["bind", "sync", "async", "dirsync"]}
    )

    assert [fault.value for fault in planned.warnings] == ['"dirsync"']


def test_a_bind_source_is_relative_to_the_bundle_and_rbind_takes_what_is_below() -> None:
    planned = with_mount(
        {"destination": "a", "type": "ignored", "source": "data", "options": ["bind", "rbind"]}
    )

    assert step_for(planned, "open_tree") == {"path": "/bundle/data", "recursive": 1, "tree": "mount.0"}
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


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [("/dev/", "/dev"), ("dev", "/dev"), ("//dev/./pts", "/dev/pts"), ("/", "/"), ("/a/../b", "/a/../b")],
)
def test_paths_are_cleaned_without_looking_at_links(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned
