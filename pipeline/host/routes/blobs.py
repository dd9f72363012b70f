"""Files in and out. No authentication here: the unguessable token in the URL is the permission."""

from __future__ import annotations

import secrets
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from pipeline.artifacts import storage_errors
from pipeline.host.services import HostServices
from pipeline.host.submissions import MAX_SUBMISSION_BYTES, UploadError

router = APIRouter(prefix="/blobs")


@router.put("/{token}", max_body_size=MAX_SUBMISSION_BYTES)
async def upload(token: str, request: Request, services: HostServices) -> dict[str, str]:
    """Receive the promised file, whole, once."""
    submissions = services.submissions
    partial = submissions.blob(f".{secrets.token_hex(8)}.partial")
    try:
        promised = await run_in_threadpool(submissions.open_upload_of, token)
        size = await save_body(request, partial)
        if size != promised.size:
            raise HTTPException(400, f"received {size} bytes, expected {promised.size}")
        await run_in_threadpool(submissions.receive, promised, partial)
    except UploadError as err:
        raise HTTPException(404, str(err)) from err
    finally:
        partial.unlink(missing_ok=True)
    return {}


async def save_body(request: Request, path: Path) -> int:
    """Write what is being received to `path`; return its size in bytes."""
    with storage_errors(path), path.open("wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
        return file.tell()


@router.get("/{token}/{name}")
def download(token: str, name: str, services: HostServices) -> FileResponse:
    """Send a file, or the range of it that the client still lacks."""
    return FileResponse(services.downloadable(token), media_type="application/octet-stream")
