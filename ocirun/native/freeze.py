"""Writes the C of what the launcher's core interpreter finds: our hot modules as code, and the built-in ones.

Frozen is what the hot commands of the table import, wherever in a module the import stands: once a command
has left a trace on the host it cannot become another process any more.
"""

from __future__ import annotations

import ast
import functools
import marshal
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
#: Where our packages lie in a checkout.
_ROOMS = {"ocirun": ROOT, "ocirun_spec": ROOT / "spec"}

#: The modules of C in the core, and what makes each; None marks those that every interpreter has.
BUILTIN: dict[str, str | None] = {
    "_abc": "PyInit__abc", "_blake2": "PyInit__blake2",
    "_codecs": "PyInit__codecs", "_imp": "PyInit__imp", "_signal": "PyInit__signal",
    "_socket": "PyInit__socket", "_stat": "PyInit__stat", "_thread": "PyInit__thread",
    "_warnings": "_PyWarnings_Init", "_weakref": "PyInit__weakref", "errno": "PyInit_errno",
    "fcntl": "PyInit_fcntl", "gc": "PyInit_gc", "marshal": "PyMarshal_Init", "math": "PyInit_math",
    "posix": "PyInit_posix", "select": "PyInit_select", "time": "PyInit_time", "builtins": None, "sys": None,
}  # fmt: skip
#: A version of marshal that writes the same for the same code; a newer one looks at counts of references.
_WITHOUT_REFERENCES = 2
#: Modules of the standard library that are frozen too: ``os`` and what it imports, for what is rare.
STANDARD = ("_collections_abc", "abc", "genericpath", "os", "posixpath", "stat")
#: The hot commands that make a plan: they write to more of the snapshot than the others (snapshot.c).
PLANNING = frozenset({"create", "exec", "run"})
#: Loaded by no command in the core: who would become python3 before (ocirun/full.py).
FULL = frozenset(
    {
        "ocirun.cgroup.systemd", "ocirun.executor.detached", "ocirun.lifecycle.plugins",
        "ocirun.lifecycle.systemd",
        "ocirun.network.devices", "ocirun.network.moving", "ocirun.planner.systemd", "ocirun.seccomp.apart",
        "ocirun.seccomp.compile", "ocirun.seccomp.plugins", "site",
    }
)  # fmt: skip


def source_of(name: str) -> Path | None:
    """The file of a module of ours, None for any other."""
    room = _ROOMS.get(name.partition(".")[0])
    path = room / name.replace(".", "/") if room else Path()
    candidates = (path / "__init__.py", path.with_name(f"{path.name}.py")) if room else ()
    return next((candidate for candidate in candidates if candidate.exists()), None)


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def imports(tree: ast.AST) -> Iterator[str]:
    """What a module imports when it runs, anywhere in it, and what it takes from there, modules or not."""
    for node in _running(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of the tree but those below ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and _is_for_checkers(node):
            for other in node.orelse:
                yield other
                yield from _running(other)
        else:
            yield node
            yield from _running(node)


def hot_words() -> list[str]:
    """The commands that the table calls hot."""
    from ocirun.cli.table import COMMANDS

    return [command.name for command in COMMANDS if command.hot]


def closure() -> tuple[dict[str, Path], set[str]]:
    """The modules of ours that the hot commands may ever import, and the others that those import."""
    wanted = ["ocirun.core", *(f"ocirun.cli.commands_{word}" for word in hot_words())]
    ours: dict[str, Path] = {}
    others: set[str] = set()
    while wanted:
        name = wanted.pop()
        path = source_of(name)
        if path is not None and name not in ours and name not in FULL:
            ours[name] = path
            wanted += [name.rpartition(".")[0], *imports(_parsed(path))]
        elif path is None and name and source_of(name.rpartition(".")[0]) is None:
            others.add(name)
    return ours, {name for name in others if "." not in name} - FULL


class _Trim(ast.NodeTransformer):
    """Takes out what no statement looks at when it runs: docstrings, annotations, what type checkers read."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == "__future__" else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if _is_for_checkers(node) else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        self.generic_visit(node)
        return None if isinstance(node.value, ast.Constant) else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        return ast.Assign([node.target], node.value) if node.value else None

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        node.body = node.body or [ast.Pass()]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node


def _is_for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def trimmed_tree(tree: ast.Module) -> ast.Module:
    """The tree of a module without what does not run."""
    trimmed: ast.Module = ast.fix_missing_locations(_Trim().visit(tree))
    return trimmed


def trimmed(path: Path) -> ast.Module:
    """What is frozen of the module in ``path``."""
    return trimmed_tree(ast.parse(path.read_bytes()))


def compiled(path: Path, shown: str) -> bytes:
    """The code of a module as marshal writes it; ``shown`` is the file that a traceback names."""
    code = compile(trimmed(path), shown, "exec", dont_inherit=True, optimize=0)
    return marshal.dumps(code, _WITHOUT_REFERENCES)


def write(directory: Path, *, in_place: bool) -> list[Path]:
    """Writes the sources of all this for the C compiler into ``directory`` and gives their paths.

    For a checkout (``in_place``) the program learns when each source was changed, so that it does not run
    what was edited since.
    """
    ours, _ = closure()
    library = Path(sysconfig.get_path("stdlib"))
    bootstrap = {"_frozen_importlib": library / "importlib/_bootstrap.py"}
    standard = {name: library / f"{name}.py" for name in STANDARD}
    standard["encodings"] = ROOT / "ocirun/native/core_encodings.py"
    blob = bytearray()
    text = _TABLES.format(
        root=ROOT if in_place else "",
        words="".join(f'{{"{word}", {int(word in PLANNING)}}}, ' for word in hot_words()),
        sources="".join(_source(path) for path in ours.values()) if in_place else "",
        modules=_rows(ours, blob, in_place=in_place),
        standard=_rows(standard, blob, in_place=in_place),
        bootstrap=_rows(bootstrap, blob, in_place=in_place),
        declared="\n".join(f"extern PyObject *{init}(void);" for init in BUILTIN.values() if init),
        builtin="".join(f'    {{"{name}", {init or 0}}},\n' for name, init in BUILTIN.items()),
    )
    (directory / "frozen.bin").write_bytes(blob)
    (directory / "frozen_code.S").write_text(_ASSEMBLER.format(path=directory / "frozen.bin"))
    (directory / "frozen.c").write_text(text)
    return [directory / "frozen.c", directory / "frozen_code.S"]


def _rows(modules: dict[str, Path], blob: bytearray, *, in_place: bool) -> str:
    """The rows of a table of ``modules``, whose code is added to ``blob``."""
    rows: list[str] = []
    for name, path in modules.items():
        package = int(path.name == "__init__.py")
        shown = str(path) if in_place else name.replace(".", "/") + ("/__init__.py" if package else ".py")
        code = compiled(path, shown)
        rows.append(
            f'    {{.name = "{name}", .code = frozen_code + {len(blob)}, .size = {len(code)},'
            f" .is_package = {package}}},\n"
        )
        blob += code
    return "".join(rows)


def _source(path: Path) -> str:
    status = path.stat()
    place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f'    {{"{place}", {status.st_size}, {status.st_mtime_ns}}},\n'


_ASSEMBLER = """\
    .section .rodata
    .globl frozen_code
frozen_code:
    .incbin "{path}"
    .section .note.GNU-stack, "", %progbits
"""

_TABLES = """\
#include <Python.h>

#include "launcher.h"

extern const unsigned char frozen_code[];
{declared}

const struct core_word core_words[] = {{{words}{{0, 0}}}};

const char core_root[] = "{root}";

const struct core_source core_sources[] = {{
{sources}    {{0, 0, 0}},
}};

static const struct _frozen modules[] = {{
{modules}    {{.name = 0}},
}};

/* From here on in place of what the archive has, which would be linked else: code for all of the standard
 * library, whose names are interned at each start, and every module of C. */
static const struct _frozen bootstrap[] = {{
{bootstrap}    {{.name = 0}},
}};

static const struct _frozen standard[] = {{
{standard}    {{.name = 0}},
}};

const struct _frozen *PyImport_FrozenModules = modules;
const struct _frozen *_PyImport_FrozenBootstrap = bootstrap;
const struct _frozen *_PyImport_FrozenStdlib = standard;
const struct _frozen *_PyImport_FrozenTest = standard;

struct _module_alias {{
    const char *name, *orig;
}};
static const struct _module_alias aliases[] = {{
    {{"_frozen_importlib", "importlib._bootstrap"}},
    {{0, 0}},
}};
const struct _module_alias *_PyImport_FrozenAliases = aliases;

int _Py_Deepfreeze_Init(void) {{
    return 0;
}}

void _Py_Deepfreeze_Fini(void) {{
}}

struct _inittab _PyImport_Inittab[] = {{
{builtin}    {{0, 0}},
}};
"""
