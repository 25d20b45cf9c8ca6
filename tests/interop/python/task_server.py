"""An MCP server that makes a task of each call: the official Python SDK with an extension, over Streamable HTTP, revision 2026-07-28.

    python task_server.py [--port N] [--until-stdin-closes]

The tool `greet` asks for a name by `tasks/get` (`input_required`), takes it by `tasks/update`, and is completed then. Of a client that has
not declared the extension the call is answered at once. Prints {"ready": {"port": N, "url": "http://127.0.0.1:N/mcp"}} once it listens.
"""

import argparse
import uuid
from typing import Any

import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError

from serving import serve

NOW = "2026-11-28T00:00:00Z"
QUESTION = {
    "method": "elicitation/create",
    "params": {
        "mode": "form",
        "message": "Who are you?",
        "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
}


class TaskParams(types.RequestParams):
    task_id: str
    input_responses: dict[str, Any] | None = None


class Tasks(Extension):
    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}

    def methods(self) -> list[MethodBinding]:
        handlers = {"tasks/get": self.get, "tasks/update": self.update, "tasks/cancel": self.cancel}
        return [MethodBinding(method, TaskParams, handler) for method, handler in handlers.items()]

    async def intercept_tool_call(
        self, params: types.CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        declared = (params.meta or {}).get("io.modelcontextprotocol/clientCapabilities", {})
        if self.identifier not in declared.get("extensions", {}):
            return await call_next(ctx)
        task = {
            "taskId": str(uuid.uuid4()),
            "status": "input_required",
            "createdAt": NOW,
            "lastUpdatedAt": NOW,
            "ttlMs": None,
            "inputRequests": {"who": QUESTION},
        }
        self.tasks[task["taskId"]] = task
        seed = {key: value for key, value in task.items() if key != "inputRequests"}
        return {**seed, "status": "working", "resultType": "task"}

    def find(self, params: TaskParams) -> dict[str, Any]:
        if params.task_id not in self.tasks:
            raise MCPError(types.INVALID_PARAMS, f"Task not found: {params.task_id}")
        return self.tasks[params.task_id]

    async def get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> dict[str, Any]:
        return {**self.find(params), "resultType": "complete"}

    async def update(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> dict[str, Any]:
        name = (params.input_responses or {})["who"]["content"]["name"]
        task = self.find(params)
        del task["inputRequests"]
        task["status"] = "completed"
        task["result"] = {"content": [{"type": "text", "text": f"Hello, {name}!"}], "isError": False}
        return {"resultType": "complete"}

    async def cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> dict[str, Any]:
        self.find(params)["status"] = "cancelled"
        return {"resultType": "complete"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--until-stdin-closes", action="store_true")
    arguments = parser.parse_args()
    server = MCPServer("tasks", extensions=[Tasks()])

    @server.tool()
    def greet() -> str:
        """Greets at once."""
        return "Hello, stranger!"

    serve(server.streamable_http_app(), arguments.port, "/mcp", arguments.until_stdin_closes)


if __name__ == "__main__":
    main()
