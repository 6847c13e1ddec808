"""A proxy in front of an S3 server that breaks requests on a seeded schedule, and keeps count."""

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

KINDS = ("reset", "lost answer", "500", "503", "hang", "truncated", "cut upload", "slow")
MOST_IN_A_ROW = 3  # so that a request that is tried six times gets through, whatever the seed
SLOW_SECONDS, HANG_SECONDS = 0.3, 100.0
CODES = {"500": "InternalError", "503": "SlowDown", "501": "NotImplemented"}
Create = Literal["as it is", "honoured", "not implemented"]


@dataclass
class Faults:
    """What the proxy does: a share `rate` of the requests meets one of `kinds`, drawn from `seed`.

    `create` says what becomes of a put that must not overwrite (rclone ignores the condition).
    """

    upstream: int
    seed: int = 0
    rate: float = 0.0
    kinds: tuple[str, ...] = KINDS
    create: Create = "as it is"
    requests: int = 0
    port: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    asked: list[str] = field(default_factory=list)
    _times: Counter[str] = field(default_factory=Counter)
    _row: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _there: set[str] = field(default_factory=set)
    _alone: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def next(self, line: str) -> str:
        """The fault of the next request, "" for none.

        It is drawn from what is asked for and how often it was: the order of requests changes nothing.
        """
        self.requests += 1
        self.asked.append(line)
        request = re.sub(r"uploadId=[^&]*", "", line)
        self._times[request] += 1
        draw = random.Random(f"{self.seed} {request} {self._times[request]}")
        chance, kind = draw.random(), draw.choice(self.kinds)
        if chance >= self.rate or self._row[line] >= MOST_IN_A_ROW:
            self._row[line] = 0
            return ""
        self._row[line] += 1
        self.injected[kind] += 1
        return kind

    def alone(self, path: str) -> asyncio.Lock:
        """What a request to an object holds: rclone mixes puts of one object at once, as no store may."""
        return self._alone[path.partition("?")[0]]

    def refusal(self, method: str, path: str, head: bytes) -> str:
        """The status of a put on condition that this proxy answers itself, "" where it does not."""
        exclusive = b"if-none-match" in head.lower()
        if method == "DELETE":
            self._there.discard(path)
        if method != "PUT" or (exclusive and self.create == "as it is"):
            return ""
        if exclusive and self.create == "not implemented":
            return "501"
        refused = exclusive and path in self._there
        self._there.add(path)
        return "412" if refused else ""


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close the connection with RST, as a dying host or a full firewall table does."""
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _left(writer: asyncio.StreamWriter) -> None:
    """Wait until the client has had enough."""
    while not writer.transport.is_closing():
        await asyncio.sleep(0.05)


def _refused(status: str) -> bytes:
    code = CODES.get(status, "PreconditionFailed")
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _forward(faults: Faults, head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Head and body of the server's answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", faults.upstream, limit=2**20)
    kept = [part for part in head.split(b"\r\n") if not part.lower().startswith((b"connection:", b"expect:"))]
    kept.insert(1, b"Connection: close")
    writer.write(b"\r\n".join(kept) + body)
    await writer.drain()
    answer = await reader.readuntil(b"\r\n\r\n")
    rest = b"" if head.startswith(b"HEAD") else await reader.read()
    writer.close()
    return answer, rest


async def _serve(faults: Faults, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
        while head := await _read_head(reader):
            if not await _answer(faults, head, reader, writer):
                break
    writer.close()


async def _answer(
    faults: Faults, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Answer one request; False where the connection ends with it."""
    method, path = head.split(b" ", 2)[:2]
    fault = faults.next(f"{method.decode()} {path.decode()}")
    if fault == "reset":
        _reset(writer)
        return False
    if fault == "hang":  # reads nothing more, so a large body stops on its way
        await asyncio.wait_for(_left(writer), HANG_SECONDS)
        return False
    if _header(head, b"expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = int(_header(head, b"content-length") or 0)
    if fault == "cut upload":
        await reader.readexactly(length // 2)
        _reset(writer)
        return False
    body = await reader.readexactly(length)
    status = fault if fault in CODES else faults.refusal(method.decode(), path.decode(), head)
    if status:
        writer.write(_refused(status))
        await writer.drain()
        return True
    async with faults.alone(path.decode()):
        answer, rest = await _forward(faults, head, body)
    return await _deliver(fault, answer, rest, writer)


async def _deliver(fault: str, answer: bytes, rest: bytes, writer: asyncio.StreamWriter) -> bool:
    if fault == "lost answer":
        _reset(writer)
        return False
    if fault == "slow":
        await asyncio.sleep(SLOW_SECONDS)
    cut = fault == "truncated" and rest
    writer.write(answer + (rest[: len(rest) // 2] if cut else rest))
    await writer.drain()
    return not cut and b"connection: close" not in answer.lower()


@contextlib.contextmanager
def proxy(faults: Faults) -> Iterator[Faults]:
    """Serve in a thread, at faults.url."""
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def start() -> None:
        server = await asyncio.start_server(lambda r, w: _serve(faults, r, w), "127.0.0.1", 0, limit=2**20)
        faults.port = server.sockets[0].getsockname()[1]
        started.set()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    started.wait()
    try:
        yield faults
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
