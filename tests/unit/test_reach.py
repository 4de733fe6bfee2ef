"""Which cgroup is a user's to divide, told by the file of its scope; and who is moved out of it."""

from __future__ import annotations

import os
import posix
from typing import TYPE_CHECKING

import pytest

from ocirun import reach
from ocirun.cgroup.vacate import vacate
from ocirun.errors import DriverError
from ocirun.files import read_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cgroup in which we are, a scope, as a directory, with the runtime directory beside it."""
    own = tmp_path / "a.scope"
    (tmp_path / "systemd/transient").mkdir(parents=True)
    own.mkdir()
    (own / "cgroup.procs").touch()
    monkeypatch.setitem(posix.environ, b"XDG_RUNTIME_DIR", os.fsencode(tmp_path))
    _live_in("/a.scope", monkeypatch)
    return own


def _live_in(cgroup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: str) -> bytes:
        return f"0::{cgroup}\n".encode() if path == "/proc/self/cgroup" else read_file(path)

    monkeypatch.setattr("ocirun.reach.read_file", read)


def test_who_is_in_no_scope_of_his_systemd_may_divide_what_is_his(unit: Path) -> None:
    assert reach.gather(str(unit.parent)).cgroup == "/a.scope"


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("", False),
        ("Delegate=no\n", False),
        ("Delegate=yes\nDelegate=no\n", False),
        ("Delegate=yes\n", True),
        ("Delegate=cpu memory\n", True),
    ],
)
@pytest.mark.parametrize("below", ["", "/own"])
def test_a_scope_is_not_given_away_unless_it_says_so(
    unit: Path, monkeypatch: pytest.MonkeyPatch, text: str, given: bool, below: str
) -> None:
    """The scope of a terminal belongs to the user, too; but its shell must not be moved."""
    cgroup = f"/a.scope{below}"
    (unit / "own").mkdir()
    (unit / "own/cgroup.procs").touch()
    _live_in(cgroup, monkeypatch)
    (unit.parent / "systemd/transient/a.scope").write_text(f"[Unit]\nDescription=a\n\n[Scope]\n{text}")
    assert reach.gather(str(unit.parent)).cgroup == (cgroup if given else None)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user's units lie, one of which we are in: user@7.service/app.slice/a-b@c.service."""
    own = tmp_path / "user@7.service/app.slice/a-b@c.service"
    own.mkdir(parents=True)
    (own / "cgroup.procs").touch()
    monkeypatch.setitem(posix.environ, b"XDG_RUNTIME_DIR", os.fsencode(tmp_path / "run"))
    monkeypatch.setitem(posix.environ, b"XDG_CONFIG_HOME", os.fsencode(tmp_path / "config"))
    monkeypatch.setitem(posix.environ, b"XDG_DATA_HOME", os.fsencode(tmp_path / "data"))
    _live_in(f"/{own.relative_to(tmp_path)}", monkeypatch)
    return tmp_path


def _unit(service: Path, path: str, text: str) -> None:
    (service / path).parent.mkdir(parents=True, exist_ok=True)
    (service / path).write_text(f"[Service]\n{text}\n")


def _is_his(service: Path) -> bool:
    return reach.gather(str(service)).cgroup is not None


CONFIG, DATA, TRANSIENT = "config/systemd/user", "data/systemd/user", "run/systemd/transient"


@pytest.mark.parametrize(
    ("files", "given"),
    [
        ({}, True),
        ({f"{CONFIG}/a-b@c.service": ""}, False),
        ({f"{CONFIG}/a-b@c.service": "Delegate=yes"}, True),
        ({f"{CONFIG}/a-b@c.service": "Delegate="}, True),
        ({f"{CONFIG}/a-b@c.service": "Delegate=Off"}, False),
        ({f"{CONFIG}/a-b@.service": "Delegate = pids"}, True),
        ({f"{CONFIG}/a-b@c.service": "", f"{CONFIG}/a-b@.service": "Delegate=yes"}, False),
        ({f"{CONFIG}/a-b@c.service": "", f"{DATA}/a-b@c.service": "Delegate=yes"}, False),
        ({f"{DATA}/a-b@c.service": "", f"{TRANSIENT}/a-b@c.service": "Delegate=yes"}, True),
        ({f"{DATA}/a-b@c.service": "", f"{CONFIG}/a-b@c.service.d/1.conf": "Delegate=yes"}, True),
        ({f"{DATA}/a-b@c.service": "", f"{CONFIG}/a-b@.service.d/1.conf": "Delegate=yes"}, True),
        ({f"{DATA}/a-b@c.service": "", f"{CONFIG}/a-.service.d/1.conf": "Delegate=yes"}, True),
        ({f"{DATA}/a-b@c.service": "", f"{CONFIG}/service.d/1.conf": "Delegate=yes"}, True),
        ({f"{DATA}/a-b@c.service": "", f"{CONFIG}/service.d/1.text": "Delegate=yes"}, False),
        ({f"{DATA}/x.service": "Delegate=no", f"{CONFIG}/service.d/1.conf": "Delegate=no"}, False),
        ({f"{CONFIG}/service.d/2.conf": "Delegate=no", f"{DATA}/service.d/10.conf": "Delegate=yes"}, False),
        ({f"{CONFIG}/service.d/2.conf": "Delegate=no", f"{DATA}/service.d/2.conf": "Delegate=yes"}, False),
    ],
)
def test_a_service_is_not_given_away_unless_its_files_say_so(
    service: Path, files: dict[str, str], given: bool
) -> None:
    for path, text in files.items():
        _unit(service, path, text)
    assert _is_his(service) is given


def test_the_units_of_his_manager_lie_in_its_own_runtime_directory(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever we were given."""

    def read(path: str) -> bytes:
        return read_file(path.replace("/run/user/7/", f"{service}/manager/"))

    monkeypatch.setattr("ocirun.units.read_file", read)
    _unit(service, "manager/systemd/transient/a-b@c.service", "")
    assert not _is_his(service)


def test_the_first_unit_below_the_manager_decides(service: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was given it may give to units of another systemd."""
    below = service / "user@7.service/app.slice/a-b@c.service/inner.service"
    below.mkdir()
    (below / "cgroup.procs").touch()
    _live_in(f"/{below.relative_to(service)}", monkeypatch)
    _unit(service, f"{CONFIG}/inner.service", "")
    _unit(service, f"{CONFIG}/a-b@c.service", "Delegate=yes")
    assert _is_his(service)


def test_a_service_of_the_system_is_his_when_he_may_write(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a unit of the same name says that is not it."""
    own = service / "system.slice/a.service"
    own.mkdir(parents=True)
    (own / "cgroup.procs").touch()
    _live_in("/system.slice/a.service", monkeypatch)
    _unit(service, f"{CONFIG}/a.service", "")
    assert _is_his(service)


def test_a_process_of_another_pid_namespace_is_not_moved(unit: Path) -> None:
    """Its pid is 0 here, and who writes that moves himself (cgroup_procs_write)."""
    (unit / "cgroup.procs").write_text("7\n0\n")
    with pytest.raises(DriverError, match="a process of another pid namespace is in the cgroup") as caught:
        vacate(str(unit), reach.LEAF, "/linux/resources")
    assert caught.value.pointer == "/linux/resources"
    assert [one.name for one in unit.iterdir()] == ["cgroup.procs"]
