"""Signals become something to wait for, and have the names that people type."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.cli.signals import ENDING, FORWARDED, Inbox, complete
from ocirun.cli.signames import NAMES, signal_number
from ocirun.errors import Interrupted, UsageError
from ocirun.waiting import Wait, drive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun.waiting import Task

ROOT = Path(__file__).parents[2]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    made = Inbox((*ENDING, signal.SIGUSR1, signal.SIGWINCH))
    yield made
    made.close()


def send(signum: int) -> None:
    os.kill(os.getpid(), signum)


def test_every_name_is_that_of_the_c_library() -> None:
    known = {member.name: member.value for member in signal.Signals if member.name[3] != "_"}
    assert {name: signal_number(name) for name in known} == known
    assert [signal.Signals(number).name for number in range(1, 31)] == [f"SIG{name}" for name in NAMES[:30]]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("term", 15),
        ("sigKill", 9),
        ("9", 9),
        ("64", 64),
        ("IOT", 6),
        ("CLD", 17),
        ("POLL", 29),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
        ("RTMAX", 64),
    ],
)
def test_a_signal_has_a_number_and_names_in_every_spelling(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("TREM", "did you mean TERM?"),
        ("-9", "without the dash: 9"),
        ("65", "1 to 64"),
        ("", "1 to 64"),
        ("SIG", ""),
        ("RTMIN+31", ""),
        ("RTMAX-31", ""),
        ("RTMIN+x", ""),
        ("²", ""),
    ],
)
def test_what_is_no_signal_is_refused(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match="unknown signal") as caught:
        signal_number(text)
    assert hint in caught.value.hint


def test_signals_are_taken_in_their_order(inbox: Inbox) -> None:
    assert inbox.take() == []
    send(signal.SIGUSR1)
    send(signal.SIGWINCH)
    assert inbox.take() == [signal.SIGUSR1, signal.SIGWINCH]
    assert inbox.take() == []


def test_a_signal_that_ends_reaches_the_task_which_undoes_what_it_made(inbox: Inbox) -> None:
    undone: list[str] = []

    def task() -> Task[None]:
        send(signal.SIGINT)
        try:
            yield Wait(until=time.monotonic() + 30)
        except Interrupted:
            send(signal.SIGTERM)  # a second one cannot keep it from cleaning up
            yield Wait(until=time.monotonic() + 0.01)
            undone.append("all")
            raise

    with pytest.raises(Interrupted) as caught:
        drive(task(), inbox.waiter)
    assert caught.value.signum == signal.SIGINT
    assert undone == ["all"]


def test_what_has_happened_is_told_before_a_signal_but_not_for_ever(inbox: Inbox) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"x")  # stays: nobody reads it
    send(signal.SIGTERM)
    told = 0

    def task() -> Task[None]:
        nonlocal told
        while True:
            assert (yield Wait(reads=(reader,))) == (reader,)
            told += 1

    with pytest.raises(Interrupted):
        drive(task(), inbox.waiter)
    assert 1 <= told <= 100
    os.close(reader)
    os.close(writer)


def test_a_signal_after_the_start_was_seen_is_kept_for_the_program(inbox: Inbox) -> None:
    reader, writer = os.pipe()

    def task() -> Task[None]:
        os.close(writer)  # the program was executed, and then
        send(signal.SIGTERM)
        assert (yield Wait(reads=(reader,))) == (reader,)
        inbox.hand_over()

    drive(task(), inbox.waiter)
    assert inbox.take() == [signal.SIGTERM]
    os.close(reader)


def test_other_signals_do_not_wake_the_task(inbox: Inbox) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"x")
    send(signal.SIGWINCH)
    assert inbox.waiter(Wait(reads=(reader,), until=time.monotonic() + 30)) == (reader,)
    before = time.monotonic()
    assert inbox.waiter(Wait(until=before + 0.05)) == ()
    assert time.monotonic() >= before + 0.05
    os.close(reader)
    os.close(writer)


def test_after_handing_over_signals_only_arrive_those_from_before_too(inbox: Inbox) -> None:
    send(signal.SIGUSR1)
    assert inbox.waiter(Wait(until=time.monotonic() + 0.01)) == ()
    inbox.hand_over()
    send(signal.SIGTERM)
    assert inbox.waiter(Wait(reads=(inbox.fd,), until=time.monotonic() + 30)) == (inbox.fd,)
    assert inbox.take() == [signal.SIGUSR1, signal.SIGTERM]


def test_closing_restores_what_signals_did_before() -> None:
    before = {signum: signal.getsignal(signum) for signum in FORWARDED}
    files = os.listdir("/proc/self/fd")
    inbox = Inbox(FORWARDED)
    assert [signum for signum in FORWARDED if signal.getsignal(signum) == before[signum]] == []
    inbox.close()
    assert {signum: signal.getsignal(signum) for signum in FORWARDED} == before
    assert os.listdir("/proc/self/fd") == files


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        inbox = Inbox()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        inbox.close()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_completed_task_gives_its_value_and_later_signals_change_nothing() -> None:
    def task() -> Task[int]:
        yield Wait(until=time.monotonic())
        return 7

    assert complete(task()) == 7
    for signum in ENDING:
        send(signum)


def test_forwarded_are_no_signals_that_cannot_be_caught_or_tell_of_our_own_faults() -> None:
    ours = {
        "KILL",
        "STOP",
        "CHLD",
        "PIPE",
        "SEGV",
        "BUS",
        "FPE",
        "ILL",
        "TRAP",
        "ABRT",
        "SYS",
        "URG",
        "TTIN",
        "TTOU",
    }
    assert {signal_number(name) for name in ours}.isdisjoint(FORWARDED)
    assert {*ENDING, signal.SIGUSR1, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT} <= set(FORWARDED)


def test_an_early_interrupt_just_ends_the_program() -> None:
    code = (
        "import sys, os; sys.path.insert(0, sys.argv[1]);"
        "from ocirun.cli.signals import end_on_interrupt; end_on_interrupt(); os.kill(os.getpid(), 2)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT)], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")
