"""A transport of the Python SDK with a look at what comes, and a way for requests that the SDK would not write."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import mcp_types as types
from mcp.shared.message import ClientMessageMetadata, SessionMessage

Message = dict[str, Any]

# Far longer than anything takes: what does not come in that time does not come.
PATIENCE_S = 15


class Tap:
    """What a transport gives to read, without the answers that only `Wire.ask` waits for."""

    def __init__(self, stream: Any, wire: "Wire") -> None:
        self.stream, self.wire = stream, wire

    @property
    def last_context(self) -> Any:
        return getattr(self.stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        while True:
            item = await self.stream.receive()
            if isinstance(item, Exception) or self.wire.note(item):
                return item

    async def aclose(self) -> None:
        await self.stream.aclose()

    def __aiter__(self) -> "Tap":
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> "Tap":
        await self.stream.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self.stream.__aexit__(*error)


class Wire:
    """The transport of one client. `came` are the messages of its server, as they stood on the wire and in their order."""

    def __init__(self, transport: AbstractAsyncContextManager[Any]) -> None:
        self.transport = transport
        self.came: list[Message] = []
        self._more = anyio.Event()
        self._own: set[str] = set()

    async def __aenter__(self) -> Any:
        read, self._write = await self.transport.__aenter__()
        return Tap(read, self), self._write

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self.transport.__aexit__(*error)

    def note(self, item: SessionMessage) -> bool:
        """Remembers a message; whether the client may see it."""
        message = item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
        self.came.append(message)
        self._more.set()
        self._more = anyio.Event()
        return message.get("id") not in self._own

    async def first(self, wanted: Callable[[Message], bool], since: int) -> Message:
        """The first such message after the first `since`, when it comes."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                more = self._more
                for message in self.came[since:]:
                    if wanted(message):
                        return message
                await more.wait()

    async def notified(self, method: str, since: int) -> Message:
        """The parameters of the first such notification after the first `since` messages."""
        return (await self.first(lambda message: message.get("method") == method, since)).get("params", {})

    def methods(self, since: int) -> list[str]:
        """Of the notifications and requests after the first `since` messages."""
        return [message["method"] for message in self.came[since:] if "method" in message]

    def last_result(self) -> Message:
        """The last result that came for the client itself."""
        return next(one["result"] for one in reversed(self.came) if "result" in one and one["id"] not in self._own)

    async def ask(self, method: str, params: Message | None, headers: dict[str, str]) -> Message:
        """The answer to a request that is sent exactly so. `headers` are for transports that have some."""
        key = f"own-{len(self._own)}"
        self._own.add(key)
        since = len(self.came)
        request = types.JSONRPCRequest(jsonrpc="2.0", id=key, method=method, params=params)
        if params is None:
            request = types.JSONRPCRequest(jsonrpc="2.0", id=key, method=method)
        await self._write.send(SessionMessage(request, metadata=ClientMessageMetadata(headers=headers)))
        return await self.first(lambda message: message.get("id") == key and "method" not in message, since)
