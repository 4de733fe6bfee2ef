"""The launcher finds its own Python whatever the caller does, and no variable makes it load other code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ocirun.native import build

#: Stands in for boot.py: tells what the process that the launcher became looks like.
SHOW = """
import json, os, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps({
    "arguments": sys.argv[1:],
    "executable": sys.executable,
    "flags": [sys.flags.isolated, sys.flags.no_site, sys.flags.utf8_mode],
    "blocked": int(status["SigBlk"], 16),
    "ignored": int(status["SigIgn"], 16),
    "environment": " ".join(os.environ),
    "standard": [os.fstat(fd).st_rdev for fd in (0, 1, 2)],
}))
"""


def shown(answer: str) -> dict[str, object]:
    """What SHOW printed."""
    parsed: dict[str, object] = json.loads(answer)
    return parsed


@pytest.fixture(scope="module", params=["plain", "vé nv"])
def launcher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A launcher beside a Python, as in a virtual environment, which runs SHOW."""
    home = tmp_path_factory.mktemp("launcher") / str(request.param)
    (home / "bin").mkdir(parents=True)
    (home / "bin/python3").symlink_to(sys.executable)
    (home / "boot.py").write_text(SHOW)
    build.compile_launcher(home / "bin/ocirun", "../boot.py")
    build.compile_shim(home / "bin/shim", "../boot.py", "0" * 40)
    return home / "bin/ocirun"


def run(
    program: str | Path, *words: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> dict[str, object]:
    """Runs the launcher and gives what SHOW tells."""
    done = subprocess.run([program, *words], capture_output=True, text=True, check=True, cwd=cwd, env=env)
    return shown(done.stdout)


def test_arguments_pass_unchanged_in_the_c_locale(launcher: Path) -> None:
    words = ["--root", "é", "", "a b", "-c", "--"]
    assert run(launcher, *words, env={"LC_ALL": "C"})["arguments"] == words


def test_python_is_isolated_and_without_site(launcher: Path) -> None:
    assert run(launcher, env={})["flags"] == [1, 1, 1]


def test_a_relative_path_and_a_symbolic_link_lead_to_the_same_python(launcher: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(launcher)
    expected = str(launcher.parent / "python3")
    assert run("./ocirun", cwd=launcher.parent)["executable"] == expected
    assert run("bin/../bin/ocirun", cwd=launcher.parent.parent)["executable"] == expected
    assert run("./link", cwd=tmp_path)["executable"] == expected


def test_a_false_argv0_changes_nothing(launcher: Path) -> None:
    done = subprocess.run(
        ["/nowhere/else"], executable=launcher, stdout=subprocess.PIPE, text=True, check=True
    )
    assert shown(done.stdout)["executable"] == str(launcher.parent / "python3")


def test_no_variable_loads_other_code(launcher: Path, tmp_path: Path) -> None:
    for module in ("json", "os", "sitecustomize", "errno"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('other code was loaded')")
    here = str(tmp_path)
    loading = {
        "LD_PRELOAD": f"{here}/x.so", "LD_LIBRARY_PATH": here, "LD_AUDIT": f"{here}/x.so", "GCONV_PATH": here,
        "LOCPATH": here, "OPENSSL_CONF": here, "OPENSSL_MODULES": here, "OPENSSL_ENGINES": here,
    }  # fmt: skip
    python = {"PYTHONPATH": here, "PYTHONHOME": here, "PYTHONSTARTUP": f"{here}/os.py"}
    left = run(launcher, cwd=tmp_path, env={**loading, **python, "LDX": "1", "HOME": "/"})
    seen = left["environment"]
    assert isinstance(seen, str)
    assert not set(loading) & set(seen.split())
    assert {"HOME", "LDX"} <= set(seen.split())


def test_signals_are_reset_and_only_sigint_waits_for_the_first_script(launcher: Path, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
        "signal.signal(signal.SIGPIPE, signal.SIG_IGN);"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals());"
        "os.execv(sys.argv[1], ['ocirun'])"
    )
    seen = run(sys.executable, "-c", script, str(launcher), cwd=tmp_path)
    assert seen["blocked"] == 1 << signal.SIGINT - 1
    ignored = seen["ignored"]
    assert isinstance(ignored, int)
    assert not ignored & 1 << signal.SIGCHLD - 1


def test_closed_standard_descriptors_become_dev_null(launcher: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$1" <&- 2>&-', "sh", launcher], stdout=subprocess.PIPE, text=True, check=True
    )
    null = os.stat(os.devnull).st_rdev
    standard = shown(done.stdout)["standard"]
    assert isinstance(standard, list)
    assert (standard[0], standard[2]) == (null, null)


def test_without_a_python_beside_it_the_launcher_says_so(launcher: Path, tmp_path: Path) -> None:
    alone = tmp_path / "ocirun"
    alone.write_bytes(launcher.read_bytes())
    alone.chmod(0o755)
    done = subprocess.run([alone], capture_output=True, text=True, check=False)
    why = f"execute the Python of its virtual environment, {tmp_path}/python3: No such file or directory"
    assert (done.returncode, done.stderr) == (1, f"ocirun: {why}\n")


def test_the_shim_without_a_zygote_becomes_python_with_the_same_words(launcher: Path) -> None:
    words = ["-namespace", "é", "-address", "", "start", "", "more"]
    seen = run(launcher.parent / "shim", *words, env={"XDG_RUNTIME_DIR": "/nonexistent"})
    assert seen["arguments"] == words


def test_the_shim_keeps_only_the_variables_it_knows(launcher: Path, tmp_path: Path) -> None:
    known = {"TTRPC_ADDRESS": "t", "GRPC_ADDRESS": "g", "NAMESPACE": "n", "SCHED_CORE": "1", "PATH": "/bin"}
    other = {
        "LD_PRELOAD": str(tmp_path),
        "HTTPS_PROXY": "secret",
        "PATHS": "1",
        "XNAMESPACE": "1",
        "HOME": "/",
    }
    seen = run(launcher.parent / "shim", "-v", env={**known, **other})["environment"]
    assert isinstance(seen, str)
    assert set(seen.split()) - {"LC_CTYPE"} == set(known)
