"""A foreign libp2p peer for the tests: py-libp2p offers the tool `echo` over /mcp+p2p/1.0.0, both bindings.

    python p2p_server.py [--port N] [--seed HEX]

Prints {"ready": {"port": N, "peerId": ID, "multiaddr": "/ip4/127.0.0.1/tcp/N/p2p/ID"}} once it listens.
"""

import argparse
import socket
from typing import Any

import multiaddr
import trio
from libp2p.abc import INetStream
from libp2p.network.stream.exceptions import StreamError

from events import emit, exit_with_stdin
from p2p_frames import PROTOCOL, noise_host, read_frame, seed_from, write_frame

SERVER_INFO = {"name": "py-libp2p-server", "version": "1.0.0"}
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
ECHO = {
    "name": "echo",
    "description": "Returns its text",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}

# Members of a result that strict legacy clients reject.
FRESH = {"ttlMs": 0, "cacheScope": "private"}
MODERN_ONLY = {"server/discover": FRESH, "tools/list": FRESH}


class Refused(Exception):
    """A JSON-RPC error to be sent back."""

    def __init__(self, code: int, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({"data": data} if data else {})


class Session:
    """What one stream has agreed on: a legacy session is open after initialize."""

    def __init__(self) -> None:
        self.initialized = False

    def answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Errors: Refused."""
        modern = VERSION_KEY in params.get("_meta", {})
        if method == "initialize":
            self.initialized = True
            capabilities = {"tools": {}}
            version = params["protocolVersion"]
            return {"protocolVersion": version, "capabilities": capabilities, "serverInfo": SERVER_INFO}
        if not modern and not self.initialized:
            raise Refused(-32602, "neither a session nor _meta", {"reason": "path_ambiguous"})
        result = self._result(method, params)
        return {**result, **MODERN_ONLY.get(method, {}), "resultType": "complete"} if modern else result

    @staticmethod
    def _result(method: str, params: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "server/discover":
                return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
            case "ping":
                return {}
            case "tools/list":
                return {"tools": [ECHO]}
            case "tools/call" if params.get("name") == "echo":
                text = params["arguments"]["text"]
                return {"content": [{"type": "text", "text": text}], "isError": False}
            case "tools/call":
                raise Refused(-32602, f"unknown tool: {params.get('name')}")
            case _:
                raise Refused(-32601, f"unknown method: {method}")


async def serve(stream: INetStream) -> None:
    """Answers on one stream until the other side closes it."""
    session = Session()
    try:
        while True:
            message = await read_frame(stream)
            if "id" not in message:
                continue
            try:
                body = {"result": session.answer(message["method"], message.get("params", {}))}
            except Refused as refused:
                body = {"error": refused.error}
            await write_frame(stream, {"jsonrpc": "2.0", "id": message["id"], **body})
    except (EOFError, StreamError):
        await stream.close()


def free_port() -> int:
    """py-libp2p does not say which port it took for 0, so one is picked beforehand."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


async def listen(options: argparse.Namespace) -> None:
    host = noise_host(options.seed)
    host.set_stream_handler(PROTOCOL, serve)
    port = options.port or free_port()
    address = multiaddr.Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")
    async with host.run(listen_addrs=[address]):
        peer_id = str(host.get_id())
        emit(ready={"port": port, "peerId": peer_id, "multiaddr": f"{address}/p2p/{peer_id}"})
        await trio.sleep_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--seed", type=seed_from, metavar="HEX", help="32 bytes that fix the identity")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when stdin closes")
    options = parser.parse_args()
    if options.until_stdin_closes:
        exit_with_stdin()
    trio.run(listen, options)


if __name__ == "__main__":
    main()
