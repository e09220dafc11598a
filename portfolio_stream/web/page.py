"""GET /: who this worker is and where to look next, as plain HTML without scripts or styles."""

from html import escape

from aiohttp import web

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.web.health import readiness

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>portfolio-stream: {worker}</title></head>
<body>
<h1>portfolio-stream</h1>
<p>Worker <strong>{worker}</strong> is <strong>{status}</strong>.</p>
{reasons}
<h2>Partitions</h2>
{partitions}
<ul>
<li><a href="/tables">/tables</a></li>
<li><a href="/metrics">/metrics</a></li>
<li><a href="/health/live">/health/live</a></li>
<li><a href="/health/ready">/health/ready</a></li>
</ul>
</body>
</html>
"""


class Page:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def show(self, request: web.Request) -> web.Response:
        now = readiness(self._engine)
        text = _PAGE.format(
            worker=escape(self._engine.identity.instance_id),
            status="not ready" if now.reasons else "ready",
            reasons=_list(now.reasons) if now.reasons else "",
            partitions=_list(tuple(f"{partition}: {state}" for partition, state in now.partitions.items())),
        )
        return web.Response(text=text, content_type="text/html", charset="utf-8")


def _list(lines: tuple[str, ...]) -> str:
    items = "".join(f"<li>{escape(line)}</li>\n" for line in lines)
    return f"<ul>\n{items}</ul>" if items else "<p>None.</p>"
