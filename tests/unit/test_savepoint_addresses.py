"""A savepoint's many names, and what is a name of the savepoints' place."""

from pathlib import Path

import pytest

from portfolio_stream.errors import SavepointElsewhere, SavepointIdInvalid, SavepointStoreOther
from portfolio_stream.savepoints.addresses import (
    check_savepoint_store,
    hdfs_address,
    is_savepoint_store,
    savepoint_named,
)
from portfolio_stream.settings import Settings

ID = "20261129T203512Z-4f2a9c"
JOB = "0123456789abcdef0123456789abcdef"
BUCKET = Settings(savepoint_dir="s3://backups/portfolio")


@pytest.fixture
def folder(tmp_path: Path) -> Settings:
    return Settings(savepoint_dir=str(tmp_path / "savepoints"))


@pytest.mark.parametrize(
    "text",
    [
        ID,
        f"savepoint-{ID}",
        f"hdfs:///flink/savepoints/{ID}",
        f"hdfs:/flink/savepoints/savepoint-{ID}",
        f"hdfs:///flink/savepoints/{JOB}/{ID}",
        f"hdfs:///flink/savepoints/{ID}/",
        f"hdfs:///flink/savepoints/{ID}/_metadata",
        f"hdfs:///flink/savepoints/{ID}/manifest.json",
        f"/flink/savepoints/{ID}",
        f"/flink/savepoints/{JOB}/{ID}",
    ],
)
def test_every_name_without_a_place_of_its_own_means_the_same_savepoint(text: str, folder: Settings) -> None:
    """An id, Flink's kind of name, and the mount table's addresses: in a folder and in a bucket."""
    assert ID == savepoint_named(text, folder) == savepoint_named(text, BUCKET)


@pytest.mark.parametrize("text", ["latest", "savepoint-latest", "hdfs:///flink/savepoints/savepoint-latest"])
def test_the_newest_savepoint_has_names_too(text: str, folder: Settings) -> None:
    """The runbook restarts from hdfs:///flink/savepoints/savepoint-latest."""
    assert "latest" == savepoint_named(text, folder)


def test_a_path_in_the_folder_names_its_savepoint(
    folder: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absolute, as a file: address, relative to the working directory, and through a symbolic link."""
    (tmp_path / "savepoints").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "savepoints")
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "savepoints" / ID
    for text in (str(place), f"file://{place}", f"savepoints/{ID}", f"./savepoints/{ID}", f"link/{ID}"):
        assert ID == savepoint_named(text, folder), text


@pytest.mark.parametrize("scheme", ["s3", "s3a", "s3n"])
def test_an_address_in_the_bucket_names_its_savepoint(scheme: str) -> None:
    """Hadoop's file systems call s3:// s3a:// or s3n://."""
    assert ID == savepoint_named(f"{scheme}://backups/portfolio/{ID}", BUCKET)


@pytest.mark.parametrize(
    "text",
    [
        f"s3://backups/{ID}",
        f"s3://others/portfolio/{ID}",
        f"/backup/flink-savepoints/{ID}",
        f"hdfs:///other/{ID}",
        f"hdfs://namenode:8020/flink/savepoints/{ID}",
        f"gs://backups/portfolio/{ID}",
        f"file://elsewhere/flink/savepoints/{ID}",
    ],
)
def test_an_address_elsewhere_is_refused(text: str, folder: Settings) -> None:
    """The same id in another place may be another state. The error says where this job's savepoints are."""
    for settings in (folder, BUCKET):
        with pytest.raises(SavepointElsewhere, match=r"Operator action: .*copy its folder to"):
            savepoint_named(text, settings)


@pytest.mark.parametrize(
    "text",
    ["", "savepoint-12345", "hdfs:///flink/savepoints", f"hdfs:///flink/savepoints/{ID}/data",
     f"hdfs:///flink/savepoints/nojob/{ID}", f"hdfs:///flink/savepoints/../{ID}", f"hdfs:///flink/savepoints/{ID}?x",
     f"{ID}\n", f"a\0b/{ID}"],
)  # fmt: skip
def test_what_names_no_savepoint_is_refused(text: str, folder: Settings) -> None:
    """Also the runbook's example savepoint-12345: no savepoint of ours has such an id."""
    with pytest.raises(SavepointIdInvalid, match=r"Operator action: Take an id from `portfolio-stream savepoint list`"):
        savepoint_named(text, folder)


def test_the_shown_address_is_understood(folder: Settings) -> None:
    """What Flink's commands print can be given to each of them."""
    assert f"hdfs:///flink/savepoints/{ID}" == hdfs_address(ID)
    assert ID == savepoint_named(hdfs_address(ID), folder)


def test_the_place_has_names_as_a_target_directory(folder: Settings, tmp_path: Path) -> None:
    """`flink savepoint JOB hdfs:///flink/savepoints` writes where the workers write; other targets are refused."""
    names = ["hdfs:///flink/savepoints", "hdfs:///flink/savepoints/", f"hdfs:///flink/savepoints/{JOB}"]
    for text in [*names, folder.savepoint_dir, f"file://{folder.savepoint_dir}/"]:
        assert is_savepoint_store(text, folder), text
        check_savepoint_store(text, folder)
    for text in [*names, "s3://backups/portfolio", "s3a://backups/portfolio/"]:
        assert is_savepoint_store(text, BUCKET), text
    for text in ["", "/", "/backup", "a\0b", "hdfs:///flink", f"hdfs:///flink/savepoints/{ID}", str(tmp_path), "latest",
                 "hdfs://namenode/flink/savepoints", "s3://others/portfolio"]:  # fmt: skip
        assert not is_savepoint_store(text, folder), text
        with pytest.raises(SavepointStoreOther, match="PORTFOLIO_SAVEPOINT_DIR"):
            check_savepoint_store(text, folder)
