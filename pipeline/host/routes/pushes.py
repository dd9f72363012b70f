"""Kernels: the push, and all that can be wrong with it."""

from __future__ import annotations

from typing import Any, Literal

import nbformat
from fastapi import APIRouter, Request
from slugify import slugify
from starlette.exceptions import HTTPException

from pipeline.host.accounts import User
from pipeline.host.database import timestamp
from pipeline.host.kernels import sandbox
from pipeline.host.kernels.inputs import repeated_mount_point
from pipeline.host.kernels.store import Settings
from pipeline.host.services import Caller, HostServices, Services
from pipeline.host.wire import API, base_url

MAX_SOURCE_BYTES = 2**20
# A source travels as a JSON string, in which a byte can take six characters.
_MAX_PUSH_BYTES = 8 * MAX_SOURCE_BYTES
_SHORTEST_SLUG = 5

router = APIRouter(prefix=f"{API}/kernels.KernelsApiService")


class SaveKernel(Settings):
    """A push: the version's metadata, its code, and which kernel it belongs to."""

    id: int | None = None
    slug: str | None = None
    new_title: str | None = None
    text: str = ""
    kernel_execution_type: Literal["SAVE_AND_RUN_ALL", "QUICK_SAVE"] = "SAVE_AND_RUN_ALL"


@router.post("/SaveKernel", max_body_size=_MAX_PUSH_BYTES)
def save_kernel(
    body: SaveKernel, request: Request, user: Caller, services: HostServices
) -> dict[str, Any]:
    """Store a version and queue it, unless anything about it is wrong: then nothing is stored."""
    slug, title = _identify(body, user, services)
    _check_source(body)
    _check_sources(body, user, services)
    run = body.kernel_execution_type != "QUICK_SAVE"
    if run:
        _check_can_run(body, user, services)
    version = services.kernels.save(user, slug, title, body, body.text, run=run)
    services.runner.wake()
    return {
        "ref": f"/{version.name}",
        "url": f"{base_url(request)}/code/{version.name}",
        "versionNumber": version.number,
        "kernelId": version.kernel,
    }


def _identify(body: SaveKernel, user: User, services: Services) -> tuple[str, str]:
    """Slug and title of the kernel that is pushed to."""
    existing = None
    if body.id:
        existing = services.kernels.with_id(user, body.id)
        if existing is None:
            raise HTTPException(404, f"you have no kernel with the id_no {body.id}")
    owner, _, slug = (body.slug or "").rpartition("/")
    slug = slug.lower() or (existing.slug if existing else "")
    if owner not in ("", user.name):
        raise HTTPException(403, f"you are {user.name!r} and cannot push to {body.slug!r}")
    existing = existing or services.kernels.find(user.name, user.name, slug)
    if existing and existing.slug != slug:
        raise HTTPException(400, f"the id_no {body.id} belongs to {existing.name!r}, not {slug!r}")
    if existing and existing.settings.kernel_type != body.kernel_type:
        raise HTTPException(
            400, f"{existing.name!r} is a {existing.settings.kernel_type} and must stay one"
        )
    if len(slug) < _SHORTEST_SLUG or slugify(slug) != slug:
        raise HTTPException(
            400,
            f"the slug {slug!r} must have at least {_SHORTEST_SLUG} characters, "
            "only lower-case letters, digits and inner hyphens",
        )
    title = body.new_title or (existing.title if existing else slug)
    if slugify(title) != slug:
        raise HTTPException(
            400,
            f"the title {title!r} makes the slug {slugify(title)!r}, but the id says {slug!r}; "
            "change one of them",
        )
    return slug, title


def _check_source(body: SaveKernel) -> None:
    size = len(body.text.encode())
    if size > MAX_SOURCE_BYTES:
        raise HTTPException(
            413, f"the source has {size} bytes; at most {MAX_SOURCE_BYTES} are accepted"
        )
    if not body.text.strip():
        raise HTTPException(400, "the source is empty")
    if body.kernel_type == "notebook":
        try:
            nbformat.validate(nbformat.reads(body.text, as_version=4))
        except Exception as err:  # an old format's conversion stumbles over what is none
            reason = " ".join(str(err).split())
            raise HTTPException(400, f"the notebook is not valid: {reason}") from err


def _check_sources(body: SaveKernel, user: User, services: Services) -> None:
    unknown = services.inputs.unknown(user.name, body)
    if str(unknown):
        raise HTTPException(400, f"not on this host, or not yours to see: {unknown}")
    for slug in body.competition_data_sources:
        services.require_rules(user, services.contest(slug))
    repeated = repeated_mount_point(body)
    if repeated:
        raise HTTPException(400, f"two sources would both be /kaggle/input/{repeated}")


def _check_can_run(body: SaveKernel, user: User, services: Services) -> None:
    if body.enable_tpu:
        raise HTTPException(400, "this host has no TPU; set enable_tpu to false")
    if body.uses_gpu:
        quota = services.kernels.quota(user)
        if quota.is_used_up:
            raise HTTPException(
                400,
                f"the GPU quota is used up: {quota.used.total_seconds() / 3600:.1f} of "
                f"{quota.allowed.total_seconds() / 3600:.1f} h in this week; "
                f"it refreshes at {timestamp(quota.refreshes_at)}",
            )
    try:
        sandbox.check_available(services.state.folder)
    except sandbox.UnavailableError as err:
        raise HTTPException(501, str(err)) from err
