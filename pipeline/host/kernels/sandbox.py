"""The sandbox of a session: namespaces of its own, set up by bubblewrap."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.host.kernels import session
from pipeline.host.kernels.limits import Limits

CODE = Path("/kaggle/src")
INPUT = Path("/kaggle/input")
# The folders a session may write to: all in its scratch folder, where their size is watched.
WRITABLE = {
    "working": Path("/kaggle/working"),
    "temp": Path("/kaggle/temp"),
    "home": Path("/kaggle/home"),
    "tmp": Path("/tmp"),
}
_SESSION = "/kaggle/session.py"
_USER = "1000"
# --disable-userns: the kernel's user namespace code is the larger part of the attack surface.
_ISOLATION = [
    *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
    *("--die-with-parent", "--new-session", "--clearenv"),
    *("--uid", _USER, "--gid", _USER, "--hostname", "kaggle"),
]
_ROOT_FOLDERS = ("bin", "lib", "lib32", "lib64", "sbin")
_ETC = ("alternatives", "fonts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime")
_SECONDS_TO_PROBE = 10


class UnavailableError(Exception):
    """This machine cannot isolate a session; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scratch:
    """The folder of one session: the code, what it may write, and its user's name."""

    folder: Path

    def create(self, code_name: str, source: str) -> None:
        """Make the folders and write the code."""
        for name in (*WRITABLE, "src", "input"):
            (self.folder / name).mkdir(parents=True)
        (self.code / code_name).write_text(source)
        self.passwd.write_text(f"kaggle:x:{_USER}:{_USER}::{WRITABLE['home']}:/bin/sh\n")

    @property
    def code(self) -> Path:
        """Holds the script or notebook."""
        return self.folder / "src"

    @property
    def working(self) -> Path:
        """What the session leaves here is its output."""
        return self.folder / "working"

    @property
    def passwd(self) -> Path:
        """The session's only entry of /etc/passwd."""
        return self.folder / "passwd"


def check_available(state: Path) -> None:
    """Isolate a command that does nothing.

    Raises:
        UnavailableError: bubblewrap is missing or does not work, or the folders that a session
            must see contain what it must not see.
    """
    for folder in _python_folders():
        for secret in (state, Path.home()):
            if secret.resolve().is_relative_to(folder.resolve()):
                raise UnavailableError(
                    f"kernels do not run here: they must see Python's folder {folder}, which "
                    f"contains {secret}; use a virtual environment elsewhere"
                )
    command = [_bubblewrap(), *_ISOLATION, *_system(), *_python(), "/bin/true"]
    probe = subprocess.run(
        command, check=False, env={}, capture_output=True, text=True, timeout=_SECONDS_TO_PROBE
    )
    if probe.returncode:
        raise UnavailableError(
            "kernels do not run here: bubblewrap 0.8 or newer with unprivileged user namespaces "
            f"is needed, and it says {probe.stderr.strip()!r}"
        )


def command(
    scratch: Scratch, code_name: str, inputs: dict[Path, Path], limits: Limits, info: int
) -> list[str]:
    """The command that runs a session; bubblewrap writes its first process's id to fd `info`.

    `inputs` are mount points under /kaggle/input and the folders shown there, read-only.
    Run it with an empty environment: the sandbox can read that of its first process.
    """
    mounts = [
        *_read_only(scratch.passwd, Path("/etc/passwd")),
        *_read_only(scratch.code, CODE),
        *_read_only(Path(session.__file__), Path(_SESSION)),
        *("--dir", str(INPUT)),
        *(part for at, folder in inputs.items() for part in _read_only(folder, at)),
    ]
    for name, at in WRITABLE.items():
        mounts += ["--bind", str(scratch.folder / name), str(at)]
    shared_memory = ["--size", str(limits.memory // 2), "--tmpfs", "/dev/shm"]
    environment = [
        part for name, value in _environment().items() for part in ("--setenv", name, value)
    ]
    # A session of a host that runs as root is still root to /proc/sys, so /proc is read-only too.
    closed = [part for at in ("/proc", "/dev", "/") for part in ("--remount-ro", at)]
    return [
        _bubblewrap(),
        *_ISOLATION,
        *_system(),
        *mounts,
        *_python(),
        *shared_memory,
        *closed,
        *environment,
        *("--chdir", str(WRITABLE["working"]), "--info-fd", str(info)),
        *(sys.executable, _SESSION, str(CODE / code_name), json.dumps(limits.as_rlimits())),
    ]


def _bubblewrap() -> str:
    path = shutil.which("bwrap")
    if path is None:
        raise UnavailableError(
            "kernels do not run here: bubblewrap is missing, and they are never run without it; "
            "install the package bubblewrap"
        )
    return path


def _system() -> list[str]:
    arguments = _read_only(Path("/usr"), Path("/usr"))
    for name in _ROOT_FOLDERS:
        folder = Path("/", name)
        if folder.is_symlink():
            arguments += ["--symlink", os.readlink(folder), str(folder)]
        elif folder.is_dir():
            arguments += _read_only(folder, folder)
    for name in _ETC:
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    arguments += ["--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"]
    return [*arguments, "--proc", "/proc", "--dev", "/dev"]


def _python() -> list[str]:
    """To be mounted after the session's own /tmp, below which a checkout may lie."""
    return [part for folder in _python_folders() for part in _read_only(folder, folder)]


def _python_folders() -> list[Path]:
    """The folders of this Python and its packages that are not under /usr anyway."""
    named = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent}
    named |= {Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platlib", "purelib")}
    # A virtual environment may name its Python by a link.
    named |= {folder.resolve() for folder in named}
    outside = sorted(folder for folder in named if not folder.is_relative_to("/usr"))
    return list(_outermost(outside))


def _outermost(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        if not any(other in folder.parents for other in folders):
            yield folder


def _read_only(source: Path, target: Path) -> list[str]:
    return ["--ro-bind", str(source), str(target)]


def _environment() -> dict[str, str]:
    home = str(WRITABLE["home"])
    # Whoever limits the threads of what runs on this machine means kernels too.
    threads = {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
    return {
        **threads,
        "HOME": home,
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "LANG": "C.UTF-8",
        "LOGNAME": "kaggle",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(WRITABLE["tmp"]),
        "USER": "kaggle",
    }
