"""MCP++ Profile E over py-libp2p: hosts that speak Noise and Yamux only, and frames of u32 big-endian + UTF-8 JSON."""

import json
import struct
from typing import Any

from libp2p import new_host
from libp2p.abc import IHost, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport

PROTOCOL = TProtocol("/mcp+p2p/1.0.0")

# 16 MiB: default frame limit, MCP++ transport binding.
FRAME_BYTES_MAX = 16 * 1024 * 1024


def noise_host(seed: bytes | None) -> IHost:
    """A host with an Ed25519 identity, the same one for the same 32 byte seed.

    The security option is named because the default of py-libp2p also offers plaintext.
    """
    key_pair = create_new_key_pair(seed)
    noise = NoiseTransport(key_pair, noise_privkey=create_new_x25519_key_pair().private_key)
    return new_host(key_pair=key_pair, sec_opt={NOISE: noise}, muxer_preference="YAMUX")


def seed_from(text: str) -> bytes:
    """A seed as 64 hexadecimal digits. Errors: ValueError."""
    seed = bytes.fromhex(text)
    if len(seed) != 32:
        raise ValueError("a seed is 32 bytes, written as 64 hexadecimal digits")
    return seed


async def write_frame(stream: INetStream, message: dict[str, Any]) -> None:
    body = json.dumps(message, separators=(",", ":")).encode()
    await stream.write(struct.pack(">I", len(body)) + body)


async def read_frame(stream: INetStream) -> dict[str, Any]:
    """Reads one message. Errors: EOFError when the stream ends, ValueError for a frame that no peer may send."""
    (length,) = struct.unpack(">I", await _read_exactly(stream, 4))
    if not 0 < length <= FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {length} bytes is not allowed")
    message = json.loads(await _read_exactly(stream, length))
    if not isinstance(message, dict):
        raise ValueError("a frame holds one JSON object")
    return message


async def _read_exactly(stream: INetStream, count: int) -> bytes:
    """A read returns what has arrived, which may be a part of a frame."""
    parts = bytearray()
    while len(parts) < count:
        try:
            part = await stream.read(count - len(parts))
        except StreamEOF:
            part = b""
        if not part:
            raise EOFError(f"the stream ended after {len(parts)} of {count} bytes")
        parts += part
    return bytes(parts)
