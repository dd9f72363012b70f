"""Commands that meet permission bits as an ordinary user does, also when root runs the tests."""

from __future__ import annotations

import os
import subprocess

import pytest


def ordinary_user() -> list[str]:
    """What to put before a command.

    In a user namespace without a mapping root still owns its files, and may do no more with them
    than any other owner.
    """
    if os.geteuid() != 0:
        return []
    unshare = ["unshare", "--user"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("root sees no permission bits, and may make no user namespace here")
    return unshare
