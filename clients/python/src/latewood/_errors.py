"""Errors: what the server said, as exceptions."""

from __future__ import annotations

import json


class Error(Exception):
    """A request that failed.

    `code` is stable, and what a program may rely on; `message` is for people. `status` is that of the answer: none
    where there was no answer, and none of a task that failed.
    """

    def __init__(self, message: str, code: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"

    def __reduce__(self) -> tuple[type[Error], tuple[str, str, int | None]]:
        return type(self), (self.message, self.code, self.status)


class BadRequest(Error):
    """The request does not say what it must, or asks for more than the server gives: 400, 413, 415, 422."""


class Unauthorized(Error):
    """There is no key, or it may not do this, or the server is not known by the name in the address: 401, 403."""


class NotFound(Error):
    """There is no such index, document or task: 404."""


class Conflict(Error):
    """What is there is in the way: 409."""


class Cancelled(Conflict):
    """The task was stopped; what it had committed stays."""


class Busy(Error):
    """Too much is under way, or the server is stopping, and that did not change while it was asked again: 429, 503."""


class Unreachable(Error):
    """There was no answer, or only part of one."""


_BY_CODE: dict[str, type[Error]] = {
    "busy": Busy,
    "cancelled": Cancelled,
    "conflict": Conflict,
    "dimension_mismatch": BadRequest,
    "locked": Conflict,
    "not_found": NotFound,
    "unavailable": Busy,
}
_BY_STATUS: dict[int, type[Error]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    405: BadRequest,
    409: Conflict,
    413: BadRequest,
    415: BadRequest,
    422: BadRequest,
    429: Busy,
}


def error(code: str, message: str, status: int | None = None) -> Error:
    """The error of a code."""
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status or 0, Error)
    return kind(message, code, status)


def error_of(status: int, body: bytes) -> Error:
    """The error that an answer tells of; of one that is not Latewood's, a proxy's perhaps, what there is."""
    try:
        told = json.loads(body)["error"]
        return error(str(told["code"]), str(told["message"]), status)
    except (ValueError, TypeError, LookupError):
        text = body[:200].decode("utf-8", "replace").strip()
        return error(f"http_{status}", text or f"an answer of status {status} without a body", status)
