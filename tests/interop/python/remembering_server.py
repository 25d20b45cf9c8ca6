"""A FastMCP server over standard input and output that remembers what it was told, as many servers do: in a variable.

    python remembering_server.py

Tools: `remember` keeps a word, `recall` tells all that were kept, `about` tells its process id. `flood` reports progress `steps` times,
each with a message of `bytes` bytes, and then says so.
"""

import os

from fastmcp import Context, FastMCP

server = FastMCP("memory")
words: list[str] = []


@server.tool
def remember(word: str) -> int:
    words.append(word)
    return len(words)


@server.tool(annotations={"readOnlyHint": True})
def recall() -> str:
    return ",".join(words)


@server.tool
def about() -> str:
    return str(os.getpid())


@server.tool
async def flood(context: Context, steps: int, bytes: int) -> str:
    for step in range(1, steps + 1):
        await context.report_progress(step, steps, "x" * bytes)
    return "flooded"


if __name__ == "__main__":
    server.run(show_banner=False)
