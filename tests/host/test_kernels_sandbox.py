"""What a hostile kernel can reach, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline.artifacts import read_json
from pipeline.host.accounts import User
from pipeline.host.kernels import sandbox
from pipeline.host.kernels.limits import Limits
from pipeline.host.kernels.runner import Runner
from pipeline.host.kernels.store import Settings, Version
from pipeline.host.lifecycle import local_host
from pipeline.host.services import Services
from pipeline.host.state import State
from tests.host.pushing import needs_sandbox, save, wait_until_run
from tests.host.running import Caller, Host

RunScript = Callable[..., Version]
MIB = 2**20
runs_kernels = needs_sandbox()


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = Services.open(State(tmp_path / "state"))
    services.accounts.add("alice")
    return services


@pytest.fixture
def run_script(services: Services) -> RunScript:
    """Runs a script within limits; the version as it ended."""
    user = services.accounts.named("alice")
    assert user is not None

    def run(code: str, slug: str = "the-script", **limits: int) -> Version:
        queue(services, user, slug, code)
        stores = (services.kernels, services.inputs, services.submissions)
        Runner(services.state, *stores, Limits(**limits)).run_queued()
        version = services.kernels.find("alice", "alice", slug)
        assert version is not None
        assert not list(services.state.sessions.iterdir())
        return version

    return run


def queue(services: Services, user: User, slug: str, code: str) -> Version:
    settings = Settings.model_validate({"kernelType": "script", "language": "python"})
    return services.kernels.save(user, slug, slug, settings, code, run=True)


PROBE = """
import json, os, socket, subprocess
def attempt(action):
    try:
        return repr(action())
    except Exception as err:
        return None
def connect(address):
    with socket.create_connection(address, timeout=2):
        return address
attempts = {{
    "store": lambda: open({store!r}, "rb").read(),
    "credentials": lambda: open({credentials!r}).read(),
    "state folder": lambda: os.listdir({state!r}),
    "other kernel's output": lambda: os.listdir({other!r}),
    "checkout": lambda: os.listdir({checkout!r} + "/pipeline"),
    "users' homes": lambda: os.listdir("/home"),
    "this user's home": lambda: os.listdir({home!r}),
    "passwords": lambda: open("/etc/shadow").read(),
    "host server": lambda: connect(("127.0.0.1", {port})),
    "internet": lambda: connect(("1.1.1.1", 53)),
    "write input": lambda: open("/kaggle/input/x", "w"),
    "write code": lambda: open("/kaggle/src/script.py", "w"),
    "write python": lambda: open(os.path.dirname(os.__file__) + "/x", "w"),
    "write root": lambda: open("/x", "w"),
    "kernel settings": lambda: open("/proc/sys/kernel/core_pattern", "w"),
    "signal": lambda: os.kill({pid}, 0),
    "new namespace": lambda: subprocess.run(["unshare", "-U", "true"], check=True),
}}
report = {{name: attempt(action) for name, action in attempts.items()}}
processes = [p for p in os.listdir("/proc") if p.isdigit()]
report["environments"] = [open(f"/proc/{{p}}/environ").read() for p in processes]
report["interfaces"] = [name for _, name in socket.if_nameindex()]
report["processes"] = len(processes)
json.dump(report, open("report.json", "w"))
"""


@runs_kernels
def test_nothing_of_the_host_is_in_reach(
    services: Services, run_script: RunScript, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("A_SECRET_TOKEN", "only for the host")
    other = run_script("open('mine.txt', 'w').write('x')", slug="another-one")
    services.state.credentials.write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        probe = PROBE.format(
            store=str(services.state.database),
            credentials=str(services.state.credentials),
            state=str(services.state.folder),
            other=str(services.state.output(other.ref)),
            checkout=str(Path(__file__).parents[2]),
            home=str(Path.home()),
            port=listener.getsockname()[1],
            pid=os.getpid(),
        )
        version = run_script(probe)
    assert version.status == "COMPLETE", version.failure
    report = read_json(services.state.output(version.ref) / "report.json")
    assert "only for the host" not in str(report.pop("environments"))
    assert report.pop("interfaces") == ["lo"]
    assert report.pop("processes") <= 3
    assert {name: seen for name, seen in report.items() if seen} == {}
    assert stat.S_IMODE(services.state.kernels.stat().st_mode) == 0o700


@runs_kernels
@pytest.mark.parametrize(
    ("code", "limits", "failure"),
    [
        ("while True: pass", {"seconds": 1}, "stopped: it ran longer than 1 s"),
        ("x = b'x' * 2**29", {"memory": 256 * MIB}, "exit code 1: MemoryError"),
        (
            "import os, time\nfor _ in range(4): os.fork()\nx = b'x' * 2**25\ntime.sleep(60)",
            {"memory": 300 * MIB},
            "stopped: it used more than 300 MiB of memory",
        ),
        (
            "import os, time\nwhile True:\n  try: os.fork() or time.sleep(60)\n  except OSError: 1",
            {"processes": 50},
            "stopped: it started more than 50 processes",
        ),
        ("open('big', 'wb').write(bytes(2**25))", {"disk": 16 * MIB}, "exit code"),
        (
            "import time\nfor n in range(8): open(f'/tmp/{n}', 'wb').write(bytes(2**22))\n"
            "time.sleep(60)",
            {"disk": 16 * MIB},
            "stopped: it wrote more than 16 MiB",
        ),
    ],
    ids=["time", "memory", "memory-of-all", "processes", "file-size", "disk"],
)
def test_limits(
    services: Services, run_script: RunScript, code: str, limits: dict[str, int], failure: str
) -> None:
    version = run_script("print('begins', flush=True)\n" + code, **limits)
    assert version.status == "ERROR"
    assert failure in version.failure
    assert "begins" in services.state.log(version.ref).read_text()


@runs_kernels
def test_endless_log_is_cut_but_keeps_its_end(services: Services, run_script: RunScript) -> None:
    version = run_script("for n in range(200_000): print(n, 'x' * 50)\nraise ValueError('the end')")
    assert version.failure == "exit code 1: ValueError: the end"
    events = services.state.log(version.ref).read_text().splitlines()
    assert services.state.log(version.ref).stat().st_size < 9 * MIB
    tail = [json.loads(event)["data"] for event in events[-500:]]
    assert "ValueError: the end\n" in tail
    assert f"199999 {'x' * 50}\n" in tail
    assert any("lines left out" in text for text in tail)


def session_processes(state: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if str(state) in " ".join(_command_of(p))]


def _command_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@runs_kernels
@pytest.mark.parametrize("how", ["killed", "unused"])
def test_kernel_of_a_stopped_host_is_stopped_and_run_again(tmp_path: Path, how: str) -> None:
    state = tmp_path / "state"
    with local_host("digits", state=state) as address:
        host = Host(address, state)
        user = host.user("alice")
        assert save(user, "sleeper", "import time; print('up'); time.sleep(4)").status == 200
        assert save(user, "waiting", "print('ran')").status == 200
        log = host.services.state.log(1)
        while not (log.is_file() and log.read_text()):
            pass
        if how == "killed":
            os.kill(read_json(state / "server.json")["pid"], signal.SIGKILL)
    psutil.wait_procs(session_processes(state / "sessions"), timeout=10)
    assert not session_processes(state / "sessions")

    with local_host("digits", state=state) as address:
        user = Caller(Host(address, state), "alice", user.key)
        assert wait_until_run(user, "sleeper")["status"] == "COMPLETE"
        assert wait_until_run(user, "waiting")["status"] == "COMPLETE"
    assert not list((state / "sessions").iterdir())


@pytest.mark.parametrize("fault", ["missing", "forbidden"])
def test_without_a_sandbox_no_kernel_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    if fault == "forbidden":
        bwrap = programs / "bwrap"
        bwrap.write_text(
            "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1"
        )
        bwrap.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    with local_host("digits", state=tmp_path / "state") as address:
        user = Host(address, tmp_path / "state").user("alice")
        refused = save(user, "the-kernel", "1")
    assert refused.status == 501
    said = {"missing": "bubblewrap is missing", "forbidden": "No permissions to create"}[fault]
    assert said in refused.json["message"]


def test_state_inside_the_python_folder_is_refused() -> None:
    inside = sandbox._python_folders()[0] / "state"
    with pytest.raises(sandbox.UnavailableError, match="which contains"):
        sandbox.check_available(inside)
