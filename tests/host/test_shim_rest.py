"""A shim that rests: its worker is gone, its keeper has everything, and nobody can tell from outside."""

from __future__ import annotations

import os
import resource
import signal
import time

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from ocirun_shim.messages import task_pb2 as pb

from tests.host import observe, serving, shims
from tests.host.rests import left_to, made, read, rested, streams, stuck, zombies_of
from tests.host.serving import TASK, Serving


def test_nobody_is_left_but_a_keeper_that_has_hardly_run(served: Serving) -> None:
    served.running()  # the first is forked from a process that has done a lot
    task = served.running()
    worker = serving.worker(task)
    keeper = rested(task)
    assert int(observe.status(keeper)["VmRSS"].split()[0]) > 0
    assert not observe.alive(worker)
    private = shims.private_memory(keeper)
    again = served.awake(task)
    assert again != worker
    assert private < shims.private_memory(again)


def test_input_output_and_the_status_pass_through(served: Serving, fds: dict[str, int]) -> None:
    paths = streams(served, fds, "stdin", "stdout", "stderr")
    script = "while read word; do echo out $word; echo err $word >&2; [ $word != end ] || exit 7; done"
    task = made(served, "sh", "-c", script).run(**paths)
    stream = task.client.send(TASK, "Wait", pb.WaitRequest(id=task.id))
    keeper = rested(task)
    os.write(fds["stdin"], b"one\n")
    read(fds["stdout"], b"out one\n")
    read(fds["stderr"], b"err one\n")
    rested(task)
    os.write(fds["stdin"], b"end\n")
    read(fds["stdout"], b"out end\n")
    assert task.client.receive(stream, pb.WaitResponse).exit_status == 7
    rested(task)
    assert task.state().exit_status == 7
    pid = task.state().pid
    observe.eventually(lambda: zombies_of(keeper) == [pid], "init is a zombie, and the workers are none")
    assert task.delete().exit_status == 7
    task.call("Shutdown", pb.ShutdownRequest(id=task.id), Empty)
    observe.eventually(lambda: not observe.alive(keeper), "the keeper ends")
    assert not os.path.lexists(task.address)


@pytest.mark.parametrize("rests", [1, 2])
def test_closed_input_is_an_end_at_once(served: Serving, fds: dict[str, int], rests: int) -> None:
    paths = streams(served, fds, "stdin", "stdout")
    task = made(served, "sh", "-c", "cat; echo over").run(**paths)
    for _ in range(rests):
        rested(task)
        assert task.running
    os.close(fds.pop("stdin"))
    task.call("CloseIO", pb.CloseIORequest(id=task.id, stdin=True), Empty)
    read(fds["stdout"], b"over\n")
    assert task.wait() == 0


def test_a_signal_that_kills_is_seen_by_the_next_worker(served: Serving) -> None:
    task = served.running()
    stream = task.client.send(TASK, "Wait", pb.WaitRequest(id=task.id))
    pid = task.state().pid
    rested(task)
    os.kill(pid, signal.SIGKILL)
    assert task.client.receive(stream, pb.WaitResponse).exit_status == 137


def test_a_container_that_waits_for_its_start(served: Serving) -> None:
    task = made(served, "sh", "-c", "exit 3")
    task.create()
    rested(task)
    task.start()
    assert task.wait() == 3


def test_an_exec_lives_on_and_leaves_no_zombie(served: Serving, fds: dict[str, int]) -> None:
    task = served.running()
    paths = streams(served, fds, "stdin")
    spec = Any(type_url="process", value=b'{"cwd": "/", "args": ["/bin/sh", "-c", "read x; exit 9"]}')
    request = pb.ExecProcessRequest(id=task.id, exec_id="e1", spec=spec, stdin=paths["stdin"])
    task.call("Exec", request, Empty)
    task.call("Start", pb.StartRequest(id=task.id, exec_id="e1"), pb.StartResponse)
    keeper = rested(task)
    os.write(fds["stdin"], b"\n")
    waited = task.call("Wait", pb.WaitRequest(id=task.id, exec_id="e1"), pb.WaitResponse)
    assert waited.exit_status == 9
    observe.eventually(lambda: zombies_of(keeper) == [], "it is reaped")
    rested(task)
    deleted = task.call("Delete", pb.DeleteRequest(id=task.id, exec_id="e1"), pb.DeleteResponse)
    assert deleted.exit_status == 9


def test_a_terminal(served: Serving, fds: dict[str, int]) -> None:
    paths = streams(served, fds, "stdin", "stdout")
    task = served.task()
    task.bundle.args("sh", "-c", "read x; stty size; read y; echo over")
    task.bundle.put(True, "process", "terminal").write()
    task.shim().run(terminal=True, **paths)
    rested(task)
    task.call("ResizePty", pb.ResizePtyRequest(id=task.id, width=77, height=33), Empty)
    rested(task)
    os.write(fds["stdin"], b"\n")
    read(fds["stdout"], b"33 77")
    os.write(fds["stdin"], b"\n")
    read(fds["stdout"], b"over")
    assert task.wait() == 0


def test_a_file_of_both_outputs(served: Serving, fds: dict[str, int]) -> None:
    log = served.ours.scratch / "log"
    paths = streams(served, fds, "stdin")
    script = "echo one; read x; echo two; echo three >&2"
    task = made(served, "sh", "-c", script).run(stdout=f"file://{log}", stderr=f"file://{log}", **paths)
    observe.eventually(lambda: log.read_text() == "one\n", "it has begun")
    rested(task)
    assert log.read_text() == "one\n"
    os.write(fds["stdin"], b"\n")
    assert task.wait() == 0
    observe.eventually(lambda: sorted(log.read_text().split()) == ["one", "three", "two"], "all is written")


def test_output_that_nobody_takes_keeps_it_awake(served: Serving, fds: dict[str, int]) -> None:
    paths = streams(served, fds, "stdout")
    task = made(served, "sh", "-c", "yes | head -c 300000; sleep 1000").run(**paths)
    keeper = shims.the_shim(task.id)
    observe.eventually(lambda: stuck(task, paths["stdout"]), "the FIFO is full")
    time.sleep(2.5)
    assert shims.workers(keeper) != []
    assert task.running


def test_two_containers_of_a_pod_and_a_new_connection(served: Serving) -> None:
    one, two = served.running("pod"), served.running("pod")
    keeper = rested(one)
    two.hang_up()
    assert one.running
    assert two.running
    rested(one)
    assert one.end() == 137
    rested(one)
    assert two.running
    assert two.end() == 137
    assert shims.only(lambda: shims.processes("containerd-shim"), "there is one shim") == keeper


def test_what_nobody_waits_for_is_reaped_while_it_rests(served: Serving) -> None:
    task = served.task()
    os.mkfifo(end := task.bundle.rootfs / "end")
    task.bundle.without_namespace("pid")
    task.bundle.args("sh", "-c", "(cat /end &); exec sleep 1000").write()
    task.shim().run()
    keeper = rested(task)
    pid = task.state().pid
    rested(task)
    observe.eventually(lambda: len(left_to(keeper)) == 2, "the orphan is a child of the keeper")
    os.close(os.open(end, os.O_WRONLY))
    observe.eventually(lambda: left_to(keeper) == [pid], "it is reaped when it ends")


@pytest.mark.parametrize("who", ["keeper", "worker"])
def test_one_does_not_live_without_the_other(served: Serving, who: str) -> None:
    task = served.running()
    worker, keeper = served.awake(task), shims.the_shim(task.id)
    os.kill(keeper if who == "keeper" else worker, signal.SIGKILL)
    observe.eventually(lambda: not (observe.alive(worker) or observe.alive(keeper)), "both are gone")
    assert served.ours.delete(task.id).exit_status == 137


def test_a_keeper_that_may_not_hold_so_many_descriptors_leaves_them_with_the_worker(served: Serving) -> None:
    task = served.running()
    keeper = shims.the_shim(task.id)
    served.awake(task)
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, (6, 6))
    served.hang_up_others()
    time.sleep(2.5)
    assert shims.workers(keeper) != []
    assert task.running
    assert task.end() == 137
