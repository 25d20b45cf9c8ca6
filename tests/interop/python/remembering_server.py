"""A FastMCP server over standard input and output that remembers what it was told, as many servers do: in a variable.

    python remembering_server.py

Tools: `remember` keeps a word, `recall` tells all that were kept, `about` tells its process id.
"""

import os

from fastmcp import FastMCP

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


if __name__ == "__main__":
    server.run(show_banner=False)
