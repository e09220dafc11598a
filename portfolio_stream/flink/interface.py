"""Flink's own web interface, as an extra: its files are read from the jar of the package apache-flink-libraries.

1. The extra is found by its package, without an import: `pip install 'portfolio-stream[flink]'`.
2. Only files below `web/` in the jar are served, by their exact names in the jar's own list.
3. Without the extra, `/` says how to get it, and where the live view of this project is.
"""

import mimetypes
import zipfile
from importlib.util import find_spec
from pathlib import Path

from aiohttp import web

PREFIX = "web/"
PAGE = "index.html"
#: Angular writes its styles into the page, and its editor makes workers
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'self'; "
    "form-action 'none'"
)
_ABSENT = """portfolio-stream: Flink's REST interface.

GET /jobs/overview, /overview, /taskmanagers and so on answer here, and the command `flink` speaks to this address.
Flink's own web interface is an extra: install it with `pip install 'portfolio-stream[flink]'` (331 MB), then start the
cluster again. The live view of this project is at each worker's web port, http://127.0.0.1:6066 by default.
"""


def jar() -> Path | None:
    """The jar with the interface; None if the extra is not installed."""
    found = find_spec("pyflink")
    places = [] if found is None else found.submodule_search_locations or []
    return next((path for place in places for path in sorted(Path(place).glob("lib/flink-dist-*.jar"))), None)


class Interface:
    def __init__(self, jar: Path | None) -> None:
        self._jar = None if jar is None else zipfile.ZipFile(jar)
        names = [] if self._jar is None else self._jar.namelist()
        self._files = {name.removeprefix(PREFIX): name for name in names if name.startswith(PREFIX) and name[-1] != "/"}

    @property
    def is_installed(self) -> bool:
        return PAGE in self._files

    async def page(self, request: web.Request) -> web.Response:
        if not self.is_installed:
            return web.Response(text=_ABSENT)
        return self._answer(PAGE)

    async def file(self, request: web.Request) -> web.Response:
        """Raises HTTPNotFound."""
        name = request.match_info["file"]
        if name not in self._files:
            raise web.HTTPNotFound
        return self._answer(name)

    def _answer(self, name: str) -> web.Response:
        assert self._jar is not None  # noqa: S101  it has files
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        body = self._jar.read(self._files[name])
        return web.Response(body=body, content_type=kind, headers={"Content-Security-Policy": POLICY})
