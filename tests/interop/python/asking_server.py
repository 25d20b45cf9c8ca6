"""An MCP server of one era that asks its client: the official Python SDK over Streamable HTTP, HTTP+SSE, or stdio.

    python asking_server.py --only {legacy,modern} [--port N] [--sse | --stdio] [--cache-hints JSON]

Tools: `form` asks a person to fill a form, `model` asks for a completion, `roots` for the client's roots, `all` for all three: one
after the other in the legacy era, in one round in the modern one. Each returns what it was told. Beside them a prompt with a
completable argument, a resource, a template, a tool `note` that logs at three levels, and a tool `touch` that says that the resource
was updated. For whoever started it: `about` tells its process id and the names in its environment, `die` ends it in the middle of the
call, and `linger` waits until it is cancelled and says both on stderr. `door` and `gate` send a person to a URL (`door.py`); not over stdio.

A filter before the SDK, which serves both eras, refuses the other one as a server refuses it that does not know it.
Prints {"ready": {"port": N, "url": "http://127.0.0.1:N/mcp"}} once it listens; the path is /sse over HTTP+SSE.
"""

import argparse
import asyncio
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from door import DOOR, enter
from one_era import MODERN, only
from serving import serve, serve_stdio, sse

FORM = {
    "type": "object",
    "properties": {"name": {"type": "string", "default": "Nobody"}, "age": {"type": "integer"}},
    "required": ["name"],
}

Questions = dict[str, types.InputRequest]


def form() -> types.InputRequest:
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message="Who are you?", requested_schema=FORM))


def model() -> types.InputRequest:
    said = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="What is the answer?"))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[said], max_tokens=10))


def roots() -> types.InputRequest:
    return types.ListRootsRequest()


# What each tool asks, by the keys under which it wants the answers.
ASKS: dict[str, Callable[[], Questions]] = {
    "form": lambda: {"who": form()},
    "model": lambda: {"answer": model()},
    "roots": lambda: {"where": roots()},
    "all": lambda: {"who": form(), "answer": model(), "where": roots()},
}

RESULTS = {
    "elicitation/create": types.ElicitResult,
    "sampling/createMessage": types.CreateMessageResult,
    "roots/list": types.ListRootsResult,
}


def told(answers: dict[str, Any]) -> types.CallToolResult:
    """What the client answered, as it stands on the wire."""
    plain = {key: answer.model_dump(mode="json", by_alias=True, exclude_none=True) for key, answer in answers.items()}
    return types.CallToolResult(content=[types.TextContent(type="text", text=json.dumps(plain))])


async def ask(context: ServerRequestContext, params: types.CallToolRequestParams) -> Any:
    questions = ASKS[params.name]()
    if context.protocol_version >= MODERN:
        answers = params.input_responses or {}
        if set(answers) < set(questions):
            return types.InputRequiredResult(input_requests=questions, request_state=f"state of {params.name}")
        if params.request_state != f"state of {params.name}":
            raise MCPError(types.INVALID_PARAMS, f"this is not the state that was given: {params.request_state}")
        return told(answers)
    answers = {}
    for key, question in questions.items():
        answers[key] = await context.session.send_request(question, RESULTS[question.method])
    return told(answers)


async def note(context: ServerRequestContext) -> types.CallToolResult:
    for level in ("debug", "info", "error"):
        await context.session.send_log_message(level, {"said": level}, "asking", related_request_id=context.request_id)
    return types.CallToolResult(content=[types.TextContent(type="text", text="noted")])


async def touch(context: ServerRequestContext) -> types.CallToolResult:
    await context.session.send_resource_updated("asking://one")
    return types.CallToolResult(content=[types.TextContent(type="text", text="touched")])


def about() -> types.CallToolResult:
    said = {"pid": os.getpid(), "environment": sorted(os.environ)}
    return types.CallToolResult(content=[types.TextContent(type="text", text=json.dumps(said))])


async def linger() -> types.CallToolResult:
    print("lingering", file=sys.stderr, flush=True)
    try:
        await anyio.sleep_forever()
    finally:
        print("cancelled", file=sys.stderr, flush=True)


async def call_tool(context: ServerRequestContext, params: types.CallToolRequestParams) -> Any:
    if params.name == "touch":
        return await touch(context)
    if params.name == "about":
        return about()
    if params.name == "die":
        print("these are my last words", file=sys.stderr, flush=True)
        os._exit(7)
    if params.name == "linger":
        return await linger()
    if params.name == "note":
        return await note(context)
    if params.name in ("door", "gate"):
        return await enter(context, params)
    if params.name not in ASKS:
        raise MCPError(types.INVALID_PARAMS, f"unknown tool: {params.name}")
    return await ask(context, params)


async def list_tools(_: ServerRequestContext, __: Any) -> types.ListToolsResult:
    nothing = {"type": "object", "properties": {}}
    names = [*ASKS, "note", "touch", "about", "die", "linger", "door", "gate"]
    return types.ListToolsResult(tools=[types.Tool(name=name, input_schema=nothing) for name in names])


async def list_prompts(_: ServerRequestContext, __: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult(
        prompts=[types.Prompt(name="greet", arguments=[types.PromptArgument(name="whom", required=True)])]
    )


async def get_prompt(_: ServerRequestContext, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    said = f"Say hello to {(params.arguments or {})['whom']}"
    return types.GetPromptResult(
        messages=[types.PromptMessage(role="user", content=types.TextContent(type="text", text=said))]
    )


async def complete(_: ServerRequestContext, params: types.CompleteRequestParams) -> types.CompleteResult:
    of = params.ref.name if isinstance(params.ref, types.PromptReference) else params.ref.uri
    return types.CompleteResult(completion=types.Completion(values=[f"{of}: {params.argument.value}!"]))


async def list_resources(_: ServerRequestContext, __: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=[types.Resource(name="one", uri="asking://one")])


async def list_templates(_: ServerRequestContext, __: Any) -> types.ListResourceTemplatesResult:
    return types.ListResourceTemplatesResult(
        resource_templates=[types.ResourceTemplate(name="numbered", uri_template="asking://numbered/{n}")]
    )


async def read_resource(_: ServerRequestContext, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(params.uri)
    if uri != "asking://one" and not uri.startswith(("asking://numbered/", "asking://hidden/")):
        raise MCPError(types.INVALID_PARAMS, f"there is no {uri}", {"uri": uri})
    return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, text=f"text of {uri}")])


async def accept(_: ServerRequestContext, __: Any) -> types.EmptyResult:
    return types.EmptyResult()


def build(hints: dict[str, list[Any]]) -> Server:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # logging is deprecated, and here to be bridged
        return Server(
            "asking-server",
            version="1.0.0",
            on_list_tools=list_tools,
            on_call_tool=call_tool,
            on_list_prompts=list_prompts,
            on_get_prompt=get_prompt,
            on_completion=complete,
            on_list_resources=list_resources,
            on_list_resource_templates=list_templates,
            on_read_resource=read_resource,
            on_set_logging_level=accept,
            on_subscribe_resource=accept,
            on_unsubscribe_resource=accept,
            cache_hints={method: CacheHint(*hint) for method, hint in hints.items()},
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["legacy", "modern"], required=True, help="the era that is served")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--sse", action="store_true", help="serve over HTTP+SSE")
    parser.add_argument("--stdio", action="store_true", help="serve over standard input and output")
    parser.add_argument("--cache-hints", type=json.loads, default={}, metavar="JSON", help='{"tools/list": [MS, SCOPE], ...}')
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when stdin closes")
    options = parser.parse_args()
    server = build(options.cache_hints)
    if options.stdio:
        return asyncio.run(serve_stdio(server, options.only))
    app, path = (sse(server), "/sse") if options.sse else (server.streamable_http_app(), "/mcp")
    serve(DOOR.before(only(options.only, app)), options.port, path, options.until_stdin_closes)


if __name__ == "__main__":
    main()
