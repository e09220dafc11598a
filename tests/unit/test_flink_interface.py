"""Flink's own web interface is an extra: its files come out of the jar, and no others."""

import zipfile
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from portfolio_stream.flink.interface import Interface
from portfolio_stream.flink.interface import jar as found_jar


@pytest.fixture
def jar(tmp_path: Path) -> Path:
    path = tmp_path / "flink-dist-2.3.0.jar"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("web/index.html", "<html>Flink</html>")
        made.writestr("web/main.js", "let a;")
        made.writestr("secret.txt", "no")
    return path


def client(interface: Interface) -> TestClient[web.Request, web.Application]:
    app = web.Application()
    app.add_routes([web.get("/", interface.page), web.get("/{file:.+}", interface.file)])
    return TestClient(TestServer(app))


async def test_the_files_of_the_jars_folder_web_are_served(jar: Path) -> None:
    """With their types, and a policy that lets no other page frame them."""
    async with client(Interface(jar)) as http:
        page, script = await http.get("/"), await http.get("/main.js")
        assert ("<html>Flink</html>", "text/html") == (await page.text(), page.content_type)
        assert ("let a;", "text/javascript") == (await script.text(), script.content_type)
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path", ["/secret.txt", "/..%2Fsecret.txt", "/web/index.html", "/%2e%2e/secret.txt", "/nothing"]
)
async def test_nothing_else_in_the_jar_is_served(jar: Path, path: str) -> None:
    async with client(Interface(jar)) as http:
        assert 404 == (await http.get(path)).status


async def test_without_the_extra_the_page_says_how_to_get_it() -> None:
    async with client(Interface(None)) as http:
        answer = await http.get("/")
        assert (200, True) == (answer.status, "portfolio-stream[flink]" in await answer.text())
        assert 404 == (await http.get("/main.js")).status


@pytest.mark.slow  # `make proof` runs it, where the extra is installed
async def test_the_extra_has_the_interface() -> None:
    path = found_jar()
    if path is None:
        pytest.skip("the extra `flink` is not installed (331 MB)")
    async with client(Interface(path)) as http:
        assert "Apache Flink Web Dashboard" in await (await http.get("/")).text()
