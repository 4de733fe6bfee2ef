"""A root file system that is a list of mounts: seen from inside, and from the host, which has none of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ocirun.errors import StepError
from ocirun.planner.rootfs import RootMount
from tests.host import observe
from tests.host.bundles import Bundle, make_root
from tests.host.inprocess import Made, making

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.runtimes import Runtime

#: So long that a list of three does not fit into one value of fsconfig(2), and with what overlay escapes.
LONG = "layer:of,a\\long-name-" + "x" * 80


@pytest.fixture
def made(scratch: Path) -> Iterator[Made]:
    """Containers of this process."""
    yield from making(scratch / "state")


@pytest.fixture
def moved(bundle: Bundle) -> Bundle:
    """A bundle whose root file system is elsewhere: the path of its config leads nowhere."""
    bundle.rootfs.rename(bundle.path / "layer")
    bundle.rootfs = bundle.path / "layer"
    return bundle.writable()


class Inside:
    """A running container whose shell does what it is told, and says how that ended."""

    def __init__(self, made: Made, bundle: Bundle, *mounts: RootMount) -> None:
        read, out = os.pipe()
        script, self._in = os.pipe()
        self.host = _points()
        self.made = made
        self.container = made.create(bundle.sh("sh; echo $?"), rootfs=mounts, stdio=(script, out, out))
        os.close(script)
        os.close(out)
        self._out = read
        self.pid = self.container.pid
        made.start(self.container)

    def tell(self, script: str) -> str:
        """What ``script`` printed; the container ends with it.  Meanwhile the host has seen no new mount."""
        assert _points() == self.host
        os.write(self._in, script.encode())
        os.close(self._in)
        self.made.status(self.container)
        with os.fdopen(self._out) as stream:
            return stream.read()


def _points() -> list[str]:
    return sorted(mount.point for mount in observe.mounts())


def _escaped(path: Path) -> str:
    """A path as it must stand among the options of an overlay (the kernel's overlayfs.rst)."""
    return "".join(f"\\{letter}" if letter in ":,\\" else letter for letter in str(path))


def test_a_bind_mount_is_the_root(made: Made, moved: Bundle) -> None:
    inside = Inside(made, moved, RootMount("bind", str(moved.rootfs), "", ["rbind", "rw"]))
    root = observe.mount_at(inside.pid, "/")
    assert "rw" in root.options
    assert root.root.endswith(str(moved.rootfs))
    assert inside.tell("echo hello > /made; cat /made") == "hello\n0\n"
    assert (moved.rootfs / "made").read_text() == "hello\n"


def test_a_readonly_bind_mount_is_readonly_from_the_start(made: Made, moved: Bundle) -> None:
    moved.cwd("/not/there")
    with pytest.raises(StepError, match="EROFS"):
        made.create(moved.sleeping(), rootfs=[RootMount("bind", str(moved.rootfs), "", ["rbind", "ro"])])
    assert not (moved.rootfs / "not").exists(), "a snapshot that others share was written to"
    inside = Inside(made, moved.cwd("/"), RootMount("bind", str(moved.rootfs), "", ["rbind", "ro"]))
    assert "ro" in observe.mount_at(inside.pid, "/").options
    assert "Read-only file system" in inside.tell("echo hello > /made")
    assert not (moved.rootfs / "made").exists()


def _layers(bundle: Bundle, count: int, name: str) -> list[Path]:
    """The layers of an image, the uppermost first: each has a file of its own and one that it covers."""
    layers = [bundle.path / f"{name}{number}" for number in range(count)]
    for number, layer in enumerate(layers):
        layer.mkdir()
        (layer / "top").write_text(f"{number}\n")
        (layer / f"file{number}").write_text(f"{number}\n")
    return [*layers, bundle.rootfs]


@pytest.mark.parametrize("name", ["plain", LONG])
@pytest.mark.parametrize("above", ["", f"{'u' * 200}/{'v' * 200}"])
def test_an_overlay_gives_its_layers_and_keeps_what_is_written(
    made: Made, moved: Bundle, name: str, above: str
) -> None:
    """What does not fit into one value, and is no list of layers, goes to mount(2)."""
    layers = _layers(moved, 3, name)
    upper, work = moved.path / above / "upper", moved.path / above / "work"
    upper.mkdir(parents=True)
    work.mkdir(parents=True)
    lower = ":".join(_escaped(layer) for layer in layers)
    options = ["index=off", f"workdir={work}", f"upperdir={upper}", f"lowerdir={lower}"]
    inside = Inside(made, moved, RootMount("overlay", "overlay", "", options))
    root = observe.mount_at(inside.pid, "/")
    assert (root.kind, "rw" in root.options) == ("overlay", True)
    said = inside.tell("cat /top /file1 /file2; echo new > /made; rm /file1; cat /made")
    assert said == "0\n1\n2\nnew\n0\n"
    assert (upper / "made").read_text() == "new\n"
    assert (layers[1] / "file1").exists(), "a layer is not written to"
    assert not (upper / "top").exists()


def test_an_overlay_of_layers_alone_is_readonly(made: Made, moved: Bundle) -> None:
    lower = ":".join(_escaped(layer) for layer in _layers(moved, 1, "plain"))
    inside = Inside(made, moved, RootMount("overlay", "overlay", "", ["ro", f"lowerdir={lower}"]))
    assert "ro" in observe.mount_at(inside.pid, "/").options
    assert "Read-only file system" in inside.tell("echo new > /made")


def test_further_mounts_lie_below_the_root_and_under_those_of_the_config(
    made: Made, moved: Bundle, scratch: Path
) -> None:
    shared = scratch / "shared"
    (shared / "below").mkdir(parents=True)
    (shared / "file").write_text("shared\n")
    moved.bind(shared, "/mnt/data/below", "rw")
    inside = Inside(
        made,
        moved,
        RootMount("bind", str(moved.rootfs), "", ["rbind", "rw"]),
        RootMount("tmpfs", "tmpfs", "/mnt", ["size=64k", "mode=0711", "nosuid"]),
        RootMount("bind", str(shared), "mnt/data", ["rbind", "ro"]),
    )
    points = [mount.point for mount in observe.mounts(inside.pid) if mount.point.startswith("/mnt")]
    assert points == ["/mnt", "/mnt/data", "/mnt/data/below"]
    assert "nosuid" in observe.mount_at(inside.pid, "/mnt").options
    script = "cat /mnt/data/file; echo a > /mnt/a && cat /mnt/a; touch /mnt/data/b 2>/dev/null || echo ro"
    assert inside.tell(f"{script}; cat /mnt/data/below/file; stat -c %a /mnt") == (
        "shared\na\nro\nshared\n711\n0\n"
    )


@pytest.mark.parametrize(
    ("mounts", "told"),
    [
        (
            [RootMount("bind", "/not/there", "", ["rbind"])],
            "open_tree /not/there: no such file or directory (ENOENT)",
        ),
        ([RootMount("overlay", "overlay", "", ["lowerdir=/not/there"])], "open filesystem overlay"),
        ([RootMount("nonsense", "x", "")], "fsopen x: nonsense: no such device (ENODEV)"),
        ([RootMount("tmpfs", "tmpfs", "", ["nonsense=1"])], "open filesystem tmpfs"),
        ([RootMount("bind", "/etc/hostname", "", ["bind"])], "the root file system must be a directory"),
        (
            [RootMount("tmpfs", "tmpfs", ""), RootMount("bind", "/not/there", "data", ["bind"])],
            "open tree /not/there",
        ),
    ],
)
def test_a_mount_that_cannot_be_made_gives_the_reason_and_leaves_nothing(
    made: Made, bundle: Bundle, mounts: list[RootMount], told: str
) -> None:
    with pytest.raises(StepError) as caught:
        made.create(bundle.sleeping(), rootfs=mounts)
    assert told in str(caught.value)
    assert caught.value.pointer in ("rootfs[0]", "rootfs[1]", "/root/path")
    assert made.store.ids() == []


def test_an_overlay_of_the_config_with_a_long_list_of_layers(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    layers = [scratch / f"{number}{'x' * 90}" for number in range(3)]
    for number, layer in enumerate(layers):
        layer.mkdir()
        (layer / f"file{number}").write_text(f"{number}\n")
    bundle.mount("/mnt", "overlay", "overlay", "lowerdir=" + ":".join(str(layer) for layer in layers))
    done = runtime.run(bundle.sh("cat /mnt/file0 /mnt/file1 /mnt/file2")).ok()
    assert done.stdout == "0\n1\n2\n"


def test_a_root_made_of_nothing_but_mounts(made: Made, bundle: Bundle, busybox: Path, scratch: Path) -> None:
    make_root(scratch / "image", busybox)
    programs = str(scratch / "image/bin")
    inside = Inside(
        made,
        bundle,
        RootMount("tmpfs", "tmpfs", "", ["size=1m", "mode=755"]),
        RootMount("bind", programs, "/bin", ["bind", "ro", "nosuid"]),
    )
    assert inside.tell("ls /bin/busybox /proc/1/status") == "/bin/busybox\n/proc/1/status\n0\n"
