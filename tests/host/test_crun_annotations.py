"""Annotations of crun that ask for what others have flags or members for, by what comes of them."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from tests.host.test_hooks import add_hook
from tests.host.test_pidfd_socket import listen, pid_of_received

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

BOTH = pytest.mark.parametrize("runtime", ["ocirun", "crun"], indirect=True)
OUT, ERR, PIDFD = "run.oci.hooks.stdout", "run.oci.hooks.stderr", "run.oci.pidfd_receiver"


def printing(bundle: Bundle, *kinds: str) -> Bundle:
    """The bundle with a hook of each kind that says its name to both outputs."""
    for kind in kinds:
        add_hook(bundle, kind, f"echo {kind}; echo not {kind} >&2")
    return bundle


@BOTH
def test_what_hooks_print_is_appended_to_the_files_that_are_named(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    out, err = scratch / "printed", scratch / "wrong"
    out.write_text("before\n")
    printing(bundle.sleeping(), "prestart", "createRuntime", "poststart", "poststop")
    container = runtime.running(bundle.put({OUT: str(out), ERR: str(err)}, "annotations"))
    assert out.read_text().split() == ["before", "prestart", "createRuntime", "poststart"]
    assert err.read_text().splitlines() == ["not prestart", "not createRuntime", "not poststart"]
    container.delete("--force").ok()
    assert out.read_text().split()[-1] == "poststop"
    assert err.read_text().splitlines()[-1] == "not poststop"
    assert stat.S_IMODE(err.stat().st_mode) & 0o077 == 0
    out.unlink()
    err.unlink()


def test_one_file_alone_leaves_the_other_in_the_error(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    out = scratch / "printed"
    add_hook(bundle, "createRuntime", "echo told; echo why >&2; exit 3")
    ocirun.attempt(bundle.put({OUT: str(out)}, "annotations")).refused("exit status 3; it printed: why")
    assert out.read_text() == "told\n"
    out.unlink()


@BOTH
def test_a_file_that_cannot_be_opened_fails_create(runtime: Runtime, bundle: Bundle) -> None:
    printing(bundle, "createRuntime").put({OUT: "/nowhere/printed"}, "annotations")
    refused = runtime.attempt(bundle)
    assert refused.code == 1
    assert "/nowhere/printed" in refused.stderr


def test_a_file_that_is_gone_at_the_end_is_a_warning(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "logs").mkdir()
    printing(bundle.sleeping(), "poststart", "poststop")
    container = ocirun.running(bundle.put({OUT: str(scratch / "logs/out")}, "annotations"))
    (scratch / "logs/out").unlink()
    (scratch / "logs").rmdir()
    told = container.delete("--force").ok()
    assert f"/annotations/{OUT}" in told.stderr


def test_no_link_leads_what_hooks_print_elsewhere(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    (scratch / "out").symlink_to(scratch / "elsewhere")
    printing(bundle, "createRuntime").put({OUT: str(scratch / "out")}, "annotations")
    ocirun.attempt(bundle).refused(f"open {scratch}/out for what hooks print", f"/annotations/{OUT}")
    assert not (scratch / "elsewhere").exists()


def test_a_hook_inside_prints_into_the_error_alone(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    printing(bundle, "createContainer").put({OUT: str(scratch / "out")}, "annotations")
    told = ocirun.run(bundle.args("true")).ok()
    assert f"/annotations/{OUT}" in told.stderr
    assert "inside the container" in told.stderr


@BOTH
def test_the_receiver_gets_the_pidfd_of_init(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    path = scratch / "tmp/pidfd.sock"
    with listen(path) as listener:
        container = runtime.create(bundle.sleeping().put({PIDFD: str(path)}, "annotations"))
        assert pid_of_received(listener) == container.pid
    path.unlink()


def test_a_receiver_of_the_pidfd_that_is_not_there_fails_create(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.put({PIDFD: "nowhere.sock"}, "annotations")
    ocirun.attempt(bundle).refused("send the pidfd", f"{bundle.path}/nowhere.sock", f"/annotations/{PIDFD}")


@pytest.mark.parametrize("path", ["nul\0", "/" + "long" * 30], ids=["nul", "long"])
def test_a_receiver_of_the_pidfd_that_cannot_be_is_refused(
    ocirun: Runtime, bundle: Bundle, path: str
) -> None:
    ocirun.attempt(bundle.put({PIDFD: path}, "annotations")).refused("config.json:", f"/annotations/{PIDFD}")


@pytest.mark.parametrize("kind", ["anycontext", "0"])
def test_a_kind_of_label_that_there_is_not_is_refused(ocirun: Runtime, bundle: Bundle, kind: str) -> None:
    bundle.put({"run.oci.mount_context_type": kind}, "annotations")
    ocirun.attempt(bundle).refused("/annotations/run.oci.mount_context_type", "must be one of context, ")
