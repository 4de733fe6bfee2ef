"""The core interpreter in the launcher: what CPython leaves out of its core is there, or is not asked for."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.config import HASHED
from ocirun.native import build, freeze
from tests.unit import corelauncher
from tests.unit.corelauncher import run, told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Built in, and not to be used: they need what the main phase makes.
NEEDS_STREAMS = {"open", "print", "input", "breakpoint", "help"}
#: The codecs that work without the package encodings.
CODECS = {"utf-8", "ascii", "latin-1", "unicode_escape"}
#: What CPython knows of errors without asking the registry, and what our encodings make it know.
HANDLERS = {"strict", "replace", "ignore", "surrogateescape", "surrogatepass", "backslashreplace"}


@pytest.fixture(scope="module", params=[corelauncher.build_core, corelauncher.build_newer])
def core(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher with the core of each Python."""
    make: Callable[[Path], Path] = request.param
    return make(tmp_path_factory.mktemp("core") / "vé nv")


def frozen_nodes() -> list[tuple[str, ast.AST]]:
    """Every node of the frozen code that may run, with its module."""
    ours, _ = freeze.closure()
    trees = {name: freeze.trimmed(path) for name, path in ours.items()}
    return [(name, node) for name, tree in trees.items() for node in ast.walk(tree)]


# -- what is frozen --------------------------------------------------------------------------------------


def test_every_frozen_module_can_be_imported(core: Path) -> None:
    ours, _ = freeze.closure()
    names = [name for name in ours if name != "ocirun.core"]
    code = (
        f"import sys\nfor name in {names}: __import__(name)\ntell([n for n in {names} if n in sys.modules])"
    )
    assert told(core, code) == names


def test_the_frozen_code_imports_nothing_that_is_not_there(core: Path) -> None:
    _, others = freeze.closure()
    assert others <= {*freeze.BUILTIN, *freeze.STANDARD, "encodings"}
    code = f"for name in {sorted({*freeze.BUILTIN, *others})}: __import__(name)\ntell('all')"
    assert told(core, code) == "all"


def test_the_frozen_code_uses_no_stream() -> None:
    calls = [(name, node.id) for name, node in frozen_nodes() if isinstance(node, ast.Name)]
    assert [(name, used) for name, used in calls if used in NEEDS_STREAMS] == []
    streams = {"stdin", "__stdin__", "__stdout__", "__stderr__"}
    read = [
        (name, node.attr)
        for name, node in frozen_nodes()
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in streams
    ]
    assert read == []


def test_the_frozen_code_names_no_codec_and_no_handler_that_is_not_there() -> None:
    found: set[str] = set()
    for _, node in frozen_nodes():
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr in {"encode", "decode"}:
            words = [*node.args, *(keyword.value for keyword in node.keywords)]
            found |= {str(word.value) for word in words if isinstance(word, ast.Constant)}
    assert found <= CODECS | HANDLERS
    assert "surrogateescape" in found


def test_the_frozen_code_is_that_of_the_sources_but_for_what_does_not_run() -> None:
    source = (
        "from __future__ import annotations\n"
        "TYPE_CHECKING = False\n"
        "if TYPE_CHECKING:\n    import typing\nelse:\n    import os\n"
        "class A:\n    'says what'\n    x: int = 3\n    y: str\n"
        "def f(a: int, *b: str, c: float = 1.0) -> str:\n    'says what'\n    n: int = a\n    return n\n"
        "def g() -> None:\n    'says what'\n"
    )
    bare = (
        "TYPE_CHECKING = False\nimport os\nclass A:\n    x = 3\n"
        "def f(a, *b, c=1.0):\n    n = a\n    return n\ndef g():\n    pass\n"
    )
    assert ast.dump(freeze.trimmed_tree(ast.parse(source))) == ast.dump(ast.parse(bare))


# -- what the core can -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (r"b'\xc3\xa9'.decode()", "é"),
        (r"b'\xff'.decode('utf-8', 'replace')", "\ufffd"),
        (r"'a\udcff'.encode('utf-8', 'surrogateescape').hex()", "61ff"),
        (r"'a\ud800'.encode('utf-8', 'backslashreplace').decode()", "a\\ud800"),
        (r"'a\ud800'.encode('utf-8', 'surrogatepass').hex()", "61eda080"),
        (r"'é\n'.encode('unicode_escape').decode('ascii')", "\\xe9\\n"),
        (r"'é'.encode('latin-1').hex()", "e9"),
        (r"ODD.encode('utf-8', 'surrogateescape').hex()", "2fff"),
        (r"'%s %d %.1f' % ('ü', 3, 1.5)", "ü 3 1.5"),
    ],
)
def test_text_is_what_it_is_elsewhere(core: Path, expression: str, value: str) -> None:
    assert told(core, f"tell({expression})", env={"LC_ALL": "C"}) == value


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        (r"b'\xff'.decode()", "UnicodeDecodeError"),
        (r"'\ud800'.encode()", "UnicodeEncodeError"),
        ("'a'.encode('none-such')", "LookupError"),
        ("open('/dev/null')", "NameError"),
        ("__import__('json')", "ModuleNotFoundError"),
    ],
)
def test_what_fails_fails_with_the_usual_error(core: Path, expression: str, error: str) -> None:
    code = f"try: {expression}\nexcept Exception as e: tell(type(e).__name__)"
    assert told(core, code) == error


def test_arguments_and_paths_pass_unchanged_in_the_c_locale(core: Path, tmp_path: Path) -> None:
    (tmp_path / "é").touch()
    code = "import posix, sys; tell([posix.listdir(sys.argv[3]), sys.argv[3:], sys.argv[1]])"
    seen = told(core, code, str(tmp_path), "ö", "", "--x", env={"LC_ALL": "C"})
    assert seen == [["é"], [str(tmp_path), "ö", "", "--x"], "state"]


def test_a_traceback_tells_the_cause_the_file_and_the_line(core: Path) -> None:
    code = "try:\n 1/0\nexcept ZeroDivisionError as e:\n raise ValueError('é') from e"
    done = run(core, code, env={"LC_ALL": "C"})
    assert done.returncode == 1
    assert re.search(
        r'ZeroDivisionError.*direct cause.*File "ocirun/cli/main.py", line \d+, in main.*ValueError: é',
        done.stderr,
        re.DOTALL,
    )


def test_signals_are_python_s_own(core: Path) -> None:
    code = (
        "import _signal, posix; seen = []; r, w = posix.pipe2(posix.O_NONBLOCK);"
        "_signal.set_wakeup_fd(w); _signal.signal(15, lambda n, f: seen.append(n));"
        "posix.kill(posix.getpid(), 15);"
        "mask = sorted(_signal.pthread_sigmask(0, ()));"
        "tell([seen, list(posix.read(r, 9)), int(_signal.getsignal(2)), mask])"
    )
    assert told(core, code) == [[signal.SIGTERM], [signal.SIGTERM], 0, []]


def test_a_pipe_without_a_reader_is_an_error_not_the_end(core: Path) -> None:
    code = (
        "import posix; r, w = posix.pipe(); posix.close(r)\n"
        "try: posix.write(w, b'x')\nexcept BrokenPipeError: tell('broken')"
    )
    assert told(core, code) == "broken"


def test_programs_can_be_started_and_os_can_be_imported(core: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys; os.makedirs(sys.argv[3] + '/a/b');"
        "pid = os.posix_spawn('/bin/sh', ['sh', '-c', 'exit 7'], os.environ);"
        "code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]);"
        "tell([code, os.environ['HOME'], os.listdir(sys.argv[3])])"
    )
    assert told(core, code, str(tmp_path), env={"HOME": "/é"}) == [7, "/é", ["a"]]


def test_no_variable_of_python_counts(core: Path, tmp_path: Path) -> None:
    for module in ("os", "json", "encodings", "ocirun"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('other code was loaded')")
    names = ("PYTHONPATH", "PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONSTARTUP", "PYTHONPYCACHEPREFIX")
    variables = dict.fromkeys(names, str(tmp_path))
    variables |= {
        "PYTHONUTF8": "0",
        "PYTHONMALLOC": "none-such",
        "PYTHONHASHSEED": "none",
        "PYTHONVERBOSE": "2",
    }
    code = "import sys, os; tell([sys.flags.isolated, sys.flags.utf8_mode, sys.flags.hash_randomization])"
    assert told(core, code, env=variables) == [1, 1, 0]


def test_no_loader_runs_before_it(core: Path) -> None:
    shown = subprocess.run(["readelf", "-lW", core], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in shown
    assert "DYNAMIC" not in shown


def test_what_may_be_made_to_collide_is_read_in_full(core: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    code = (
        "from ocirun import full; full.in_core = True\n"
        f"from ocirun.config import load_bytes; tell(len(load_bytes({str(config)!r})))"
    )
    config.write_bytes(b" " * HASHED)
    assert told(core, code) == HASHED
    config.write_bytes(b" " * (HASHED + 1))
    assert told(core, code)["full"] == ["state", code]


def test_the_collector_of_garbage_is_on(core: Path) -> None:
    assert told(core, "import gc; tell([gc.isenabled(), gc.get_threshold()[0]])") == [True, 50_000]


# -- when it becomes python3 -----------------------------------------------------------------------------


def full(command: Sequence[str | Path], text: str = "", **variables: str) -> dict[str, object]:
    """What BOOT told."""
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=True, timeout=60, env=variables
    )
    shown: dict[str, object] = json.loads(done.stdout)
    return shown


def test_the_core_becomes_python3_with_all_unchanged(core: Path) -> None:
    code = "from ocirun import full; full.become_full()"
    seen = full([core, "state", code, "", "é"], "typed", HOME="/é", TERM="dumb", LC_CTYPE="C.UTF-8")
    assert seen["full"] == ["state", code, "", "é"]
    assert seen["flags"] == [1, 1, 1]
    assert seen["executable"] == str(core.parent / "python3")
    assert seen["stdin"] == "typed"
    assert seen["environment"] == {"HOME": "/é", "TERM": "dumb", "LC_CTYPE": "C.UTF-8"}
    assert seen["blocked"] == [signal.SIGINT], "a Ctrl-C waits for boot.py"
    assert seen["fds"] == [0, 1, 2, 3], "3 is the one that lists them"


def test_a_core_without_a_python3_beside_it_says_so(core: Path) -> None:
    python = core.parent / "python3"
    away = python.rename(python.with_name("away"))
    code = (
        "from ocirun import errors, full; full.in_core = True\n"
        "try: full.become_full()\n"
        "except errors.HostError as error: tell([str(error), error.errno])"
    )
    try:
        message, number = told(core, code)
    finally:
        away.rename(python)
    assert message.startswith(f"execute {python}: no such file or directory (ENOENT) (")
    assert "virtual environment" in message
    assert number == errno.ENOENT


def test_words_without_a_hot_command_become_python3_at_once(core: Path) -> None:
    for words in ([], ["--version"], ["validate", "--bundle", "x"], ["states"]):
        assert full([core, *words])["full"] == words


def test_code_that_was_edited_is_not_run_from_the_launcher(tmp_path: Path) -> None:
    program = corelauncher.build_core(tmp_path / "v", in_place=True)
    assert told(program, "tell('frozen')") == "frozen"
    source = tmp_path / "v/main.py"
    status = source.stat()
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert told(program, "tell('frozen')")["full"] == ["state", "tell('frozen')"]
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert told(program, "tell('frozen')") == "frozen"
    source.unlink()
    assert told(program, "tell('frozen')")["full"] == ["state", "tell('frozen')"]


def test_a_core_that_cannot_be_linked_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "libpython.a").write_bytes(b"no archive")
    broken = build.Library(tmp_path / "libpython.a", tmp_path)
    for found in (None, broken):
        monkeypatch.setattr(build, "library", lambda found=found: found)
        assert not build.compile_core(tmp_path / "ocirun", "/nonexistent", in_place=False)
    assert "it will start python3 instead" in capfd.readouterr().err
    assert not (tmp_path / "ocirun").exists()


def test_a_python_without_a_static_library_has_none_to_link(monkeypatch: pytest.MonkeyPatch) -> None:
    import sysconfig

    def unknown(_name: str) -> None:
        return None

    monkeypatch.setattr(sysconfig, "get_config_var", unknown)
    assert build.library() is None
