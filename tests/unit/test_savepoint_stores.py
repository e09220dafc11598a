"""Every place that keeps savepoints does the same, and names itself when it fails."""

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from portfolio_stream.errors import InvalidSetting, SavepointStoreFailed
from portfolio_stream.savepoints.objects import Objects, end_process, open_objects


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


async def test_an_object_is_put_whole_and_read_back(objects: Objects) -> None:
    """A path may have the characters of any table's name, also escaped ones."""
    path = "a/table=%C3%A4%2F/x.parquet"
    assert await objects.get(path) is None
    await objects.put(path, b"one")
    await objects.put(path, b"two")
    assert b"two" == await objects.get(path)
    (entry,) = await objects.list("a")
    assert (path, 3) == (entry.path, entry.bytes)


async def test_an_object_larger_than_one_request_is_put_whole(objects: Objects) -> None:
    content = bytes(range(256)) * (1 << 16)
    await objects.put("large", content)
    assert content == await objects.get("large")


async def test_one_of_many_makes_a_new_object(objects: Objects) -> None:
    """The others see False, and the object of the one."""
    contents = [str(number).encode() for number in range(8)]
    made = await asyncio.gather(*(objects.put_new("x/manifest.json", content) for content in contents))
    assert Counter(made) == {True: 1, False: 7}
    assert contents[made.index(True)] == await objects.get("x/manifest.json")


async def test_a_list_is_of_a_folder_and_in_order(objects: Objects) -> None:
    """A folder whose name only begins alike is another one."""
    assert [] == await objects.list() == await objects.list("a")
    for path in ("b", "a/2", "a/1/x", "ab/1"):
        await objects.put(path, b"")
    assert ["a/1/x", "a/2"] == [entry.path for entry in await objects.list("a")]
    assert ["a/1/x", "a/2", "ab/1", "b"] == [entry.path for entry in await objects.list()]


async def test_what_is_not_there_counts_as_deleted(objects: Objects) -> None:
    await objects.delete(["a"])
    await objects.put("a", b"")
    await objects.put("b/c", b"")
    await objects.delete(["b/c", "missing", "a"])
    assert [] == await objects.list()


async def test_to_look_makes_no_folder_and_to_delete_leaves_none_empty(tmp_path: Path) -> None:
    place = open_objects(str(tmp_path / "new"))
    assert [] == await place.list()
    await place.delete(["a/b"])
    assert not (tmp_path / "new").exists()
    await place.put("a/b", b"")
    await place.delete(["a/b"])
    assert [] == list((tmp_path / "new").iterdir())


async def test_what_a_killed_put_left_goes_with_its_folder(tmp_path: Path) -> None:
    """Half a file has a name that no listing shows. A put that is running has such a file too: a young one stays."""
    place = open_objects(str(tmp_path))
    for name in ("old", "young"):
        await place.put(f"{name}/data/x", b"")
        half = tmp_path / name / "data" / "y#1"
        half.write_bytes(b"half")
        if name == "old":
            os.utime(half, (0, 0))
    assert ["old/data/x", "young/data/x"] == [entry.path for entry in await place.list()]
    await place.delete(["old/data/x", "young/data/x"])
    assert {"young", "young/data", "young/data/y#1"} == everything_in(tmp_path)


async def test_a_link_leads_to_no_deletion_outside(tmp_path: Path) -> None:
    """Whoever may write to the folder may link to another one: its files are none of ours."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").touch()
    place = open_objects(str(tmp_path / "savepoints"))
    await place.put("a/own", b"")
    (tmp_path / "savepoints" / "a" / "link").symlink_to(tmp_path / "outside")
    found = [entry.path for entry in await place.list("a")]
    assert ["a/own"] == found


@pytest.mark.parametrize("location", ["file", "readonly/x"])
async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, location: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "readonly").write_text("a file where the folder should be")
    with pytest.raises(SavepointStoreFailed, match=str(tmp_path / location)) as caught:
        await open_objects(str(tmp_path / location)).put("a", b"")
    assert "PORTFOLIO_SAVEPOINT_DIR" in caught.value.action


async def test_a_bucket_that_does_not_exist_is_named(bucket: str) -> None:
    place = open_objects(f"{bucket}-missing")
    for failing in (place.put("a", b""), place.put_new("a", b""), place.list()):
        with pytest.raises(SavepointStoreFailed, match="NoSuchBucket"):
            await failing


async def test_two_prefixes_of_a_bucket_are_two_places(bucket: str) -> None:
    one, other = open_objects(f"{bucket}/one/"), open_objects(f"{bucket}/other")
    await one.put("a", b"1")
    assert (b"1", None, []) == (await one.get("a"), await other.get("a"), await other.list())


def test_an_endpoint_that_is_no_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    with pytest.raises(InvalidSetting, match="AWS_ENDPOINT_URL"):
        open_objects("s3://bucket")


async def test_a_connection_without_tls_is_made_only_if_the_endpoint_says_http(
    monkeypatch: pytest.MonkeyPatch, bucket: str, s3_server: str
) -> None:
    """The same server by https:// gets no plain request."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.replace("http://", "https://"))
    monkeypatch.setattr("portfolio_stream.savepoints.stores._RETRIES", {"max_retries": 0})
    with pytest.raises(SavepointStoreFailed):
        await open_objects(bucket).list()


@pytest.mark.parametrize("code", [0, 1])
def test_a_process_that_has_opened_a_place_ends_without_pythons_own_end(
    code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thread of obstore's would abort it now and then, though its work is done. Any other process ends as ever."""
    ended: list[int] = []

    def end(given: int) -> None:
        ended.append(given)
        raise SystemExit("by the system")

    monkeypatch.setattr(os, "_exit", end)
    sys.stdout.write("unwritten")
    with pytest.raises(SystemExit, match="by the system"):
        end_process(code)
    assert [code] == ended
    assert "unwritten" == capsys.readouterr().out
    monkeypatch.delitem(sys.modules, "obstore")
    with pytest.raises(SystemExit) as caught:
        end_process(code)
    assert ([code], code) == (ended, caught.value.code)
