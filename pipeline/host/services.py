"""What every request handler needs: the stores, the caller, and the competition asked for."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from pipeline.host.accounts import Accounts, User
from pipeline.host.catalog import available_competitions, definition
from pipeline.host.contests import Contest, Contests
from pipeline.host.database import Database, timestamp
from pipeline.host.datasets import Datasets
from pipeline.host.kernels.inputs import Inputs
from pipeline.host.kernels.runner import Runner
from pipeline.host.kernels.store import Kernels
from pipeline.host.preparation import Preparation
from pipeline.host.scoring import score_submission
from pipeline.host.state import State
from pipeline.host.submissions import Submissions

DOWNLOAD_LIFETIME = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Services:
    """The stores of one host, shared by all its threads."""

    state: State
    database: Database
    accounts: Accounts
    contests: Contests
    submissions: Submissions
    preparation: Preparation
    datasets: Datasets
    kernels: Kernels
    inputs: Inputs
    runner: Runner

    @classmethod
    def open(cls, state: State) -> Services:
        """Open the state folder, creating what is missing.

        Raises:
            StorageError: the disk is full, or the folder is read-only.
        """
        state.create()
        database = Database(state.database)
        contests = Contests(database)
        contests.register(available_competitions())
        preparation = Preparation(state, contests)
        kernels = Kernels(database)
        submissions = Submissions(database, state.blobs)
        datasets = Datasets(database, state.blobs, state.datasets)
        inputs = Inputs(state, contests, kernels, datasets, preparation)
        return cls(
            state,
            database,
            Accounts(database),
            contests,
            submissions,
            preparation,
            datasets,
            kernels,
            inputs,
            Runner(state, kernels, inputs, submissions),
        )

    def contest(self, slug: str) -> Contest:
        """The competition called `slug`, or a 404 for the client."""
        contest = self.contests.get(slug)
        if contest is None:
            raise HTTPException(404, f"competition '{slug}' not found on this host")
        return contest

    def prepared(self, slug: str) -> Contest:
        """The competition, once its data is built.

        Raises:
            HTTPException: there is no such competition (404).
            PipelineError: its data cannot be built.
        """
        contest = self.contest(slug)
        self.preparation.ensure(slug)
        return contest

    def require_rules(self, user: User, contest: Contest) -> None:
        """Refuse a user who did not accept the competition's rules."""
        if not self.accounts.accepted_rules(user, contest.slug):
            raise HTTPException(
                403,
                f"{user.name} must accept the rules of '{contest.slug}' first: "
                f"python -m pipeline.host rules {user.name} {contest.slug} accept",
            )

    def download_tokens(self, paths: list[Path]) -> list[str]:
        """Unguessable names under which the files can be downloaded for a day."""
        tokens = [secrets.token_urlsafe(32) for _ in paths]
        expires = timestamp(datetime.now(UTC) + DOWNLOAD_LIFETIME)
        with self.database.transaction() as db:
            db.execute("DELETE FROM downloads WHERE expires_at < ?", (timestamp(),))
            db.executemany(
                "INSERT INTO downloads VALUES (?, ?, ?)",
                ((token, str(path), expires) for token, path in zip(tokens, paths, strict=True)),
            )
        return tokens

    def downloadable(self, token: str) -> Path:
        """The file behind a download token, or a 404 for the client."""
        with self.database.snapshot() as db:
            row = db.execute(
                "SELECT path FROM downloads WHERE token = ? AND expires_at >= ?",
                (token, timestamp()),
            ).fetchone()
        if row is None or not Path(row["path"]).is_file():
            raise HTTPException(404, "this download link is unknown or expired; download again")
        return Path(row["path"])

    def score_pending(self) -> None:
        """Score every submission that has no score yet, also those a killed host left behind."""
        for submission in self.submissions.pending():
            verdict = score_submission(
                self.submissions.blob(submission.blob),
                definition(submission.competition),
                self.contests.solution(submission.competition),
            )
            self.submissions.finish(submission.ref, verdict)


def services_of(request: Request) -> Services:
    """The services of the application that got this request."""
    services: Services = request.app.state.services
    return services


def caller(request: Request, services: Annotated[Services, Depends(services_of)]) -> User:
    """The user named by the Authorization header, or a 401 for the client."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    user = None
    if scheme.lower() == "bearer":
        user = services.accounts.with_key(value.strip())
    elif scheme.lower() == "basic":
        name, key = _basic(value)
        owner = services.accounts.with_key(key)
        user = owner if owner and owner.name == name else None
    if user is None:
        raise HTTPException(401, "the user name or key is missing or wrong")
    return user


def _basic(value: str) -> tuple[str, str]:
    try:
        name, _, key = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:  # no base64, or no UTF-8 in it
        return "", ""
    return name, key


HostServices = Annotated[Services, Depends(services_of)]
Caller = Annotated[User, Depends(caller)]
