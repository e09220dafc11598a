"""A folder and an S3 bucket as `Objects`, by obstore.

S3's credentials and endpoint come from the variables that all of AWS's tools read: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL. A connection without TLS is made only if the
endpoint itself begins with http://.
"""

import asyncio
import os
import re
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, S3Store

from portfolio_stream.errors import InvalidSetting, SavepointStoreFailed
from portfolio_stream.savepoints.objects import ObjectEntry, Objects
from portfolio_stream.setting_values import WEB_ADDRESS

S3 = "s3://"
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # AWS's order: the service's own one counts first
_RETRIES: Any = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}  # an S3 server that restarts is waited for
STAGED_SECONDS = 3600.0  # no put takes as long
_STAGED = re.compile(r".*#[0-9]+")  # what obstore calls a file before it is whole
_CAUSES_SHOWN = 300  # characters: obstore's messages go on with the whole chain of causes


def open_store(location: str) -> Objects:
    try:
        if location.startswith(S3):
            return BucketObjects(location)
        return FolderObjects(location)
    except (BaseError, OSError, ValueError) as error:
        raise _failure(location, error) from error


class _StoreObjects:
    """What both kinds of places share."""

    location: str

    @property
    def _store(self) -> Any:
        raise NotImplementedError

    async def put(self, path: str, data: bytes) -> None:
        try:
            await self._store.put_async(path, data)
            await self._keep(path)
        except (BaseError, OSError) as error:
            raise _failure(self.location, error) from error

    async def put_new(self, path: str, data: bytes) -> bool:
        try:
            await self._store.put_async(path, data, mode="create")
            await self._keep(path)
        except AlreadyExistsError:
            return False
        except (BaseError, OSError) as error:
            raise _failure(self.location, error) from error
        return True

    async def get(self, path: str) -> bytes | None:
        try:
            found = await self._store.get_async(path)
            return bytes(await found.bytes_async())
        except (NotFoundError, FileNotFoundError):
            return None
        except (BaseError, OSError) as error:
            raise _failure(self.location, error) from error

    async def list(self, prefix: str = "") -> list[ObjectEntry]:
        try:
            found = await self._store.list(prefix or None).collect_async()
        except (NotFoundError, FileNotFoundError):
            return []
        except (BaseError, OSError) as error:
            raise _failure(self.location, error) from error
        entries = [ObjectEntry(one["path"], one["size"], one["last_modified"].timestamp()) for one in found]
        return sorted(entries)

    async def delete(self, paths: Collection[str]) -> None:
        for path in paths:
            try:
                await self._store.delete_async(path)
            except (NotFoundError, FileNotFoundError):
                continue
            except (BaseError, OSError) as error:
                raise _failure(self.location, error) from error

    async def _keep(self, path: str) -> None:
        """Make sure that the object outlives a crash of the machine."""


class FolderObjects(_StoreObjects):
    """A folder. It is made by the first put, and so are the folders in it; a folder that gets empty is removed."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._root = Path(location).absolute()

    @cached_property
    def _store(self) -> LocalStore:
        return LocalStore(self._root, mkdir=True, automatic_cleanup=True)

    async def get(self, path: str) -> bytes | None:
        return await super().get(path) if self._root.exists() else None

    async def list(self, prefix: str = "") -> list[ObjectEntry]:
        """Without what a symbolic link to another folder shows: to delete that would be to delete outside."""
        if not self._root.exists():
            return []
        found = await super().list(prefix)
        root = self._root.resolve()
        folders = {entry.path.rpartition("/")[0] for entry in found}
        own = {folder for folder in folders if (root / folder).resolve() == root / folder}
        return [entry for entry in found if entry.path.rpartition("/")[0] in own]

    async def delete(self, paths: Collection[str]) -> None:
        if self._root.exists():
            await super().delete(paths)
            await asyncio.to_thread(_sweep, self._root, {path.rpartition("/")[0] for path in paths})

    async def _keep(self, path: str) -> None:
        await asyncio.to_thread(_sync, self._root, path)


class BucketObjects(_StoreObjects):
    def __init__(self, location: str) -> None:
        self.location = location
        parts = urlsplit(location)
        endpoint = _endpoint(os.environ)
        options: dict[str, Any] = {} if endpoint is None else {"endpoint": endpoint}
        self._bucket = S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            client_options={"allow_http": endpoint is not None and endpoint.startswith("http://")},
            retry_config=_RETRIES,
            **options,
        )

    @property
    def _store(self) -> S3Store:
        return self._bucket


def _endpoint(environment: Mapping[str, str]) -> str | None:
    """Raises InvalidSetting, which names the variable: obstore would panic at the first request."""
    for name in _ENDPOINTS:
        if text := environment.get(name):
            try:
                endpoint: str = WEB_ADDRESS.read(text)
            except ValueError:
                raise InvalidSetting(name, text, "http://host:port or https://host:port") from None
            return endpoint
    return None


def _sync(root: Path, path: str) -> None:
    """Let the disk have the file and its names."""
    file = root / path
    for place in (file, *(parent for parent in file.parents if parent == root or root in parent.parents)):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sweep(root: Path, folders: Collection[str]) -> None:
    """Remove what puts left in these folders when their process was killed, and the folders that are empty then.

    Nothing depends on it, so a failure is passed over.

    obstore writes to `NAME#1` first, and lists and deletes no file of such a name.
    """
    for folder in folders:
        place = root / folder
        if place.resolve() != root.resolve() / folder:  # behind a link: none of ours
            continue
        with suppress(OSError):  # somebody else deletes them too, or puts something there
            for file in place.iterdir():
                if _STAGED.fullmatch(file.name) and file.stat().st_mtime < time.time() - STAGED_SECONDS:
                    file.unlink()
        with suppress(OSError):  # a folder that is not empty stays, and so do those above it
            while place != root:
                place.rmdir()
                place = place.parent


def _failure(location: str, error: Exception) -> SavepointStoreFailed:
    text = " ".join(str(error).split("\n\nDebug source")[0].split())
    return SavepointStoreFailed(location, text[:_CAUSES_SHOWN] or type(error).__name__)
