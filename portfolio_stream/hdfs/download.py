"""`hdfs dfs -get`: copy savepoints, folders and files to this machine.

- Nothing is written over. A copy gets its name by a rename when all of it is there, so a killed command leaves no half
  savepoint under a savepoint's name.
- A savepoint that is being written is not copied: the copy would be torn for ever.
"""

import asyncio
import shutil
from errno import ENOENT
from pathlib import Path

from portfolio_stream.hdfs.tree import HdfsNode
from portfolio_stream.savepoints.manifest import MANIFEST

COPYING = "._COPYING_"  # what Hadoop too calls a file that it is copying


async def copy(node: HdfsNode, target: Path) -> None:
    """Copy a file or a folder to `target`, which must not exist.

    Raises FileExistsError, another OSError, FileNotFoundError if a file is deleted meanwhile, and SavepointStoreFailed.
    """
    unfinished = target.with_name(f"{target.name}{COPYING}")
    _check_free(target)
    _remove(unfinished)
    try:
        if node.is_folder:
            unfinished.mkdir()
        for path, file in node.files:
            await _copy_file(file, unfinished / path if path else unfinished)
        _check_free(target)
        unfinished.rename(target)
    finally:
        _remove(unfinished)


async def is_same(savepoint: HdfsNode, folder: Path) -> bool:
    """Whether the folder is a copy of the savepoint: the same manifest, which has the SHA-256 of the others, and sizes.

    A savepoint never changes, so such a copy need not be made again.
    """
    files = dict(savepoint.files)
    if MANIFEST not in files or _sizes(folder) != {path: file.bytes for path, file in files.items()}:
        return False
    content = files[MANIFEST].content
    assert content is not None  # noqa: S101  every file has its content somewhere
    return await content.objects.get(content.path) == (folder / MANIFEST).read_bytes()


def _sizes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def _check_free(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise FileExistsError(target)


async def _copy_file(file: HdfsNode, target: Path) -> None:
    assert file.content is not None  # noqa: S101  every file has its content somewhere
    data = await file.content.objects.get(file.content.path)
    if data is None:
        raise FileNotFoundError(ENOENT, f"{file.content.path} was deleted meanwhile")
    target.parent.mkdir(parents=True, exist_ok=True)
    await asyncio.to_thread(target.write_bytes, data)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
