"""A client of Latewood: late-interaction search over HTTP.

`Client` blocks, `AsyncClient` is to be awaited; both have the same methods.
"""

from ._async import AsyncClient, AsyncIndex
from ._client import Client, Index
from ._errors import BadRequest, Busy, Cancelled, Conflict, Error, NotFound, Unauthorized, Unreachable
from ._types import (
    Document,
    Found,
    Hit,
    IndexDescription,
    Info,
    Lines,
    Match,
    Passage,
    Ranked,
    Span,
    StoredDocument,
    Task,
    TaskError,
    Timings,
    Token,
    Writing,
    Written,
)

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncIndex",
    "BadRequest",
    "Busy",
    "Cancelled",
    "Client",
    "Conflict",
    "Document",
    "Error",
    "Found",
    "Hit",
    "Index",
    "IndexDescription",
    "Info",
    "Lines",
    "Match",
    "NotFound",
    "Passage",
    "Ranked",
    "Span",
    "StoredDocument",
    "Task",
    "TaskError",
    "Timings",
    "Token",
    "Unauthorized",
    "Unreachable",
    "Writing",
    "Written",
]
