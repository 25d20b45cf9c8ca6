"""An MCP client that answers questions: the official Python SDK.

    python asked_client.py --url URL [--era {legacy,modern}] [--transport {http,sse}] [--log-level LEVEL] COMMAND...
    python asked_client.py --stdio '["PROGRAM", "ARGUMENT", ...]' [--era ...] COMMAND...

Each COMMAND is one of `tool|NAME[|JSON]`, `prompt|NAME|WHOM`, `read|URI`, `complete|NAME|VALUE`, `template|URI|VALUE`, `lists`. Prints one line
each: {"result": ...} or {"refused": ...}, and {"asked": METHOD}, {"logged": ...} and {"completed": ID} in between. A form is filled with a
name that no default has, a completion is "forty-two", and there is one root. Whoever is sent to a URL goes there as `Grace`, also where a call
is refused for it (-32042); with `--declines` they do not. With `--form-only` the client declares forms, and no URLs.
"""

import argparse
import asyncio
import json
import sys
import warnings
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.session import ClientSession
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError

from events import emit, first_cause


def plain(model: Any) -> Any:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def visit(params: types.ElicitRequestURLParams) -> None:
    async with httpx2.AsyncClient() as http:
        visited = await http.get(f"{params.url}&visitor=Grace")
        emit(visited=visited.status_code)


async def go_to(params: types.ElicitRequestURLParams, declines: bool) -> types.ElicitResult:
    emit(asked="elicitation/create", url=params.url, id=params.elicitation_id, message=params.message)
    if declines:
        return types.ElicitResult(action="decline")
    await visit(params)
    return types.ElicitResult(action="accept")


def declare_forms_only() -> None:
    """The SDK declares both modes for whoever answers one."""
    both = ClientSession._build_capabilities

    def forms_only(self: ClientSession, version: str) -> types.ClientCapabilities:
        declared = both(self, version)
        declared.elicitation = types.ElicitationCapability(form=types.FormElicitationCapability())
        return declared

    ClientSession._build_capabilities = forms_only


async def fill(_: Any, params: Any) -> types.ElicitResult:
    emit(asked="elicitation/create", message=params.message)
    return types.ElicitResult(action="accept", content={"name": "Grace", "age": 85})


async def sample(_: Any, params: Any) -> types.CreateMessageResult:
    emit(asked="sampling/createMessage", text=params.messages[0].content.text)
    content = types.TextContent(type="text", text="forty-two")
    return types.CreateMessageResult(role="assistant", content=content, model="a-person")


async def list_roots(_: Any) -> types.ListRootsResult:
    emit(asked="roots/list")
    return types.ListRootsResult(roots=[types.Root(uri="file:///srv/attic", name="attic")])


async def log(params: Any) -> None:
    emit(logged={"level": params.level, "data": params.data})


async def told(message: Any) -> None:
    if isinstance(message, types.ElicitCompleteNotification):
        emit(completed=message.params.elicitation_id)


async def run_one(client: Client, command: str) -> Any:
    kind, *rest = command.split("|")
    match kind:
        case "tool":
            return await client.call_tool(rest[0], json.loads(rest[1]) if rest[1:] else {})
        case "prompt":
            return await client.get_prompt(rest[0], {"whom": rest[1]})
        case "read":
            return await client.read_resource(rest[0])
        case "complete":
            reference = types.PromptReference(type="ref/prompt", name=rest[0])
            return await client.complete(reference, {"name": "whom", "value": rest[1]})
        case "template":
            reference = types.ResourceTemplateReference(type="ref/resource", uri=rest[0])
            return await client.complete(reference, {"name": "n", "value": rest[1]})
    raise ValueError(f"unknown command {command}")


async def lists(client: Client) -> dict[str, list[str]]:
    return {
        "tools": [tool.name for tool in (await client.list_tools()).tools],
        "prompts": [prompt.name for prompt in (await client.list_prompts()).prompts],
        "resources": [str(resource.uri) for resource in (await client.list_resources()).resources],
        "templates": [one.uri_template for one in (await client.list_resource_templates()).resource_templates],
    }


async def run(options: argparse.Namespace) -> None:
    async def elicit(context: Any, params: Any) -> types.ElicitResult:
        if isinstance(params, types.ElicitRequestURLParams):
            return await go_to(params, options.declines)
        return await fill(context, params)

    async with AsyncExitStack() as stack:
        if options.stdio:
            program, *arguments = options.stdio
            transport = stdio_client(StdioServerParameters(command=program, args=arguments))
        elif options.transport == "sse":
            transport = sse_client(options.url)
        else:
            transport = streamable_http_client(options.url)
        client = await stack.enter_async_context(
            Client(
                transport,
                mode={"legacy": "legacy", "modern": "auto"}[options.era],
                elicitation_callback=elicit,
                sampling_callback=sample,
                list_roots_callback=list_roots,
                logging_callback=log,
                log_level=options.log_level,
                message_handler=told,
            )
        )
        emit(connected=client.protocol_version)
        if options.log_level and options.era == "legacy":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # deprecated, and here to be bridged
                await client.set_logging_level(options.log_level)
        for command in options.commands:
            try:
                emit(result=await lists(client) if command == "lists" else plain(await run_one(client, command)))
            except MCPError as error:
                emit(refused={"code": error.code, "message": error.message, "data": error.data})
                if error.code == types.URL_ELICITATION_REQUIRED and not options.declines:
                    for elicitation in UrlElicitationRequiredError.from_error(error.error).elicitations:
                        await visit(elicitation)
                    emit(result=plain(await run_one(client, command)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--stdio", metavar="JSON", type=json.loads, help="the program to start and its arguments")
    parser.add_argument("--era", choices=["legacy", "modern"], default="modern")
    parser.add_argument("--transport", choices=["http", "sse"], default="http")
    parser.add_argument("--log-level")
    parser.add_argument("--declines", action="store_true", help="go to no URL")
    parser.add_argument("--form-only", action="store_true", help="declare forms, and no URLs")
    parser.add_argument("commands", nargs="+", metavar="COMMAND")
    options = parser.parse_args()
    if options.form_only:
        declare_forms_only()
    try:
        asyncio.run(run(options))
    except Exception as error:  # whatever went wrong is what the test wants to see
        cause = first_cause(error)
        emit(error={"message": f"{type(cause).__name__}: {cause}"})
        sys.exit(1)


if __name__ == "__main__":
    main()
