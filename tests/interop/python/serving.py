"""Runs an ASGI application for a test."""

import asyncio
import socket
from typing import Any

import uvicorn

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
