"""The zip: written with the same bytes for the same files, and read from outside with every size bounded first."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from ..errors import DamagedInputError, VerificationError

if TYPE_CHECKING:
    from typing_extensions import Buffer

EPOCH = (1980, 1, 1, 0, 0, 0)
LEVEL = 1  #: records are salts and hashes, which nothing packs: 6 takes four times as long for a tenth less
MAX_FILES = 4096
MAX_BYTES = 64 << 30  #: of all files, unpacked
MAX_RATIO = 200  #: beyond ``FREE`` a file grows to at most so many times its packed size, and more is a bomb
FREE = 1 << 30  #: bytes; a black box may be empty room for the most part
MAX_NAME = 300
MAX_JSON = 64 << 20  #: bytes of a file that is read as a whole
CHUNK = 1 << 20


class Member:
    """A file to be written: its content as chunks, made when it is its turn."""

    def __init__(self, source: bytes | Path) -> None:
        self._source = source

    def chunks(self) -> Iterator[bytes]:
        """The content."""
        if isinstance(self._source, bytes):
            yield self._source
            return
        with self._source.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                yield chunk

    def digest(self) -> str:
        """SHA-256, in hex."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


def write(out: BinaryIO, files: Mapping[str, Member]) -> None:
    """Write files in order of name, deflated, without anything of this machine."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL, allowZip64=True) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system, info.external_attr = 3, 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as stream:
                for chunk in files[name].chunks():
                    stream.write(chunk)


class Archive:
    """A packet from outside. Raises ``VerificationError`` for what no packet has, ``DamagedInputError`` for no zip."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise DamagedInputError(f"{path}: no evidence packet ({error})") from None
        infos = self._zip.infolist()
        self.names = [info.filename for info in infos]
        self._infos = {info.filename: info for info in infos}
        if len(infos) > MAX_FILES or len(self._infos) != len(infos):
            raise VerificationError("zip_names: the zip has too many files, or a name twice")
        for info in infos:
            if not _is_plain(info.filename) or info.is_dir():
                raise VerificationError(f"zip_path: a file's name leads elsewhere: {info.filename[:80]!r}")
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
                raise VerificationError(
                    f"zip_form: {info.filename[:80]} is encrypted, or packed in a way that no packet is"
                )
            if info.file_size > FREE + info.compress_size * MAX_RATIO:
                raise VerificationError(f"zip_bomb: {info.filename[:80]} grows to {info.file_size} bytes")
        if sum(info.file_size for info in infos) > MAX_BYTES:
            raise VerificationError("zip_bomb: the files are too large, unpacked")

    def close(self) -> None:
        """Give the file back."""
        self._zip.close()

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file's content, never more than its entry says."""
        if name not in self._infos:
            raise VerificationError(f"file_missing: {name} is not in the packet")
        left = self._infos[name].file_size
        try:
            with self._zip.open(name) as stream:
                while chunk := stream.read(CHUNK):
                    left -= len(chunk)
                    if left < 0:
                        raise VerificationError(f"zip_bomb: {name} holds more than its entry says")
                    yield chunk
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, ValueError) as error:
            raise VerificationError(f"zip_damaged: {name} cannot be read ({error})") from None
        except Exception as error:
            if type(error).__module__ == "zlib":
                raise VerificationError(f"zip_damaged: {name} cannot be read ({error})") from None
            raise

    def stream(self, name: str) -> io.BufferedReader:
        """A file's content as a stream."""
        return io.BufferedReader(_Raw(self.chunks(name)), CHUNK)

    def read(self, name: str, limit: int = MAX_JSON) -> bytes:
        """A whole file of at most ``limit`` bytes."""
        if name not in self._infos:
            raise VerificationError(f"file_missing: {name} is not in the packet")
        if self._infos[name].file_size > limit:
            raise VerificationError(
                f"oversize: {name} has {self._infos[name].file_size} bytes, at most {limit} are read"
            )
        return b"".join(self.chunks(name))


class _Raw(io.RawIOBase):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    fine = 0 < len(name) <= MAX_NAME and name.isprintable() and "\\" not in name and ":" not in name
    return fine and not path.is_absolute() and ".." not in path.parts and str(path) == name
