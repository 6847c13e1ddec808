"""Compressed files of text (.gz, .zst): read and written as the text within, a piece at a time."""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

ENDINGS: Final = {".gz": "gzip", ".zst": "zstd"}  # pyarrow's names of how they are compressed
FRAME: Final = 2**20  # bytes of text in a frame of .zst that is written
GZIP: Final = 31  # zlib's number for gzip's form


def plain(name: str) -> str:
    """`name` without the ending that says how it is compressed."""
    return str(Path(name).with_suffix("")) if is_compressed(name) else name


def is_compressed(name: str) -> bool:
    """Whether a file is called like a compressed one."""
    return _ending(name) in ENDINGS


def _ending(name: str) -> str:
    return Path(name).suffix.lower()


@contextmanager
def reading(path: str) -> Iterator[IO[bytes]]:
    """The bytes of the file at `path`, of what is compressed in it if it is called so.

    ValueError, which says how, where they are not so compressed, damaged or cut.
    """
    ending = _ending(path)
    with _opened(path, ending) as f:
        try:
            yield f
        except (EOFError, zlib.error, OSError) as error:
            if ending not in ENDINGS or getattr(error, "errno", None) is not None:
                raise
            raise ValueError(f"damaged, cut, or not {ENDINGS[ending]}: {error}") from error


def _opened(path: str, ending: str) -> Any:
    """A stream of an archive with several parts goes on from one to the next."""
    if ending == ".gz":
        return gzip.open(path, "rb")
    if ending == ".zst":
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.OSFile(path), ENDINGS[ending])
    return Path(path).open("rb")


def written(pieces: Iterable[bytes], name: str) -> Iterator[bytes]:
    """`pieces` as a file called `name` holds them: as they are, or compressed."""
    match _ending(name):
        case ".gz":
            return _gzipped(pieces)
        case ".zst":
            return _frames(pieces)
    return iter(pieces)


def _gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=GZIP)
    yield from map(packer.compress, pieces)
    yield packer.flush()


def _frames(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Frames of their own, which readers take one after the other for one text."""
    import pyarrow

    codec, held = pyarrow.Codec("zstd"), bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= FRAME:
            yield codec.compress(bytes(held), asbytes=True)
            held.clear()
    yield codec.compress(bytes(held), asbytes=True)
