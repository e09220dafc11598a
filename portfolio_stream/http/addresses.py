"""Opens the socket of an HTTP server, and reads and writes addresses of the form host:port."""

import errno
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from portfolio_stream.errors import InvalidSetting, PortInUse
from portfolio_stream.setting_values import LAST_PORT
from portfolio_stream.settings import Settings

DEFAULT_PORT = 6066
BACKLOG = 128
WORKER_PORT_REMEDY = "give another --web-port or PORTFOLIO_WEB_PORT, or none"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def listen(
    host: str, port: int | None, host_setting: str = "PORTFOLIO_WEB_HOST", port_remedy: str = WORKER_PORT_REMEDY
) -> socket.socket:
    """Returns a socket that listens. If `port` is None, the socket has port 6066 or the next free port.

    `host_setting` is the option or variable that `host` comes from. `port_remedy` says how an operator chooses another
    port. Raises PortInUse and InvalidSetting.
    """
    for candidate in _candidates(port):
        try:
            return _listen(host, candidate)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise InvalidSetting(host_setting, host, "an address this user may listen on") from error
    raise PortInUse(host, DEFAULT_PORT if port is None else port, port_remedy)


def _candidates(port: int | None) -> Iterator[int]:
    yield from range(DEFAULT_PORT, LAST_PORT + 1) if port is None else (port,)


def _listen(host: str, port: int) -> socket.socket:
    """Bind and listen. A call of listen() also fails for a taken port: two sockets may bind to a port at the same time
    while neither listens."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def advertised_address(settings: Settings, sock: socket.socket) -> str:
    """Returns the host:port that other workers use.

    The operator's setting decides. Without the setting, the address is the socket's own. A socket that listens on all
    addresses has the machine's name.
    """
    host, port = sock.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = socket.gethostname()
    return settings.web_advertised or authority(host, port)


def authority(host: str, port: int) -> str:
    """Returns host:port as a URL has it: an IPv6 address has brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(host: str) -> str:
    """Returns the host by which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def host_of(authority: str) -> str | None:
    """Returns the host of host:port in lower case, without brackets. Returns None if there is no host."""
    is_bare_ipv6 = authority.count(":") > 1 and "[" not in authority
    try:
        return urlsplit(f"//[{authority}]" if is_bare_ipv6 else f"//{authority}").hostname
    except ValueError:
        return None


def is_loopback(authority: str) -> bool:
    """Whether only this machine can reach the host of host:port."""
    host = host_of(authority)
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False
