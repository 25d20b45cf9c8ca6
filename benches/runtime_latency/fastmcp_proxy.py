"""FastMCP's proxy before one MCP server, as its documentation sets it up, with what it has to be quick: no log of requests, JSON
answers instead of event streams.

    python fastmcp_proxy.py UPSTREAM_URL

Prints {"ready": {"http": "127.0.0.1:PORT"}} once it listens, and ends when stdin closes.
"""

import asyncio
import json
import os
import socket
import sys
import threading

import uvicorn
from fastmcp.server import create_proxy


def end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)


class Announcing(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()
        print(json.dumps({"ready": {"http": f"{host}:{port}"}}), flush=True)


def main() -> None:
    threading.Thread(target=end_with_stdin, daemon=True).start()
    app = create_proxy(sys.argv[1]).http_app(json_response=True)
    config = uvicorn.Config(app, log_level="error", access_log=False)
    asyncio.run(Announcing(config).serve(sockets=[socket.create_server(("127.0.0.1", 0))]))


if __name__ == "__main__":
    main()
