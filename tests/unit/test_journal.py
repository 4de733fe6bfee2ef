"""The journal: what was written is read, and a torn end is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocirun import journal
from ocirun.errors import StateError
from ocirun.journal import Trace, Writer
from ocirun.lifecycle.undo import inverse


def _write(directory: Path, *entries: dict[str, object]) -> None:
    writer = Writer(str(directory))
    for entry in entries:
        writer.write(entry)
    writer.close()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    _write(
        tmp_path, {"version": 1, "id": "a", "bundle": "/b é"}, {"born": 17, "start": "99"}, {"created": True}
    )
    entries = journal.read(str(tmp_path))
    assert entries.head["bundle"] == "/b é"
    assert (entries.pid, entries.start, entries.created, entries.started) == (17, "99", True, False)


def test_a_missing_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert journal.read(str(tmp_path)).pid == 0


def test_a_line_cut_short_had_not_begun(tmp_path: Path) -> None:
    _write(tmp_path, {"version": 1, "id": "a"})
    with (tmp_path / "journal").open("a") as file:
        file.write('{"born": 17, "sta')
    assert journal.read(str(tmp_path)).pid == 0


#: Traces of a cgroup whose undoing would kill and remove what is not the container's.
FOREIGN = [
    f'{{"step":1,"undo":"remove_cgroup","args":{args}}}'
    for args in ('["/sys/fs/cgroup","",0]', '["/sys/fs/cgroup","/",0]', '["/c","/a/../b",0]', '["","/a",0]')
]
SCOPE = ["/sys/fs/cgroup", "/s.slice/a.scope", "in", "a.scope", 1, ["Description", "'mine'"]]
#: The same for scopes of systemd.
FOREIGN_SCOPES = [
    json.dumps({"step": 2, "undo": "stop_scope", "args": [*SCOPE[:at], value, *SCOPE[at + 1 :]]})
    for at, value in ((0, "c"), (1, "/"), (1, "/a/../b"), (2, "../b"), (3, "ssh.service"), (4, 2), (5, "x"))
]


@pytest.mark.parametrize(
    "line",
    [
        "{]", "[]", '{"cgroups_made":null}', '{"born":1}', '{"born":99999999999,"start":"1"}',
        '{"version":1,"annotations":[]}', '{"step":1,"undo":"remove_cgroup","args":["/c","/a"]}', *FOREIGN,
        *FOREIGN_SCOPES,
    ],
)  # fmt: skip
def test_a_damaged_line_is_told_with_the_way_out(line: str, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text(line + "\n")
    with pytest.raises(StateError, match="damaged") as caught:
        journal.read(str(tmp_path))
    assert "delete --force" in caught.value.hint
    assert journal.read(str(tmp_path), lenient=True).pid == 0


ABOVE = ("/sys/fs/cgroup/ocirun", "/sys/fs/cgroup", "/sys/fs")


def test_a_scope_is_stopped_when_all_in_it_have_ended(
    tmp_path: Path,
) -> None:
    _write(tmp_path, {"step": 2, "undo": "stop_scope", "args": SCOPE}, {"cgroups_made": 1})
    entries = journal.read(str(tmp_path))
    where = "/sys/fs/cgroup/s.slice/a.scope"
    assert (entries.cgroup, entries.home) == (where, f"{where}/in")
    assert [(step.verb, step.args) for step in inverse(entries, str(tmp_path))] == [
        ("kill_cgroup", (where,)),
        ("stop_scope", ("a.scope", 1, "mine")),
        ("remove_cgroup", (where, ())),
    ]


def test_another_version_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, {"version": 99, "id": "a"})
    with pytest.raises(StateError, match="another version"):
        journal.read(str(tmp_path))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (
            1,
            [
                ("kill_cgroup", ("/sys/fs/cgroup/ocirun/a",)),
                ("remove_cgroup", ("/sys/fs/cgroup/ocirun/a", ("/sys/fs/cgroup/ocirun",))),
            ],
        ),
        (
            4,
            [
                ("kill_cgroup", ("/sys/fs/cgroup/ocirun/a",)),
                ("remove_cgroup", ("/sys/fs/cgroup/ocirun/a", ABOVE)),
            ],
        ),
        (0, [("kill_cgroup", ("/sys/fs/cgroup/ocirun/a",))]),
    ],
)
def test_a_cgroup_is_emptied_and_goes_as_far_as_it_was_made(
    made: int, expected: list[tuple[str, tuple[object, ...]]], tmp_path: Path
) -> None:
    writer = Writer(str(tmp_path))
    writer.trace(Trace(1, "remove_cgroup", ("/sys/fs/cgroup", "/ocirun/a", 1)))
    writer.write({"cgroups_made": made})
    writer.trace(Trace(3, "remove_state", ("/run/ocirun/a",)))
    writer.close()
    undone = inverse(journal.read(str(tmp_path)), str(tmp_path))
    assert [(step.verb, step.args) for step in undone] == expected
