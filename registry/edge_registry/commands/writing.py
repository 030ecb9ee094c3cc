"""Files that commands write for people."""

from __future__ import annotations

from pathlib import Path

from edge_monitor.errors import UsageError


def write_out(path: Path | None, data: bytes) -> None:
    """Write a new file, where one is asked for. Raises ``UsageError`` where it can't be."""
    if path is None:
        return
    try:
        with path.open("xb") as stream:
            stream.write(data)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name a new file in a folder you can write to") from None
