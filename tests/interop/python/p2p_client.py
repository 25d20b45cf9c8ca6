"""A foreign libp2p peer for the tests: py-libp2p calls tools over /mcp+p2p/1.0.0.

    python p2p_client.py print-id [--seed HEX]
    python p2p_client.py legacy MULTIADDR [--seed HEX] [--call NAME JSON]
    python p2p_client.py modern MULTIADDR [--seed HEX] [--call NAME JSON]

`legacy` sends initialize, notifications/initialized and tools/list, then tools/call if a tool is named; `modern` opens no
session: each request carries its `_meta`. Prints {"peerId": ...}, {"initialized": ...}, {"tools": [...]}, {"progress": ...}
and {"result": ...} as they come. {"error": ...} makes the exit code 1.
"""

import argparse
import json
import sys
from typing import Any

import multiaddr
import trio
from libp2p.abc import INetStream
from libp2p.peer.peerinfo import info_from_p2p_addr

from events import emit, first_cause
from p2p_frames import PROTOCOL, noise_host, read_frame, seed_from, write_frame

CLIENT_INFO = {"name": "py-libp2p", "version": "1.0.0"}

MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": CLIENT_INFO,
}


class RemoteError(Exception):
    """The peer answered with a JSON-RPC error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("message"))
        self.error = error


class Conversation:
    """One stream, one request at a time; the answer is told by its id, since notifications may come between."""

    def __init__(self, stream: INetStream, base_meta: dict[str, Any]) -> None:
        self._stream = stream
        self._base_meta = base_meta
        self._last_id = 0

    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Errors: RemoteError, EOFError when the peer closes the stream."""
        self._last_id += 1
        meta = {**self._base_meta, **params.get("_meta", {})}
        if meta:
            params = {**params, "_meta": meta}
        await write_frame(self._stream, {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params})
        while True:
            message = await read_frame(self._stream)
            if message.get("method") == "notifications/progress":
                emit(progress=message["params"])
            elif message.get("id") in (self._last_id, None) and "error" in message:
                raise RemoteError(message["error"])
            elif message.get("id") == self._last_id and "result" in message:
                return message["result"]

    async def notify(self, method: str) -> None:
        await write_frame(self._stream, {"jsonrpc": "2.0", "method": method})

    async def initialize(self, version: str) -> dict[str, Any]:
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT_INFO}
        result = await self.request("initialize", params)
        await self.notify("notifications/initialized")
        return result

    async def list_tools(self) -> list[dict[str, Any]]:
        tools: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        while True:
            page = await self.request("tools/list", cursor)
            tools += page["tools"]
            if not page.get("nextCursor"):
                return tools
            cursor = {"cursor": page["nextCursor"]}


async def converse(stream: INetStream, options: argparse.Namespace) -> None:
    conversation = Conversation(stream, MODERN_META if options.binding == "modern" else {})
    if options.binding == "legacy":
        emit(initialized=await conversation.initialize(options.version))
    if options.binding == "legacy" or options.call is None:
        emit(tools=await conversation.list_tools())
    if options.call is not None:
        name, arguments = options.call
        params: dict[str, Any] = {"name": name, "arguments": json.loads(arguments)}
        if options.meta:
            params["_meta"] = json.loads(options.meta)
        emit(result=await conversation.request("tools/call", params))


async def dial(options: argparse.Namespace) -> None:
    host = noise_host(options.seed)
    emit(peerId=str(host.get_id()))
    peer = info_from_p2p_addr(multiaddr.Multiaddr(options.multiaddr))
    async with host.run(listen_addrs=[]):
        with trio.fail_after(options.timeout):
            await host.connect(peer)
            stream = await host.new_stream(peer.peer_id, [PROTOCOL])
            await converse(stream, options)
            await stream.close()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--seed", type=seed_from, metavar="HEX", help="32 bytes that fix the identity")
    calling = argparse.ArgumentParser(add_help=False, parents=[common])
    calling.add_argument("multiaddr", help="/ip4/127.0.0.1/tcp/PORT/p2p/ID")
    calling.add_argument("--call", nargs=2, metavar=("NAME", "JSON"), help="the tool to call and its arguments")
    calling.add_argument("--meta", metavar="JSON", help="members of _meta of the call")
    calling.add_argument("--version", default="2024-11-05", help="protocol version of a legacy session")
    calling.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for everything together")
    bindings = parser.add_subparsers(dest="binding", required=True)
    bindings.add_parser("print-id", parents=[common], help="print the PeerId and end")
    bindings.add_parser("legacy", parents=[calling], help="with initialize")
    bindings.add_parser("modern", parents=[calling], help="without a session")
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.binding == "print-id":
        emit(peerId=str(noise_host(options.seed).get_id()))
        return
    try:
        trio.run(dial, options)
    except Exception as error:  # whatever went wrong is what the test wants to see
        cause = first_cause(error)
        if isinstance(cause, RemoteError):
            emit(error=cause.error)
        else:
            emit(error={"message": f"{type(cause).__name__}: {cause}"})
        sys.exit(1)


if __name__ == "__main__":
    main()
