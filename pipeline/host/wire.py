"""What the client and the host say to each other: requests, errors, and reply values."""

from __future__ import annotations

import json
from typing import Any, Self

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel
from starlette.exceptions import HTTPException

from pipeline.errors import PipelineError
from pipeline.host.protocol import EXIT_CODE_HEADER

API = "/api/v1"
DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 1000
# Every reader of JSON keeps smaller numbers exact, and the database holds a thousandfold of them.
_NUMBERS_END = 2**53
_MOST_DIGITS = 15


class Message(BaseModel):
    """A request body: camelCase keys; an absent key or a null means the default."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def is_text(cls, body: Any) -> Any:
        """JSON can spell half of a character, which no database takes and no answer can hold."""
        if isinstance(body, dict):
            json.dumps(body, ensure_ascii=False).encode()
        return body

    @model_validator(mode="after")
    def has_numbers_that_fit(self) -> Self:
        """JSON's numbers have no end, the database's have one."""
        for name, value in self:
            if isinstance(value, int) and abs(value) >= _NUMBERS_END:
                raise ValueError(f"{name} is larger than every number here")
        return self


class Page(Message):
    """The paging fields that list requests share."""

    page: int | None = None
    page_size: int | None = None
    page_token: str | None = None

    @property
    def size(self) -> int:
        """How many items to send, at most MAX_PAGE_SIZE."""
        return min(self.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)

    @property
    def offset(self) -> int:
        """How many items came before; the token is this number."""
        if self.page_token:
            offset = whole_number(self.page_token)
            if offset is None:
                raise HTTPException(400, f"page token {self.page_token[:20]!r} is unknown")
            return offset
        return (max(self.page or 1, 1) - 1) * self.size

    def cut(self, items: list[Any]) -> tuple[list[Any], dict[str, str]]:
        """This page of `items`, and the reply's nextPageToken where more follow."""
        end = self.offset + self.size
        following = {"nextPageToken": str(end)} if end < len(items) else {}
        return items[self.offset : end], following


def whole_number(text: str) -> int | None:
    """The number that `text` spells; None: it spells none, or one that the host cannot have."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def base_url(request: Request) -> str:
    """The host's own loopback address: behind the proxy setting, `Host` does not tell it."""
    address, port = request.scope["server"]
    return f"http://{address}:{port}"


async def refusal(request: Request, err: Exception) -> JSONResponse:
    """Any refusal, in the shape whose message the client prints."""
    assert isinstance(err, HTTPException)
    return _error(err.status_code, err.detail)


async def malformed(request: Request, err: Exception) -> JSONResponse:
    """A body that is not the JSON this method wants."""
    assert isinstance(err, RequestValidationError)
    first = err.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _error(400, f"{where}: {first['msg']}")


async def failure(request: Request, err: Exception) -> JSONResponse:
    """Something the host's own user must mend; commands of ours end with the same exit code."""
    assert isinstance(err, PipelineError)
    return _error(503, str(err), {EXIT_CODE_HEADER: str(err.exit_code)})


def _error(code: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"code": code, "message": message}, code, headers)
