"""The exchanges of the official conformance suite's scenarios for servers, with a look at the content: the official Python SDK as a client.

    python conformance_checks.py --names
    python conformance_checks.py CONVERSATION...

A CONVERSATION is a JSON object: `url` (and `transport`: "http" or "sse") or `stdio` (a program and its arguments) say where the server is,
`revision` what is spoken, `server` which era the server at the far end is of, and `checks` what to check. Prints
{"conversation": N, "revision": ...}, and for each check {"passed": NAME} or {"failed": NAME, "why": ...}.
`--names` prints {"names": [...]}.

A check is called as its scenario; `SCENARIO:PART` is one of several. The far end is `conformance_server.py`, whatever is in between.
"""

import argparse
import asyncio
import json
import re
import sys
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import mcp.client.session
import mcp_types as types
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_METHOD_HEADER, MCP_NAME_HEADER, MCP_PROTOCOL_VERSION_HEADER

from conformance_server import DEFAULTS, ENUMS, JSON_SCHEMA, PNG, PROMPTS, RESOURCES, TEMPLATE, TOOLS, WAV
from events import emit, first_cause
from one_era import MODERN
from wire import PATIENCE_S, Wire

META = "io.modelcontextprotocol/"
EVERYTHING: dict[str, Any] = {"elicitation": {}, "sampling": {}, "roots": {}}

# What the person answers to each question of a form: never what its default says.
ANSWERS = {
    "username": "grace",
    "email": "grace@example.org",
    "name": "Grace",
    "age": 85,
    "score": 7.25,
    "status": "pending",
    "verified": False,
    "untitledSingle": "option2",
    "titledSingle": "value3",
    "legacyEnum": "opt2",
    "untitledMulti": ["option1", "option3"],
    "titledMulti": ["value2", "value3"],
    "ok": True,
    "color": "teal",
    "context": "the attic",
}
MODEL_SAYS = types.TextContent(type="text", text="forty-two")
ROOT = types.Root(uri="file:///srv/attic", name="attic")


def plain(model: Any) -> Any:
    """An SDK model as it stands on the wire."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


@dataclass
class Peer:
    """A client in a conversation, and what is known of it."""

    client: Client
    wire: Wire
    server: str
    url: str | None
    # Method and parameters of what this client was asked.
    asked: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def revision(self) -> str:
        return self.client.protocol_version

    @property
    def modern(self) -> bool:
        return self.revision >= MODERN

    def whole(self) -> dict[str, Any]:
        """The last result, which says that it is complete if it is of a revision that says so."""
        result = self.wire.last_result()
        assert result.get("resultType") == ("complete" if self.modern else None), result
        return result

    async def call(self, name: str, arguments: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        await self.client.call_tool(name, arguments or {}, **more)
        return self.whole()

    async def ask(self, method: str, params: dict[str, Any], **meta: Any) -> dict[str, Any]:
        """The answer of a modern server to a request with `meta` in place of what `_meta` must have."""
        meta = {"protocolVersion": MODERN, "clientCapabilities": {}, "clientInfo": {"name": "checks", "version": "1"}} | meta
        stamped = {f"{META}{name}": value for name, value in meta.items() if value is not None}
        version = meta["protocolVersion"] or MODERN
        headers = {MCP_PROTOCOL_VERSION_HEADER: version, MCP_METHOD_HEADER: method}
        headers |= {MCP_NAME_HEADER: params[name] for name in ("name", "uri") if name in params}
        return await self.wire.ask(method, {**params, "_meta": stamped}, headers)

    async def result(self, method: str, params: dict[str, Any], **meta: Any) -> dict[str, Any]:
        answer = await self.ask(method, params, **meta)
        assert "result" in answer, answer
        return answer["result"]


Check = Callable[[Peer], Awaitable[None]]
CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    def add(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return add


def same(found: Any, expected: Any) -> None:
    assert found == expected, f"found {json.dumps(found)}, expected {json.dumps(expected)}"


# --- the beginning and the end of a conversation ---------------------------------------------------------------------------


@check("server-initialize")
async def initializes(peer: Peer) -> None:
    result = peer.wire.came[0]["result"]
    same(result["protocolVersion"], peer.revision)
    assert result["serverInfo"]["name"] and result["serverInfo"]["version"], result
    offered = result["capabilities"]
    assert {"tools", "prompts", "resources", "logging"} <= set(offered), offered
    assert offered["resources"]["subscribe"] is True and offered["tools"]["listChanged"] is True, offered


@check("ping")
async def pings(peer: Peer) -> None:
    await peer.client.send_ping()
    same(peer.wire.last_result(), {})


@check("dns-rebinding-protection")
async def refuses_other_sites(peer: Peer) -> None:
    async def status(**headers: str) -> int:
        async with httpx2.AsyncClient() as http, http.stream("GET", peer.url, headers=headers) as response:
            return response.status_code

    same(await status(Origin="http://evil.example"), 403)
    same(await status(Host="evil.example"), 403)
    same(await status(Origin=str(httpx2.URL(peer.url).copy_with(path="/")).rstrip("/")), 200)


# --- what a server without sessions owes -----------------------------------------------------------------------------------


@check("server-stateless:meta")
async def wants_its_meta(peer: Peer) -> None:
    for lacking in ("protocolVersion", "clientCapabilities"):
        answer = await peer.ask("server/discover", {}, **{lacking: None})
        same(answer["error"]["code"], types.INVALID_PARAMS)
    headers = {MCP_PROTOCOL_VERSION_HEADER: MODERN, MCP_METHOD_HEADER: "server/discover"}
    answer = await peer.wire.ask("server/discover", {}, headers)
    same(answer["error"]["code"], types.INVALID_PARAMS)
    assert "result" in await peer.ask("server/discover", {}, clientInfo=None)


@check("server-stateless:discover")
async def discovers(peer: Peer) -> None:
    result = await peer.result("server/discover", {})
    assert MODERN in result["supportedVersions"], result
    assert {"tools", "prompts", "resources", "completions"} <= set(result["capabilities"]), result
    server = result["_meta"][f"{META}serverInfo"]
    assert server["name"] and server["version"], result


@check("server-stateless:version")
async def names_its_versions(peer: Peer) -> None:
    known = (await peer.result("server/discover", {}))["supportedVersions"]
    error = (await peer.ask("server/discover", {}, protocolVersion="v999.0.0"))["error"]
    same(error["code"], types.UNSUPPORTED_PROTOCOL_VERSION)
    same(error["data"]["requested"], "v999.0.0")
    assert error["data"]["supported"] and set(error["data"]["supported"]) <= set(known), error


@check("server-stateless:capability")
async def needs_a_capability(peer: Peer) -> None:
    answer = await peer.ask("tools/call", {"name": "test_missing_capability", "arguments": {}})
    if peer.server == "modern":
        same(answer["error"]["code"], types.MISSING_REQUIRED_CLIENT_CAPABILITY)
        same(answer["error"]["data"]["requiredCapabilities"], {"sampling": {}})
    else:
        # Sessions have no error of that kind, so that the server says it in words.
        assert "needs `sampling`" in answer["error"]["message"], answer
    declared = {"name": "test_missing_capability", "arguments": {}}
    result = await peer.result("tools/call", declared, clientCapabilities={"sampling": {}})
    same(result["content"], [{"type": "text", "text": "The client has a model"}])


@check("server-stateless:methods")
async def knows_no_methods_of_sessions(peer: Peer) -> None:
    gone = ["ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"]
    # Without headers it is the method that says of which era a request is, and then this one begins a session.
    gone += [] if peer.url is None else ["initialize"]
    for method in (*gone, "unknown/method"):
        answer = await peer.ask(method, {})
        assert answer.get("error", {}).get("code") == types.METHOD_NOT_FOUND, (method, answer)


@check("server-stateless:stream")
async def sends_no_requests(peer: Peer) -> None:
    since = len(peer.wire.came)
    result = await peer.call("test_streaming_elicitation")
    same(result["content"], [{"type": "text", "text": "Hello, Grace!"}])
    same([one for one in peer.wire.came[since:] if "method" in one and "id" in one], [])


@check("server-stateless:log")
async def logs_nothing_unasked(peer: Peer) -> None:
    since = len(peer.wire.came)
    result = await peer.call("test_logging_tool")
    same(result["content"], [{"type": "text", "text": "Tool with logging executed successfully"}])
    same(peer.wire.methods(since), [])


TOOLS_CHANGED = "notifications/tools/list_changed"
PROMPTS_CHANGED = "notifications/prompts/list_changed"
UPDATED = "notifications/resources/updated"


@check("server-stateless:listen")
async def tells_of_changes(peer: Peer) -> None:
    since = len(peer.wire.came)
    async with peer.client.listen(tools_list_changed=True):
        same(peer.wire.methods(since), ["notifications/subscriptions/acknowledged"])
        await peer.call("test_trigger_tool_change")
        told = await peer.wire.notified(TOOLS_CHANGED, since)
        acknowledged = await peer.wire.notified("notifications/subscriptions/acknowledged", since)
        assert acknowledged["_meta"][f"{META}subscriptionId"] is not None, acknowledged
        same(told["_meta"], acknowledged["_meta"])


@check("server-stateless:filter")
async def tells_only_what_is_listened_for(peer: Peer) -> None:
    since = len(peer.wire.came)
    async with peer.client.listen(prompts_list_changed=True):
        await peer.call("test_trigger_tool_change")
        await peer.call("test_trigger_prompt_change")
        await peer.wire.notified(PROMPTS_CHANGED, since)
        assert TOOLS_CHANGED not in peer.wire.methods(since), peer.wire.methods(since)


@check("caching")
async def says_how_long_it_holds(peer: Peer) -> None:
    asked = ["server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"]
    for method in asked:
        result = await peer.result(method, {"uri": "test://static-text"} if method == "resources/read" else {})
        assert isinstance(result["ttlMs"], int) and result["ttlMs"] >= 0, (method, result)
        assert result["cacheScope"] in ("public", "private"), (method, result)


# --- tools -----------------------------------------------------------------------------------------------------------------


# Comes and goes at a call of the tools that change what there is.
SOMETIMES = "test_sometimes"


async def listed(peer: Peer, method: str, member: str) -> list[dict[str, Any]]:
    """Every page of a list, as it stands on the wire."""
    fetch = {
        "tools/list": peer.client.list_tools,
        "prompts/list": peer.client.list_prompts,
        "resources/list": peer.client.list_resources,
        "resources/templates/list": peer.client.list_resource_templates,
    }[method]
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        await fetch(cursor=cursor, cache_mode="bypass")
        page = peer.whole()
        found += page[member]
        cursor = page.get("nextCursor")
        if cursor is None:
            return [one for one in found if one["name"] != SOMETIMES]


@check("tools-list")
async def lists_tools(peer: Peer) -> None:
    tools = await listed(peer, "tools/list", "tools")
    expected = {name: plain(definition) for name, (definition, _) in TOOLS.items()}
    same(sorted(tool["name"] for tool in tools), sorted(expected))
    for tool in tools:
        for member in ("description", "inputSchema"):
            same(tool[member], expected[tool["name"]][member])
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", tool["name"]), tool
    same([tool["name"] for tool in await listed(peer, "tools/list", "tools")], [tool["name"] for tool in tools])


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


IMAGE = {"type": "image", "data": PNG, "mimeType": "image/png"}


def embedded(uri: str, media: str, said: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": media, "text": said}}


def answers(name: str, tool: str, *content: dict[str, Any]) -> None:
    """A tool that answers with this content, and is no error."""

    async def compare(peer: Peer) -> None:
        result = await peer.call(tool)
        same(result["content"], list(content))
        assert not result.get("isError"), result

    check(name)(compare)


answers("tools-call-simple-text", "test_simple_text", text("This is a simple text response for testing."))
answers("tools-call-image", "test_image_content", IMAGE)
answers(
    "tools-call-embedded-resource",
    "test_embedded_resource",
    embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."),
)
answers(
    "tools-call-mixed-content",
    "test_multiple_content_types",
    text("Multiple content types test:"),
    IMAGE,
    embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
)
answers("server-sse-polling", "test_reconnection", text("Reconnection test completed successfully."))


@check("tools-call-audio")
async def answers_with_a_sound(peer: Peer) -> None:
    [content] = (await peer.call("test_audio_content"))["content"]
    if peer.revision >= "2025-03-26":
        same(content, {"type": "audio", "data": WAV, "mimeType": "audio/wav"})
    else:
        # The first revision knows no sound, and its clients are told of it in words.
        same(content["type"], "text")
        assert "audio/wav" in content["text"], content


@check("tools-call-error")
async def fails(peer: Peer) -> None:
    result = await peer.call("test_error_handling")
    same(result["content"], [text("This tool intentionally returns an error for testing")])
    same(result["isError"], True)


LOG_LINES = ["Tool execution started", "Tool processing data", "Tool execution completed"]


async def logged(peer: Peer, level: str) -> list[Any]:
    """What a call logs for a client that wants that level and above."""
    meta = {f"{META}logLevel": level} if peer.modern else None
    if not peer.modern:
        await peer.client.set_logging_level(level)
    since = len(peer.wire.came)
    result = await peer.call("test_tool_with_logging", meta=meta)
    same(result["content"], [text("Tool with logging executed successfully")])
    lines = [one["params"] for one in peer.wire.came[since:] if one.get("method") == "notifications/message"]
    return [(line["level"], line["data"]) for line in lines]


@check("tools-call-with-logging")
async def logs(peer: Peer) -> None:
    same(await logged(peer, "info"), [("info", line) for line in LOG_LINES])


@check("logging-set-level")
async def logs_from_a_level_on(peer: Peer) -> None:
    same(await logged(peer, "error"), [])
    same(await logged(peer, "debug"), [("info", line) for line in LOG_LINES])


@check("tools-call-with-progress")
async def tells_how_far_it_is(peer: Peer) -> None:
    steps: list[tuple[Any, ...]] = []

    async def step(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total, message))

    result = await peer.call("test_tool_with_progress", progress_callback=step)
    same(result["content"], [text("Tool with progress executed successfully")])
    same(steps, [(done, 100, f"Completed step {done} of 100") for done in (0, 50, 100)])


@check("json-schema-2020-12")
async def keeps_its_schema(peer: Peer) -> None:
    tools = await listed(peer, "tools/list", "tools")
    same([tool["inputSchema"] for tool in tools if tool["name"] == "json_schema_2020_12_tool"], [JSON_SCHEMA])
    arguments = {"name": "Ada", "address": {"city": "London"}, "contactMethod": "phone", "phone": "1815"}
    result = await peer.call("json_schema_2020_12_tool", arguments)
    same(json.loads(result["content"][0]["text"]), arguments)


@check("http-custom-header-server-validation")
async def takes_an_argument_that_stands_in_a_header(peer: Peer) -> None:
    for region in ("eu-west", " süd ", ""):
        result = await peer.call("test_mirrored_argument", {"region": region})
        same(result["content"], [text(f"region: {region}")])


@check("server-sse-multiple-streams")
async def answers_several_calls_at_once(peer: Peer) -> None:
    told: dict[str, Any] = {}

    async def call(name: str) -> None:
        arguments = {"name": name, "contactMethod": "phone", "phone": name}
        result = await peer.client.call_tool("json_schema_2020_12_tool", arguments)
        told[name] = json.loads(result.content[0].text)["phone"]

    async with anyio.create_task_group() as calls:
        calls.start_soon(peer.client.call_tool, "test_tool_with_progress", {})
        for name in ("one", "two", "three"):
            calls.start_soon(call, name)
    same(told, {"one": "one", "two": "two", "three": "three"})


# --- what a server asks ----------------------------------------------------------------------------------------------------


@check("tools-call-sampling")
async def asks_a_model(peer: Peer) -> None:
    result = await peer.call("test_sampling", {"prompt": "What is the answer?"})
    same(result["content"], [text("LLM response: forty-two")])
    [(method, params)] = peer.asked
    same(method, "sampling/createMessage")
    same(params["messages"], [{"role": "user", "content": text("What is the answer?")}])
    same(params["maxTokens"], 100)


async def form(peer: Peer, prefix: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the form that a tool asks for. Its answer is told by the tool, and is what the person said."""
    result = await peer.call(tool, arguments)
    [(method, params)] = peer.asked
    same(method, "elicitation/create")
    said = result["content"][0]["text"]
    before, content = said.split(", content=")
    same(before, f"{prefix}: action=accept")
    same(json.loads(content), {name: ANSWERS[name] for name in params["requestedSchema"]["properties"]})
    return params


@check("tools-call-elicitation")
async def asks_a_person(peer: Peer) -> None:
    params = await form(peer, "User response", "test_elicitation", {"message": "Who goes there?"})
    same(params["message"], "Who goes there?")
    same(sorted(params["requestedSchema"]["required"]), ["email", "username"])


@check("elicitation-sep1034-defaults")
async def asks_with_defaults(peer: Peer) -> None:
    params = await form(peer, "Elicitation completed", "test_elicitation_sep1034_defaults", {})
    same(params["requestedSchema"]["properties"], DEFAULTS)


@check("elicitation-sep1330-enums")
async def asks_to_choose(peer: Peer) -> None:
    params = await form(peer, "Elicitation completed", "test_elicitation_sep1330_enums", {})
    same(params["requestedSchema"]["properties"], ENUMS)


# --- questions as results --------------------------------------------------------------------------------------------------


@dataclass
class Round:
    """A request that is answered with questions, and made again with the answers."""

    peer: Peer
    method: str
    params: dict[str, Any]
    state: dict[str, Any] = field(default_factory=dict)
    requests: dict[str, Any] = field(default_factory=dict)

    async def go(self, responses: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
        """The answer to the next round, an error or a result."""
        given = {} if responses is None else {"inputResponses": responses}
        meta = {"clientCapabilities": EVERYTHING} | meta
        answer = await self.peer.ask(self.method, self.params | given | self.state, **meta)
        result = answer.get("result", {})
        self.requests = result.get("inputRequests", {})
        self.state = {"requestState": result["requestState"]} if "requestState" in result else {}
        return answer

    async def questions(self, responses: dict[str, Any] | None = None, **meta: Any) -> list[str]:
        """The methods of what is asked in the next round."""
        answer = await self.go(responses, **meta)
        assert answer.get("result", {}).get("resultType") == "input_required", answer
        return sorted(request["method"] for request in self.requests.values())

    async def done(self, responses: dict[str, Any], **meta: Any) -> dict[str, Any]:
        """The result, when all is answered."""
        answer = await self.go(responses, **meta)
        assert answer.get("result", {}).get("resultType") == "complete", answer
        return answer["result"]

    def responses(self) -> dict[str, Any]:
        """An answer to each question."""
        return {key: answer_to(request["method"], request.get("params", {})) for key, request in self.requests.items()}


def answer_to(method: str, params: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "elicitation/create":
            content = {name: ANSWERS[name] for name in params["requestedSchema"]["properties"]}
            return {"action": "accept", "content": content}
        case "sampling/createMessage":
            return {"role": "assistant", "content": plain(MODEL_SAYS), "model": "a-person"}
        case "roots/list":
            return {"roots": [plain(ROOT)]}
    raise ValueError(f"no client is asked for {method}")


def tool_round(peer: Peer, name: str) -> Round:
    return Round(peer, "tools/call", {"name": f"test_input_required_result_{name}", "arguments": {}})


def asks_once(check_name: str, tool: str, method: str, said: str) -> None:
    async def compare(peer: Peer) -> None:
        call = tool_round(peer, tool)
        same(await call.questions(), [method])
        same((await call.done(call.responses()))["content"], [text(said)])

    check(f"input-required-result-{check_name}")(compare)


asks_once("basic-elicitation", "elicitation", "elicitation/create", "Hello, Grace!")
asks_once("basic-sampling", "sampling", "sampling/createMessage", "forty-two")
asks_once("basic-list-roots", "list_roots", "roots/list", "file:///srv/attic")


@check("input-required-result-request-state")
async def takes_its_state_back(peer: Peer) -> None:
    call = tool_round(peer, "request_state")
    await call.questions()
    assert call.state, "there is a state to give back"
    same((await call.done(call.responses()))["content"], [text("state-ok")])


@check("input-required-result-tampered-state")
async def minds_a_state_that_was_changed(peer: Peer) -> None:
    call = tool_round(peer, "tampered_state")
    await call.questions()
    (given, responses), state = (call.state, call.responses()), call.state["requestState"]
    call.state = {"requestState": state[:-1] + ("A" if state[-1] != "A" else "B")}
    same((await call.go(responses))["error"]["code"], types.INVALID_PARAMS)
    call.state = given
    same((await call.done(responses))["content"], [text("state-ok")])


@check("input-required-result-multiple-input-requests")
async def asks_several_things(peer: Peer) -> None:
    call = tool_round(peer, "multiple_inputs")
    rounds = [await call.questions()]
    each = ["elicitation/create", "roots/list", "sampling/createMessage"]
    if peer.server == "legacy":
        # A server of sessions waits for each answer before it asks on.
        rounds += [await call.questions(call.responses()) for _ in range(2)]
        same(sorted(method for [method] in rounds), each)
    else:
        same(rounds, [each])
    same((await call.done(call.responses()))["content"], [text("forty-two Grace")])


@check("input-required-result-multi-round")
async def asks_in_several_rounds(peer: Peer) -> None:
    call = tool_round(peer, "multi_round")
    messages, states = [], []
    responses: dict[str, Any] | None = None
    for _ in range(2):
        await call.questions(responses)
        [request] = call.requests.values()
        messages.append(request["params"]["message"])
        states.append(call.state["requestState"])
        responses = call.responses()
    same(messages, ["Step 1: What is your name?", "Step 2: What is your favorite color?"])
    assert states[0] != states[1], states
    result = await call.done(responses or {})
    # A modern server keeps no answers of the rounds before.
    same(result["content"], [text(f"That is all: {['step1', 'step2'] if peer.server == 'legacy' else ['step2']}")])


@check("input-required-result-missing-input-response")
async def asks_again_for_what_is_missing(peer: Peer) -> None:
    call = tool_round(peer, "elicitation")
    await call.questions()
    asked = call.requests
    await call.questions({"another": {"action": "accept", "content": {"name": "Grace"}}})
    same(call.requests, asked)
    same((await call.done(call.responses()))["content"], [text("Hello, Grace!")])


@check("input-required-result-ignore-extra-params")
async def minds_no_answer_too_many(peer: Peer) -> None:
    call = tool_round(peer, "elicitation")
    await call.questions()
    responses = {"another": {"action": "decline"}} | call.responses()
    same((await call.done(responses))["content"], [text("Hello, Grace!")])


@check("input-required-result-validate-input")
async def minds_what_is_no_answer(peer: Peer) -> None:
    call = tool_round(peer, "elicitation")
    await call.questions()
    answer = await call.go({key: 7 for key in call.requests})
    if peer.server == "modern":
        same(answer["error"]["code"], types.INVALID_PARAMS)
    else:
        # The answer of a session is looked at before the server sees it, and then asked for again.
        same(answer["result"]["resultType"], "input_required")
        same((await call.done(call.responses()))["content"], [text("Hello, Grace!")])


@check("input-required-result-result-type")
async def says_what_kind_of_result_it_is(peer: Peer) -> None:
    call = tool_round(peer, "elicitation")
    answer = await call.go()
    same(answer["result"]["resultType"], "input_required")
    same((await call.done(call.responses()))["resultType"], "complete")


@check("input-required-result-non-tool-request")
async def asks_before_it_gives_a_prompt(peer: Peer) -> None:
    get = Round(peer, "prompts/get", {"name": "test_input_required_result_prompt"})
    same(await get.questions(), ["elicitation/create"])
    messages = (await get.done(get.responses()))["messages"]
    same(messages, [{"role": "user", "content": text("Use this context: the attic")}])


@check("input-required-result-unsupported-methods")
async def lists_are_complete_at_once(peer: Peer) -> None:
    wanted = {"tools": "tools/list", "prompts": "prompts/list", "resources": "resources/list"}
    for member, method in (wanted | {"resourceTemplates": "resources/templates/list"}).items():
        result = await peer.result(method, {}, clientCapabilities=EVERYTHING)
        same(result["resultType"], "complete")
        assert result[member], result


@check("input-required-result-capability-check")
async def asks_only_what_its_client_takes(peer: Peer) -> None:
    for declares, asked, key in (
        ("elicitation", "elicitation/create", "user_name"),
        ("sampling", "sampling/createMessage", "greeting"),
    ):
        call = tool_round(peer, "capabilities")
        same(await call.questions(clientCapabilities={declares: {}}), [asked])
        result = await call.done(call.responses(), clientCapabilities={declares: {}})
        same(result["content"], [text(f"answered: {[key]}")])
    result = await peer.result("tools/call", tool_round(peer, "capabilities").params)
    same(result["content"], [text("answered: []")])


# --- resources, prompts, completions ---------------------------------------------------------------------------------------


@check("resources-list")
async def lists_resources(peer: Peer) -> None:
    resources = await listed(peer, "resources/list", "resources")
    expected = {
        uri: {"name": uri.removeprefix("test://"), "description": f"The {uri}", "mimeType": contents.mime_type}
        for uri, contents in RESOURCES.items()
    }
    found = {one["uri"]: {name: one.get(name) for name in ("name", "description", "mimeType")} for one in resources}
    same(found, expected)


async def contents(peer: Peer, uri: str) -> list[dict[str, Any]]:
    await peer.client.read_resource(uri, cache_mode="bypass")
    return peer.whole()["contents"]


@check("resources-read-text")
async def reads_a_text(peer: Peer) -> None:
    said = "This is the content of the static text resource."
    expected = [{"uri": "test://static-text", "mimeType": "text/plain", "text": said}]
    same(await contents(peer, "test://static-text"), expected)


@check("resources-read-binary")
async def reads_bytes(peer: Peer) -> None:
    expected = [{"uri": "test://static-binary", "mimeType": "image/png", "blob": PNG}]
    same(await contents(peer, "test://static-binary"), expected)


@check("resources-templates-read")
async def reads_by_a_template(peer: Peer) -> None:
    templates = await listed(peer, "resources/templates/list", "resourceTemplates")
    same([one["uriTemplate"] for one in templates], [TEMPLATE])
    [found] = await contents(peer, "test://template/123/data")
    same((found["uri"], found["mimeType"]), ("test://template/123/data", "application/json"))
    same(json.loads(found["text"]), {"id": "123", "templateTest": True, "data": "Data for ID: 123"})


@check("sep-2164-resource-not-found")
async def knows_what_it_does_not_have(peer: Peer) -> None:
    uri = "test://nonexistent-resource-for-conformance-testing"
    try:
        raise AssertionError(await contents(peer, uri))
    except MCPError as error:
        same(error.code, types.INVALID_PARAMS if peer.modern else -32002)
        same(error.data, {"uri": uri})


WATCHED = "test://watched-resource"


async def is_told(peer: Peer, method: str, tool: str) -> dict[str, Any]:
    """Has the tool change something, once, and gives what this client is told."""
    since = len(peer.wire.came)
    await peer.call(tool)
    return await peer.wire.notified(method, since)


@check("resources-subscribe")
async def tells_of_an_update(peer: Peer) -> None:
    if peer.modern:
        async with peer.client.listen(resource_subscriptions=[WATCHED]):
            same((await is_told(peer, UPDATED, "test_trigger_resource_update"))["uri"], WATCHED)
        return
    await peer.client.subscribe_resource(WATCHED)
    same(peer.wire.last_result(), {})
    same((await is_told(peer, UPDATED, "test_trigger_resource_update"))["uri"], WATCHED)
    await peer.client.unsubscribe_resource(WATCHED)


@check("resources-unsubscribe")
async def tells_of_no_more_updates(peer: Peer) -> None:
    await peer.client.subscribe_resource(WATCHED)
    await peer.client.unsubscribe_resource(WATCHED)
    same(peer.wire.last_result(), {})
    since = len(peer.wire.came)
    await peer.call("test_trigger_resource_update")
    # What comes after the update would come after the notification of it.
    await is_told(peer, TOOLS_CHANGED, "test_trigger_tool_change")
    assert UPDATED not in peer.wire.methods(since), peer.wire.methods(since)


@check("prompts-list")
async def lists_prompts(peer: Peer) -> None:
    prompts = await listed(peer, "prompts/list", "prompts")
    same({one["name"]: one for one in prompts}, {name: plain(prompt) for name, prompt in PROMPTS.items()})


async def messages(peer: Peer, name: str, arguments: dict[str, str] | None = None) -> list[Any]:
    """The content of each message of a prompt, all of which the user says."""
    await peer.client.get_prompt(name, arguments)
    said = peer.whole()["messages"]
    same({message["role"] for message in said}, {"user"})
    return [message["content"] for message in said]


@check("prompts-get-simple")
async def gives_a_prompt(peer: Peer) -> None:
    same(await messages(peer, "test_simple_prompt"), [text("This is a simple prompt for testing.")])


@check("prompts-get-with-args")
async def gives_a_prompt_with_arguments(peer: Peer) -> None:
    said = await messages(peer, "test_prompt_with_arguments", {"arg1": "hello", "arg2": "wörld"})
    same(said, [text("Prompt with arguments: arg1='hello', arg2='wörld'")])


@check("prompts-get-embedded-resource")
async def gives_a_prompt_with_a_resource(peer: Peer) -> None:
    said = await messages(peer, "test_prompt_with_embedded_resource", {"resourceUri": "test://example-resource"})
    resource = embedded("test://example-resource", "text/plain", "Embedded resource content for testing.")
    same(said, [resource, text("Please process the embedded resource above.")])


@check("prompts-get-with-image")
async def gives_a_prompt_with_an_image(peer: Peer) -> None:
    same(await messages(peer, "test_prompt_with_image"), [IMAGE, text("Please analyze the image above.")])


@check("completion-complete")
async def completes(peer: Peer) -> None:
    reference = types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
    await peer.client.complete(reference, {"name": "arg1", "value": "par"})
    same(peer.whole()["completion"], {"values": ["paris", "park", "party"], "total": 3, "hasMore": False})


# --- conversations ---------------------------------------------------------------------------------------------------------


def transport_of(conversation: dict[str, Any]) -> Any:
    if "stdio" in conversation:
        program, *arguments = conversation["stdio"]
        return stdio_client(StdioServerParameters(command=program, args=arguments))
    client = sse_client if conversation.get("transport") == "sse" else streamable_http_client
    return client(conversation["url"])


def client_of(wire: Wire, revision: str, asked: list[tuple[str, Any]]) -> Client:
    """Answers whatever it is asked, and remembers it in `asked`."""

    async def answer_form(_: Any, params: Any) -> types.ElicitResult:
        asked.append(("elicitation/create", plain(params)))
        return types.ElicitResult.model_validate(answer_to("elicitation/create", plain(params)))

    async def answer_prompt(_: Any, params: Any) -> types.CreateMessageResult:
        asked.append(("sampling/createMessage", plain(params)))
        return types.CreateMessageResult(role="assistant", content=MODEL_SAYS, model="a-person")

    async def list_roots(_: Any) -> types.ListRootsResult:
        asked.append(("roots/list", {}))
        return types.ListRootsResult(roots=[ROOT])

    # The SDK has no way to ask for another revision of those with sessions than the newest.
    mcp.client.session.LATEST_HANDSHAKE_VERSION = revision
    return Client(
        wire,
        mode="auto" if revision >= MODERN else "legacy",
        elicitation_callback=answer_form,
        sampling_callback=answer_prompt,
        list_roots_callback=list_roots,
    )


async def converse(conversation: dict[str, Any]) -> None:
    wire, asked = Wire(transport_of(conversation)), []
    async with client_of(wire, conversation["revision"], asked) as client:
        same(client.protocol_version, conversation["revision"])
        # Beside a call of a tool that is not listed yet the SDK would list them, and the last result would be the list.
        await client.list_tools()
        for name in conversation["checks"]:
            asked.clear()
            try:
                await CHECKS[name](Peer(client, wire, conversation["server"], conversation.get("url"), asked))
                emit(passed=name)
            except Exception as error:  # whatever went wrong is what the test wants to see
                cause = first_cause(error)
                emit(failed=name, why=f"{type(cause).__name__}: {cause}")


async def converse_all(conversations: list[dict[str, Any]]) -> None:
    for place, conversation in enumerate(conversations):
        emit(conversation=place, revision=conversation["revision"])
        await converse(conversation)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", action="store_true", help="print what can be checked")
    parser.add_argument("conversations", nargs="*", metavar="CONVERSATION", type=json.loads)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # much of what is checked is deprecated
    if options.names:
        return emit(names=sorted(CHECKS))
    try:
        asyncio.run(converse_all(options.conversations))
    except Exception as error:  # whatever went wrong is what the test wants to see
        cause = first_cause(error)
        emit(error={"message": f"{type(cause).__name__}: {cause}"})
        sys.exit(1)


if __name__ == "__main__":
    main()
