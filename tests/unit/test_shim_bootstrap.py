"""The parts of `start` that need no system: the command line, standard input, the address, the version."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from google.protobuf.any_pb2 import Any
from hypothesis import given
from hypothesis import strategies as st
from ocirun_shim import arguments, bootstrap, engine, records, remains, request, sockets
from ocirun_shim.messages.bootstrap_pb2 import BootstrapParams
from ocirun_shim.messages.runc_options_pb2 import Options

from ocirun.errors import HostError, UsageError
from ocirun.files import close_all_but

if TYPE_CHECKING:
    from pathlib import Path

CONTAINERD = "/run/containerd/containerd.sock"


def parsed(line: str) -> arguments.Arguments:
    """A command line, split at blanks."""
    return arguments.parse(line.split())


# -- the command line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "-namespace ns -id c -debug start",
        "--namespace ns --id c --debug start",
        "-namespace=ns -id=c -debug=true start",
        "-debug=T -id x -id c -namespace ns start more -words",
        "-debug=0 -debug -id c -namespace ns -- start",
    ],
)
def test_flags_have_the_forms_of_go(line: str) -> None:
    found = parsed(line)
    assert (found.namespace, found.id, found.switch("debug"), found.action) == ("ns", "c", True, "start")
    found.check()


def test_a_value_may_be_empty_look_like_a_flag_or_hold_an_equals_sign() -> None:
    found = arguments.parse(["-address", "", "-publish-binary", "-v", "-bundle=/a=b", "delete"])
    assert [found.text(name) for name in ("address", "publish-binary", "bundle")] == ["", "-v", "/a=b"]
    assert not found.switch("v")
    assert found.action == arguments.DELETE


@pytest.mark.parametrize("line", ["-id", "-what start", "-debug=maybe start", "-=x start", "--- start"])
def test_what_go_refuses_is_refused(line: str) -> None:
    with pytest.raises(UsageError):
        parsed(line)


def test_flags_end_at_the_first_word_even_a_single_dash() -> None:
    assert parsed("-id c - start").action == "-"
    with pytest.raises(UsageError, match="unknown action"):
        parsed("-id c -namespace ns - start").check()


@pytest.mark.parametrize("name", ["a", "moby", "k8s.io", "a-b_c.d", "0" * 76])
def test_an_identifier(name: str) -> None:
    assert arguments.is_identifier(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", "-a", "a-", "a/b", "a b", "é", "a\n", "0" * 77, "a\0"]
)
def test_no_identifier(name: str) -> None:
    assert not arguments.is_identifier(name)


# -- standard input ------------------------------------------------------------------------------------------

ASKED = "-namespace ns -id c start"


def test_nothing_on_standard_input() -> None:
    assert bootstrap.read_input(b"", parsed(ASKED)) == (None, None)


def test_options_alone_are_an_any() -> None:
    options = Any(type_url="containerd.runc.v1.Options", value=Options(shim_cgroup="/x").SerializeToString())
    params, found = bootstrap.read_input(options.SerializeToString(), parsed(ASKED))
    assert (params, found) == (None, options)
    assert bootstrap.shim_cgroup(found) == "/x"


def test_bootstrap_params_name_this_container_and_hold_the_options() -> None:
    given_params = BootstrapParams(instance_id="c", namespace="ns", socket_dir="/s")
    given_params.extensions.add().value.type_url = "x"
    params, found = bootstrap.read_input(given_params.SerializeToString(), parsed(ASKED))
    assert params == given_params
    assert found == Any(type_url="x")
    other = BootstrapParams(instance_id="d", namespace="ns")
    assert bootstrap.read_input(other.SerializeToString(), parsed(ASKED))[0] is None


def test_options_that_are_others_name_no_cgroup_and_broken_ones_are_refused() -> None:
    assert not bootstrap.shim_cgroup(None)
    assert not bootstrap.shim_cgroup(Any(type_url="runtimeoptions.v1.Options", value=b"\xff"))
    with pytest.raises(UsageError):
        bootstrap.shim_cgroup(Any(type_url="x/containerd.runc.v1.Options", value=b"\xff"))


@given(st.binary(min_size=1))
def test_any_bytes_on_standard_input_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(UsageError):
        bootstrap.read_input(content, parsed(ASKED))


def test_more_than_ten_mebibytes_are_refused() -> None:
    with pytest.raises(UsageError, match="more than"):
        bootstrap.read_input(bytes((10 << 20) + 1), parsed(ASKED))


# -- the address ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("containerd", "joined"),
    [
        (CONTAINERD, "/run/containerd/containerd.sock/ns/c"),
        ("/run//containerd/./containerd.sock", "/run/containerd/containerd.sock/ns/c"),
        ("//run/x", "/run/x/ns/c"),
        ("", "ns/c"),
    ],
)
def test_the_path_of_the_socket_is_a_hash_of_the_cleaned_join(containerd: str, joined: str) -> None:
    path = sockets.socket_path("/s", containerd, "ns", "c")
    assert path == f"/s/{hashlib.sha256(joined.encode()).hexdigest()}"


def test_a_directory_that_makes_the_path_too_long_is_refused() -> None:
    assert len(sockets.socket_path("/" + "d" * 40, CONTAINERD, "ns", "c")) == 106
    with pytest.raises(HostError, match="too long"):
        sockets.socket_path("/" + "d" * 41, CONTAINERD, "ns", "c")


def test_only_sockets_are_unlinked_and_a_live_one_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with sockets.bind(path):
        sockets.remove_dead(path)
        assert sockets.answers(path)
    sockets.remove_dead(path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "socket").write_text("no socket")
    sockets.remove_dead(path)
    assert (tmp_path / "socket").read_text() == "no socket"


# -- the version ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "is_2"),
    [
        (b"containerd github.com/containerd/containerd/v2 v2.1.9 75d0\n", True),
        (b"containerd github.com/containerd/containerd/v2 2.1.4~ds1\n", True),
        (b"containerd github.com/containerd/containerd v10.0.0 x\n", True),
        (b"containerd containerd.io 1.7.34 x\n", False),
        (b"crio version 2.0\n", False),
        (b"containerd x vX.1\n", False),
        (b"containerd", False),
        (b"", False),
    ],
)
def test_what_containerd_says_of_its_version(answer: bytes, is_2: bool) -> None:
    assert engine.is_containerd_2(answer) is is_2


def test_what_one_child_found_out_the_zygote_learns(tmp_path: Path) -> None:
    program = tmp_path / "containerd"
    program.write_text(f"#!/bin/sh\necho run >>{tmp_path}/runs\necho containerd x v2.0.0\n")
    program.chmod(0o755)
    child, zygote = engine.Versions(), engine.Versions()
    os.dup2(zygote.writer, child.writer)
    assert child.of(str(program)) == 3
    zygote.learn()
    assert zygote.of(str(program)) == 3
    assert (tmp_path / "runs").read_text() == "run\n"
    assert zygote.of(str(tmp_path / "none")) == 2


# -- the rest ------------------------------------------------------------------------------------------------


def test_a_packet_of_the_stub_is_read() -> None:
    found, variables = request.read_packet(b"a-namespace\0ans\0a-id\0ac\xff\0astart\0ePATH=/a=b\0eEMPTY=\0")
    assert (found.namespace, found.id, found.action) == ("ns", "c\udcff", "start")
    assert variables == {"PATH": "/a=b", "EMPTY": ""}


@given(st.binary(max_size=300))
def test_any_packet_is_read_or_refused(packet: bytes) -> None:
    with contextlib.suppress(request.Refused, UsageError):
        request.read_packet(packet)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pid": "1", "exit_status": 0, "exited_at_ns": 1}'])
def test_a_record_that_is_none_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "exit.json").write_text(text)
    assert remains.read_exit(str(tmp_path)) is None


def test_a_record_is_replaced_whole(tmp_path: Path) -> None:
    for text in ("long text", "{}"):
        records.write_record(str(tmp_path), "name", text)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("name", "{}")]


def test_close_all_but_closes_all_but() -> None:
    pid = os.fork()
    if pid == 0:
        fds = [os.dup2(0, fd) for fd in (60, 61, 63)]
        close_all_but({0, 60, 63})
        left = [fd for fd in (*range(70), *fds) if os.path.exists(f"/proc/self/fd/{fd}")]
        os._exit(0 if left == [0, 1, 2, 60, 63, 60, 63] else 1)
    assert os.waitpid(pid, 0)[1] == 0


COLD = """
import sys
from ocirun_shim import bootstrap
bootstrap.preload()
cold = [name for name in sys.modules if name.startswith(("ocirun.criu", "ocirun_shim.checkpoints"))]
sys.exit(str(cold) if cold else 0)
"""


def test_what_checkpoints_need_is_not_loaded_before_there_is_one() -> None:
    done = subprocess.run((sys.executable, "-c", COLD), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
