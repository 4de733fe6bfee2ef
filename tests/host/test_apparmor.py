"""The profile of AppArmor that the program gets; most machines of these tests have no AppArmor."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host.execs import execute, process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

_ENABLED = Path("/sys/module/apparmor/parameters/enabled")
_HAS_IT = _ENABLED.exists() and _ENABLED.read_text() == "Y\n"
NAME = "ocirun-test"
_ALLOWED = "file, network, capability, signal"
_RULES = f"profile {NAME} flags=(attach_disconnected) {{ {_ALLOWED}, deny /etc/kept w, }}"


@pytest.fixture
def profile() -> Iterator[str]:
    """A loaded profile that allows everything but to write to one file."""
    parser = shutil.which("apparmor_parser")
    if not _HAS_IT or parser is None:
        pytest.skip("the host has no AppArmor, or no apparmor_parser to load a profile with")
    subprocess.run([parser, "--replace"], input=_RULES, text=True, check=True, timeout=30)
    yield NAME
    subprocess.run([parser, "--remove"], input=_RULES, text=True, check=True, timeout=30)


def test_a_profile_confines_the_program(runtime: Runtime, bundle: Bundle, profile: str) -> None:
    bundle.put(profile, "process", "apparmorProfile")
    bundle.writable().file("/etc/kept", "kept")
    script = "cat /proc/self/attr/current; { echo > /etc/kept; } 2>/dev/null || echo refused"
    assert runtime.run(bundle.sh(script)).ok().stdout == f"{profile} (enforce)\nrefused\n"


def test_an_executed_process_has_the_profile_of_the_container(
    runtime: Runtime, bundle: Bundle, profile: str
) -> None:
    bundle.put(profile, "process", "apparmorProfile")
    container = runtime.running(bundle.sleeping())
    assert execute(container, "cat", "/proc/self/attr/current").ok().stdout == f"{profile} (enforce)\n"
    own = process(container, "cat", "/proc/self/attr/current", apparmorProfile="unconfined")
    done = execute(container, flags=("--process", str(own))).ok()
    assert done.stdout == "unconfined\n"


@pytest.mark.skipif(not _HAS_IT, reason="the host has no AppArmor")
def test_a_profile_that_is_not_loaded_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put("never-loaded", "process", "apparmorProfile")
    done = runtime.run(bundle.sh("true"))
    assert done.code != 0
    assert "apparmor" in done.stderr.lower()


@pytest.mark.skipif(_HAS_IT, reason="the host has AppArmor")
def test_a_profile_on_a_host_without_apparmor_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put("docker-default", "process", "apparmorProfile")
    done = runtime.run(bundle.sh("true"))
    assert done.code != 0
    assert "apparmor" in done.stderr.lower()
