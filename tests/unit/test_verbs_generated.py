"""What is generated from the verb table is fresh, and says what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocirun.plan import generate, steps
from ocirun.plan.model import Step
from ocirun.plan.table import HOST, INIT, TABLE, Call, Verb, Write

ROOT = str(Path(__file__).parents[2])


@pytest.mark.parametrize("path", generate.generated(ROOT))
def test_generated_files_are_fresh(path: str) -> None:
    assert generate.read(path) == generate.generated(ROOT)[path], "run python -m ocirun.plan.generate"


def test_every_verb_has_its_row_and_its_constructor() -> None:
    assert list(steps.VERBS) == [verb.name for verb in TABLE]
    for number, verb in enumerate(TABLE, 1):
        assert steps.VERBS[verb.name] == (number, verb.actor, generate.signature(verb), verb.undo)
        assert callable(getattr(steps, verb.name))


def test_a_constructor_packs_in_the_order_of_the_table() -> None:
    step = steps.exec(env=["A=1"], args=["sh", "-c"], pointer="/process/args", why="default")
    assert step == Step("exec", (("sh", "-c"), ("A=1",)), "/process/args", "default")
    assert steps.hide_process(pointer="") == Step("hide_process", (), "")


def test_the_digest_names_the_wire_form_alone() -> None:
    assert generate.digest() == steps.TABLE_DIGEST
    first = TABLE[0]
    worded = Verb(first.name, first.actor, _written(first), "other words", calls="other calls")
    assert generate.digest((worded, *TABLE[1:])) == generate.digest()
    for other in (
        Verb("other", first.actor, _written(first), first.doc, calls=""),
        Verb(first.name, HOST, _written(first), first.doc, calls=""),
        Verb(first.name, first.actor, _written(first) + " more:u32", first.doc, calls=""),
    ):
        assert generate.digest((other, *TABLE[1:])) != generate.digest()
    assert generate.digest(TABLE[1:]) != generate.digest()


def _written(verb: Verb) -> str:
    return " ".join(f"{name}:{kind}" for name, kind in verb.args)


def test_names_in_the_table_are_fit_for_both_languages() -> None:
    for verb in TABLE:
        assert verb.name.isidentifier()
        assert all(kind in generate.KINDS for _, kind in verb.args)
        assert bool(verb.undo) == bool(verb.leaves)
        assert set(verb.after) <= {other.name for other in TABLE}


def test_a_verb_that_is_a_row_of_calls_states_them_once() -> None:
    verb = Verb(
        "tell",
        INIT,
        "proc:slot name:str register:u32",
        "tell",
        does=(Call("first", 'proc, "name", register + 1', "name"), Call("second", "", "name of it")),
    )
    assert verb.calls == ("first", "second")
    assert [generate.statement(verb, one) for one in verb.does] == [
        'must(syscall(SYS_first, slot_fd(args->proc), "name", args->register_ + 1), "first", args->name);',
        'must(syscall(SYS_second), "second", "name of it");',
    ]


def test_a_write_to_proc_is_to_a_file_of_the_process_or_to_the_one_that_is_told() -> None:
    verb = Verb("tell", INIT, "proc:slot path:str text:str", "tell")
    assert [generate.statement(verb, Write(file, "text")) for file in ("attr/exec", "path")] == [
        'write_own(args->proc, "attr/exec", args->text);',
        "write_proc(args->proc, args->path, args->text, args->path);",
    ]
