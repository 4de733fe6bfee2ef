"""What criu is asked and what it answers: messages, requests, mounts, and the errors of its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.cli.commands_checkpoint import page_server
from ocirun.criu import failure, mounts, requests, service
from ocirun.criu.messages import Message, encode
from ocirun.errors import HostError, UsageError
from tests.golden import cases

if TYPE_CHECKING:
    from pathlib import Path

    from ocirun_spec.types import Config


def test_a_message_is_what_other_encoders_make_of_it() -> None:
    """From the documentation of the encoding (protobuf.dev/programming-guides/encoding)."""
    assert encode([(1, 150)]) == bytes.fromhex("089601")
    assert encode([(2, "testing")]) == bytes.fromhex("120774657374696e67")
    assert encode([(3, encode([(1, 150)]))]) == bytes.fromhex("1a03089601")
    assert encode([(16, True)]) == bytes.fromhex("800101")


@given(
    numbers=st.dictionaries(st.integers(1, 99), st.integers(0, (1 << 63) - 1)),
    texts=st.dictionaries(st.integers(100, 200), st.text()),
)
def test_what_was_written_is_read(numbers: dict[int, int], texts: dict[int, str]) -> None:
    message = Message(encode([*numbers.items(), *texts.items()]))
    assert {field: message.number(field) for field in numbers} == numbers
    assert {field: message.text(field) for field in texts} == texts
    assert (message.number(201), message.text(202)) == (0, "")


def test_a_negative_number_and_fields_that_are_not_asked_for() -> None:
    minus_one = bytes.fromhex("38ffffffffffffffffff01")
    fixed = bytes.fromhex("490102030405060708") + bytes.fromhex("5501020304")
    message = Message(fixed + minus_one)
    assert message.number(7) == -1


@given(st.binary(max_size=40))
def test_what_is_no_message_is_refused_and_nothing_else_happens(data: bytes) -> None:
    try:
        Message(data)
    except ValueError as error:
        assert "not a message of criu" in str(error)  # noqa: PT017 - both are right


def _fields(data: list[tuple[int, int | str | bytes]], number: int) -> list[object]:
    return [value for field, value in data if field == number]


def _pairs(data: list[tuple[int, int | str | bytes]], number: int) -> list[tuple[str, str]]:
    found = [Message(value) for value in _fields(data, number) if isinstance(value, bytes)]
    return [(one.text(1), one.text(2)) for one in found]


def test_the_flags_are_fields_of_both_requests() -> None:
    wanted = requests.Wanted("/images")
    plain = dict(requests.common(wanted, cases.config(), 5, 6, "a.log"))
    assert (plain[1], plain[17], plain[10], plain[34], plain[38]) == (5, 6, "a.log", 3, 0x40000000)
    assert not any(plain[field] for field in (4, 5, 7, 8, 16))
    assert plain[51] == "/etc/criu/ocirun.conf"
    assert 64 not in plain
    for name, field in {
        "ext_unix_sk": 4,
        "tcp_established": 5,
        "shell_job": 7,
        "file_locks": 8,
        "auto_dedup": 16,
    }.items():
        asked = requests.Wanted("/images")
        setattr(asked, name, True)
        given_ = dict(requests.common(asked, cases.config(), 5, 6, "a.log"))
        assert {key for key, value in given_.items() if value != plain[key]} == {field}
    wanted.network_lock, wanted.cgroups = "nftables", "ignore"
    other = dict(requests.common(wanted, cases.config(), 5, 6, "a.log"))
    assert (other[64], other[34]) == (2, 0)


@pytest.mark.parametrize(("told", "file"), [({}, "/etc/criu/ocirun.conf"), ({"org.criu.config": "/x"}, "/x")])
def test_the_configuration_of_criu_is_that_of_the_annotation(told: dict[str, str], file: str) -> None:
    config: Config = {**cases.config(), "annotations": told}
    assert (51, file) in requests.common(requests.Wanted("/i"), config, 5, 6, "a.log")
    none: Config = {**cases.config(), "annotations": {"org.criu.config": ""}}
    assert 51 not in dict(requests.common(requests.Wanted("/i"), none, 5, 6, "a.log"))


def test_a_checkpoint_names_the_tree_its_freezer_and_what_is_outside() -> None:
    wanted = requests.Dump("/images")
    found = requests.dump(wanted, 4711, "/bundle/rootfs", "/sys/fs/cgroup/x", [("/data", "/data")])
    assert [_fields(found, field) for field in (2, 13, 44)] == [
        [4711],
        ["/bundle/rootfs"],
        ["/sys/fs/cgroup/x"],
    ]
    assert _pairs(found, 23) == [("/data", "/data")]
    assert not _fields(found, 14)
    assert not _fields(found, 15)
    wanted.parent, wanted.page_server = "../before", ("::1", 9876)
    found = requests.dump(wanted, 4711, "/", "", [])
    assert [_fields(found, field) for field in (14, 15, 44)] == [["../before"], [True], []]
    server = Message(cast("bytes", _fields(found, 11)[0]))
    assert (server.text(1), server.number(2)) == ("::1", 9876)


def test_a_pre_dump_tracks_memory() -> None:
    wanted = requests.Dump("/images")
    wanted.pre_dump = True
    assert _fields(requests.dump(wanted, 1, "/", "", []), 15) == [True]


def test_a_restore_makes_a_child_of_ours_below_a_mount_point() -> None:
    wanted = requests.Restore("/images")
    wanted.lsm_profile, wanted.tcp_close = "apparmor:docker-default", True
    found = requests.restore(wanted, "/run/x", [("", "/ocirun/x")], [("/data", "/src")], [("pipe:[7]", 1)])
    assert [_fields(found, field) for field in (13, 26, 52, 53, 63)] == [
        ["/run/x"], [True], [True], ["apparmor:docker-default"], [],
    ]  # fmt: skip
    assert _pairs(found, 23) == [("/data", "/src")]
    assert _pairs(found, 25) == [("", "/ocirun/x")]
    inherited = Message(cast("bytes", _fields(found, 27)[0]))
    assert (inherited.text(1), inherited.number(2)) == ("pipe:[7]", 1)


def test_joined_namespaces_are_left_out_or_joined_again() -> None:
    config = cases.config()
    config.setdefault("linux", {})["namespaces"] = [
        {"type": "mount"}, {"type": "network", "path": "/n"}, {"type": "pid", "path": "/p"},
        {"type": "ipc", "path": "/i"}, {"type": "uts", "path": "/u"},
    ]  # fmt: skip
    left = requests.left_out(config, {"net": 11, "pid": 12})
    assert left == [(37, "net[11]:extRootNetNS"), (37, "pid[12]:extRootPidNS")]
    assert requests.external_paths(config) == [("/n", "extRootNetNS"), ("/p", "extRootPidNS")]
    assert _pairs(requests.joined(config), 39) == [("ipc", "/i"), ("uts", "/u")]


MOUNTINFO = r"""30 29 8:1 / / rw - ext4 /dev/sda1 rw
31 30 0:5 / /proc rw - proc proc rw
32 31 0:6 /null /proc/keys rw - devtmpfs devtmpfs rw
33 31 0:7 / /proc/acpi ro - tmpfs tmpfs ro
34 30 8:1 /home/a\040b /data rw - ext4 /dev/sda1 rw
35 30 0:6 /null /dev/null rw - devtmpfs devtmpfs rw
36 30 8:1 /x /real/deep rw - ext4 /dev/sda1 rw
"""


def _bound() -> Config:
    config = cases.config()
    config["mounts"] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/data", "source": "/home/a b", "options": ["bind"]},
        {"destination": "/link/deep", "source": "x", "options": ["rbind"]},
        {"destination": "/gone", "source": "/y", "options": ["bind"]},
    ]
    config.setdefault("linux", {})["maskedPaths"] = ["/proc/keys", "/proc/acpi", "/proc/none"]
    return config


def _resolve(path: str) -> str:
    return path.replace("/link/", "/real/")


def test_mounts_from_outside_are_found_in_the_container() -> None:
    present = mounts.rows(MOUNTINFO)
    assert present[4].root == "/home/a b"
    assert mounts.of_dump(_bound(), present, _resolve) == [
        ("/data", "/data"), ("/real/deep", "/real/deep"), ("/dev/null", "/dev/null"),
        ("/proc/keys", "/dev/null"),
    ]  # fmt: skip


def test_a_restore_knows_their_sources() -> None:
    found = dict(mounts.of_restore(_bound(), "/bundle", _resolve))
    assert found["/data"] == "/home/a b"
    assert found["/real/deep"] == "/bundle/x"
    assert found["/dev/null"] == "/dev/null"


def test_a_restore_knows_what_a_device_is_called_on_the_host() -> None:
    config = _bound()
    listed = [("/dev/other", 1, 5), ("/dev/zero", 1, 5), ("/dev/nowhere", 4095, 1)]
    config.setdefault("linux", {})["devices"] = [
        {"path": path, "type": "c", "major": major, "minor": minor} for path, major, minor in listed
    ]
    found = dict(mounts.of_restore(config, "/bundle", _resolve))
    assert found["/dev/other"] == found["/dev/zero"] == "/dev/zero"
    assert found["/dev/nowhere"] == "/dev/nowhere"


def test_criu_that_is_not_installed_is_a_package_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(service, "_MORE_PLACES", str(tmp_path / "sbin"))
    with pytest.raises(HostError, match="criu is not installed") as caught:
        service.find()
    assert "install the package criu" in caught.value.hint
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/criu").touch(0o755)
    assert service.find() == str(tmp_path / "sbin/criu")


def _failure(log: Path, answer: bytes = b"") -> HostError:
    with pytest.raises(HostError) as caught:
        failure.judge("checkpoint", str(log), Message(answer))
    return caught.value


def test_the_errors_of_the_log_are_told_without_the_rest(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    noise = [f"(00.{number}) Error (criu/x.c:{number}): trouble {number}" for number in range(9)]
    log.write_text("\n".join(["(00.0) Dumping", *noise, noise[0], "Error (a.c:1): \x1b[31mred"]))
    error = _failure(log)
    assert error.message == (
        "criu cannot checkpoint the container: trouble 0; trouble 1; trouble 2; …; trouble 7; trouble 8; "
        "\\x1b[31mred"
    )
    assert (error.hint, error.path, error.code) == (f"its log is {log}", str(log), "criu")


def test_a_failure_without_a_log_and_one_with_a_way_out(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    assert "it has ended without a word" in _failure(log).message
    assert "why not" in _failure(log, encode([(1, 1), (2, False), (9, "why not")])).message
    log.write_text('Error (criu/util.c:6): execvp("iptables-restore", ...) failed\n')
    assert "--network-lock nftables" in _failure(log).hint
    failure.judge("restore", str(log), Message(encode([(1, 2), (2, True)])))


@pytest.mark.parametrize(
    ("text", "pair"), [("192.0.2.1:9", ("192.0.2.1", 9)), ("[::1]:65535", ("::1", 65535)), ("a:1", ("a", 1))]
)
def test_the_address_of_a_page_server(text: str, pair: tuple[str, int]) -> None:
    assert page_server(text) == pair


@pytest.mark.parametrize("text", ["", "a", "a:", ":1", "a:0", "a:65536", "a:b", "a:-1", "a:²"])
def test_what_is_no_address_of_a_page_server(text: str) -> None:
    with pytest.raises(UsageError, match="ADDRESS:PORT"):
        page_server(text)
