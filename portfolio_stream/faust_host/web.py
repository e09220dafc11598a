"""A web server of the app's own, in the place where Faust expects its web server."""

from collections.abc import Awaitable, Callable

import mode


def web_service(url: Callable[[], str], stop: Callable[[], Awaitable[None]]) -> type[mode.Service]:
    """Returns the service that `app.web_server` takes.

    The engine starts the real web server, because a worker must listen before it joins the group. The service only
    tells Faust's banner the `url`, and calls `stop` when Faust stops its web server.
    """

    class Web(mode.Service):
        @staticmethod
        def get_web_url() -> str:
            return url()

        async def on_stop(self) -> None:
            await stop()

    return Web
