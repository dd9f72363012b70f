"""Competitions: the list, their files, downloads and leaderboards."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pandas as pd
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from pipeline.host.accounts import User
from pipeline.host.catalog import definition
from pipeline.host.contests import Contest
from pipeline.host.scoring import metric_of
from pipeline.host.services import Caller, HostServices, Services
from pipeline.host.submissions import Standing
from pipeline.host.wire import API, Message, Page, base_url

SCORE_FORMAT = "{:.5f}"
# These competitions are for study: closed, so that private scores may be told, yet still scoring.
DEADLINE = "2026-01-01T00:00:00.000Z"

router = APIRouter(prefix=f"{API}/competitions.CompetitionApiService")


class ListCompetitions(Page):
    """Of the client's filters only the search is meaningful for so few competitions."""

    search: str | None = None


class CompetitionPage(Page):
    """One page of something a competition has."""

    competition_name: str = ""


class CompetitionName(Message):
    """Names a competition."""

    competition_name: str = ""


class DataFile(Message):
    """Names one file of a competition."""

    competition_name: str = ""
    file_name: str = ""


@router.post("/ListCompetitions")
def list_competitions(
    body: ListCompetitions, request: Request, user: Caller, services: HostServices
) -> dict[str, Any]:
    """The competitions whose name or title contains the search text."""
    wanted = (body.search or "").lower()
    found = [
        contest
        for contest in services.contests.all()
        if wanted in f"{contest.slug} {definition(contest.slug).title}".lower()
    ]
    shown, following = body.cut(found)
    described = [_describe(contest, user, request, services) for contest in shown]
    return {"competitions": described, **following}


def _describe(contest: Contest, user: User, request: Request, services: Services) -> dict[str, Any]:
    competition = definition(contest.slug)
    teams = [standing.team_id for standing in _standings(contest, services)]
    return {
        "ref": f"{base_url(request)}/competitions/{contest.slug}",
        "title": competition.title,
        "category": "Study",
        "reward": "Knowledge",
        "deadline": DEADLINE,
        "evaluationMetric": competition.metric,
        "maxDailySubmissions": contest.daily_limit,
        "teamCount": len(teams),
        "userHasEntered": services.accounts.accepted_rules(user, contest.slug),
        "userRank": teams.index(user.id) + 1 if user.id in teams else 0,
    }


@router.post("/ListDataFiles")
def list_data_files(body: CompetitionPage, user: Caller, services: HostServices) -> dict[str, Any]:
    """One page of the competition's files. The first call builds the competition's data."""
    contest = services.prepared(body.competition_name)
    # One file too many is read, to learn whether another page follows.
    files = services.contests.files(contest.slug, body.offset, body.size + 1)
    created = services.contest(contest.slug).prepared_at
    following = {"nextPageToken": str(body.offset + body.size)} if len(files) > body.size else {}
    described = [
        {"ref": file.name, "name": file.name, "totalBytes": file.size, "creationDate": created}
        for file in files[: body.size]
    ]
    return {"files": described, **following}


@router.post("/DownloadDataFiles")
def download_data_files(
    body: CompetitionName, request: Request, user: Caller, services: HostServices
) -> RedirectResponse:
    """Where the zip of all files is; the client names its copy after the end of the URL."""
    contest = services.prepared(body.competition_name)
    services.require_rules(user, contest)
    [token] = services.download_tokens([services.state.archive(contest.slug)])
    return RedirectResponse(f"{base_url(request)}/blobs/{token}/{contest.slug}.zip", 302)


@router.post("/DownloadDataFile")
def download_data_file(
    body: DataFile, request: Request, user: Caller, services: HostServices
) -> RedirectResponse:
    """Where one file is."""
    contest = services.prepared(body.competition_name)
    services.require_rules(user, contest)
    if services.contests.file(contest.slug, body.file_name) is None:
        raise HTTPException(404, f"competition '{contest.slug}' has no file '{body.file_name}'")
    path = services.preparation.files(contest.slug) / body.file_name
    [token] = services.download_tokens([path])
    return RedirectResponse(f"{base_url(request)}/blobs/{token}/{path.name}", 302)


@router.post("/GetLeaderboard")
def get_leaderboard(body: CompetitionPage, user: Caller, services: HostServices) -> dict[str, Any]:
    """One page of the public leaderboard."""
    shown, following = body.cut(_standings(services.contest(body.competition_name), services))
    lines = [
        {
            "teamId": standing.team_id,
            "teamName": standing.team,
            "submissionDate": standing.submitted_at,
            "score": SCORE_FORMAT.format(standing.score),
        }
        for standing in shown
    ]
    return {"submissions": lines, **following}


@router.post("/DownloadLeaderboard")
def download_leaderboard(body: CompetitionName, user: Caller, services: HostServices) -> Response:
    """The whole public leaderboard as a zipped CSV, in the reply itself."""
    contest = services.contest(body.competition_name)
    table = pd.DataFrame(
        [
            (rank, s.team_id, s.team, s.submitted_at, SCORE_FORMAT.format(s.score))
            for rank, s in enumerate(_standings(contest, services), start=1)
        ],
        columns=["Rank", "TeamId", "TeamName", "LastSubmissionDate", "Score"],
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{contest.slug}-publicleaderboard.csv", table.to_csv(index=False))
    return Response(buffer.getvalue(), media_type="application/zip")


def _standings(contest: Contest, services: Services) -> list[Standing]:
    metric = metric_of(definition(contest.slug))
    return services.submissions.leaderboard(
        contest.slug, greater_is_better=metric.greater_is_better
    )
