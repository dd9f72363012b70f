"""Datasets: uploads, creation, new versions and their status."""

from __future__ import annotations

import secrets
from typing import Any

from fastapi import APIRouter, Request, Response
from slugify import slugify
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from pipeline.host.accounts import User
from pipeline.host.datasets import DatasetVersion
from pipeline.host.routes.blobs import save_body
from pipeline.host.services import Caller, HostServices, Services
from pipeline.host.submissions import UploadError
from pipeline.host.wire import API, Message, Page, base_url

MAX_FILE_BYTES = 4 * 2**30
_SLUG_LENGTHS = range(6, 51)
_LONGEST_NAME = 255  # bytes, of the file system

router = APIRouter()
_METHODS = f"{API}/datasets.DatasetApiService"
_UPLOADS = "/dataset-uploads"


class StartBlobUpload(Message):
    """Announces a file of `content_length` bytes."""

    type: str = "DATASET"
    name: str = ""
    content_length: int = 0


class NewFile(Message):
    """A file of a new version, by the token of its upload."""

    token: str = ""


class CreateDataset(Message):
    """A new dataset of uploaded files."""

    owner_slug: str = ""
    slug: str = ""
    title: str = ""
    is_private: bool = True
    files: tuple[NewFile, ...] = ()


class VersionBody(Message):
    """The files of a new version."""

    files: tuple[NewFile, ...] = ()


class DatasetName(Message):
    """Names a dataset."""

    owner_slug: str = ""
    dataset_slug: str = ""


class DatasetFiles(DatasetName, Page):
    """One page of a version's files; the newest version's where none is named."""

    dataset_version_number: int | None = None


class CreateDatasetVersion(DatasetName):
    """A new version of an existing dataset."""

    body: VersionBody


@router.post(f"{API}/blobs.BlobApiService/StartBlobUpload")
def start_blob_upload(
    body: StartBlobUpload, request: Request, user: Caller, services: HostServices
) -> dict[str, str]:
    """Give out a link for one upload."""
    if body.type != "DATASET":
        raise HTTPException(501, f"the local host takes no uploads of type {body.type}")
    if not _is_file_name(body.name):
        raise HTTPException(400, f"{body.name[:_LONGEST_NAME]!r} cannot be a file name")
    if body.content_length > MAX_FILE_BYTES:
        raise HTTPException(
            413, f"{body.name} has {body.content_length} bytes; at most {MAX_FILE_BYTES} are taken"
        )
    upload = services.datasets.open_upload(user, body.name, body.content_length)
    return {"token": upload.token, "createUrl": f"{base_url(request)}{_UPLOADS}/{upload.token}"}


@router.put(_UPLOADS + "/{token}", max_body_size=MAX_FILE_BYTES)
async def upload(token: str, request: Request, services: HostServices) -> Response:
    """Receive the promised file, whole. A client that asks how much is here must start anew."""
    datasets = services.datasets
    try:
        promised = await run_in_threadpool(datasets.upload, token)
    except UploadError as err:
        raise HTTPException(404, str(err)) from err
    blob = datasets.blob(promised.blob)
    if request.headers.get("content-range", "").startswith("bytes */"):
        return Response(status_code=200 if blob.is_file() else 308)
    partial = datasets.blob(f".{secrets.token_hex(8)}.partial")
    try:
        size = await save_body(request, partial)
        if size != promised.size:
            raise HTTPException(400, f"received {size} bytes, expected {promised.size}")
        partial.replace(blob)
    finally:
        partial.unlink(missing_ok=True)
    return Response()


@router.post(f"{_METHODS}/CreateDataset")
def create_dataset(
    body: CreateDataset, request: Request, user: Caller, services: HostServices
) -> dict[str, Any]:
    """Make uploaded files a dataset."""
    slug = body.slug or slugify(body.title)
    _require_owner(body.owner_slug, slug, user)
    if len(slug) not in _SLUG_LENGTHS or slugify(slug) != slug:
        raise HTTPException(400, f"{slug!r}: use 6 to 50 lower-case letters, digits and hyphens")
    if services.datasets.find(user.name, user.name, slug):
        raise HTTPException(409, f"you have a dataset {slug!r} already; create a new version of it")
    return _create(slug, body.title or slug, body.is_private, body.files, request, user, services)


@router.post(f"{_METHODS}/CreateDatasetVersion")
def create_dataset_version(
    body: CreateDatasetVersion, request: Request, user: Caller, services: HostServices
) -> dict[str, Any]:
    """Make uploaded files the newest version of a dataset."""
    _require_owner(body.owner_slug, body.dataset_slug, user)
    version = _find(body, user, services)
    return _create(
        version.slug, version.title, version.is_private, body.body.files, request, user, services
    )


def _create(
    slug: str,
    title: str,
    is_private: bool,
    files: tuple[NewFile, ...],
    request: Request,
    user: User,
    services: Services,
) -> dict[str, Any]:
    tokens = [file.token for file in files]
    try:
        version = services.datasets.create(user, slug, title, is_private=is_private, tokens=tokens)
    except UploadError as err:
        raise HTTPException(400, str(err)) from err
    name = f"{version.owner}/{version.slug}"
    return {"ref": name, "url": f"{base_url(request)}/datasets/{name}", "status": "Ok"}


@router.post(f"{_METHODS}/GetDatasetStatus")
def get_dataset_status(body: DatasetName, user: Caller, services: HostServices) -> dict[str, str]:
    """A dataset is ready as soon as it exists."""
    _find(body, user, services)
    return {"status": "READY"}


@router.post(f"{_METHODS}/ListDatasetFiles")
def list_dataset_files(body: DatasetFiles, user: Caller, services: HostServices) -> dict[str, Any]:
    """One page of names and sizes of a version's files."""
    version = _find(body, user, services, body.dataset_version_number)
    files = sorted(services.datasets.files(version.ref).iterdir())
    shown, following = body.cut(files)
    described = [
        {"name": file.name, "totalBytes": file.stat().st_size, "creationDate": version.created_at}
        for file in shown
    ]
    return {"datasetFiles": described, **following}


@router.post(f"{_METHODS}/GetDataset")
def get_dataset(body: DatasetName, user: Caller, services: HostServices) -> dict[str, Any]:
    """The dataset's title and newest version."""
    version = _find(body, user, services)
    return {
        "id": version.dataset,
        "ref": f"{version.owner}/{version.slug}",
        "ownerName": version.owner,
        "title": version.title,
        "isPrivate": version.is_private,
        "currentVersionNumber": version.number,
        "lastUpdated": version.created_at,
    }


def _is_file_name(name: str) -> bool:
    plain = name not in {"", ".", ".."} and not {"/", "\0"} & set(name)
    return plain and len(name.encode()) <= _LONGEST_NAME


def _require_owner(owner: str, slug: str, user: User) -> None:
    if owner not in ("", user.name):
        raise HTTPException(403, f"you are {user.name!r} and cannot write to '{owner}/{slug}'")


def _find(
    body: DatasetName, user: User, services: Services, number: int | None = None
) -> DatasetVersion:
    version = services.datasets.find(user.name, body.owner_slug, body.dataset_slug, number)
    if version is None:
        name = f"{body.owner_slug}/{body.dataset_slug}"
        raise HTTPException(404, f"dataset {name} not found on this host, or private")
    return version
