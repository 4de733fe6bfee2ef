"""Generate messages/ from proto/ with protoc.

Run ``python -m ocirun_shim.generate``; what it writes is committed, and a test compares it with a fresh run.
The files are registered under ocirun_shim/messages/, so that no other package in the process has one of that
name.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = os.path.join(HERE, "proto")
TARGET = os.path.join(HERE, "messages")
_PACKAGE = "ocirun_shim/messages"


class GenerateError(Exception):
    """protoc refuses a file of proto/; the message is protoc's."""


def generated() -> dict[str, str]:
    """What each generated file must contain, by its name; raises GenerateError for what protoc refuses."""
    with tempfile.TemporaryDirectory() as scratch:
        _protoc(scratch)
        where = os.path.join(scratch, _PACKAGE)
        return {name: _finished(os.path.join(where, name)) for name in sorted(os.listdir(where))}


def main() -> None:
    """Write the generated files into messages/."""
    for name, text in generated().items():
        with open(os.path.join(TARGET, name), "w", encoding="utf-8") as file:
            file.write(text)


def _protoc(target: str) -> None:
    names = [f"{_PACKAGE}/{name}" for name in sorted(os.listdir(SOURCES)) if name.endswith(".proto")]
    outputs = (f"--python_out={target}", f"--pyi_out={target}")
    command = (sys.executable, "-m", "grpc_tools.protoc", f"-I{_PACKAGE}={SOURCES}", *outputs, *names)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GenerateError(done.stderr)


def _finished(path: str) -> str:
    """The stubs leave the members of a message given as a mapping open, which strict checkers refuse."""
    with open(path, encoding="utf-8") as file:
        return file.read().replace("_Mapping]", "_Mapping[str, object]]")


if __name__ == "__main__":
    main()
