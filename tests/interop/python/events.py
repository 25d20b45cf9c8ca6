"""Speaks to the test that started this program: one JSON object per line on stdout."""

import json
import os
import sys
import threading
from typing import Any


def emit(**event: Any) -> None:
    """Prints one event. The line is flushed, so that the test can wait for it."""
    print(json.dumps(event, separators=(",", ":")), flush=True)


def record(path: str | None, **event: Any) -> None:
    """Prints one event and, if there is a path, appends it there so that it outlives this process."""
    if path is not None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(event, separators=(",", ":")) + "\n")
    emit(**event)


def exit_with_stdin() -> None:
    """Ends this process when stdin closes, so that a test that dies leaves nothing behind."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def first_cause(error: BaseException) -> BaseException:
    """Task groups and nurseries wrap what went wrong; the test wants the thing itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
