"""A tool server of the REST shape for the tests: FastAPI with /tools/list and /tools/execute/{tool}.

    python tool_server.py [--shape SHAPE] [--bearer TOKEN] [--until-stdin-closes]

Prints {"ready": {"url": "http://127.0.0.1:N"}} once it listens, then one line per event: {"called": TOOL, "traceparent": ...}
when a tool begins, {"left": TOOL} when its client went away. POST /test/ready {"ready": false} makes it say that it is not
ready; POST /test/tools {"add": NAME} offers one more tool.
"""

import argparse
import asyncio
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, HTTPException, Request

from events import emit
from serving import serve

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}

DESCRIPTIONS: dict[str, str] = {
    "echo": "Answers its arguments.",
    "text": "Answers text.",
    "numbers": "Answers an array.",
    "nothing": "Answers null.",
    "fail": "Always fails.",
    "crash": "Fails without a word.",
    "sleep": "Never answers.",
    "a/b c?": "Has a name that no path can hold as it is.",
}


class Farm:
    """The tools and how they are told of."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.tools = dict(DESCRIPTIONS)
        self.ready = True

    def listing(self) -> Any:
        """The list in the shape that this server has."""
        names = list(self.tools)
        match self.options.shape:
            case "names":
                return {"tools": names, "count": len(names)}
            case "bare":
                return names
            case "objects":
                return {"tools": [{"name": name, "description": self.tools[name], "input_schema": SCHEMA} for name in names]}
        raise AssertionError(self.options.shape)

    async def execute(self, tool: str, arguments: dict[str, Any], request: Request) -> Any:
        """What the tool returns."""
        match tool:
            case "echo":
                return arguments
            case "text":
                return "plain text"
            case "numbers":
                return [1, 2.5]
            case "nothing":
                return None
            case "fail":
                raise HTTPException(500, detail="Tool execution failed: no luck")
            case "sleep":
                while not await request.is_disconnected():
                    await asyncio.sleep(0.01)
                emit(left=tool)
                return None
            case "crash":
                raise RuntimeError("a fault of the server itself")
        return {"tool": tool}


def build(options: argparse.Namespace) -> FastAPI:
    """The application."""
    farm = Farm(options)
    app = FastAPI()

    def authenticate(request: Request) -> None:
        wanted = f"Bearer {options.bearer}"
        if options.bearer is not None and request.headers.get("authorization") != wanted:
            raise HTTPException(401, detail="Not authenticated")

    @app.get("/health/ready")
    def ready() -> dict[str, str]:
        if not farm.ready:
            raise HTTPException(503, detail="starting")
        return {"status": "ready"}

    @app.get("/tools/list", dependencies=[Depends(authenticate)])
    def list_tools() -> Any:
        return farm.listing()

    # `path`, because the tool's own slash is decoded before the route is looked for.
    @app.post("/tools/execute/{tool:path}", dependencies=[Depends(authenticate)])
    async def execute(tool: str, arguments: Annotated[dict[str, Any], Body()], request: Request) -> Any:
        emit(called=tool, traceparent=request.headers.get("traceparent"))
        if tool not in farm.tools:
            raise HTTPException(404, detail=f"Tool '{tool}' not found")
        return {"tool": tool, "status": "success", "result": await farm.execute(tool, arguments, request)}

    @app.post("/test/ready")
    def set_ready(ready: Annotated[bool, Body(embed=True)]) -> None:
        farm.ready = ready

    @app.post("/test/tools")
    def change_tools(add: Annotated[str | None, Body()] = None, remove: Annotated[str | None, Body()] = None) -> None:
        if add is not None:
            farm.tools[add] = "Was added later."
        if remove is not None:
            del farm.tools[remove]

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--shape", choices=["names", "bare", "objects"], default="objects", help="how the list looks")
    parser.add_argument("--bearer", metavar="TOKEN", help="what clients must send")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when stdin closes")
    options = parser.parse_args()
    serve(build(options), options.port, "", options.until_stdin_closes)


if __name__ == "__main__":
    main()
