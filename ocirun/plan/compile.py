"""From a plan to what runs it: slots get numbers, and where the host must act in between, a rendezvous is
put in."""

from __future__ import annotations

from ocirun.errors import HelperError
from ocirun.plan.model import LIFECYCLE, Step
from ocirun.plan.steps import VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.plan.model import Plan

_HOST, _STAGE = "host", "stage"
#: The step of the host that waits for no helper, and that no helper waits for.
_UNMET = "send_listener"


class Meeting:
    """A rendezvous: the host does ``steps`` while the helper waits; ``give`` names the slots the helper hands
    over before, ``take`` those it gets after."""

    __slots__ = ("give", "steps", "take")

    def __init__(self, steps: list[tuple[int, Step]], give: list[str]) -> None:
        self.steps = steps
        self.give = give
        self.take: list[str] = []


class Program:
    """A plan ready to run; every step comes with its index in the plan, counted from 1.

    ``before`` are the host's steps before the helper starts, ``records`` all of the helper's (stage, then
    init, with a ``meet`` for each rendezvous), ``slots`` the number of each slot, ``meets`` the rendezvous
    by index.  ``listener`` is the host's step for what comes without a rendezvous, as init may be unable to
    stop for one: its own filter is in the way.
    """

    __slots__ = ("before", "listener", "meets", "records", "slots")

    def __init__(self) -> None:
        self.before: list[tuple[int, Step]] = []
        self.records: list[tuple[int, Step]] = []
        self.slots: dict[str, int] = {}
        self.meets: dict[int, Meeting] = {}
        self.listener: tuple[int, Step] | None = None


def compile_plan(plan: Plan) -> Program:
    """``plan`` as a Program.  Raises HelperError (code internal) for a plan that contradicts itself: a slot
    that is used before it is filled or filled twice, an actor out of turn.  Such a plan is a bug of its
    planner."""
    return _Compiler().compile(plan)


class _Compiler:
    """The state of one pass over a plan."""

    __slots__ = ("_actor", "_holder", "_meets", "_program", "_waiting")

    def __init__(self) -> None:
        self._program = Program()
        #: The last actor but the host: the helper does not go back from init to stage.
        self._actor = ""
        #: slot -> who has it: host, or the helper (written as stage).
        self._holder: dict[str, str] = {}
        #: slot that the host filled -> the rendezvous in which the helper can take it.
        self._meets: dict[str, Meeting] = {}
        #: Host steps since the helper's last one.
        self._waiting: list[tuple[int, Step]] = []

    def compile(self, plan: Plan) -> Program:
        program = self._program
        for index, step in enumerate(plan.steps, 1):
            _, actor, signature, _ = VERBS[step.verb]
            if step.verb == _UNMET:
                self._slots(index, step, signature, _HOST)
                program.listener = (index, step)
                continue
            if actor == _HOST:
                (self._waiting if self._actor else program.before).append((index, step))
                continue
            if actor == _STAGE and self._actor not in ("", _STAGE):
                raise _broken(index, step, "is a step of stage, which is gone")
            self._actor = actor
            if self._waiting:
                self._meet()
            if "t" in signature or "o" in signature:
                self._slots(index, step, signature)
            program.records.append((index, step))
        if self._waiting:
            if program.records[-1][1].verb == "exec":
                raise _broken(*self._waiting[0], "is a step of the host after the last of init")
            self._meet()
        self._number_meets()
        return program

    def _slots(self, index: int, step: Step, signature: str, actor: str = _STAGE) -> None:
        """Checks and notes the slots of a step that ``actor`` performs."""
        for kind, value in zip(signature, step.args, strict=True):
            slot = str(value) if kind in "ot" else ""
            if kind in "ot" and not slot:  # nothing fills or uses it: there is no cgroup, start or listener
                self._program.slots.setdefault(slot, len(self._program.slots))
            elif kind == "o":
                if slot in self._holder:
                    raise _broken(index, step, f"fills the slot {slot} a second time")
                self._holder[slot] = actor
                self._program.slots[slot] = len(self._program.slots)
            elif kind == "t":
                if slot not in self._holder:
                    raise _broken(index, step, f"uses the slot {slot}, which nothing has filled")
                if actor == _STAGE and self._holder[slot] == _HOST:
                    self._take(index, step, slot)

    def _take(self, index: int, step: Step, slot: str) -> None:
        """The helper needs a slot of the host's: it gets it in the rendezvous in which the host filled it."""
        if slot not in self._meets:
            raise _broken(
                index, step, f"uses the slot {slot}, which the host filled before the helper started"
            )
        if slot not in self._meets[slot].take:
            self._meets[slot].take.append(slot)

    def _meet(self) -> None:
        """A rendezvous for the host steps that wait."""
        meeting = Meeting(self._waiting, [])
        for index, step in self._waiting:
            signature = VERBS[step.verb][2]
            self._slots(index, step, signature, _HOST)
            for kind, value in zip(signature, step.args, strict=True):
                if kind == "o":
                    self._meets[str(value)] = meeting
                elif kind == "t" and self._holder[str(value)] == _STAGE and value not in meeting.give:
                    meeting.give.append(str(value))
        index, step = self._waiting[0]
        self._program.meets[index] = meeting
        self._program.records.append((index, Step("meet", ((), ()), step.pointer, LIFECYCLE)))
        self._waiting = []

    def _number_meets(self) -> None:
        """What a rendezvous hands over is known only at the end: the numbers of the slots go in now."""
        program = self._program
        for at, (index, step) in enumerate(program.records):
            if step.verb == "meet":
                meeting = program.meets[index]
                give = tuple(program.slots[name] for name in meeting.give)
                take = tuple(program.slots[name] for name in meeting.take)
                program.records[at] = (index, Step("meet", (give, take), step.pointer, LIFECYCLE))


def _broken(index: int, step: Step, why: str) -> HelperError:
    return HelperError(
        f"step {index} of the plan, {step.verb}, {why}",
        pointer=step.pointer,
        operation=step.verb,
        code="internal",
    )
