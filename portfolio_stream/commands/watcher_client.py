"""How a command asks the watcher."""

from typing import TYPE_CHECKING

from portfolio_stream.errors import WatcherUnanswered
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.watch.shown import Watched

SENDER = "command"  # our own name, in the watcher's log
ANSWER_SECONDS = 5.0  # longer than a page waits: nothing else is asked


async def ask_watcher(settings: Settings) -> "Watched":
    """Returns what the watcher at PORTFOLIO_WATCHER sees. Raises WatcherUnanswered."""
    from portfolio_stream.watch.shown import Watched
    from portfolio_stream.web.watcher import NOT_WATCHED

    told = await watcher_at(settings, settings.watcher)
    if not isinstance(told, Watched):
        raise WatcherUnanswered(f"no watcher answers at {settings.watcher}" if told == NOT_WATCHED else told)
    return told


async def watcher_at(settings: Settings, address: str) -> "Watched | str":
    """Returns what the watcher at host:port `address` sees, or why nobody tells."""
    import aiohttp

    from portfolio_stream.http import signatures
    from portfolio_stream.web.watcher import watcher_answer

    token = settings.web_token
    key = None if token is None else signatures.derive_key(token, settings.group)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as session:
        return await watcher_answer(session, address, key, SENDER, ANSWER_SECONDS)
