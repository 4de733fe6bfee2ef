"""Whether a benched container was made by the plan that `ocirun plan` prints, whole and in its order.

The helper gets its part of a plan as one piece of bytes in a memfd, so a trace of a `create` shows it; the
host's own traces stand in the journal.  Both are compared with what follows from the printed plan.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any, cast

from conformance.bench.traces import lines_of
from ocirun import journal
from ocirun.executor import wire
from ocirun.plan.compile import compile_plan
from ocirun.plan.model import Plan, Step
from ocirun.plan.steps import VERBS
from ocirun.plan.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from conformance.bench.cycle import Place
    from ocirun.plan.model import Argument

_BYTES = {verb.name: {name for name, kind in verb.args if kind == "bytes"} for verb in TABLE}
_NAMES = {verb.name: [name for name, _ in verb.args] for verb in TABLE}
_WHYS = {"asked": ""}
_WRITE = re.compile(r'write\(\d+, "((?:\\x[0-9a-f]{2})+)", \d+')
_LONGEST = 1 << 20


def compare(place: Place, tracer: str, log: Path) -> dict[str, float]:
    """How many steps the printed plan has, and how many differ; leaves the container created."""
    _, _, _, *create = place.words("create")
    bundle = create[create.index("--bundle") + 1]
    words = (place.program, "--root", place.root, "plan", "--format", "json", "--bundle", bundle, place.id)
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    planned = read(json.loads(done.stdout))
    options = ("-xx", "-s", str(_LONGEST), "-e", "trace=write")
    sent = written([call for _, _, call in lines_of(tracer, log, place.words("create"), *options)])
    traces = journal.read(str(place.root / place.id)).traces
    differ = differing(planned, sent, traces)
    return {"steps": len(planned.steps), "noted in the journal": len(traces), "differ": differ}


def differing(planned: Plan, sent: list[bytes], traces: Sequence[journal.Trace]) -> int:
    """How many steps were others than planned, by what was written and what the journal says.

    The bytes for the helper are one piece: where they differ at all, each of its steps counts.
    """
    program = compile_plan(planned)
    noted = [(trace.step, trace.undo, _plain(trace.args)) for trace in traces]
    wanted = leaving(planned)
    helper = 0 if wire.encode(program) in sent else len(program.records)
    return helper + sum(1 for step in wanted if step not in noted) + max(len(noted) - len(wanted), 0)


def read(printed: dict[str, Any]) -> Plan:
    """The plan that `ocirun plan --format json` has printed."""
    return Plan(str(printed["id"]), [_step(entry) for entry in printed["steps"]])


def leaving(planned: Plan) -> list[tuple[int, str, object]]:
    """What the journal has to say of a plan: number, inverse and arguments of each step that has one."""
    undos = ((number, VERBS[step.verb][3], step.args) for number, step in enumerate(planned.steps, 1))
    return [(number, undo, _plain(args)) for number, undo, args in undos if undo]


def written(calls: list[str]) -> list[bytes]:
    """The contents of the traced writes."""
    found = (_WRITE.match(call) for call in calls)
    return [bytes.fromhex(call[1].replace("\\x", "")) for call in found if call]


def _plain(args: tuple[Argument, ...]) -> object:
    """Arguments as a journal gives them back."""
    return json.loads(json.dumps(args))


def _step(entry: dict[str, Any]) -> Step:
    verb = str(entry["verb"])
    arguments = [_argument(verb, name, entry["arguments"][name]) for name in _NAMES[verb]]
    why = str(entry["why"])
    return Step(verb, tuple(arguments), str(entry["pointer"]), _WHYS.get(why, why))


def _argument(verb: str, name: str, value: object) -> Argument:
    if name in _BYTES[verb]:
        return bytes.fromhex(str(value))
    return tuple(cast("list[str]", value)) if isinstance(value, list) else cast("int | str", value)
