"""A fold gives the same predictions wherever it is trained."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import BudgetError, ConfigError, DataError, PipelineError
from pipeline.training import fold_worker, group, ray_launch
from pipeline.training.deadline import Deadline
from pipeline.training.fold_process import Task
from pipeline.training.group_launch import train_in_groups
from pipeline.training.launch import Worker, train_on_devices, train_with
from pipeline.training.ray_launch import train_on_ray
from tests.training.runs import make_run, write_cache

# Two processes sum in another order. Rounding then decides now and then on which side of zero a
# ReLU's input lies: the gradients of such a step differ in the third digit.
SHARE_OF_MOVEMENT = 0.1


@pytest.fixture(scope="module")
def cache(tmp_path_factory, digits):
    return write_cache(digits, tmp_path_factory.mktemp("cache") / "cache")


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory, digits, cache):
    """The run that launchers are compared with: fold after fold in this process."""
    return trained_in_turn(tmp_path_factory.mktemp("in-turn"), digits, cache)


@pytest.fixture(scope="module")
def start(tmp_path_factory, digits, cache):
    """A run that stays where every run of this seed starts."""
    return trained_in_turn(tmp_path_factory.mktemp("start"), digits, cache, learning_rate=0.0)


def a_run(folder, digits, **changes):
    settings = {"folds": 2, "dropout": 0.0, "learning_rate": 0.01, "threads": 2, **changes}
    return make_run(folder, digits, **settings)


def on_two_devices(runs, cache, on_epoch, deadline):
    """Two workers on the CPU stand for two GPUs."""
    train_with([Worker("cpu", 1), Worker("cpu", 1)], runs, cache, on_epoch, deadline)


def trained_in_turn(folder, digits, cache, **changes):
    run = a_run(folder, digits, threads=1, **changes)
    train_on_devices([run], cache, lambda *_: None, Deadline())
    return run


def parameters(run):
    """All that the first fold learned, in one vector."""
    return torch.cat(
        [
            value.flatten()
            for name, value in sorted(load_file(run.fold(0) / "weights.safetensors").items())
            if value.is_floating_point() and "running" not in name
        ]
    )


def file_bytes(run):
    names = ("weights.safetensors", "oof.csv")
    return [(run.fold(number) / name).read_bytes() for number in run.folds for name in names]


def test_folds_at_once_share_the_threads_and_come_to_the_same_bytes(
    tmp_path, digits, cache, in_turn
):
    """As two GPUs do: a process for each place where a fold may train."""
    run = a_run(tmp_path / "at-once", digits, folds_at_once=2)
    seen = []

    train_on_devices([run], cache, lambda *epoch: seen.append(epoch), Deadline())

    assert sorted((task.number, metrics.epoch) for task, metrics in seen) == [
        (number, epoch) for number in range(2) for epoch in range(2)
    ]
    assert file_bytes(run) == file_bytes(in_turn)


@pytest.mark.parametrize(
    "choices",
    [
        pytest.param({}, marks=pytest.mark.soak, id="plain"),
        pytest.param({"ema": 0.8, "keep": "best", "metric": "log_loss"}, id="chosen"),
    ],
)
def test_processes_that_share_each_batch_train_as_one_also_after_a_stop(
    tmp_path, digits, cache, start, choices
):
    alone = trained_in_turn(tmp_path / "alone", digits, cache, **choices)
    run = a_run(tmp_path / "together", digits, **choices)
    shutil.copytree(alone.fold(1), run.fold(1))  # one fold says it all, and each takes a while
    with pytest.raises(BudgetError):
        train_in_groups([run], cache, lambda *_: None, Deadline.after(0))
    checkpoints = list(run.folder.glob("fold*.unfinished/checkpoint.pt"))

    train_in_groups([run], cache, lambda *_: None, Deadline())

    assert checkpoints
    ours, theirs, before = parameters(run), parameters(alone), parameters(start)
    assert (ours - theirs).norm() < SHARE_OF_MOVEMENT * (theirs - before).norm()


@pytest.mark.soak
def test_processes_that_share_each_batch_go_on_to_the_same_bytes_each_with_its_dropout(
    tmp_path, digits, cache, in_turn
):
    straight, stopped = (
        a_run(tmp_path / name, digits, epochs=1, dropout=0.5) for name in ("straight", "stopped")
    )
    for run in (straight, stopped):
        shutil.copytree(in_turn.fold(1), run.fold(1))  # one fold says it all
    with pytest.raises(BudgetError):  # behind the first step
        train_in_groups([stopped], cache, lambda *_: None, Deadline.after(0))

    for run in (straight, stopped):
        train_in_groups([run], cache, lambda *_: None, Deadline())

    assert file_bytes(stopped) == file_bytes(straight)
    epochs = [
        json.loads((run.fold(0) / "metrics.jsonl").read_text()) for run in (straight, stopped)
    ]
    assert epochs[1]["train_loss"] == pytest.approx(epochs[0]["train_loss"], rel=1e-6)


@pytest.mark.parametrize("launch", [on_two_devices, train_in_groups], ids=["devices", "ddp"])
def test_a_failing_fold_process_says_what_it_met(launch, tmp_path, digits):
    run = a_run(tmp_path / "run", digits)

    with pytest.raises(DataError, match="cache"):
        launch([run], tmp_path / "no-cache", lambda *_: None, Deadline())


def stop_when_one_has_saved(run, deadline):
    """As the handler of SIGTERM does."""
    while not list(run.folder.glob("fold*.unfinished/checkpoint.pt")):
        time.sleep(0.05)
    deadline.stopped_by = "SIGTERM came"


def assert_a_signal_stops(launch, run, cache):
    deadline = Deadline()
    threading.Thread(target=stop_when_one_has_saved, args=(run, deadline)).start()

    with pytest.raises(BudgetError, match="rerun to continue"):
        launch([run], cache, lambda *_: None, deadline)

    assert run.missing_folds() == [0, 1]
    saved = {path: path.stat().st_mtime for path in run.folder.rglob("checkpoint.pt")}
    time.sleep(0.5)  # nobody goes on
    assert saved == {path: path.stat().st_mtime for path in run.folder.rglob("checkpoint.pt")}


@pytest.mark.parametrize("launch", [on_two_devices, train_in_groups], ids=["devices", "ddp"])
def test_a_signal_lets_processes_save_and_end(launch, tmp_path, digits, cache):
    assert_a_signal_stops(launch, a_run(tmp_path / "run", digits, epochs=500), cache)


def signal_when_started(worker, number):
    """As soon as the fold has a process, which takes a second to import what it needs."""

    def wait_and_signal():
        while worker.process is None:
            time.sleep(0.01)
        worker.process.send_signal(number)

    threading.Thread(target=wait_and_signal).start()


def test_a_killed_fold_process_is_named(tmp_path, digits, cache):
    """As the kernel kills a process when memory ends."""
    run = a_run(tmp_path / "run", digits, epochs=200)
    worker = Worker("cpu", 1)
    signal_when_started(worker, signal.SIGKILL)

    with pytest.raises(Exception, match="fold 0 ended with code -9"):
        train_with([worker], [run], cache, lambda *_: None, Deadline())


def test_a_signal_that_comes_while_a_fold_begins_stops_it_like_any_other(tmp_path, digits, cache):
    run = a_run(tmp_path / "run", digits, epochs=200)
    worker = Worker("cpu", 1)
    signal_when_started(worker, signal.SIGTERM)

    with pytest.raises(BudgetError, match="SIGTERM came before fold 0 saved anything new; rerun"):
        train_with([worker], [run], cache, lambda *_: None, Deadline())


def test_a_worker_stopped_while_it_starts_a_process_stops_that(
    tmp_path, digits, cache, monkeypatch
):
    worker, stopping = Worker("cpu", 1), []

    def start_slowly(*_):
        stopping.append(threading.Thread(target=worker.stop))
        stopping[0].start()
        time.sleep(0.2)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"], **pipes)

    monkeypatch.setattr("pipeline.training.launch.start_fold", start_slowly)
    waiting = SimpleQueue()
    waiting.put(Task(a_run(tmp_path / "run", digits), cache, 0))

    with pytest.raises(BudgetError):
        worker.train_from(waiting, lambda *_: None, Deadline())
    stopping[0].join()


def test_a_signal_between_two_folds_is_no_success(tmp_path, digits, cache):
    run = a_run(tmp_path / "run", digits)
    worker = Worker("cpu", 1, program=("-c", "pass"))
    worker.stop()

    with pytest.raises(BudgetError, match="SIGTERM came"):
        train_with([worker], [run], cache, lambda *_: None, Deadline(stopped_by="SIGTERM came"))


@pytest.fixture
def interruptible():
    """As in a terminal, wherever the tests run."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_of_the_command_alone_stops_its_folds(tmp_path, digits, cache):
    run, deadline = a_run(tmp_path / "run", digits), Deadline()
    worker = Worker("cpu", 1, program=("-c", "import time; time.sleep(20)"))

    def interrupt_when_started():
        while worker.process is None:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_when_started).start()

    with pytest.raises(KeyboardInterrupt):
        train_with([worker], [run], cache, lambda *_: None, deadline)

    assert worker.process.returncode == -signal.SIGTERM
    assert deadline.stopped_by == "SIGINT came"


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("handler", "code"), [(signal.default_int_handler, 11), (signal.SIG_IGN, 0)]
)
def test_an_interrupt_lets_a_fold_process_save_unless_it_is_in_the_background(
    tmp_path, digits, cache, monkeypatch, handler, code
):
    def run_interrupted(run, data, number, device, on_epoch, deadline):
        os.kill(os.getpid(), signal.SIGINT)
        deadline.check()

    monkeypatch.setattr(fold_worker, "run_fold", run_interrupted)
    signal.signal(signal.SIGINT, handler)
    folder = a_run(tmp_path / "run", digits).folder
    threads = str(torch.get_num_threads())

    assert fold_worker.main([str(folder), str(cache), "0", "cpu", threads, "inf"], 1) == code


def test_what_a_fold_process_says_is_passed_on(tmp_path, digits, cache, capsys):
    run = a_run(tmp_path / "run", digits)
    says = "import sys; print('8 images at once from here on', file=sys.stderr)"

    train_with([Worker("cpu", 1, ("-c", says))], [run], cache, lambda *_: None, Deadline())

    assert "run fold 1: 8 images at once from here on\n" in capsys.readouterr().err


def test_what_a_library_prints_is_no_message(capfd):
    """oneDNN does with ONEDNN_VERBOSE, and NCCL with NCCL_DEBUG."""
    messages = fold_worker.messages_alone()
    try:
        os.write(1, b"onednn_verbose\n")
        os.write(messages, b"{}\n")
    finally:
        os.dup2(messages, 1)

    assert capfd.readouterr() == ("{}\n", "onednn_verbose\n")


@pytest.mark.parametrize("launch", [on_two_devices, train_in_groups], ids=["devices", "ddp"])
def test_a_bug_is_told_by_its_name_and_with_its_traceback(launch, tmp_path, digits, cache, capsys):
    run = a_run(tmp_path / "run", digits)
    (run.folder / "run.json").write_text(json.dumps({**run.record, "seed": "none"}))

    with pytest.raises(PipelineError, match=r"fold [01]: ValueError: invalid literal .* 'none'"):
        launch([run], cache, lambda *_: None, Deadline())

    assert ": Traceback (most recent call last):\n" in capsys.readouterr().err


@pytest.mark.parametrize(("batch", "possible"), [(32, 30), (2, 3)])
def test_a_batch_that_processes_can_share_is_named(monkeypatch, batch, possible):
    monkeypatch.setattr(group, "size", lambda: 3)

    with pytest.raises(ConfigError, match=f"such as SET='batch_size={possible}'"):
        group.check_batch(batch)


def test_a_batch_that_processes_cannot_share_is_refused_in_one_line(
    tmp_path, digits, cache, capsys
):
    run = a_run(tmp_path / "run", digits, threads=3)

    with pytest.raises(ConfigError, match="cannot be shared by 3 processes"):
        train_in_groups([run], cache, lambda *_: None, Deadline())

    assert "ChildFailedError" not in capsys.readouterr().err


@pytest.mark.parametrize(("device", "place"), [("cuda", "cuda:0"), ("cpu", "cpu")])
def test_a_ray_task_trains_on_the_one_gpu_that_it_sees(
    tmp_path, digits, cache, monkeypatch, device, place
):
    """torch selects no device without a number."""
    places, start = [], ray_launch.start_fold

    def start_nothing(task, device, threads, deadline):
        places.append(device)
        return start(task, device, threads, deadline, program=("-c", "pass"))

    monkeypatch.setattr(ray_launch, "start_fold", start_nothing)
    run = a_run(tmp_path / "run", digits, device=device)

    assert ray_launch._train(Task(run, cache, 0), float("inf"), 1) == []
    assert places == [place]


def test_without_a_ray_cluster_the_way_to_one_is_told(tmp_path, digits, cache, monkeypatch):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    run = a_run(tmp_path / "run", digits)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))

    with pytest.raises(ConfigError, match="ray start --head"):
        train_on_ray([run], cache, lambda *_: None, Deadline())


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two nodes with one CPU each, as `ray start` makes them."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    port = free_port()
    program = str(Path(sys.executable).parent / "ray")
    node = ("--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block")
    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder,  # sockets: short paths
        ExitStack() as nodes,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_worker_niceness", "0")  # else the tests beside these take the cores
        head = ("--head", f"--port={port}", "--include-dashboard=false")
        nodes.enter_context(running([program, "start", *head, *node]))
        wait_until_listening(port)
        nodes.enter_context(running([program, "start", f"--address=127.0.0.1:{port}", *node]))
        patch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        wait_for_nodes(ray, 2)
        yield
        ray.shutdown()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def running(command):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def wait_until_listening(port):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.2)
    raise TimeoutError(f"nothing listens on port {port}")


def wait_for_nodes(ray, count):
    """A node that is not there yet would leave its tasks to the other."""
    deadline = time.monotonic() + 60
    ray.init(log_to_driver=False)
    while len([node for node in ray.nodes() if node["Alive"]]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    ray.shutdown()


def test_on_a_ray_cluster_of_two_nodes_folds_of_two_runs_train_as_in_turn(
    tmp_path, digits, cache, in_turn, cluster
):
    seeds = {"same": 0, "another-seed": 1}
    runs = [a_run(tmp_path / name, digits, seed=seed) for name, seed in seeds.items()]
    seen = []

    train_on_ray(runs, cache, lambda *epoch: seen.append(epoch), Deadline())

    assert len(seen) == 2 * 2 * 2
    assert file_bytes(runs[0]) == file_bytes(in_turn)
    assert not runs[1].missing_folds()


def test_ray_folds_that_fail_or_run_out_of_time_say_so(tmp_path, digits, cache, cluster):
    run = a_run(tmp_path / "run", digits)

    with pytest.raises(DataError, match="cache"):
        train_on_ray([run], tmp_path / "no-cache", lambda *_: None, Deadline())
    with pytest.raises(BudgetError, match="budget"):
        train_on_ray([run], cache, lambda *_: None, Deadline.after(0))
    assert list(run.folder.glob("fold*.unfinished/checkpoint.pt"))


def test_a_signal_cancels_ray_tasks(tmp_path, digits, cache, cluster):
    assert_a_signal_stops(train_on_ray, a_run(tmp_path / "run", digits, epochs=500), cache)
