"""An MCP server that makes tasks of calls: the official Python SDK with the extension of tasks, over Streamable HTTP or stdio,
revision 2026-07-28.

    python task_server.py [--port N] [--until-stdin-closes] [--stdio]

`introduce` asks for a name by `tasks/get` (`input_required`), takes it by `tasks/update`, and is completed then. The other tools are those that
the `tasks-*` scenarios of `@modelcontextprotocol/conformance` describe. Of a client that has not declared the extension a call is answered at
once, or refused where the tool cannot do without. Whoever names tasks in `subscriptions/listen` is told how they stand. Prints {"ready": {"port": N, "url": "http://127.0.0.1:N/mcp"}} once it listens.
"""

import argparse
import asyncio
import contextlib
import datetime
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

from serving import serve

HEADER_MISMATCH = -32020
TTL_MS = 600_000
POLL_MS = 100
# How long `failing_job` takes before it fails: "about a second", say the scenarios.
FAILING_S = 1.0

Context = ServerRequestContext[Any, Any]
Arguments = dict[str, Any]


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")


def said(text: str, *, is_error: bool = False) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": is_error}


def form(message: str, **properties: str) -> dict[str, Any]:
    """A question; `properties` are names and types."""
    schema = {
        "type": "object",
        "properties": {name: {"type": type_} for name, type_ in properties.items()},
        "required": list(properties),
    }
    params = {"mode": "form", "message": message, "requestedSchema": schema}
    return {"method": "elicitation/create", "params": params}


class Task:
    """A call that goes on, and what it waits for."""

    def __init__(self) -> None:
        self.id = str(uuid.uuid4())
        self.status = "working"
        self.created = self.updated = now()
        self.outcome: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}
        self.answers: dict[str, Any] = {}
        self.answered = asyncio.Event()
        self.listeners: set[asyncio.Queue[dict[str, Any]]] = set()
        self.running: asyncio.Task[None] | None = None

    def seed(self) -> dict[str, Any]:
        return {
            "taskId": self.id,
            "status": self.status,
            "createdAt": self.created,
            "lastUpdatedAt": self.updated,
            "ttlMs": TTL_MS,
            "pollIntervalMs": POLL_MS,
        }

    def detailed(self) -> dict[str, Any]:
        asked = {"inputRequests": self.asked} if self.status == "input_required" else {}
        return {**self.seed(), **self.outcome, **asked}

    def becomes(self, status: str, **outcome: Any) -> None:
        self.status, self.outcome, self.updated = status, outcome, now()
        self.tell()

    def tell(self) -> None:
        for listener in self.listeners:
            listener.put_nowait(self.detailed())

    async def ask(self, **questions: dict[str, Any]) -> dict[str, Any]:
        """Waits for the answers to all of them."""
        self.asked = dict(questions)
        self.becomes("input_required")
        while self.asked:
            self.answered.clear()
            await self.answered.wait()
        self.becomes("working")
        return self.answers

    def answer(self, answers: dict[str, Any]) -> None:
        """Takes those that were asked for."""
        for key in answers.keys() & self.asked.keys():
            self.answers[key] = answers[key]
            del self.asked[key]
        if self.asked:
            # What is still asked, as it stands now.
            self.tell()
        self.answered.set()

    async def run(self, job: Awaitable[dict[str, Any]]) -> None:
        try:
            self.becomes("completed", result=await job)
        except MCPError as error:
            self.becomes("failed", error={"code": error.error.code, "message": error.error.message})
        except asyncio.CancelledError:
            self.becomes("cancelled")

    async def cancel(self) -> None:
        """Of one that has ended nothing changes."""
        assert self.running is not None
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running


async def introduce(task: Task, _: Arguments) -> dict[str, Any]:
    answers = await task.ask(who=form("Who are you?", name="string"))
    return said(f"Hello, {answers['who']['content']['name']}!")


async def slow_compute(_: Task, arguments: Arguments) -> dict[str, Any]:
    await asyncio.sleep(arguments["seconds"])
    return said(f"computed {arguments.get('label', '')}")


async def failing_job(_: Task, __: Arguments) -> dict[str, Any]:
    await asyncio.sleep(FAILING_S)
    return said("the job has failed", is_error=True)


async def protocol_error_job(_: Task, __: Arguments) -> dict[str, Any]:
    raise MCPError(types.INTERNAL_ERROR, "the job has broken")


async def confirm_delete(task: Task, arguments: Arguments) -> dict[str, Any]:
    answers = await task.ask(confirmation=form(f"Delete {arguments['filename']}?", confirm="boolean"))
    return said("deleted" if answers["confirmation"]["content"]["confirm"] else "kept")


async def multi_input(task: Task, _: Arguments) -> dict[str, Any]:
    answers = await task.ask(first=form("The first?", name="string"), second=form("The second?", name="string"))
    return said(" and ".join(answers[key]["content"]["name"] for key in ("first", "second")))


Job = Callable[[Task, Arguments], Awaitable[dict[str, Any]]]
JOBS: dict[str, Job] = {
    job.__name__: job for job in (introduce, slow_compute, failing_job, protocol_error_job, confirm_delete, multi_input)
}


class TaskParams(types.RequestParams):
    task_id: str
    input_responses: dict[str, Any] | None = None


class Told(types.Notification[dict[str, Any], Literal["notifications/subscriptions/acknowledged", "notifications/tasks"]]):
    """What the types of the SDK have no room for."""


class Tasks(Extension):
    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}

    def methods(self) -> list[MethodBinding]:
        handlers = {"tasks/get": self.get, "tasks/update": self.update, "tasks/cancel": self.cancel}
        return [MethodBinding(method, TaskParams, handler) for method, handler in handlers.items()]

    async def intercept_tool_call(
        self, params: types.CallToolRequestParams, ctx: Context, call_next: CallNext
    ) -> HandlerResult:
        arguments = params.arguments or {}
        if not self.is_declared(params):
            if params.name == "failing_job":
                raise self.lacking()
            return await call_next(ctx)
        if params.name in JOBS:
            return self.begin(JOBS[params.name], arguments)
        if params.name == "test_tool_with_task":
            answers = (ctx.params or {}).get("inputResponses")
            if answers is None:
                return {"resultType": "input_required", "inputRequests": {"user_name": form("Who are you?", name="string")}}
            name = answers["user_name"]["content"]["name"]

            async def greet(_: Task, __: Arguments) -> dict[str, Any]:
                return said(f"Hello, {name}!")

            return self.begin(greet, arguments)
        return await call_next(ctx)

    def begin(self, job: Job, arguments: Arguments) -> dict[str, Any]:
        task = Task()
        self.tasks[task.id] = task
        task.running = asyncio.create_task(task.run(job(task, arguments)))
        return {**task.seed(), "resultType": "task"}

    def is_declared(self, params: types.RequestParams) -> bool:
        declared = (params.meta or {}).get("io.modelcontextprotocol/clientCapabilities", {})
        return self.identifier in declared.get("extensions", {})

    def lacking(self) -> MCPError:
        required = {"requiredCapabilities": {"extensions": {self.identifier: {}}}}
        return MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "this needs the extension of tasks", required)

    def find(self, ctx: Context, params: TaskParams) -> Task:
        if not self.is_declared(params):
            raise self.lacking()
        if ctx.request is not None and ctx.request.headers.get("mcp-name") != params.task_id:
            raise MCPError(HEADER_MISMATCH, "`Mcp-Name` is not the task's id")
        if params.task_id not in self.tasks:
            raise MCPError(types.INVALID_PARAMS, f"Task not found: {params.task_id}")
        return self.tasks[params.task_id]

    async def get(self, ctx: Context, params: TaskParams) -> dict[str, Any]:
        return {**self.find(ctx, params).detailed(), "resultType": "complete"}

    async def update(self, ctx: Context, params: TaskParams) -> dict[str, Any]:
        self.find(ctx, params).answer(params.input_responses or {})
        return {"resultType": "complete"}

    async def cancel(self, ctx: Context, params: TaskParams) -> dict[str, Any]:
        await self.find(ctx, params).cancel()
        return {"resultType": "complete"}


    async def listen(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Serves those who name tasks; the SDK serves all others."""
        named = (ctx.params or {}).get("notifications", {}).get("taskIds") if ctx.method == "subscriptions/listen" else None
        if named is None:
            return await call_next(ctx)
        tasks = [self.tasks[task] for task in named if task in self.tasks]
        meta = {"_meta": {SUBSCRIPTION_ID_META_KEY: ctx.request_id}}
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for task in tasks:
            task.listeners.add(queue)

        async def tell(method: Any, params: dict[str, Any]) -> None:
            await ctx.session.send_notification(Told(method=method, params={**params, **meta}), ctx.request_id)

        try:
            honoured = {"notifications": {"taskIds": [task.id for task in tasks]}}
            await tell("notifications/subscriptions/acknowledged", honoured)
            while True:
                await tell("notifications/tasks", await queue.get())
        finally:
            for task in tasks:
                task.listeners.discard(queue)


def add_tools(server: MCPServer) -> None:
    """Those of the scenarios, as they are without tasks."""

    @server.tool()
    def greet(name: str = "stranger") -> str:
        """Greets at once, never as a task."""
        return f"Hello, {name}!"

    @server.tool(name="introduce")
    def introduced() -> str:
        """Asks for a name, and greets."""
        return "Hello, stranger!"

    @server.tool(name="slow_compute")
    async def computed(seconds: float, label: str = "") -> str:
        """Takes that many seconds."""
        await asyncio.sleep(seconds)
        return f"computed {label}"

    @server.tool(name="failing_job")
    def failed() -> str:
        """Fails after a second; only as a task."""
        raise AssertionError("without tasks it is refused")

    @server.tool(name="protocol_error_job")
    def broken() -> str:
        """Breaks."""
        raise MCPError(types.INTERNAL_ERROR, "the job has broken")

    @server.tool(name="confirm_delete")
    def kept(filename: str) -> str:
        """Asks before it deletes nothing."""
        return f"{filename} is kept: nobody can be asked"

    @server.tool(name="multi_input")
    def nothing() -> str:
        """Asks for two names at once."""
        return "nobody can be asked"

    @server.tool()
    def test_tool_with_task() -> str:
        """Asks for a name, and greets as a task."""
        return "Hello, stranger!"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--until-stdin-closes", action="store_true")
    parser.add_argument("--stdio", action="store_true")
    arguments = parser.parse_args()
    tasks = Tasks()
    server = MCPServer("tasks", extensions=[tasks])
    server.middleware.append(tasks.listen)
    add_tools(server)
    if arguments.stdio:
        return server.run("stdio")
    serve(server.streamable_http_app(), arguments.port, "/mcp", arguments.until_stdin_closes)


if __name__ == "__main__":
    main()
