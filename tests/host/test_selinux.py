"""Labels of SELinux, on a kernel that has it and no policy: there is a machine for that (tests/vm).

Without a policy the kernel knows but the labels that it has itself, and execve changes none.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host.execs import execute
from tests.host.filters import calling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

_HERE = Path("/sys/fs/selinux")

#: Of the kernel's own labels (selinux/include/initial_sid_to_string.h) that of the machine, and another.
_THAT_OF_ALL, _LABEL = "kernel", "unlabeled"
#: keyctl(KEYCTL_GET_SECURITY, KEY_SPEC_SESSION_KEYRING, NULL, 0): how long the label is, with the NUL.
_LENGTH = ("250", "17", str(2**64 - 3), "0", "0")


@pytest.fixture(autouse=True, scope="module")
def selinux() -> Iterator[None]:
    """SELinux with its file system, which an init mounts that has a policy to load."""
    if not _HERE.is_dir():
        pytest.skip("the host has no SELinux")
    missing = not (_HERE / "enforce").exists()
    if missing:
        subprocess.run(["mount", "-t", "selinuxfs", "selinuxfs", _HERE], check=True, timeout=30)
    yield
    if missing:
        subprocess.run(["umount", _HERE], check=True, timeout=30)


def test_the_keyring_of_a_session_has_the_label_of_the_program(runtime: Runtime, bundle: Bundle) -> None:
    calling(bundle, *_LENGTH)
    assert runtime.run(bundle).ok().stdout == f"{len(_THAT_OF_ALL) + 1}\n"
    bundle.put(_LABEL, "process", "selinuxLabel")
    assert runtime.run(bundle).ok().stdout == f"{len(_LABEL) + 1}\n"


def test_a_user_namespace_changes_nothing_of_it(runtime: Runtime, bundle: Bundle) -> None:
    calling(bundle, *_LENGTH).mapped(100000, 65536).put(_LABEL, "process", "selinuxLabel")
    assert runtime.run(bundle).ok().stdout == f"{len(_LABEL) + 1}\n"


def test_a_label_for_an_executed_process_is_taken(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    assert (
        execute(container, "echo", "labelled", flags=("--process-label", _LABEL)).ok().stdout == "labelled\n"
    )
