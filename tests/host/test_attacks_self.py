"""The helper among the processes of a container: nobody there can look into it, trace it or change it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.executor import sealed
from tests.host import execs, observe
from tests.host.execs import execute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

DUMPABLE = Path("/proc/sys/fs/suid_dumpable")
#: What a process may only see of another that it may trace (proc(5)).
LOOKS = {
    "environ": "cat /proc/1/environ",
    "maps": "cat /proc/1/maps",
    "mem": "dd if=/proc/1/mem bs=1 count=1 skip=4194304",
    "exe": "readlink /proc/1/exe",
    "cwd": "readlink /proc/1/cwd",
    "fd": "readlink /proc/1/fd/0",
    "root": "ls /proc/1/root/",
}
#: Says that it was loaded.
PRELOADED = '__attribute__((constructor)) static void loaded(void) { __builtin_puts("loaded"); }'


def _digest(path: Path | str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture
def untouched(runtime: Runtime) -> Iterator[None]:
    """The installed programs are afterwards what they were."""
    programs = [runtime.program, *([Path(sealed.installed())] if runtime.name == "ocirun" else [])]
    before = [_digest(program) for program in programs]
    yield
    assert [_digest(program) for program in programs] == before


@pytest.mark.parametrize("look", LOOKS)
def test_root_in_the_container_cannot_look_into_the_waiting_init(
    runtime: Runtime, bundle: Bundle, look: str
) -> None:
    """CVE-2016-9962: from there the descriptors and the host are not far."""
    container = runtime.create(bundle.sleeping())
    done = execute(container, "sh", "-c", LOOKS[look])
    assert (done.code, done.stdout) == (1, ""), "the root of the container may not"


@pytest.mark.usefixtures("untouched")
def test_who_may_trace_init_cannot_write_to_its_file(runtime: Runtime, bundle: Bundle) -> None:
    """CVE-2019-5736, by somebody with CAP_SYS_PTRACE: he holds the file open until nobody executes it."""
    container = runtime.create(bundle.sleeping())
    script = (
        "exec 9</proc/1/exe; echo held; while [ ! -e /tmp/go ]; do sleep 0.05; done;"
        "(echo x > /proc/self/fd/9) 2>&1; (echo x 1<>/proc/self/fd/9) 2>&1; echo done; sleep 1000"
    )
    bundle.directory("tmp")
    pid = execs.detached(container, "sh", "-c", script, flags=("--cap", "CAP_SYS_PTRACE"))
    said = Path(f"/proc/{pid}/fd/1").resolve()
    observe.eventually(lambda: "held" in said.read_text(), "he has it open")
    exe = Path(f"/proc/{pid}/fd/9").readlink()
    assert runtime.name != "ocirun" or str(exe).startswith("/memfd:ocirun-helper")
    container.start()
    (bundle.rootfs / "tmp/go").touch()
    observe.eventually(lambda: "done" in said.read_text(), "he has tried")
    held, *refused, done = said.read_text().splitlines()
    assert (held, done, len(refused)) == ("held", "done", 2)
    assert "Text file busy" not in "".join(refused), "nobody executes it any more"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("entry", ["program", "script", "executed"])
def test_the_helper_as_the_program_of_the_container_does_nothing(
    runtime: Runtime, bundle: Bundle, entry: str
) -> None:
    """CVE-2019-5736: what /proc/self/exe leads to before execve is a copy, and wants a plan."""
    bundle.file("bin/trap", "#!/proc/self/exe\n", 0o755).put(False, "process", "noNewPrivileges")
    if entry == "executed":
        done = execute(runtime.running(bundle.sleeping()), "/proc/self/exe", "2")
    else:
        done = runtime.run(bundle.args("/proc/self/exe" if entry == "program" else "/bin/trap", "0"))
    assert done.code != 0
    assert runtime.name != "ocirun" or (done.code, done.stdout) == (2, "")


def test_a_library_of_the_image_is_not_loaded_into_the_helper(
    ocirun: Runtime, bundle: Bundle, scratch: Path
) -> None:
    """The library of CVE-2019-5736: the loader of the container would take it, had the helper a loader."""
    source = scratch / "preloaded.c"
    source.write_text(PRELOADED)
    library = bundle.rootfs / "preloaded.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    bundle.file("etc/ld.so.preload", "/preloaded.so\n").env("LD_PRELOAD=/preloaded.so")
    done = ocirun.run(bundle.args("/proc/self/exe"))
    assert (done.code, done.stdout) == (2, "")
    container = ocirun.running(bundle.sleeping())
    assert execute(container, "/proc/self/exe").code == 2
    assert container.output == ""
    elf = subprocess.run(
        ["readelf", "-lW", sealed.installed()], capture_output=True, text=True, check=True
    ).stdout
    assert "INTERP" not in elf


@pytest.fixture
def all_dumpable() -> Iterator[None]:
    """A host that wants core dumps of programs whose ids changed (fs.suid_dumpable, proc_sys_fs(5))."""
    before = DUMPABLE.read_text()
    DUMPABLE.write_text("1")
    yield
    DUMPABLE.write_text(before)


@pytest.mark.usefixtures("all_dumpable")
def test_a_change_of_ids_does_not_show_init_where_the_host_dumps_all(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.create(bundle.user(1000, 1000).sleeping())
    assert observe.status(container.pid)["Uid"].split() == ["1000"] * 4
    assert Path(f"/proc/{container.pid}/environ").stat().st_uid == 0, "of root while it is not dumpable"
    done = execute(container, "ls", "/proc/1/fd/", flags=("--user", "1000:1000"))
    assert (done.code, done.stdout) == (1, "")


@pytest.mark.parametrize("asked", [(), ("--cap", "CAP_NET_RAW"), ("--cap", "CAP_SYS_ADMIN")])
def test_nothing_is_inheritable_that_was_not_asked_for(
    runtime: Runtime, bundle: Bundle, asked: tuple[str, ...]
) -> None:
    """CVE-2022-29162, CVE-2025-27612."""
    runtime.prefix = ("setpriv", "--inh-caps", "+net_raw,+chown")
    container = runtime.running(bundle.user(1000, 1000).sleeping())
    for pid in (container.pid, execs.sleeping(container, *asked)):
        told = observe.status(pid)
        assert (int(told["CapInh"], 16), int(told["CapAmb"], 16)) == (0, 0)


def test_who_may_trace_sees_the_waiting_init(ocirun: Runtime, bundle: Bundle) -> None:
    """What docs/threat-model.md says is not defended: CAP_SYS_PTRACE without a user namespace."""
    container = ocirun.create(bundle.sleeping())
    look = ("readlink", "/proc/1/exe")
    assert execute(container, *look, flags=("--cap", "CAP_SYS_PTRACE")).ok().stdout.startswith("/memfd:")


def test_in_a_user_namespace_nobody_may_trace_the_waiting_init(ocirun: Runtime, bundle: Bundle) -> None:
    """There the capability counts for nothing: the helper was executed outside."""
    container = ocirun.create(bundle.mapped(100000, 65536).sleeping())
    flags = ("--cap", "CAP_SYS_PTRACE", "--cap", "CAP_SYS_ADMIN")
    for look in LOOKS.values():
        done = execute(container, "sh", "-c", look, flags=flags)
        assert (done.code, done.stdout) == (1, ""), look
