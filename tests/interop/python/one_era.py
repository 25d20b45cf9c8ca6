"""Makes a server of both eras one of a single era, as a server is that does not know the other."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

MODERN = "2026-07-28"

Asgi = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


def only(era: str, app: Asgi) -> Asgi:
    """Lets one era pass, and answers the other as a server does that has never heard of it."""

    async def refuse(send: Any, status: int, code: int, message: str) -> None:
        error = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
        body = json.dumps(error).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def filtered(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        headers = dict(scope["headers"])
        modern = headers.get(b"mcp-protocol-version", b"").decode() >= MODERN
        if era == "legacy" and modern:
            return await refuse(send, 400, -32000, "Bad Request: Server not initialized")
        if era == "modern" and not modern:
            return await refuse(send, 400, -32022, "Unsupported protocol version")
        return await app(scope, receive, send)

    return filtered
