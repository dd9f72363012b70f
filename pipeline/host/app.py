"""The host as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.errors import PipelineError
from pipeline.host.protocol import LOOPBACK
from pipeline.host.routes import blobs, competitions, datasets, kernels, pushes, submissions, users
from pipeline.host.services import Services
from pipeline.host.wire import API, failure, malformed, refusal

MAX_API_BYTES = 2**20


def create_app(services: Services) -> FastAPI:
    """The application over the stores of one state folder."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(services.score_pending)
        await run_in_threadpool(services.runner.start)
        yield

    app = FastAPI(lifespan=lifespan, openapi_url=None, max_body_size=MAX_API_BYTES)
    app.state.services = services
    app.add_exception_handler(HTTPException, refusal)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(PipelineError, failure)
    # A request for any other name came here by a proxy setting that reaches too far.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", LOOPBACK])
    app.add_middleware(NoTunnels)
    for module in (users, competitions, submissions, pushes, kernels, datasets, blobs):
        app.include_router(module.router)
    app.include_router(kernels.streams)
    app.add_api_route(API + "/{service}/{method}", unimplemented, methods=["POST"])
    return app


def unimplemented(service: str, method: str) -> None:
    """Every method of Kaggle's that this host does not offer."""
    raise HTTPException(501, f"the local host does not implement {service}/{method}")


class NoTunnels:
    """Refuses CONNECT: a client that asks for it is about to send credentials elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer CONNECT with 501, and pass everything else on."""
        app = self._app
        if scope["type"] == "http" and scope["method"] == "CONNECT":
            app = PlainTextResponse(
                "this host is no proxy; set KAGGLE_API_ENVIRONMENT=LOCALHOST", 501
            )
        await app(scope, receive, send)
