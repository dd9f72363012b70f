"""`python -m pipeline.host`: run the host, or change a running one's users and settings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ConfigError, PipelineError
from pipeline.host.accounts import User
from pipeline.host.catalog import check_available
from pipeline.host.lifecycle import serve
from pipeline.host.server import exit_when_unused, run_server
from pipeline.host.services import Services
from pipeline.host.state import State, default_state

_HOURS_OF_A_WEEK = 7 * 24


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, as Python was called unless told; its exit code is the error's, or 0."""
    try:
        _run(_parser().parse_args(arguments))
    except PipelineError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline.host", description=__doc__)
    parser.add_argument("--state", type=Path, default=default_state())
    commands = parser.add_subparsers(dest="command", required=True)

    foreground = commands.add_parser("serve", help="serve until interrupted")
    foreground.add_argument("--port", type=int, default=0, help="0: any free port")

    commands.add_parser("until-unused", help="serve until the last command using it ends")

    user = commands.add_parser("add-user", help="create a user and print the key")
    user.add_argument("name")

    limit = commands.add_parser("daily-limit", help="submissions per user and UTC day")
    limit.add_argument("competition")
    limit.add_argument("count", type=int)

    private = commands.add_parser("private-scores", help="tell private scores, or keep them")
    private.add_argument("competition")
    private.add_argument("action", choices=["show", "hide"])

    code = commands.add_parser("code", help="take kernels only, and run them on another test set")
    code.add_argument("competition")
    code.add_argument("action", choices=["on", "off"])

    hours = commands.add_parser("gpu-hours", help="hours of GPU kernels per user and week")
    hours.add_argument("name")
    hours.add_argument("count", type=float)

    rules = commands.add_parser("rules", help="accept a competition's rules, or take that back")
    rules.add_argument("name")
    rules.add_argument("competition")
    rules.add_argument("action", choices=["accept", "revoke"])
    return parser


def _run(arguments: argparse.Namespace) -> None:
    state = State(arguments.state.absolute())
    if arguments.command == "serve":
        serve(state.folder, arguments.port)
    elif arguments.command == "until-unused":
        run_server(state, 0, lambda port: exit_when_unused(state))
    else:
        _administer(arguments, Services.open(state))


def _administer(arguments: argparse.Namespace, services: Services) -> None:
    if arguments.command == "add-user":
        print(services.accounts.add(arguments.name))
        return
    if arguments.command == "gpu-hours":
        user = _existing_user(services, arguments.name)
        services.kernels.set_gpu_hours(user, _hours(arguments.count))
        return
    check_available(arguments.competition)
    if arguments.command == "daily-limit":
        services.contests.set_daily_limit(arguments.competition, arguments.count)
    elif arguments.command == "private-scores":
        services.contests.set_show_private(arguments.competition, arguments.action == "show")
    elif arguments.command == "code":
        services.contests.set_code(arguments.competition, arguments.action == "on")
    else:
        user = _existing_user(services, arguments.name)
        accepted = arguments.action == "accept"
        services.accounts.set_rules(user, arguments.competition, accepted=accepted)


def _hours(count: float) -> float:
    """The hours, unless a week cannot have them."""
    if not 0 <= count <= _HOURS_OF_A_WEEK:  # also refuses "nan"
        raise ConfigError(f"GPU hours {count:g}: choose 0 to {_HOURS_OF_A_WEEK} a week")
    return count


def _existing_user(services: Services, name: str) -> User:
    user = services.accounts.named(name)
    if user is None:
        raise ConfigError(f"no user {name!r} on this host; create it with add-user")
    return user


if __name__ == "__main__":
    sys.exit(main())
