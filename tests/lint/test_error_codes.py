"""The table of error codes and the sources say the same, and every code is reached by the test it names."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from ocirun import errors
from ocirun.cli.generate_errors import PAGE, page
from ocirun.error_codes import CODES

REPOSITORY = Path(__file__).parents[2]
TABLE = REPOSITORY / "ocirun" / "error_codes.py"
NAMES = {code.name for code in CODES}
#: Modules whose functions give a code beside a sentence.
FINDING = ("ocirun/executor/program.py", "ocirun/executor/unrunnable.py")


@cache
def _trees() -> dict[str, ast.Module]:
    """Our sources by path, without the table; the shim's own errors have codes of ttrpc beside."""
    paths = [*(REPOSITORY / "ocirun").rglob("*.py"), *(REPOSITORY / "shim").rglob("*.py")]
    return {str(path.relative_to(REPOSITORY)): ast.parse(path.read_text()) for path in paths if path != TABLE}


def _texts(node: ast.AST) -> set[str]:
    """The texts that an expression can be, "" aside: itself, or either side of a condition."""
    if isinstance(node, ast.IfExp):
        return _texts(node.body) | _texts(node.orelse)
    return (
        {node.value}
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value
        else set()
    )


def _given(tree: ast.Module) -> set[str]:
    """What is given as a code: by keyword, to an attribute, or as that of a class."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found |= {text for word in node.keywords if word.arg == "code" for text in _texts(word.value)}
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                found |= _assigned(target, node.value)
    return found


def _assigned(target: ast.expr, value: ast.expr) -> set[str]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = zip(target.elts, value.elts, strict=True)
        return {text for one, other in pairs for text in _assigned(one, other)}
    name = (
        target.attr
        if isinstance(target, ast.Attribute)
        else target.id
        if isinstance(target, ast.Name)
        else ""
    )
    return _texts(value) if name == "code" else set()


def _constants(tree: ast.Module) -> set[str]:
    """The texts of a module that look like a code."""
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text for text in texts if re.fullmatch(r"(program|no|arguments)(-[a-z]+)+", text)}


def test_the_sources_give_the_codes_of_the_table_and_no_others() -> None:
    given = {text for tree in _trees().values() for text in _given(tree)}
    found = {text for name in FINDING for text in _constants(_trees()[name])}
    assert given | found == NAMES


def test_a_code_is_short_and_holds_no_value() -> None:
    assert [name for name in sorted(NAMES) if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name)] == []
    assert len(NAMES) == len(CODES)
    assert all(code.meaning and code.cure for code in CODES)


def test_every_class_of_errors_is_in_the_table() -> None:
    raised = {name.strip() for code in CODES for name in code.raised.split(",") if name}
    classes = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.OcirunError) and kind is not errors.OcirunError
    }
    assert raised == classes
    for name in classes:
        assert getattr(errors, name).code in NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_test_of_a_code_exists_and_names_it(name: str) -> None:
    test = next(code.test for code in CODES if code.name == name)
    path, _, function = test.partition("::")
    tree = ast.parse((REPOSITORY / path).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert name in {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def test_the_page_is_generated_from_the_table() -> None:
    assert PAGE.read_text() == page(), "run make generate"
