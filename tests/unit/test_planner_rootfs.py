"""The root file system as a list of mounts: what each word asks for, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ocirun.errors import ConfigError, HostError
from ocirun.planner import plan
from ocirun.planner.mount_options import NOSUID, RDONLY, SILENT, MountOptions
from ocirun.planner.rootfs import RootMount
from tests.golden import cases

if TYPE_CHECKING:
    from ocirun.plan.model import Plan

ROOT = RootMount("bind", "/image", "", ["rbind"])
#: 90 bytes: two of them are one value of fsconfig(2), three are not.
LAYER = "/" + 89 * "l"


def _planned(*mounts: RootMount, kernel: tuple[int, int] = (6, 12)) -> Plan:
    options = cases.options()
    options.rootfs = mounts
    return plan(cases.config("minimal"), cases.a_host(kernel=kernel), options)


def _args(made: Plan, verb: str) -> list[tuple[object, ...]]:
    return [step.args for step in made.steps if step.verb == verb]


def test_nothing_looks_at_the_path_of_the_config() -> None:
    config = cases.config("minimal")
    config["root"]["path"] = ""
    options = cases.options()
    options.rootfs = [ROOT]
    assert _args(plan(config, cases.a_host(), options), "open_tree") == [("/image", 1, 0, 0, "root")]


@pytest.mark.parametrize(
    ("kind", "words", "recursive", "attributes"),
    [
        ("bind", ["rbind", "rw"], 1, (0, RDONLY, 0, 0)),
        ("bind", ["bind", "ro", "nosuid"], 0, (RDONLY | NOSUID, 0, 0, 0)),
        ("", ["rbind", "rro"], 1, (0, 0, RDONLY, 0)),
        ("bind", [], 0, (0, 0, 0, 0)),
    ],
)
def test_a_bind_mount_is_opened_and_gets_its_attributes_when_it_is_attached(
    kind: str, words: list[str], recursive: int, attributes: tuple[int, ...]
) -> None:
    made = _planned(RootMount(kind, "/image", "", words))
    assert _args(made, "open_tree") == [("/image", recursive, 0, 0, "root")]
    assert _args(made, "attach_root") == [("root", *attributes, ())]


def test_a_new_file_system_is_born_with_its_attributes() -> None:
    made = _planned(RootMount("ext4", "/dev/sdz", "/", ["ro", "nosuid", "data=journal", "sync"]))
    opened = ("ext4", "/dev/sdz", 0, ("data=journal", "sync", "ro"), RDONLY | NOSUID, "root")
    assert _args(made, "open_filesystem") == [opened]
    assert _args(made, "attach_root") == [("root", 0, 0, 0, 0, ())]


def test_layers_that_fit_stay_together() -> None:
    word = f"lowerdir={LAYER}:{LAYER}"
    assert MountOptions([word]).parameters("overlay") == [word]


@pytest.mark.parametrize(
    ("written", "layers"),
    [
        (f"{LAYER}:{LAYER}:{LAYER}", [f"lowerdir+={LAYER}"] * 3),
        (LAYER * 3 + "\\:a\\\\b\\,c:/b", [f"lowerdir+={LAYER * 3}:a\\b,c", "lowerdir+=/b"]),
        (LAYER * 3 + "::/data::/more", [f"lowerdir+={LAYER * 3}", "datadir+=/data", "datadir+=/more"]),
    ],
)
def test_layers_that_do_not_fit_come_one_by_one_without_escapes(written: str, layers: list[str]) -> None:
    assert MountOptions([f"lowerdir={written}"]).parameters("overlay") == layers
    assert len(MountOptions([f"lowerdir={written}"]).parameters("other")) == 1


def test_an_escaped_comma_does_not_part_words() -> None:
    assert MountOptions(["a=1\\,2,b,c\\\\,d"]).parameters("x") == ["a=1\\,2", "b", "c\\\\", "d"]


def test_an_older_kernel_gets_the_layers_as_one_text() -> None:
    words = ["index=off", "lowerdir=" + ":".join([LAYER] * 4), "ro", "sync"]
    lower = RootMount("overlay", "overlay", "", words)
    layers = [f"lowerdir+={LAYER}"] * 4
    parameters = ("index=off", *layers, "sync", "ro")
    assert _args(_planned(lower, kernel=(6, 7)), "open_filesystem") == [
        ("overlay", "overlay", 0, parameters, RDONLY, "root")
    ]
    assert _args(_planned(lower, kernel=(6, 6)), "open_filesystem") == [
        ("overlay", "overlay", SILENT | 1 | 16, (",".join(words[:2]),), RDONLY, "root")
    ]


def test_an_older_kernel_cannot_take_more_layers_than_a_page_holds() -> None:
    lower = RootMount("overlay", "overlay", "", ["lowerdir=" + ":".join([LAYER] * 60)])
    assert len(_args(_planned(lower, kernel=(6, 7)), "open_filesystem")) == 1
    with pytest.raises(HostError, match="options are longer than the 4095 bytes") as caught:
        _planned(lower, kernel=(6, 6))
    assert caught.value.pointer == "rootfs[0]"


@pytest.mark.parametrize(
    ("mount", "told"),
    [
        (RootMount("bind", "/a", "/data", ["rbind"]), "must have no target"),
        (RootMount("", "/a"), "must name a file system"),
        (RootMount("bind", "a", "", ["rbind"]), "must have an absolute path"),
        (RootMount("bind", "/a", "", ["rbind", "size=1"]), "is not an option of a bind mount"),
        (RootMount("ext4", "/a", "", ["loop"]), "make the loop device before"),
        (RootMount("overlay", "overlay", "", ["lowerdir=/a", "uidmap=0:1:2"]), "is not built yet"),
        (RootMount("overlay", "overlay", "", ["lowerdir=/a", "gidmap=0:1:2"]), "is not built yet"),
        (RootMount("bind", "/a", "", ["rbind", "X-containerd.mkdir.path=/b"]), "is not built yet"),
        (RootMount("overlay", "overlay", "", ["remount"]), "has no meaning for the root"),
        (RootMount("tmpfs", "tmpfs", "", ["tmpcopyup"]), "has no meaning for the root"),
        (RootMount("overlay", "overlay", "", ["rshared"]), "/linux/rootfsPropagation"),
        (RootMount("fuse3.fuse-overlayfs", "overlay"), "a helper of user space"),
        (RootMount("format/overlay", "overlay"), "a helper of user space"),
        (RootMount("overlay", "overlay", "", [f"upperdir={LAYER * 60}"]), "longer than the 4095 bytes"),
        (RootMount("erofs", LAYER * 60), "source is longer than the 4095 bytes"),
        (RootMount("erofs", "/a\0b"), "NUL"),
    ],
)
def test_what_is_not_built_is_refused_where_it_stands(mount: RootMount, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _planned(mount)
    assert told in str(caught.value)
    assert {fault.pointer for fault in caught.value.faults} == {"rootfs[0]"}


def test_a_second_mount_over_the_root_is_refused() -> None:
    with pytest.raises(ConfigError, match="a second mount over the root is not built") as caught:
        _planned(ROOT, RootMount("tmpfs", "tmpfs", "/./"))
    assert caught.value.pointer == "rootfs[1]"
