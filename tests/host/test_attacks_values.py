"""Numbers and names that are half right: none is taken for another one, least of all for root's.

CVE-2026-30892: what could not be read became 0:0.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.host import execs, observe
from tests.host.execs import execute
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Container, Runtime

#: No number at all; ``4294967295`` is (uid_t) -1, which changes nothing where a change is asked for.
NO_NUMBERS = (
    "1000x", "-1", "+1", "4294967295", "4294967296", "18446744073709551617", "9" * 5000, "0x0", "0x1",
    "0o1", "1e3", "1.0", "1_0", " 1", "1 ", "1\n", "\t1", "", "１", "²", "१", "root", "user", "--", "1,2",
)  # fmt: skip
#: More that is no user.
NO_USERS = ("1:", ":1", ":", "1:2:3", "1:root", "1:-1", "-1:1", "1: 2", "1:4294967295", "0:0x0", "1;2")
#: A number and who that is.
USERS = {"1": (1, 0), "01": (1, 0), "007:08": (7, 8), "4294967294:4294967294": (2**32 - 2, 2**32 - 2)}


@pytest.fixture
def container(ocirun: Runtime, bundle: Bundle) -> Container:
    """A running container."""
    return ocirun.running(bundle.sleeping())


def test_what_is_no_user_is_refused(container: Container) -> None:
    for user in (*NO_NUMBERS, *NO_USERS):
        result = execute(container, "id", flags=(f"--user={user}",))
        assert (result.code, result.stdout) == (255, ""), repr(user)
        assert "is no id" in result.stderr


@pytest.mark.parametrize("user", USERS)
def test_a_number_is_that_number(runtime: Runtime, bundle: Bundle, user: str) -> None:
    container = runtime.running(bundle.sleeping())
    told = observe.status(execs.sleeping(container, "--user", user))
    assert (told["Uid"].split(), told["Gid"].split()) == tuple([str(one)] * 4 for one in USERS[user])


def test_what_is_no_group_is_refused(container: Container) -> None:
    for group in NO_NUMBERS:
        result = execute(container, "id", flags=(f"--additional-gids={group}",))
        assert (result.code, result.stdout) == (255, ""), repr(group)
        assert "is no id" in result.stderr or "is not a number" in result.stderr


@pytest.mark.parametrize(
    "name",
    ["CAP_SYS_ADMIN ", "cap_sys_admin", "SYS_ADMIN", "ALL", "CAP_ALL", "21", "-1", "", "CAP_SYS_ＡDMIN"],
)
def test_what_is_no_capability_gives_none(container: Container, name: str) -> None:
    told = observe.status(execs.sleeping(container, f"--cap={name}"))
    own = observe.status(container.pid)
    for kind in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert told[kind] == own[kind]
    result = execute(container, "true", flags=(f"--cap={name}",))
    assert "is no capability" in result.ok().stderr


@pytest.mark.parametrize(
    "text", ["-1", "+3", "3x", "０", "³", " 3", "", "99999999999", "9" * 5000, "0x3", "all"]
)
def test_what_is_no_number_of_descriptors_is_refused(ocirun: Runtime, bundle: Bundle, text: str) -> None:
    result = ocirun.call("run", f"--preserve-fds={text}", "--bundle", str(bundle.write().path), new_id())
    result.refused("--preserve-fds", "is not a number")


@pytest.mark.parametrize(
    "text",
    [
        "-1",
        "65",
        "9x",
        " 9",
        "９",
        "",
        "0x9",
        "1e1",
        "9" * 5000,
        "KILL\n",
        "SIGSIGKILL",
        "RTMIN+" + "9" * 5000,
    ],
)
def test_what_is_no_signal_reaches_nobody(container: Container, text: str) -> None:
    result = container.runtime.call("kill", container.id, "--", text)
    result.refused("unknown signal")
    assert "Traceback" not in result.stderr
    assert observe.alive(container.pid)


@pytest.mark.parametrize("text", ["", "1x", "１", "0x10", "9" * 5000, "1.5x", "--", "1 mm", "m", "1mbb"])
def test_what_is_no_amount_is_refused(container: Container, text: str) -> None:
    for flag in ("--memory", "--pids-limit", "--cpu-quota"):
        result = container.runtime.call("update", f"{flag}={text}", container.id)
        result.refused(flag, "is not a whole number")
        assert "Traceback" not in result.stderr


#: No ids, and where they would lead.
NO_IDS = (
    "..", ".", "../x", "a/b", "/x", "a/../b", "", " a", "a ", "a\n", "a\tb", "é", "ａ", "a\u202eb", "a" * 256,
)  # fmt: skip
COMMANDS = ("start", "kill", "delete", "delete --force", "state", "exec", "pause", "resume", "update", "ps")


@pytest.fixture
def neighbours(ocirun: Runtime, scratch: Path) -> Iterator[None]:
    """What an id might lead to instead of a container; all is there afterwards."""
    inside, beside = ocirun.root / "a", scratch / "x"
    for directory in (inside, beside):
        directory.mkdir()
        (directory / "config.json").write_text("precious")
    yield
    for directory in (inside, beside):
        assert (directory / "config.json").read_text() == "precious"
    assert sorted(path.name for path in ocirun.root.iterdir()) == ["a"]
    shutil.rmtree(inside)


@pytest.mark.usefixtures("neighbours")
@pytest.mark.parametrize("ident", NO_IDS)
def test_what_is_no_id_is_refused_by_every_command(ocirun: Runtime, bundle: Bundle, ident: str) -> None:
    words = ["create", "--bundle", str(bundle.sleeping().write().path)]
    for command in (words, *(command.split() for command in COMMANDS)):
        more = {"exec": ["true"], "update": ["--pids-limit", "5"]}.get(command[0], [])
        result = ocirun.call(*command, ident, *more)
        assert result.code in (1, 255), command
        assert "container id" in result.stderr
        assert "Traceback" not in result.stderr


def test_an_id_that_looks_like_a_flag_is_taken_for_one(ocirun: Runtime, bundle: Bundle) -> None:
    ocirun.attempt(bundle.sleeping(), ident="-x").refused("unknown flag")
    ocirun.call("delete", "--force", "--all").refused("unknown flag")
