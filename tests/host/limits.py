"""Limits of a container as the files of its cgroup have them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.host import execs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Container, Result
    from tests.host.view import View

MIB = 1 << 20
#: Those that every machine with nothing but cgroup2 has.
CONTROLLERS = ("cpu", "io", "memory", "pids")


def need(view: View, *controllers: str) -> None:
    """Skips where a controller is not on cgroup2."""
    missing = {*controllers}.difference((view.cgroup2 / "cgroup.controllers").read_text().split())
    if missing:
        pytest.skip(f"not on cgroup2: the controllers {' '.join(sorted(missing))}")


def limited(bundle: Bundle, **limits: Json) -> Bundle:
    """A program that sleeps, with these members of linux.resources beside the rules of devices."""
    for member, value in limits.items():
        bundle.put(value, "linux", "resources", member)
    return bundle.sleeping()


def file(container: Container, name: str) -> str:
    """What a file of the cgroup says, without its line end."""
    return execs.cgroup_file(container, name).read_text().rstrip("\n")


def files(container: Container, *names: str) -> dict[str, str]:
    """What files of the cgroup say."""
    return {name: file(container, name) for name in names}


def counted(container: Container, name: str, key: str) -> int:
    """A number of one of the files that count events."""
    pairs = dict(line.split() for line in file(container, name).splitlines())
    return int(pairs[key])


def update(container: Container, resources: Json) -> Result:
    """The command update with a file."""
    path: Path = container.runtime.file("resources")
    path.write_text(json.dumps(resources))
    return container.runtime.call("update", "--resources", str(path), container.id)


def settable(container: Container) -> dict[str, str]:
    """Every file of the cgroup that a limit is written to: not those that count, nor those of processes."""
    where = execs.cgroup_file(container, "cgroup.procs").parent
    found: dict[str, str] = {}
    for path in sorted(where.iterdir()):
        if path.is_file() and path.stat().st_mode & 0o222 and not path.name.startswith("cgroup."):
            try:
                found[path.name] = path.read_text()
            except OSError:  # memory.reclaim, which can only be written
                continue
    counting = ("peak", "pressure", "stat", "current")
    return {name: text for name, text in found.items() if not name.endswith(counting)}
