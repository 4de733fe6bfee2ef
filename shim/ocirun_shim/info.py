"""What -v and -info answer."""

from __future__ import annotations

import platform

import ocirun

_NAME = "io.containerd.ocirun.v2"
_PROGRAM = "containerd-shim-ocirun-v2"
_FEATURES = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"


def version() -> str:
    """The text of -v, with the lines that containerd's own shims print."""
    return (
        f"{_PROGRAM}:\n  Version:  {ocirun.__version__}\n  Revision: \n"
        f"  Python version: {platform.python_version()}\n\n"
    )


def runtime_info() -> bytes:
    """containerd.types.RuntimeInfo, with features.json as an Any of JSON (features.md).

    The options on standard input change nothing of it, and are not read.
    """
    from ocirun.features import features
    from ocirun.jsontext import dumps
    from ocirun_shim.messages.types_pb2 import RuntimeInfo

    info = RuntimeInfo(name=_NAME)
    info.version.version = ocirun.__version__
    info.features.type_url = _FEATURES
    info.features.value = dumps(features()).encode()
    return info.SerializeToString()
