"""The cache of filters: believed only when it is ours, whole and of the same compiler; never in the way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.errors import HostError
from ocirun.seccomp import cache
from ocirun.seccomp.compile import Compiled
from ocirun.waiting import drive

if TYPE_CHECKING:
    from ocirun_spec.types import Seccomp

    from ocirun.waiting import Task

PROFILE: Seccomp = {"defaultAction": "SCMP_ACT_ALLOW"}
OTHER: Seccomp = {"defaultAction": "SCMP_ACT_LOG"}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")


class Compiler:
    """Compiles into the number of times it was asked; ``library`` stands for libseccomp."""

    def __init__(self, library: Path) -> None:
        self.library = library
        self.asked = 0
        library.write_text("libseccomp")

    def __call__(self, _: Seccomp) -> Task[Compiled]:
        yield from ()
        self.asked += 1
        return Compiled(f"program {self.asked}\n".encode(), 7, str(self.library))


@pytest.fixture
def compiler(tmp_path: Path) -> Compiler:
    return Compiler(tmp_path / "libseccomp.so.2")


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "run/ocirun")


def entry(root: str) -> Path:
    (found,) = Path(root, cache.NAME).iterdir()
    return found


def again(root: str, compiler: Compiler) -> bool:
    """Whether the profile is compiled once more; whichever way, the program is a whole one."""
    before = compiler.asked
    found = drive(cache.look_up(root, PROFILE, compiler))
    assert found.program == f"program {compiler.asked}\n".encode()
    assert found.fresh is (compiler.asked > before)
    return found.fresh


def test_a_profile_is_compiled_once(root: str, compiler: Compiler) -> None:
    first = drive(cache.look_up(root, PROFILE, compiler))
    second = drive(cache.look_up(root, PROFILE, compiler))
    assert (first.program, first.rules, first.fresh) == (b"program 1\n", 7, True)
    assert (second.program, second.rules, second.fresh, second.key) == (b"program 1\n", 7, False, first.key)
    assert drive(cache.look_up(root, OTHER, compiler)).program == b"program 2\n"
    assert Path(root, cache.NAME).stat().st_mode & 0o7777 == 0o700
    assert entry_modes(root) == {0o600}


def entry_modes(root: str) -> set[int]:
    return {path.stat().st_mode & 0o7777 for path in Path(root, cache.NAME).iterdir()}


def test_looking_alone_leaves_nothing(root: str, compiler: Compiler) -> None:
    assert drive(cache.look_up(root, PROFILE, compiler, keep=False)).fresh
    assert not Path(root).exists()


@pytest.mark.parametrize("at", [0, 33, -1])
def test_a_damaged_file_is_not_believed_and_mended(root: str, compiler: Compiler, at: int) -> None:
    again(root, compiler)
    content = bytearray(entry(root).read_bytes())
    content[at] ^= 1
    entry(root).write_bytes(content)
    assert again(root, compiler)
    assert not again(root, compiler)


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 100000])
def test_a_file_of_another_length_is_not_believed(root: str, compiler: Compiler, content: bytes) -> None:
    again(root, compiler)
    entry(root).write_bytes(content)
    assert again(root, compiler)


def test_a_whole_file_under_another_name_is_not_believed(root: str, compiler: Compiler) -> None:
    drive(cache.look_up(root, OTHER, compiler))
    entry(root).rename(Path(root, cache.NAME, cache.key_of(PROFILE)))
    assert again(root, compiler)


def test_what_another_libseccomp_compiled_is_compiled_anew(root: str, compiler: Compiler) -> None:
    again(root, compiler)
    compiler.library.write_text("a newer one")
    assert again(root, compiler)
    assert not again(root, compiler)
    compiler.library.unlink()
    assert again(root, compiler)
    assert again(root, compiler), "nobody can tell whether it is the same"


@needs_root
@pytest.mark.parametrize("name", ["", "*"])
def test_what_belongs_to_others_or_is_open_to_them_is_not_believed(
    root: str, compiler: Compiler, name: str
) -> None:
    again(root, compiler)
    path = entry(root) if name else Path(root, cache.NAME)
    os.chown(path, 1000, 1000)
    assert again(root, compiler)
    os.chown(path, 0, 0)
    path.chmod(path.stat().st_mode | 0o020)
    assert again(root, compiler) or name, "a file is replaced, a directory stays as it is"


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_is_no_file_is_not_believed_nor_waited_for(root: str, compiler: Compiler, kind: str) -> None:
    again(root, compiler)
    path = entry(root)
    if kind == "link":
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")
    else:
        path.unlink()
        path.mkdir(0o700) if kind == "directory" else os.mkfifo(path, 0o600)
    assert again(root, compiler)


def test_a_link_in_place_of_the_directory_is_not_followed(
    root: str, compiler: Compiler, tmp_path: Path
) -> None:
    again(root, compiler)
    Path(root, cache.NAME).rename(tmp_path / "elsewhere")
    Path(root, cache.NAME).symlink_to(tmp_path / "elsewhere")
    assert again(root, compiler)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1, "nothing was written there"


def test_a_place_that_cannot_be_written_stops_nobody(compiler: Compiler, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert drive(cache.look_up(str(tmp_path / "file"), PROFILE, compiler)).fresh


def test_the_oldest_go_when_there_are_many(root: str, compiler: Compiler) -> None:
    again(root, compiler)
    own = entry(root)
    for number in range(cache.MOST + 5):
        other = own.with_name(f".unfinished.{number}")
        other.write_text("")
        os.utime(other, (number, number))
    assert drive(cache.look_up(root, OTHER, compiler)).fresh
    names = {path.name for path in own.parent.iterdir()}
    assert len(names) == cache.MOST
    assert {own.name, cache.key_of(OTHER)} <= names
    assert ".unfinished.0" not in names


def test_what_the_compiler_cannot_do_is_told(root: str) -> None:
    def refuse(_: Seccomp) -> Task[Compiled]:
        yield from ()
        raise HostError("no libseccomp")

    with pytest.raises(HostError):
        drive(cache.look_up(root, PROFILE, refuse))
    assert not Path(root).exists()


@pytest.mark.parametrize("kind", ["loose", "file", "link"])
def test_what_is_in_the_way_of_the_cache_is_replaced(root: str, compiler: Compiler, kind: str) -> None:
    assert again(root, compiler)
    place, elsewhere = Path(root, cache.NAME), Path(root, "elsewhere")
    if kind == "loose":
        place.chmod(0o777)
    else:
        place.rename(elsewhere)
        place.touch() if kind == "file" else place.symlink_to(elsewhere)
    assert again(root, compiler), "it is not believed"
    assert not again(root, compiler), "the cache is anew"
    assert place.lstat().st_mode & 0o170777 == 0o040700
    assert {path.name for path in Path(root).iterdir()} <= {cache.NAME, "elsewhere"}
    assert kind == "loose" or list(elsewhere.iterdir()), "what a link leads to is left alone"


@needs_root
def test_the_directory_of_another_user_is_moved_aside(root: str, compiler: Compiler) -> None:
    assert again(root, compiler)
    os.chown(Path(root, cache.NAME), 1, 1)
    assert again(root, compiler)
    assert not again(root, compiler)
    (aside,) = (path for path in Path(root).iterdir() if path.name != cache.NAME)
    assert (aside.stat().st_uid, len(list(aside.iterdir()))) == (1, 1)
