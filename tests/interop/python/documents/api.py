"""An API: its OpenAPI document, and for each operation the one call that it takes."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """What arrives, decoded. Order counts for nothing."""

    query: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str | None] = field(default_factory=dict)
    body: Any = None
    media: str | None = None


@dataclass
class Operation:
    """One operation: how a client calls its tool, what must arrive then, and what is answered."""

    tool: str
    label: str
    arguments: dict[str, Any]
    request: Request
    status: int
    answer: Any

    def sample(self) -> dict[str, Any]:
        return {"tool": self.tool, "arguments": self.arguments, "answer": self.answer}


class Api:
    """Collects operations into a document."""

    def __init__(self, version: str, title: str, **members: Any) -> None:
        self.paths: dict[str, Any] = {}
        self.document = {"openapi": version, "info": {"title": title, "version": "1.0"}, **members, "paths": self.paths}
        self.operations: list[Operation] = []
        self._by_request: dict[tuple[str, tuple[str, ...]], Operation] = {}

    def add(
        self,
        method: str,
        path: str,
        operation: dict[str, Any],
        *,
        tool: str,
        place: dict[str, Any],
        query: list[tuple[str, str]] | None = None,
        headers: dict[str, str] | None = None,
        more: dict[str, Any] | None = None,
        body: Any = None,
        media: str | None = None,
        status: int = 200,
        answer: Any = None,
    ) -> None:
        """Adds an operation. `place` are the arguments of its path, `more` all others; the rest is what must arrive."""
        self.paths.setdefault(path, {})[method] = operation
        segments = tuple(segment.format_map(place) for segment in path.split("/")[1:])
        if isinstance(body, list) and media == "application/x-www-form-urlencoded":
            body = sorted(body)
        request = Request(sorted(query or []), headers or {}, body, media)
        one = Operation(tool, f"{method.upper()} {path}", {**place, **(more or {})}, request, status, answer)
        key = (method.upper(), segments)
        assert key not in self._by_request, f"two operations take {key}"
        self._by_request[key] = one
        self.operations.append(one)

    def find(self, method: str, segments: tuple[str, ...]) -> Operation | None:
        return self._by_request.get((method, segments))


def ref(name: str, kind: str = "schemas") -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def answered(schema: Any, description: str = "Fine.") -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def json_body(schema: Any, required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


