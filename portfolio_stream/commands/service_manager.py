"""Tell systemd that the service serves, so that `systemctl start` returns then (sd_notify(3), Type=notify)."""

import os
import socket

VARIABLE = "NOTIFY_SOCKET"


def tell_ready() -> None:
    """Does nothing if no service manager waits. The child processes are not to talk to it."""
    address = os.environ.pop(VARIABLE, "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(b"READY=1", f"\0{address[1:]}" if address.startswith("@") else address)
