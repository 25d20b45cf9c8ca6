"""What the official conformance suite asks of a client: the official Python SDK over Streamable HTTP.

    MCP_CONFORMANCE_SCENARIO=NAME MCP_CONFORMANCE_PROTOCOL_VERSION=VERSION python conformance_client.py URL

Does what the scenario of that name describes, against whatever is at URL; `MCP_CONFORMANCE_CONTEXT` may hold what it wants called. Exit code 1
when that fails.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from one_era import MODERN

Scenario = Callable[[Client, list[types.Tool]], Awaitable[None]]


async def fill(_: Any, params: Any) -> types.ElicitResult:
    """Accepts the form with its defaults, and says yes where there is none."""
    properties = params.requested_schema.get("properties", {})
    plain = {"string": "yes", "integer": 1, "number": 1, "boolean": True}
    content = {
        name: schema.get("default", plain.get(schema.get("type"), "yes")) for name, schema in properties.items()
    }
    return types.ElicitResult(action="accept", content=content)


async def sample(_: Any, __: Any) -> types.CreateMessageResult:
    content = types.TextContent(type="text", text="forty-two")
    return types.CreateMessageResult(role="assistant", content=content, model="a-person")


async def roots(_: Any) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri="file:///srv/attic", name="attic")])


async def nothing_more(_: Client, __: list[types.Tool]) -> None:
    """The tools were listed."""


async def call_all(client: Client, tools: list[types.Tool]) -> None:
    """Calls every tool that is listed, with a value for each argument that it must have."""
    values = {"string": "us-west1", "integer": 3, "number": 3, "boolean": True}
    for tool in tools:
        properties = tool.input_schema.get("properties", {})
        wanted = {name: values.get(properties[name].get("type"), "x") for name in tool.input_schema.get("required", [])}
        await client.call_tool(tool.name, wanted)


async def call_everything(client: Client, tools: list[types.Tool]) -> None:
    """Uses what is listed of every kind."""
    await call_all(client, tools)
    for resource in (await client.list_resources()).resources:
        await client.read_resource(str(resource.uri))
    for prompt in (await client.list_prompts()).prompts:
        await client.get_prompt(prompt.name, {})


async def call_what_is_wanted(client: Client, _: list[types.Tool]) -> None:
    for call in json.loads(os.environ["MCP_CONFORMANCE_CONTEXT"])["toolCalls"]:
        await client.call_tool(call["name"], call["arguments"])


async def echo_schema(client: Client, tools: list[types.Tool]) -> None:
    [focal] = [tool for tool in tools if tool.name == "json_schema_2020_12_tool"]
    await client.call_tool("json_schema_echo", {"schema": focal.input_schema})


async def call_in_parallel(client: Client, tools: list[types.Tool]) -> None:
    """Asking tools, and others beside them."""
    await asyncio.gather(*(client.call_tool(tool.name, {}) for tool in tools))


SCENARIOS: dict[str, Scenario] = {
    "initialize": nothing_more,
    "tools_call": call_all,
    "elicitation-sep1034-client-defaults": call_all,
    "sse-retry": call_all,
    "json-schema-2020-12-preservation": echo_schema,
    "request-metadata": nothing_more,
    "sep-2322-client-request-state": call_in_parallel,
    "http-standard-headers": call_everything,
    "http-custom-headers": call_what_is_wanted,
    "http-invalid-tool-headers": call_all,
    "json-schema-ref-no-deref": nothing_more,
}


async def run(url: str) -> None:
    version = os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
    scenario = SCENARIOS[os.environ["MCP_CONFORMANCE_SCENARIO"]]
    mode = MODERN if version >= MODERN else "legacy"
    transport = streamable_http_client(url)
    asked = {"elicitation_callback": fill, "sampling_callback": sample, "list_roots_callback": roots}
    async with Client(transport, mode=mode, **asked) as client:
        tools = (await client.list_tools()).tools
        await scenario(client, tools)


def main() -> None:
    try:
        asyncio.run(run(sys.argv[1]))
    except (MCPError, ExceptionGroup) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
