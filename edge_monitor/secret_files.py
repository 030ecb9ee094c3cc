"""Files that nobody but their owner may read: keys."""

from __future__ import annotations

import os
from pathlib import Path


def open_to_others(path: Path) -> bool:
    """Whether users other than the owner may read or change the file. Raises ``OSError``.

    A credential of systemd is given to a service by an access list where its file system has them; then the bits of the
    group are the list's mask and no group's right, in a folder that nobody else can enter.
    """
    given = os.environ.get("CREDENTIALS_DIRECTORY", "")
    mask = 0o037 if given and path.parent == Path(given) else 0o077
    return bool(path.stat().st_mode & mask)
