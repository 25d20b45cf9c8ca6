"""A FastMCP server, as its users write one: functions with type hints, a context, models in and out.

    python fastmcp_server.py [--port N] [--until-stdin-closes]

Prints {"ready": {"port": N, "url": "http://127.0.0.1:N/mcp"}} once it listens.
"""

import argparse

from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.tools import Tool
from fastmcp.utilities.types import Image
from mcp_types import ToolListChangedNotification
from pydantic import BaseModel, Field

from serving import serve

server = FastMCP("farm")


class Person(BaseModel):
    name: str
    age: int = Field(ge=0)
    friends: list["Person"] = []


@server.tool(annotations={"readOnlyHint": True})
def greet(person: Person, greeting: str = "Hello") -> str:
    """Greets somebody."""
    return f"{greeting}, {person.name}"


@server.tool
def older(person: Person, years: int) -> Person:
    """The same person, some years later."""
    return person.model_copy(update={"age": person.age + years})


@server.tool
async def progress(steps: int, context: Context) -> str:
    """Reports its progress."""
    for step in range(1, steps + 1):
        await context.report_progress(step, steps, f"step {step}")
    return f"{steps} steps"


@server.tool
def fail() -> None:
    """Always fails."""
    raise ToolError("this tool always fails")


@server.tool
async def grow(context: Context) -> str:
    """Adds the tool `grown`; clients that listen are told."""
    server.add_tool(Tool.from_function(lambda: "grown", name="grown"))
    await context.send_notification(ToolListChangedNotification())
    return "grown"


@server.tool
def picture() -> Image:
    """A picture."""
    return Image(data=b"\x89PNG", format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when stdin closes")
    options = parser.parse_args()
    serve(server.http_app(), options.port, "/mcp", options.until_stdin_closes)


if __name__ == "__main__":
    main()
