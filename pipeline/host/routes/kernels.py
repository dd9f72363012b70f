"""Kernels: status, output, log, pull, lists and the GPU quota."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote

import anyio
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException

from pipeline.host.accounts import User
from pipeline.host.database import timestamp
from pipeline.host.kernels.log import as_array, read_events
from pipeline.host.kernels.outputs import OutputFile, output_files
from pipeline.host.kernels.store import Version
from pipeline.host.services import Caller, HostServices, Services
from pipeline.host.wire import API, Message, Page, base_url, whole_number

_SECONDS_BETWEEN_EVENTS = 0.25
_WAITING = ("QUEUED", "RUNNING")

router = APIRouter(prefix=f"{API}/kernels.KernelsApiService")
streams = APIRouter(prefix=f"{API}/kernels/logs/stream")


class KernelName(Message):
    """Names a kernel or, by the label `v<number>`, one of its versions."""

    user_name: str = ""
    kernel_slug: str = ""
    version_label: str | None = None


class KernelPage(KernelName, Page):
    """One page of something that a kernel has."""


class ListKernels(Page):
    """The filters that mean something here."""

    group: str | None = None
    user: str | None = None
    competition: str | None = None
    dataset: str | None = None
    parent_kernel: str | None = None
    kernel_type: str | None = None
    language: str | None = None
    search: str | None = None


@router.post("/GetKernelSessionStatus")
def get_kernel_session_status(
    body: KernelName, user: Caller, services: HostServices
) -> dict[str, str]:
    """How far the version is."""
    version = _find(body, user, services)
    failure = {"failureMessage": version.failure} if version.failure else {}
    return {"status": version.status, **failure}


@router.post("/ListKernelSessionOutput")
def list_kernel_session_output(
    body: KernelPage, request: Request, user: Caller, services: HostServices
) -> dict[str, Any]:
    """One page of links to the output files, and the log so far."""
    version = _find(body, user, services)
    shown, following = body.cut(_outputs(version, services))
    tokens = services.download_tokens([file.path for file in shown])
    files = [
        {
            "url": f"{base_url(request)}/blobs/{token}/{quote(file.path.name)}",
            "fileName": file.name,
        }
        for token, file in zip(tokens, shown, strict=True)
    ]
    return {"files": files, "log": as_array(services.state.log(version.ref)), **following}


@router.post("/ListKernelFiles")
def list_kernel_files(body: KernelPage, user: Caller, services: HostServices) -> dict[str, Any]:
    """One page of the output files' names and sizes."""
    version = _find(body, user, services)
    shown, following = body.cut(_outputs(version, services))
    files = [
        {"name": file.name, "size": file.size, "creationDate": version.ended_at} for file in shown
    ]
    return {"files": files, **following}


@router.post("/GetKernel")
def get_kernel(body: KernelName, user: Caller, services: HostServices) -> dict[str, Any]:
    """A version's code and metadata."""
    version = _find(body, user, services)
    settings = version.settings.model_dump(by_alias=True, exclude_none=True)
    blob = {
        "source": version.source,
        "language": version.settings.language,
        "kernelType": version.settings.kernel_type,
        "slug": version.slug,
    }
    return {"blob": blob, "metadata": {**settings, **_describe(version)}}


@router.post("/ListKernels")
def list_kernels(body: ListKernels, user: Caller, services: HostServices) -> dict[str, Any]:
    """One page of the kernels that the caller may see, the newest first."""
    owner = user.name if body.group == "PROFILE" else body.user
    found = [
        version
        for version in services.kernels.visible(user.name)
        if owner in (None, "", version.owner)
        and body.kernel_type in (None, "", "all", version.settings.kernel_type)
        and body.language in (None, "", "all", version.settings.language)
        and _contains(version.settings.competition_data_sources, body.competition)
        and _contains(version.settings.dataset_data_sources, body.dataset)
        and _contains(version.settings.kernel_data_sources, body.parent_kernel)
        and (body.search or "").lower() in f"{version.slug} {version.title}".lower()
    ]
    shown, following = body.cut(found)
    return {"kernels": [_describe(version) for version in shown], **following}


@router.post("/GetAcceleratorQuotaStatistics")
def get_accelerator_quota_statistics(user: Caller, services: HostServices) -> dict[str, Any]:
    """The GPU time of this week. There are no TPUs here."""
    quota = services.kernels.quota(user)
    return {
        "quotaRefreshTime": timestamp(quota.refreshes_at),
        "gpuQuota": {
            "timeUsed": f"{quota.used.total_seconds():.3f}s",
            "totalTimeAllowed": f"{quota.allowed.total_seconds():.3f}s",
        },
        "tpuQuota": {"timeUsed": "0s", "totalTimeAllowed": "0s"},
    }


@streams.get("/{owner}/{slug}")
def stream_log(
    owner: str,
    slug: str,
    user: Caller,
    services: HostServices,
    version_label: Annotated[str, Query(alias="versionLabel")] = "",
) -> Response:
    """The log as it grows, or all of it once the session has ended."""
    version = _version(owner, slug, version_label, user, services)
    if version.status not in _WAITING:
        return Response(as_array(services.state.log(version.ref)), media_type="application/json")
    return StreamingResponse(_follow(version, user, services), media_type="text/event-stream")


async def _follow(version: Version, user: User, services: Services) -> AsyncIterator[str]:
    offset = 0
    while version.status in _WAITING:
        await anyio.sleep(_SECONDS_BETWEEN_EVENTS)
        # The status first: what is written before it changes is then read below.
        version = services.kernels.get(version.ref)
        events, offset = read_events(services.state.log(version.ref), offset)
        for event in events:
            yield f"data: {event}\n\n"
        if not events:
            # Something must be sent now and then, or a client that has gone is never noticed.
            yield ": waiting\n\n"
    yield "data: END_OF_LOG\n\n"


def _find(body: KernelName, user: User, services: Services) -> Version:
    # The client writes the version behind the slug for `kernels pull`.
    slug, _, number = body.kernel_slug.partition("/")
    label = f"v{number}" if number else body.version_label or ""
    return _version(body.user_name, slug, label, user, services)


def _version(owner: str, slug: str, label: str, user: User, services: Services) -> Version:
    """The newest version, or the one labelled `v<number>`; a 404 where the caller sees none."""
    version = None
    if not label:
        version = services.kernels.find(user.name, owner, slug)
    elif label[0] == "v" and (number := whole_number(label[1:])) is not None:
        version = services.kernels.find(user.name, owner, slug, number)
    if version is None:
        wanted = f"{owner}/{slug}" + (f" version {label[:20]!r}" if label else "")
        raise HTTPException(404, f"kernel {wanted} not found on this host, or private")
    return version


def _outputs(version: Version, services: Services) -> list[OutputFile]:
    if version.status != "COMPLETE":
        return []
    return output_files(services.state.output(version.ref))


def _contains(sources: tuple[str, ...], wanted: str | None) -> bool:
    """Whether a source is the wanted one, of whatever version."""
    return not wanted or any(f"{source}/".startswith(f"{wanted}/") for source in sources)


def _describe(version: Version) -> dict[str, Any]:
    return {
        "id": version.kernel,
        "ref": version.name,
        "title": version.title,
        "author": version.owner,
        "slug": version.slug,
        "lastRunTime": version.started_at or version.saved_at,
        "totalVotes": 0,
        "currentVersionNumber": version.number,
    }
