"""Tools that want something done at a URL before they go on, and the page there (elicitation in URL mode).

`door` asks: by a request in the middle of its call in revisions with sessions, by its answer in 2026-07-28. `gate` refuses its call with
-32042 until the page was visited, as only 2025-11-25 can; in 2026-07-28 it is a `door`. Arguments: `ticket`, which names the page, and `insists`:
whether a client that declares no URLs is asked all the same. Both tell who has visited the page, and how the question was answered.
"""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError

from one_era import MODERN, Asgi

PAGE = "/sign-in"
VISIT_TIMEOUT_S = 15
NEEDS_URLS = "this tool needs `elicitation.url`"


@dataclass
class Ticket:
    """One thing to be done at a URL."""

    url: str
    id: str
    visitor: str | None = None
    visited: anyio.Event = field(default_factory=anyio.Event)

    def question(self, with_id: bool) -> types.ElicitRequestURLParams:
        return types.ElicitRequestURLParams(
            message="Sign in to go on", url=self.url, elicitation_id=self.id if with_id else None
        )

    def told(self, **more: Any) -> types.CallToolResult:
        said = json.dumps({"visitor": self.visitor, **more})
        return types.CallToolResult(content=[types.TextContent(type="text", text=said)])


@dataclass
class Door:
    """The pages, before the MCP endpoint of the same server."""

    app: Asgi | None = None
    port: int = 0
    tickets: dict[str, Ticket] = field(default_factory=dict)

    def before(self, app: Asgi) -> "Door":
        self.app = app
        return self

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert self.app is not None
        if scope["type"] == "http":
            self.port = scope["server"][1]
        if scope["type"] != "http" or scope["path"] != PAGE:
            return await self.app(scope, receive, send)
        await send({"type": "http.response.start", "status": self.visit(scope["query_string"].decode()), "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def visit(self, query: str) -> int:
        """The status of a visit. The page is the URL as it was given, to the letter, and `&visitor=` behind it."""
        asked, _, visitor = query.rpartition("&visitor=")
        ticket = self.tickets.get(parse_qs(query)["ticket"][0])
        if ticket is None or not ticket.url.endswith(f"{PAGE}?{asked}"):
            return 404
        ticket.visitor = visitor
        ticket.visited.set()
        return 204

    def ticket(self, name: str) -> Ticket:
        url = f"http://127.0.0.1:{self.port}{PAGE}?next=%2Fa%3Fb%3D%C3%BC&ticket={quote(name)}"
        return self.tickets.setdefault(name, Ticket(url, f'"{name}"/ü {len(self.tickets)}'))


DOOR = Door()


def declares_urls(context: ServerRequestContext) -> bool:
    declared = context.session.client_capabilities
    return declared is not None and declared.elicitation is not None and declared.elicitation.url is not None


async def enter(context: ServerRequestContext, params: types.CallToolRequestParams) -> Any:
    given = params.arguments or {}
    ticket, may_ask = DOOR.ticket(given["ticket"]), given.get("insists") or declares_urls(context)
    if context.protocol_version >= MODERN:
        return by_answer(ticket, params, may_ask)
    if not may_ask:
        raise MCPError(types.INVALID_REQUEST, NEEDS_URLS)
    if params.name == "gate":
        if ticket.visitor is None:
            raise UrlElicitationRequiredError([ticket.question(with_id=True)])
        return ticket.told()
    return await by_request(context, ticket)


def by_answer(ticket: Ticket, params: types.CallToolRequestParams, may_ask: bool) -> Any:
    if not may_ask:
        required = {"requiredCapabilities": {"elicitation": {"url": {}}}}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, NEEDS_URLS, required)
    answer = (params.input_responses or {}).get("door")
    if answer is None:
        question = types.ElicitRequest(params=ticket.question(with_id=False))
        return types.InputRequiredResult(input_requests={"door": question})
    return ticket.told(action=answer.action)


async def by_request(context: ServerRequestContext, ticket: Ticket) -> types.CallToolResult:
    """Asks on the stream of the call, and says there when it is done."""
    asked = ticket.question(with_id=True)
    try:
        answer = await context.session.elicit_url(asked.message, asked.url, ticket.id, context.request_id)
    except MCPError as error:
        return ticket.told(refused=error.code)
    if answer.action == "accept":
        with anyio.fail_after(VISIT_TIMEOUT_S):
            await ticket.visited.wait()
        await context.session.send_elicit_complete(ticket.id, context.request_id)
    return ticket.told(action=answer.action)
