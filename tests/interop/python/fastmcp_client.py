"""The FastMCP client, as the other clients here are driven.

    python fastmcp_client.py URL [--era legacy|modern] [--bearer TOKEN] list
    python fastmcp_client.py URL [--era legacy|modern] [--bearer TOKEN] call NAME JSON [NAME JSON ...]

Prints one line per event: {"connected": ...}, {"progress": ...}, then {"tools": [...]}, a {"result": ..., "data": ...} for each
call, or {"error": ...}. `data` is the structured content as FastMCP rebuilds it from the tool's output schema.
"""

import argparse
import asyncio
import dataclasses
import json
import sys
from typing import Any

from fastmcp import Client
from pydantic import BaseModel

from events import emit, first_cause

MODES = {"legacy": "legacy", "modern": "auto"}


def plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value


async def run(options: argparse.Namespace) -> None:
    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        emit(progress={"progress": progress, "total": total, "message": message})

    async with Client(options.url, mode=MODES[options.era], auth=options.bearer, timeout=30) as client:
        emit(connected={"protocolVersion": client.session.protocol_version})
        if options.command == "list":
            emit(tools=[plain(tool) for tool in await client.list_tools()])
            return
        for name, arguments in zip(options.calls[::2], options.calls[1::2], strict=True):
            result = await client.call_tool(name, json.loads(arguments), progress_handler=on_progress, raise_on_error=False)
            content = [plain(block) for block in result.content]
            emit(result={"content": content, "isError": result.is_error}, data=plain(result.data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--era", choices=MODES, default="modern")
    parser.add_argument("--bearer", metavar="TOKEN")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    call = commands.add_parser("call")
    call.add_argument("calls", nargs="+", metavar="NAME JSON")
    options = parser.parse_args()
    try:
        asyncio.run(run(options))
    except Exception as error:
        cause = first_cause(error)
        emit(error={"kind": type(cause).__name__, "message": str(cause)})
        sys.exit(1)


if __name__ == "__main__":
    main()
