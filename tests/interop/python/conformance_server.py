"""What the official conformance suite looks for in a server: the official Python SDK over Streamable HTTP, HTTP+SSE, or stdio.

    python conformance_server.py [--only {legacy,modern}] [--port N] [--sse | --stdio] [--takes-note-after SECONDS]

Names, texts and schemas are those that the scenarios of `@modelcontextprotocol/conformance` describe. Each tool that asks its client does so
in the way of the era that it is called in: by requests in the middle of the call, one after the other, or by results
`input_required`. So a server of either era alone (`--only`) has the same tools.

Prints {"ready": {"port": N, "url": "http://127.0.0.1:N/mcp"}} once it listens; the path is /sse over HTTP+SSE.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import secrets
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.session import ServerSession
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata

from one_era import MODERN, only
from serving import serve, serve_stdio, sse

# One red pixel, and a recording of nothing.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="

PAUSE_S = 0.05

Context = ServerRequestContext[Any, Any]
Answers = dict[str, Any]
Tool = Callable[[Context, types.CallToolRequestParams], Awaitable[types.CallToolResult | types.InputRequiredResult]]

TOOLS: dict[str, tuple[types.Tool, Tool]] = {}
CHANGES = InMemorySubscriptionBus()
STATE_KEY = secrets.token_bytes(32)
WATCHED = "test://watched-resource"


class Watchers:
    """The sessions that have subscribed to the watched resource, and how long this server takes to take note of a subscription."""

    def __init__(self) -> None:
        self.pause_s = 0.0
        self.sessions: dict[str, ServerSession] = {}

    async def subscribe(self, context: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        await asyncio.sleep(self.pause_s)
        if str(params.uri) == WATCHED:
            self.sessions[self.key(context)] = context.session
        return types.EmptyResult()

    async def unsubscribe(self, context: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        if str(params.uri) == WATCHED:
            self.sessions.pop(self.key(context), None)
        return types.EmptyResult()

    async def listen(self, context: Context, params: types.SubscriptionsListenRequestParams) -> types.SubscriptionsListenResult:
        await asyncio.sleep(self.pause_s)
        return await ListenHandler(CHANGES)(context, params)

    async def tell(self) -> None:
        for session in list(self.sessions.values()):
            await session.send_resource_updated(WATCHED)

    def key(self, context: Context) -> str:
        """Names a session: by its header, by the URL of its messages (HTTP+SSE), or not, where there is but one."""
        request = context.request
        return "" if request is None else request.headers.get("mcp-session-id") or str(request.url)


WATCHERS = Watchers()


def text(said: str) -> types.TextContent:
    return types.TextContent(type="text", text=said)


def result(*content: types.ContentBlock) -> types.CallToolResult:
    return types.CallToolResult(content=list(content))


def resource(uri: str, media: str, said: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(
        type="resource", resource=types.TextResourceContents(uri=uri, mime_type=media, text=said)
    )


def tool(name: str, schema: dict[str, Any] | None = None) -> Callable[[Tool], Tool]:
    """Adds a tool; its docstring is the description."""

    def add(function: Tool) -> Tool:
        definition = types.Tool(name=name, description=function.__doc__, input_schema=schema or {"type": "object"})
        TOOLS[name] = (definition, function)
        return function

    return add


# --- tools that answer ---------------------------------------------------------------------------------------------------


def answers(name: str, description: str, *content: types.ContentBlock) -> None:
    async def answer(_: Context, __: types.CallToolRequestParams) -> types.CallToolResult:
        return result(*content)

    answer.__doc__ = description
    tool(name)(answer)


IMAGE = types.ImageContent(type="image", data=PNG, mime_type="image/png")
answers("test_simple_text", "One text.", text("This is a simple text response for testing."))
answers("test_image_content", "One image.", IMAGE)
answers("test_audio_content", "One sound.", types.AudioContent(type="audio", data=WAV, mime_type="audio/wav"))
answers(
    "test_embedded_resource",
    "One resource.",
    resource("test://embedded-resource", "text/plain", "This is an embedded resource content."),
)
answers(
    "test_multiple_content_types",
    "A text, an image and a resource.",
    text("Multiple content types test:"),
    IMAGE,
    resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
)


@tool("test_error_handling")
async def fail(_: Context, __: types.CallToolRequestParams) -> types.CallToolResult:
    """Fails."""
    said = text("This tool intentionally returns an error for testing")
    return types.CallToolResult(content=[said], is_error=True)


JSON_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@tool("json_schema_2020_12_tool", JSON_SCHEMA)
async def with_schema(_: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    """Tool with JSON Schema 2020-12 features"""
    return result(text(json.dumps(params.arguments)))


@tool(
    "test_mirrored_argument",
    {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
)
async def mirrored(_: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    """Its argument stands in a header too."""
    return result(text(f"region: {(params.arguments or {}).get('region')}"))


# --- tools that say something before they answer --------------------------------------------------------------------------


@tool("test_tool_with_logging")
async def logs(context: Context, _: types.CallToolRequestParams) -> types.CallToolResult:
    """Logs three lines."""
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.session.send_log_message("info", said, related_request_id=context.request_id)
        await asyncio.sleep(PAUSE_S)
    return result(text("Tool with logging executed successfully"))


tool("test_logging_tool")(logs)


@tool("test_tool_with_progress")
async def progresses(context: Context, _: types.CallToolRequestParams) -> types.CallToolResult:
    """Tells three times how far it is."""
    for progress in (0, 50, 100):
        await context.session.report_progress(progress, 100, f"Completed step {progress} of 100")
        await asyncio.sleep(PAUSE_S)
    return result(text("Tool with progress executed successfully"))


@tool("test_reconnection")
async def reconnects(context: Context, _: types.CallToolRequestParams) -> types.CallToolResult:
    """Closes the stream of its call and answers when the client has fetched it again."""
    if context.close_sse_stream is not None:
        await context.close_sse_stream()
    # Longer than whoever stands between holds back what is only said that it takes time, and than it lets a stream last at first.
    await asyncio.sleep(1.75)
    return result(text("Reconnection test completed successfully."))


# --- tools that change what there is ---------------------------------------------------------------------------------------


async def nothing(_: Context, __: types.CallToolRequestParams) -> types.CallToolResult:
    """Comes and goes."""
    return result(text("here"))


@tool("test_trigger_tool_change")
async def changes_tools(context: Context, _: types.CallToolRequestParams) -> types.CallToolResult:
    """Another tool comes, or goes."""
    if TOOLS.pop("test_sometimes", None) is None:
        tool("test_sometimes")(nothing)
    if context.protocol_version >= MODERN:
        await CHANGES.publish(ToolsListChanged())
    else:
        await context.session.send_tool_list_changed()
    return result(text("The tools changed"))


@tool("test_trigger_prompt_change")
async def changes_prompts(context: Context, _: types.CallToolRequestParams) -> types.CallToolResult:
    """Another prompt comes, or goes."""
    if PROMPTS.pop("test_sometimes", None) is None:
        PROMPTS["test_sometimes"] = types.Prompt(name="test_sometimes", description="Comes and goes.")
    if context.protocol_version >= MODERN:
        await CHANGES.publish(PromptsListChanged())
    else:
        await context.session.send_prompt_list_changed()
    return result(text("The prompts changed"))


@tool("test_trigger_resource_update")
async def updates_resource(_: Context, __: types.CallToolRequestParams) -> types.CallToolResult:
    """Says that the watched resource is another, to whoever has subscribed to it in either era."""
    await CHANGES.publish(ResourceUpdated(uri=WATCHED))
    await WATCHERS.tell()
    return result(text("The resource changed"))


# --- tools and a prompt that ask -------------------------------------------------------------------------------------------


def form(message: str, properties: dict[str, Any], required: list[str]) -> types.InputRequest:
    schema = {"type": "object", "properties": properties, "required": required}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def word(message: str, name: str) -> types.InputRequest:
    return form(message, {name: {"type": "string"}}, [name])


def completion(said: str, tokens: int = 100) -> types.InputRequest:
    message = types.SamplingMessage(role="user", content=text(said))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=tokens))


def roots() -> types.InputRequest:
    return types.ListRootsRequest()


RESULTS = {
    "elicitation/create": types.ElicitResult,
    "sampling/createMessage": types.CreateMessageResult,
    "roots/list": types.ListRootsResult,
}


def seal(state: str) -> str:
    return f"{state}.{hmac.new(STATE_KEY, state.encode(), hashlib.sha256).hexdigest()}"


def unseal(sealed: str | None) -> str | None:
    if sealed is None:
        return None
    state, _, tag = sealed.rpartition(".")
    if not hmac.compare_digest(seal(state).rpartition(".")[2], tag):
        raise MCPError(types.INVALID_PARAMS, "this requestState is not the one that was given")
    return state


@dataclass(frozen=True)
class Asking:
    """A conversation: what is asked in each round, and what comes of it. With a state, each round knows the one before."""

    rounds: Callable[[Context, Any], list[dict[str, types.InputRequest]]]
    done: Callable[[Answers], str]
    stateful: bool = False

    async def go(self, context: Context, params: Any) -> str | types.InputRequiredResult:
        rounds = self.rounds(context, params)
        if context.protocol_version < MODERN:
            return self.done(await in_session(context, rounds))
        answered: Answers = dict(params.input_responses or {})
        place = int(unseal(params.request_state) or 0) if self.stateful else 0
        if place < len(rounds) and set(rounds[place]) <= set(answered):
            place += 1
        if place == len(rounds):
            return self.done(answered)
        state = seal(str(place)) if self.stateful else None
        return types.InputRequiredResult(input_requests=rounds[place], request_state=state)


async def in_session(context: Context, rounds: list[dict[str, types.InputRequest]]) -> Answers:
    """Asks one after the other, on the stream of the call."""
    on_the_call = ServerMessageMetadata(related_request_id=context.request_id)
    answered = {}
    for questions in rounds:
        for key, question in questions.items():
            kind = RESULTS[question.method]
            answered[key] = await context.session.send_request(question, kind, metadata=on_the_call)
    return answered


def asks(
    name: str,
    description: str,
    rounds: Callable[[Context, Any], list[dict[str, types.InputRequest]]],
    done: Callable[[Answers], str],
    schema: dict[str, Any] | None = None,
    stateful: bool = False,
) -> None:
    conversation = Asking(rounds, done, stateful)

    async def ask(context: Context, params: types.CallToolRequestParams) -> Any:
        said = await conversation.go(context, params)
        return result(text(said)) if isinstance(said, str) else said

    ask.__doc__ = description
    tool(name, schema)(ask)


def wire(answer: Any) -> dict[str, Any]:
    return answer.model_dump(mode="json", by_alias=True, exclude_none=True)


def accepted(answers: Answers, key: str) -> dict[str, Any]:
    return wire(answers[key]).get("content") or {}


def told(prefix: str) -> Callable[[Answers], str]:
    """How the one form was answered."""

    def tell(answers: Answers) -> str:
        [answer] = answers.values()
        return f"{prefix}: action={answer.action}, content={json.dumps(wire(answer).get('content', {}))}"

    return tell


def argument(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}


NAME = word("What is your name?", "name")

asks(
    "test_sampling",
    "Asks for a completion of its prompt.",
    lambda _, params: [{"completion": completion(params.arguments["prompt"])}],
    lambda answers: f"LLM response: {answers['completion'].content.text}",
    argument("prompt"),
)
asks(
    "test_elicitation",
    "Asks a person.",
    lambda _, params: [
        {
            "person": form(
                params.arguments["message"],
                {
                    "username": {"type": "string", "description": "User's response"},
                    "email": {"type": "string", "description": "User's email address"},
                },
                ["username", "email"],
            )
        }
    ],
    told("User response"),
    argument("message"),
)
DEFAULTS = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
asks(
    "test_elicitation_sep1034_defaults",
    "Asks with defaults.",
    lambda _, __: [{"defaults": form("Please review the form", DEFAULTS, [])}],
    told("Elicitation completed"),
)


def options(word: str, title: str) -> list[dict[str, str]]:
    return [{"const": f"{word}{n}", "title": f"{which} {title}"} for n, which in enumerate(("First", "Second", "Third"), 1)]


PLAIN = ["option1", "option2", "option3"]
ENUMS = {
    "untitledSingle": {"type": "string", "enum": PLAIN},
    "titledSingle": {"type": "string", "oneOf": options("value", "Option")},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": PLAIN}},
    "titledMulti": {"type": "array", "items": {"anyOf": options("value", "Choice")}},
}
asks(
    "test_elicitation_sep1330_enums",
    "Asks to choose.",
    lambda _, __: [{"choices": form("Please choose", ENUMS, [])}],
    told("Elicitation completed"),
)
asks(
    "test_input_required_result_elicitation",
    "Asks for a name.",
    lambda _, __: [{"user_name": NAME}],
    lambda answers: f"Hello, {accepted(answers, 'user_name').get('name')}!",
)
asks(
    "test_streaming_elicitation",
    "Asks for a name, on whatever stream there is.",
    lambda _, __: [{"user_name": NAME}],
    lambda answers: f"Hello, {accepted(answers, 'user_name').get('name')}!",
)
asks(
    "test_input_required_result_sampling",
    "Asks a model.",
    lambda _, __: [{"capital_question": completion("What is the capital of France?")}],
    lambda answers: answers["capital_question"].content.text,
)
asks(
    "test_input_required_result_list_roots",
    "Asks for roots.",
    lambda _, __: [{"client_roots": roots()}],
    lambda answers: " ".join(str(root.uri) for root in answers["client_roots"].roots),
)
CONFIRM = form("Please confirm", {"ok": {"type": "boolean"}}, ["ok"])
for stateful in ("request_state", "tampered_state"):
    asks(
        f"test_input_required_result_{stateful}",
        "Gives a state that nobody may change.",
        lambda _, __: [{"confirm": CONFIRM}],
        lambda _: "state-ok",
        stateful=True,
    )
asks(
    "test_input_required_result_multiple_inputs",
    "Asks a person, a model and for roots.",
    lambda _, __: [{"user_name": NAME, "greeting": completion("Generate a greeting", 50), "client_roots": roots()}],
    lambda answers: f"{answers['greeting'].content.text} {accepted(answers, 'user_name').get('name')}",
    stateful=True,
)
asks(
    "test_input_required_result_multi_round",
    "Asks twice.",
    lambda _, __: [
        {"step1": word("Step 1: What is your name?", "name")},
        {"step2": word("Step 2: What is your favorite color?", "color")},
    ],
    lambda answers: f"That is all: {sorted(answers)}",
    stateful=True,
)


def what_the_client_takes(context: Context, _: Any) -> list[dict[str, types.InputRequest]]:
    declared = context.session.client_capabilities or types.ClientCapabilities()
    questions: dict[str, types.InputRequest] = {}
    if declared.elicitation is not None:
        questions["user_name"] = NAME
    if declared.sampling is not None:
        questions["greeting"] = completion("Generate a greeting", 50)
    return [questions] if questions else []


asks(
    "test_input_required_result_capabilities",
    "Asks only for what its client takes.",
    what_the_client_takes,
    lambda answers: f"answered: {sorted(answers)}",
)


@tool("test_missing_capability")
async def needs_sampling(context: Context, _: types.CallToolRequestParams) -> types.CallToolResult:
    """Cannot do without a model of its client."""
    declared = context.session.client_capabilities
    if declared is not None and declared.sampling is not None:
        return result(text("The client has a model"))
    message = "this tool needs `sampling`"
    if context.protocol_version < MODERN:
        raise MCPError(types.INVALID_REQUEST, message)
    required = {"requiredCapabilities": {"sampling": {}}}
    raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, message, required)


# --- prompts and resources -------------------------------------------------------------------------------------------------


def prompt(name: str, description: str, *arguments: str) -> types.Prompt:
    listed = [types.PromptArgument(name=name, description=f"The {name}", required=True) for name in arguments]
    return types.Prompt(name=name, description=description, arguments=listed or None)


PROMPTS = {
    prompt.name: prompt
    for prompt in (
        prompt("test_simple_prompt", "A simple prompt"),
        prompt("test_prompt_with_arguments", "A prompt with arguments", "arg1", "arg2"),
        prompt("test_prompt_with_embedded_resource", "A prompt with a resource", "resourceUri"),
        prompt("test_prompt_with_image", "A prompt with an image"),
        prompt("test_input_required_result_prompt", "A prompt that asks"),
    )
}
PROMPT_CONTEXT = Asking(
    lambda _, __: [{"user_context": word("What context should the prompt use?", "context")}],
    lambda answers: f"Use this context: {accepted(answers, 'user_context').get('context')}",
)


def said_by_user(*content: types.ContentBlock) -> types.GetPromptResult:
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=one) for one in content])


async def get_prompt(context: Context, params: types.GetPromptRequestParams) -> Any:
    given = params.arguments or {}
    match params.name:
        case "test_simple_prompt":
            return said_by_user(text("This is a simple prompt for testing."))
        case "test_prompt_with_arguments":
            return said_by_user(text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'"))
        case "test_prompt_with_embedded_resource":
            embedded = resource(given["resourceUri"], "text/plain", "Embedded resource content for testing.")
            return said_by_user(embedded, text("Please process the embedded resource above."))
        case "test_prompt_with_image":
            return said_by_user(IMAGE, text("Please analyze the image above."))
        case "test_input_required_result_prompt":
            said = await PROMPT_CONTEXT.go(context, params)
            return said_by_user(text(said)) if isinstance(said, str) else said
    raise MCPError(types.INVALID_PARAMS, f"there is no prompt {params.name}")


RESOURCES: dict[str, types.TextResourceContents | types.BlobResourceContents] = {
    contents.uri: contents
    for contents in (
        types.TextResourceContents(
            uri="test://static-text",
            mime_type="text/plain",
            text="This is the content of the static text resource.",
        ),
        types.BlobResourceContents(uri="test://static-binary", mime_type="image/png", blob=PNG),
        types.TextResourceContents(
            uri="test://watched-resource", mime_type="text/plain", text="Watched resource content"
        ),
    )
}
TEMPLATE = "test://template/{id}/data"


async def read_resource(_: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(params.uri)
    contents = RESOURCES.get(uri)
    before, after = TEMPLATE.split("{id}")
    if contents is None and uri.startswith(before) and uri.endswith(after):
        number = uri.removeprefix(before).removesuffix(after)
        data = {"id": number, "templateTest": True, "data": f"Data for ID: {number}"}
        contents = types.TextResourceContents(uri=uri, mime_type="application/json", text=json.dumps(data))
    if contents is None:
        raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})
    return types.ReadResourceResult(contents=[contents])


# --- the server ------------------------------------------------------------------------------------------------------------


async def call_tool(context: Context, params: types.CallToolRequestParams) -> Any:
    if params.name not in TOOLS:
        raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name}")
    return await TOOLS[params.name][1](context, params)


async def list_tools(_: Context, __: Any) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[definition for definition, _ in TOOLS.values()])


async def list_prompts(_: Context, __: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult(prompts=list(PROMPTS.values()))


async def list_resources(_: Context, __: Any) -> types.ListResourcesResult:
    listed = [
        types.Resource(uri=uri, name=uri.removeprefix("test://"), description=f"The {uri}", mime_type=contents.mime_type)
        for uri, contents in RESOURCES.items()
    ]
    return types.ListResourcesResult(resources=listed)


async def list_templates(_: Context, __: Any) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(uri_template=TEMPLATE, name="template", mime_type="application/json")
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def complete(_: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    known = ["paris", "park", "party"]
    values = [one for one in known if one.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=values, total=len(values), has_more=False))


async def accept(_: Context, __: Any) -> types.EmptyResult:
    return types.EmptyResult()


class Events(EventStore):
    """Every event of every stream, for clients that fetch a stream again."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self.stored.append((stream_id, message))
        return str(len(self.stored))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        last = int(last_event_id)
        stream, _ = self.stored[last - 1]
        for place, (of, message) in enumerate(self.stored[last:], last + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(place)))
        return stream


class TellingServer(Server[Any]):
    """Declares to sessions, too, that it tells of changes."""

    def create_initialization_options(self, *args: Any, **kwargs: Any) -> Any:
        told = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        return super().create_initialization_options(told, *args[1:], **kwargs)


def build() -> Server[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # logging is deprecated, and part of the suite
        return TellingServer(
            "conformance-server",
            version="1.0.0",
            get_tool_input_schema=lambda name: TOOLS[name][0].input_schema if name in TOOLS else None,
            on_list_tools=list_tools,
            on_call_tool=call_tool,
            on_list_prompts=list_prompts,
            on_get_prompt=get_prompt,
            on_completion=complete,
            on_list_resources=list_resources,
            on_list_resource_templates=list_templates,
            on_read_resource=read_resource,
            on_set_logging_level=accept,
            on_subscribe_resource=WATCHERS.subscribe,
            on_unsubscribe_resource=WATCHERS.unsubscribe,
            on_subscriptions_listen=WATCHERS.listen,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["legacy", "modern"], help="the one era that is served; both otherwise")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--sse", action="store_true", help="serve over HTTP+SSE")
    parser.add_argument("--stdio", action="store_true", help="serve over standard input and output")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when stdin closes")
    parser.add_argument("--takes-note-after", type=float, default=0, metavar="SECONDS", help="a subscription holds after that time")
    options = parser.parse_args()
    WATCHERS.pause_s = options.takes_note_after
    if options.stdio:
        return asyncio.run(serve_stdio(build(), options.only))
    # 100 ms: how long a client waits before it fetches a stream again.
    app = sse(build()) if options.sse else build().streamable_http_app(event_store=Events(), retry_interval=100)
    if options.only is not None:
        app = only(options.only, app)
    serve(app, options.port, "/sse" if options.sse else "/mcp", options.until_stdin_closes)


if __name__ == "__main__":
    main()
