"""A real MCP client for the tests: the official Python SDK over Streamable HTTP.

    python mcp_client.py URL [--era ERA] [--bearer TOKEN] list
    python mcp_client.py URL [--era ERA] [--bearer TOKEN] call NAME JSON [--progress] [--cancel-after-progress N]
    python mcp_client.py URL [--era ERA] [--bearer TOKEN] listen

Prints one line per event: {"connected": ...}, {"progress": ...}, then one of {"tools": [...]}, {"result": ...},
{"cancelled": true} or {"error": ...}. Only the last of these makes the exit code 1. `listen` prints {"listening": true}, and
{"changed": [names]} whenever it is told that the list of tools is another.
"""

import argparse
import asyncio
import json
import ssl
import sys
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from events import emit, first_cause

MODERN = "2026-07-28"

# What the SDK calls the eras: `modern` asks server/discover first, `pinned` starts with the call itself.
MODES = {"legacy": "legacy", "modern": "auto", "pinned": MODERN}


def plain(model: Any) -> Any:
    """An SDK model as it stands on the wire."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def list_tools(client: Client) -> None:
    tools: list[Any] = []
    pages = 0
    cursor = None
    while True:
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        tools += [plain(tool) for tool in page.tools]
        pages += 1
        cursor = page.next_cursor
        if cursor is None:
            break
    emit(tools=tools, pages=pages)


async def emit_changed(client: Client) -> None:
    tools = (await client.list_tools(cache_mode="bypass")).tools
    emit(changed=[tool.name for tool in tools])


async def listen(client: Client, changed: anyio.Event) -> None:
    """`changed` is set when a notification comes that belongs to no subscription, as in the legacy era."""
    if client.protocol_version >= MODERN:
        async with client.listen(tools_list_changed=True) as subscription:
            emit(listening=True)
            async for _ in subscription:
                await emit_changed(client)
        emit(ended=True)
        return
    emit(listening=True)
    await changed.wait()
    await emit_changed(client)


async def call_tool(client: Client, options: argparse.Namespace) -> None:
    """Calls once. Cancelling means leaving the scope: the SDK then tells the server in the way of its era."""
    seen = 0

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        nonlocal seen
        seen += 1
        emit(progress={"progress": progress, "total": total, "message": message})
        if options.cancel_after_progress is not None and seen >= options.cancel_after_progress:
            scope.cancel()

    wants_progress = options.progress or options.cancel_after_progress is not None
    with anyio.CancelScope() as scope:
        result = await client.call_tool(
            options.name,
            json.loads(options.arguments),
            progress_callback=on_progress if wants_progress else None,
            meta=json.loads(options.meta) if options.meta else None,
        )
        emit(result=plain(result))
    if scope.cancelled_caught:
        emit(cancelled=True)


async def run(options: argparse.Namespace) -> None:
    headers = {"Authorization": f"Bearer {options.bearer}"} if options.bearer else {}
    changed = anyio.Event()

    async def on_message(message: Any) -> None:
        if getattr(message, "method", None) == "notifications/tools/list_changed":
            changed.set()

    verify = ssl.create_default_context(cafile=options.ca_file) if options.ca_file else True
    async with httpx2.AsyncClient(headers=headers, timeout=options.timeout, verify=verify) as http:
        transport = streamable_http_client(options.url, http_client=http)
        async with Client(transport, mode=MODES[options.era], message_handler=on_message) as client:
            server = plain(client.server_info) if client.server_info else None
            emit(connected={"protocolVersion": client.protocol_version, "server": server})
            if options.era == "modern" and client.protocol_version < MODERN:
                raise RuntimeError(f"asked for the modern era, got {client.protocol_version}")
            if options.command == "list":
                await list_tools(client)
            elif options.command == "listen":
                await listen(client, changed)
            else:
                await call_tool(client, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the MCP endpoint")
    parser.add_argument("--era", choices=sorted(MODES), default="modern")
    parser.add_argument("--bearer", metavar="TOKEN", help="sent as Authorization: Bearer TOKEN")
    parser.add_argument("--ca-file", metavar="FILE", help="certificate authorities to trust for https, in PEM")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for every wait on the network")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every page of tools/list")
    commands.add_parser("listen", help="wait for changes of the list of tools")
    call = commands.add_parser("call", help="one tools/call")
    call.add_argument("name")
    call.add_argument("arguments", help="a JSON object")
    call.add_argument("--meta", metavar="JSON", help="members of _meta")
    call.add_argument("--progress", action="store_true", help="ask for progress and print it")
    call.add_argument("--cancel-after-progress", type=int, metavar="N", help="cancel at the Nth progress report")
    options = parser.parse_args()
    try:
        asyncio.run(run(options))
    except Exception as error:  # whatever went wrong is what the test wants to see
        cause = first_cause(error)
        if isinstance(cause, MCPError):
            emit(error={"code": cause.code, "message": cause.message, "data": cause.data})
        else:
            emit(error={"message": f"{type(cause).__name__}: {cause}"})
        sys.exit(1)


if __name__ == "__main__":
    main()
