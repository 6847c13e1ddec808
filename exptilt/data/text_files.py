"""The text of a file, piece by piece: decoded as its byte order mark says, its lines whatever ends them."""

import codecs
import io
from collections.abc import Callable, Iterator
from typing import IO, Final

PIECE: Final = 2**16  # bytes of a file of lines that are read at a time; more where a line is longer
MARKS: Final = (  # UTF-32's before UTF-16's, which begin it
    (codecs.BOM_UTF8, "UTF-8"),
    (codecs.BOM_UTF32_LE, "UTF-32-LE"),
    (codecs.BOM_UTF32_BE, "UTF-32-BE"),
    (codecs.BOM_UTF16_LE, "UTF-16-LE"),
    (codecs.BOM_UTF16_BE, "UTF-16-BE"),
    (b"", "UTF-8"),
)


def decoding(f: IO[bytes]) -> Callable[[int], str]:
    """Reads so many bytes of `f`, or as many more as a character takes, as text; nothing only at its end.

    A byte order mark says the encoding and is no text; a file without one is UTF-8. ValueError, which names
    the byte (of what is compressed, within the text), where it is not so encoded.
    """
    head = _head(f)
    mark, name = next((mark, name) for mark, name in MARKS if head.startswith(mark))
    decoder, offset, kept = codecs.getincrementaldecoder(name)(), len(mark), head[len(mark) :]

    def read(size: int) -> str:
        nonlocal offset, kept
        while True:
            data, begun = kept or f.read(size), len(decoder.getstate()[0])
            kept = b""
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                raise ValueError(f"not {name} at byte {offset - begun + error.start}") from error
            offset += len(data)
            if text or not data:
                return text

    return read


def _head(f: IO[bytes]) -> bytes:
    """The first bytes of `f`, as many as the longest mark; a stream may give them one by one."""
    head = b""
    while len(head) < 4 and (more := f.read(4 - len(head))):
        head += more
    return head


def lines(f: IO[bytes]) -> Iterator[str]:
    """The lines of `f` with what ends them: a line feed, a carriage return, or the two together.

    Every other character is text, also those that Unicode lets end a line (U+2028, a form feed, ...).
    """
    line: list[str] = []
    for text in _pieces(f):
        for part in io.StringIO(text, newline=""):
            line.append(part)
            if part.endswith(("\n", "\r")):
                yield "".join(line)
                line.clear()
    if line:
        yield "".join(line)


def _pieces(f: IO[bytes]) -> Iterator[str]:
    """The text of `f`, cut anywhere but within the two characters of one end of a line."""
    read, ends = decoding(f), io.IncrementalNewlineDecoder(None, translate=False)
    yield from map(ends.decode, iter(lambda: read(PIECE), ""))
    yield ends.decode("", final=True)
