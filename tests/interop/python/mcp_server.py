"""A real MCP server for the tests: the official Python SDK over Streamable HTTP, both eras on one URL.

    python mcp_server.py [--port N] [--counter FILE] [--events FILE] [--tools N] [--page-size N]

Prints {"ready": {"port": N, "url": "http://127.0.0.1:N/mcp"}} once it listens, then one line per event:
{"event": "started" | "cancelled" | "counted", "tool": NAME, ...}.
"""

import argparse
import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from events import record
from serving import serve

Arguments = dict[str, Any]
Tool = Callable[[ServerRequestContext, Arguments], Awaitable[types.CallToolResult]]

NUMBER = {"type": "number"}
STRING = {"type": "string"}


def text(value: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=value)])


def structured(value: dict[str, Any], summary: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=summary)], structured_content=value)


def schema(**properties: Any) -> dict[str, Any]:
    """An object schema; a property is required unless it has a default."""
    required = [name for name, value in properties.items() if "default" not in value]
    return {"type": "object", "properties": properties, "required": required}


class Tools:
    """What the server offers. Each tool is one coroutine; `declared` and `call` tie names to them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.counter_path = options.counter
        self.events_path = options.events
        self.declared = [*self._built_in(), *self._generated(options.tools)]
        self._by_name: dict[str, Tool] = {
            "echo": self.echo,
            "add": self.add,
            "count": self.count,
            "slow": self.slow,
            "progress": self.progress,
            "fail": self.fail,
            "headers": self.headers,
        }

    async def call(self, context: ServerRequestContext, params: types.CallToolRequestParams) -> types.CallToolResult:
        arguments = params.arguments or {}
        if params.name.startswith("generated-"):
            return text(params.name)
        tool = self._by_name.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"unknown tool: {params.name}")
        try:
            return await tool(context, arguments)
        except asyncio.CancelledError:
            record(self.events_path, event="cancelled", tool=params.name)
            raise

    async def echo(self, _: ServerRequestContext, arguments: Arguments) -> types.CallToolResult:
        return text(arguments["text"])

    async def add(self, _: ServerRequestContext, arguments: Arguments) -> types.CallToolResult:
        total = arguments["a"] + arguments["b"]
        return structured({"sum": total}, str(total))

    async def count(self, _: ServerRequestContext, arguments: Arguments) -> types.CallToolResult:
        """Counts first and only then waits: a call that is killed while it waits has been executed."""
        value = self._increment()
        record(self.events_path, event="counted", tool="count", value=value)
        await asyncio.sleep(arguments.get("seconds", 0))
        return structured({"count": value}, str(value))

    async def slow(self, _: ServerRequestContext, arguments: Arguments) -> types.CallToolResult:
        record(self.events_path, event="started", tool="slow")
        await asyncio.sleep(arguments["seconds"])
        return text(f"slept {arguments['seconds']} s")

    async def progress(self, context: ServerRequestContext, arguments: Arguments) -> types.CallToolResult:
        steps = arguments["steps"]
        for step in range(1, steps + 1):
            await context.session.report_progress(step, steps, f"step {step} of {steps}")
            await asyncio.sleep(arguments.get("seconds", 0))
        return text(f"{steps} steps")

    async def fail(self, _: ServerRequestContext, arguments: Arguments) -> types.CallToolResult:
        message = arguments.get("message", "this tool always fails")
        return types.CallToolResult(content=[types.TextContent(type="text", text=message)], is_error=True)

    async def headers(self, context: ServerRequestContext, _: Arguments) -> types.CallToolResult:
        """Returns what reached this server beside the arguments."""
        seen = dict(context.request.headers) if context.request is not None else {}
        meta = (context.params or {}).get("_meta", {})
        value = {"headers": seen, "meta": meta, "protocolVersion": context.protocol_version}
        return structured(value, context.protocol_version)

    def _increment(self) -> int:
        """Adds one to the number in the counter file. Nothing awaits in here, so calls cannot interleave."""
        if self.counter_path is None:
            raise MCPError(types.INTERNAL_ERROR, "the server was started without --counter")
        with open(self.counter_path, "a+", encoding="utf-8") as file:
            file.seek(0)
            value = int(file.read() or "0") + 1
            file.truncate(0)
            file.write(str(value))
        return value

    @staticmethod
    def _built_in() -> list[types.Tool]:
        seconds = {**NUMBER, "default": 0}
        read_only = types.ToolAnnotations(read_only_hint=True)
        return [
            types.Tool(
                name="echo",
                description="Returns its text",
                input_schema=schema(text=STRING),
                annotations=read_only,
            ),
            types.Tool(
                name="add",
                description="Adds two numbers",
                input_schema=schema(a=NUMBER, b=NUMBER),
                output_schema=schema(sum=NUMBER),
                annotations=read_only,
            ),
            types.Tool(
                name="count",
                description="Adds one to the number in the counter file, then waits, then returns the number",
                input_schema=schema(seconds=seconds),
                output_schema=schema(count={"type": "integer"}),
            ),
            types.Tool(name="slow", description="Sleeps", input_schema=schema(seconds=NUMBER)),
            types.Tool(
                name="progress",
                description="Reports progress in steps, with a pause of some seconds after each",
                input_schema=schema(steps={"type": "integer"}, seconds=seconds),
            ),
            types.Tool(
                name="fail",
                description="Answers with isError",
                input_schema=schema(message={**STRING, "default": "this tool always fails"}),
            ),
            types.Tool(
                name="headers",
                description="Returns the HTTP headers and the _meta that it saw",
                input_schema=schema(),
                annotations=read_only,
            ),
        ]

    @staticmethod
    def _generated(count: int) -> list[types.Tool]:
        return [
            types.Tool(name=f"generated-{index:05}", description="Returns its name", input_schema=schema())
            for index in range(count)
        ]


def page_of(tools: list[types.Tool], cursor: str | None, size: int) -> types.ListToolsResult:
    """One page of the list. The cursor is opaque on purpose: a client must send back what it got."""
    try:
        start = int(base64.urlsafe_b64decode(cursor)) if cursor else 0
    except ValueError as error:
        raise MCPError(types.INVALID_PARAMS, "unknown cursor") from error
    end = start + size
    following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(tools) else None
    return types.ListToolsResult(tools=tools[start:end], next_cursor=following)


def build(options: argparse.Namespace) -> Server:
    tools = Tools(options)

    async def list_tools(
        _: ServerRequestContext, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return page_of(tools.declared, params.cursor if params else None, options.page_size)

    return Server(
        options.name,
        version="1.0.0",
        instructions="Tools for the tests of a gateway",
        on_list_tools=list_tools,
        on_call_tool=tools.call,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--name", default="python-server", help="the server's name")
    parser.add_argument("--counter", metavar="FILE", help="where the tool `count` keeps its number")
    parser.add_argument("--events", metavar="FILE", help="events are appended here too")
    parser.add_argument("--tools", type=int, default=0, metavar="N", help="number of generated tools")
    parser.add_argument("--page-size", type=int, default=50, metavar="N", help="tools per page of tools/list")
    parser.add_argument("--json", action="store_true", help="legacy replies as JSON instead of SSE")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when stdin closes")
    options = parser.parse_args()
    app = build(options).streamable_http_app(json_response=options.json)
    serve(app, options.port, "/mcp", options.until_stdin_closes)


if __name__ == "__main__":
    main()
