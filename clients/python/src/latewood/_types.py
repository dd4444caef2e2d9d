"""What the server is given, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

InputType: TypeAlias = Literal["query", "document"]
Mode: TypeAlias = Literal["hybrid", "semantic", "keyword", "rerank", "exhaustive"]
Format: TypeAlias = Literal["text", "markdown", "html"]


class SupportsArray(Protocol):
    """A numpy array, or what numpy can make one of."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any: ...


Matrix: TypeAlias = Sequence[Sequence[float]] | SupportsArray
"""Token embeddings `[n, dim]`."""
Rows: TypeAlias = Any
"""Token embeddings `[n, dim]` as they come: a numpy array of float32 where numpy is installed, otherwise lists."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document to be added: its text, or its token embeddings; with both, the text is what is shown."""

    id: str
    text: str | None = None
    title: str | None = None
    format: Format = "text"
    embeddings: Matrix | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a text in UTF-8: the first, and one past the last."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """That part of `text`."""
        return text.encode()[self.start : self.end].decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of a text, from 1."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Match:
    """What one token of a query met in a passage."""

    query: Span | None
    """Bytes of the query; none for what stands for no word of it."""
    text: Span | None
    """Bytes of the hit's text; none where it met the title or a heading, or no word."""
    above: str | None
    """The word of the title or a heading that it met instead."""
    score: float
    """Its part in the hit's semantic score; in mode keyword, in its score."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found."""

    document: str
    passage: int
    score: float
    title: str | None
    headings: tuple[str, ...]
    lines: Lines
    span: Span
    text: str
    metadata: dict[str, Any]
    matches: tuple[Match, ...] | None = None
    """If the search was to explain."""
    semantic: float | None = None
    """The mean of the best cosines, where keywords count too."""
    keyword: float | None = None
    """BM25, where it does not count alone."""
    page: int | None = None
    """The page, slide or sheet it begins on, from 1, where its file has such."""
    stages: dict[str, Any] | None = None
    """What the stages of a pipeline gave it: `scores` and `signals` by their names, and where it `came_as`, from 0."""

    def matched_text(self, match: Match) -> str | None:
        """The word that a token of the query met: in the text, or in the title or a heading above it."""
        return match.above if match.text is None else match.text.of(self.text)


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds in each stage of a search; of several queries, encoding is that of all together."""

    encode: float
    centroids: float
    gather: float
    prune: float
    rescore: float
    refine: float
    keywords: float


@dataclass(frozen=True, slots=True)
class Found:
    """Hits of one query, best first. It can be iterated over."""

    hits: tuple[Hit, ...]
    candidates: int
    rescored: int
    exact_among_candidates: bool
    timings_ms: Timings

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, at: int) -> Hit:
        return self.hits[at]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A text that was put in order."""

    index: int
    """Its place in the request."""
    relevance_score: float
    document_id: str | None = None
    """Its id, if it was named by one."""
    text: str | None = None
    """If it was to be returned."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Part of a document."""

    id: int
    headings: tuple[str, ...]
    lines: Lines
    span: Span
    text: str
    page: int | None = None
    """The page, slide or sheet it begins on, from 1, where its file has such."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it is in an index."""

    id: str
    title: str | None
    kind: str
    modified: str
    metadata: dict[str, Any]
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class IndexDescription:
    """An index. One that cannot be opened has an `error`, and no figures."""

    name: str
    source: str
    error: str | None = None
    model: str | None = None
    dim: int | None = None
    bits: int | None = None
    generation: int | None = None
    documents: int | None = None
    passages: int | None = None
    tokens: int | None = None
    bytes: int | None = None
    waiting: int | None = None
    backend: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    passages: int = 0
    generation: int = 0

    def __add__(self, other: Written) -> Written:
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Written)}
        return Written(**{**sums, "generation": max(self.generation, other.generation)})


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task failed."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Task:
    """How far a write is."""

    id: int
    index: str
    kind: str
    status: str
    """queued, running, succeeded, failed or cancelled."""
    done: int
    total: int
    written: Written
    error: TaskError | None = None

    @property
    def finished(self) -> bool:
        """Whether it has ended, well or not."""
        return self.status not in ("queued", "running")


@dataclass(frozen=True, slots=True)
class Writing:
    """What `add` and `delete_documents` did, or have under way."""

    tasks: tuple[Task, ...]

    @property
    def written(self) -> Written:
        """The sum over the tasks, as they were last seen."""
        return sum((task.written for task in self.tasks), Written())


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a text; special ones are in no text."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


@dataclass(frozen=True, slots=True)
class Info:
    """The model, and how much the server takes."""

    model_id: str
    dim: int
    max_query_tokens: int
    max_input_length: int
    max_client_batch_size: int
    max_concurrent_requests: int
    version: str
    device: str
    uptime_seconds: int


def read(kind: type[T], data: Mapping[str, Any], **parts: Any) -> T:
    """`data` as a dataclass, with `parts` in place of its own; fields that are not known yet are passed over."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{**{name: value for name, value in data.items() if name in known}, **parts})
