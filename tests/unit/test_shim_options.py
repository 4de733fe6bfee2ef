"""The options of a create that a client packs into an Any."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any
from ocirun_shim import options
from ocirun_shim.answers import Refused
from ocirun_shim.messages import runc_options_pb2, runtime_options_pb2


def _toml(body: bytes) -> Any:
    packed = runtime_options_pb2.Options(type_url="x", config_body=body)
    return Any(type_url="runtimeoptions.v1.Options", value=packed.SerializeToString())


def test_those_of_runc() -> None:
    asked = runc_options_pb2.Options(systemd_cgroup=True, no_pivot_root=True, root="/r", io_uid=5)
    packed = Any(type_url="type.googleapis.com/containerd.runc.v1.Options", value=asked.SerializeToString())
    found = options.read(packed)
    assert (found.systemd, found.pivot, found.new_keyring) == (True, False, True)
    assert (found.root, found.owner) == ("/r", (5, -1))


def test_those_of_any_other_runtime_are_the_text_of_its_table() -> None:
    found = options.read(_toml(b'SystemdCgroup = true\nRoot = "/r"\nIoUid = 5\nBinaryName = "x"\n'))
    assert (found.systemd, found.root, found.owner, found.pivot) == (True, "/r", (5, -1), True)
    assert not options.read(_toml(b"")).systemd


@pytest.mark.parametrize(
    "body", [b"SystemdCgroup", b"SystemdCgroup = 'yes'", b"IoUid = -1", b"\xff", b"Root = 'relative'"]
)
def test_what_is_no_such_table(body: bytes) -> None:
    with pytest.raises(Refused, match="options"):
        options.read(_toml(body))
