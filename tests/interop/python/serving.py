"""Serves what a test needs: an ASGI application, or a server of the Python SDK over HTTP+SSE or stdio."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.sse import SseServerTransport
from mcp.server.stdio import stdio_server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from events import emit, exit_with_stdin


class Announcing(uvicorn.Server):
    """Says where it listens, once it does."""

    def __init__(self, config: uvicorn.Config, path: str) -> None:
        super().__init__(config)
        self.path = path

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        port = (sockets or [])[0].getsockname()[1]
        emit(ready={"port": port, "url": f"http://127.0.0.1:{port}{self.path}"})


def serve(app: Any, port: int, path: str, until_stdin_closes: bool) -> None:
    """Serves until it is told to end. `path` is where the application is for its clients; port 0 takes a free one."""
    if until_stdin_closes:
        exit_with_stdin()
    listener = socket.create_server(("127.0.0.1", port))
    # One second: calls that a test left behind must not keep the server from ending.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    asyncio.run(Announcing(config, path).serve(sockets=[listener]))


def sse(server: Server[Any]) -> Starlette:
    """The server as revision 2024-11-05 has it, with its stream at `/sse`."""
    transport = SseServerTransport("/messages/")

    async def stream(request: Request) -> Response:
        async with transport.connect_sse(request.scope, request.receive, request._send) as (read, write):
            await server.run(read, write, server.create_initialization_options())
        return Response()

    return Starlette(routes=[Route("/sse", stream), Mount("/messages/", transport.handle_post_message)])


# How a server of each era answers the first request of the other one.
STRANGERS = {
    "legacy": ("server/discover", -32601, "Method not found"),
    "modern": ("initialize", -32022, "Unsupported protocol version"),
}


class OfOneEra:
    """Lines of standard input without the request that begins a conversation of the other era: that is answered with an error."""

    def __init__(self, era: str) -> None:
        self.stranger, self.code, self.message = STRANGERS[era]

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in anyio.wrap_file(sys.stdin):
            asked = json.loads(line)
            if asked.get("method") != self.stranger:
                yield line
                continue
            error = {"code": self.code, "message": self.message}
            print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": error}), flush=True)


async def serve_stdio(server: Server[Any], era: str | None) -> None:
    """Serves over standard input and output; with an era, as a server that does not know the other."""
    explicit = (OfOneEra(era), anyio.wrap_file(sys.stdout)) if era is not None else ()
    async with stdio_server(*explicit) as (read, write):
        await server.run(read, write, server.create_initialization_options())
