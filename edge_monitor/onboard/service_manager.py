"""``sd_notify``: tells systemd that the monitor is ready, alive or ending (sd_notify(3)); silent where there is none."""

from __future__ import annotations

import os
import socket


def notify(words: str) -> None:
    """Send ``words`` (``READY=1``, ``WATCHDOG=1``, ``STOPPING=1``, ``STATUS=…``) to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(words.encode(), "\0" + address[1:] if address[0] == "@" else address)
    except OSError:
        pass  # a service manager that does not listen must not stop a monitor; its watchdog will say so
