"""Who is asking: the client's checks of a token and of its own name."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from pipeline.host.services import Caller, HostServices
from pipeline.host.wire import API, Message

router = APIRouter(prefix=API)


class Token(Message):
    """An access token; this host takes a user's key for one."""

    token: str = ""


@router.post("/security.OAuthService/IntrospectToken")
def introspect_token(body: Token, services: HostServices) -> dict[str, Any]:
    """Whether a token is valid, and whose it is. Never 401: the client would crash."""
    user = services.accounts.with_key(body.token)
    return {"active": True, "username": user.name} if user else {"active": False}


@router.post("/api.v1.DiagnosticsService/Hello")
def hello(user: Caller, services: HostServices) -> dict[str, str]:
    """The caller's name; also the host's own id, by which commands recognise it."""
    return {"userName": user.name, "instance": services.database.instance}
