"""`hdfs` on the savepoints' place. Texts and exit codes are those that Hadoop 3.5's own `hdfs` gave for such files."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from portfolio_stream.commands import hdfs, job_client
from portfolio_stream.commands.ending import exit_code_of
from portfolio_stream.flink.ids import job_id
from portfolio_stream.savepoints.addresses import savepoint_named
from portfolio_stream.savepoints.check import verify
from portfolio_stream.savepoints.manifest import MANIFEST
from portfolio_stream.savepoints.objects import MemoryObjects, Objects, open_objects
from portfolio_stream.savepoints.write import complete
from portfolio_stream.settings import Settings
from tests.unit import savepoint_world as world
from tests.unit.savepoint_world import ID, LATER

#: a savepoint without a manifest, whose id is newer than those of all complete ones
TORN = "20261201T203512Z-ffffff"
NO_SUCH = "No such file or directory"


class Typed:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


class Shell:
    def __init__(self, objects: Objects, capsys: pytest.CaptureFixture[str]) -> None:
        self.objects = objects
        self._capsys = capsys

    def type(self, line: str) -> Typed:
        code = exit_code_of(lambda: hdfs.main(line.split()), "hdfs")
        return Typed(code, *self._capsys.readouterr())

    def dfs(self, line: str) -> Typed:
        return self.type(f"dfs {line}")


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """Two complete savepoints, of generations 1 and 2, and one that is being written."""
    objects = MemoryObjects()
    return asyncio.run(_written(objects))


@pytest.fixture(params=["folder", "bucket"])
def shell(
    request: pytest.FixtureRequest,
    contents: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    """`hdfs` on a place with the savepoints of `contents`."""
    location = str(tmp_path / "savepoints") if request.param == "folder" else request.getfixturevalue("bucket") + "/sp"
    monkeypatch.setenv("PORTFOLIO_SAVEPOINT_DIR", location)
    monkeypatch.delenv("PORTFOLIO_HDFS_ROOT", raising=False)
    objects = open_objects(location)

    async def put() -> None:
        for path, content in contents.items():
            await objects.put(path, content)

    asyncio.run(put())
    capsys.readouterr()  # the S3 server says that it starts
    return Shell(objects, capsys)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """`hdfs` on a place without savepoints."""
    monkeypatch.setenv("PORTFOLIO_SAVEPOINT_DIR", str(tmp_path / "savepoints"))
    monkeypatch.delenv("PORTFOLIO_HDFS_ROOT", raising=False)
    return Shell(open_objects(str(tmp_path / "savepoints")), capsys)


async def _written(objects: Objects) -> dict[str, bytes]:
    await world.savepoint(objects)
    for number, rows in enumerate(world.ROWS):
        await world.part(objects, number, rows, LATER)
    await complete(objects, replace(world.head(LATER), generation=2))
    await world.part(objects, 0, world.ROWS[0], TORN)
    found = {entry.path: await objects.get(entry.path) for entry in await objects.list()}
    return {path: content for path, content in found.items() if content is not None}


@pytest.fixture
def in_use(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The bases that the control topic names, from which the test says which ones there are."""
    bases: set[str] = set()

    class Control:
        async def newest(self) -> Any:
            return type("State", (), {"savepoints_in_use": (bases, {TORN})})

    @asynccontextmanager
    async def open_job(_: Settings) -> AsyncIterator[Control]:
        yield Control()

    monkeypatch.setattr(job_client, "open_job", open_job)
    return bases


def columns(typed: Typed, number: int) -> list[str]:
    """One column of a listing, as awk cuts it."""
    return [line.split()[number - 1] for line in typed.out.splitlines() if not line.startswith("Found")]


def test_a_listing_has_hadoops_columns_and_the_newest_complete_savepoint_last(shell: Shell) -> None:
    """The runbook cuts $8 of the last line, and starts the job from it."""
    listed = shell.dfs("-ls /flink/savepoints")
    first, *lines = listed.out.splitlines()
    assert (0, "", "Found 3 items") == (listed.code, listed.err, first)
    assert [f"/flink/savepoints/{one}" for one in (TORN, ID, LATER)] == columns(listed, 8)
    today = time.strftime("%Y-%m-%d", time.localtime())
    for line in lines:
        assert re.fullmatch(rf"drwx[rwx-]{{6}}   - \S+ +\S+ {{10,}}0 {today} \d\d:\d\d /flink/savepoints/\S+", line), (
            line
        )


def test_a_jobs_folder_lists_what_the_job_can_start_from(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own savepoints and those of the generations before it, the newest last; none that is not complete."""
    assert [LATER] == savepoints_of(shell, job_id("portfolio-stream", 2))[-1:]
    assert [ID, LATER] == savepoints_of(shell, job_id("portfolio-stream", 2))
    assert [ID, LATER] == savepoints_of(shell, job_id("portfolio-stream", 3))
    assert [ID] == savepoints_of(shell, job_id("portfolio-stream", 1))
    missing = shell.dfs(f"-ls /flink/savepoints/{job_id('another', 1)}")
    assert (1, "") == (missing.code, missing.out)
    assert f"ls: `/flink/savepoints/{job_id('another', 1)}': {NO_SUCH}\n" == missing.err


def savepoints_of(shell: Shell, job: str) -> list[str]:
    paths = columns(shell.dfs(f"-ls /flink/savepoints/{job}"), 8)
    return [savepoint_named(path, Settings()) for path in paths]


def test_a_listing_goes_as_its_options_say(shell: Shell) -> None:
    """Order, depth, paths alone, sizes for people, and the scheme that the operator wrote."""
    assert [f"hdfs:///flink/savepoints/{one}" for one in (TORN, ID, LATER)] == columns(
        shell.dfs("-ls hdfs:///flink/savepoints/"), 8
    )
    assert f"/flink/savepoints/{LATER}\n" == shell.dfs("-ls -C -r /flink/savepoints").out.splitlines(keepends=True)[0]
    assert ["/flink/savepoints"] == columns(shell.dfs("-ls -d /flink/savepoints"), 8)
    below = shell.dfs(f"-ls -R -C /flink/savepoints/{ID}").out.split()
    assert f"/flink/savepoints/{ID}/partitions/00.json" in below
    assert below == sorted(below)
    everything = shell.dfs("-ls -R -C /").out.split()
    assert ["/flink", "/flink/checkpoints", "/flink/savepoints", f"/flink/savepoints/{TORN}"] == everything[:4]
    newest = shell.dfs("-ls -C /flink/savepoints/savepoint-latest").out.split()
    assert f"/flink/savepoints/savepoint-latest/{MANIFEST}" in newest
    sizes = columns(shell.dfs(f"-ls -h /flink/savepoints/{ID}/{MANIFEST}"), 6)
    assert ["K"] == sizes
    assert ["/flink"] == columns(shell.dfs("-ls /"), 8)
    mounts = shell.dfs("-ls /flink")
    assert ["/flink/checkpoints", "/flink/savepoints"] == columns(mounts, 8)
    assert "1970" not in mounts.out


def test_wildcards_are_hadoops(shell: Shell) -> None:
    for pattern, expected in {
        "2026113*": [LATER], "2026112[0-9]T*": [ID], "{2026112,2026113}*": [ID, LATER], "202611??T*-[^4]*": [LATER],
    }.items():  # fmt: skip
        assert [f"/flink/savepoints/{one}" for one in expected] == columns(
            shell.dfs(f"-ls -d /flink/savepoints/{pattern}"), 8
        )
    assert [f"/flink/savepoints/savepoint-{ID}"] == columns(
        shell.dfs("-ls -d /flink/savepoints/savepoint-20261129*"), 8
    )
    missing = shell.dfs("-ls /flink/savepoints/savepoint-old-*")
    assert (1, f"ls: `/flink/savepoints/savepoint-old-*': {NO_SUCH}\n") == (missing.code, missing.err)


def test_checkpoints_are_no_files(shell: Shell) -> None:
    """An empty folder, as the runbook lists it, and a line on stderr that says where checkpoints are."""
    for path in ("/flink/checkpoints", f"/flink/checkpoints/{job_id('portfolio-stream', 1)}"):
        listed = shell.dfs(f"-ls {path}")
        assert (0, "") == (listed.code, listed.out)
        assert "A checkpoint is a commit in Kafka" in listed.err
        assert "portfolio-stream checkpoints" in listed.err
    assert 1 == shell.dfs("-ls /flink/checkpoints/other").code


def test_every_complete_savepoint_is_copied_into_a_new_folder_and_verifies_there(shell: Shell, tmp_path: Path) -> None:
    """The runbook's back-up. The copies are a place of savepoints too. The one that is being written is left out."""
    target = tmp_path / "backup" / "flink-savepoints"
    copied = shell.dfs(f"-get /flink/savepoints/* {target}/")
    assert (0, "", f"Passed over /flink/savepoints/{TORN}: it is not complete.\n") == (
        copied.code,
        copied.out,
        copied.err,
    )
    assert [ID, LATER] == sorted(path.name for path in target.iterdir())
    for one in (ID, LATER, "latest"):
        assert asyncio.run(verify(open_objects(str(target)), one)).is_whole


def test_the_next_back_up_copies_what_is_new(shell: Shell, tmp_path: Path) -> None:
    """A savepoint never changes, so a copy that is there already is no failure. Hadoop would end with 1 each month."""
    assert 0 == shell.dfs(f"-get /flink/savepoints/{ID} {tmp_path}/backup/").code
    again = shell.dfs(f"-get /flink/savepoints/* {tmp_path}/backup/")
    assert 0 == again.code
    assert f"{tmp_path}/backup/{ID} is there already, with the same content.\n" in again.err
    assert [ID, LATER] == sorted(path.name for path in (tmp_path / "backup").iterdir())
    (tmp_path / "backup" / ID / "partitions" / "00.json").unlink()
    assert 1 == shell.dfs(f"-get /flink/savepoints/* {tmp_path}/backup/").code


def test_a_copy_is_never_written_over(shell: Shell, tmp_path: Path) -> None:
    """Not an older copy, and not what else has that name. The others are copied, and the exit code is 1."""
    (tmp_path / "backup" / ID).mkdir(parents=True)
    (tmp_path / "backup" / ID / MANIFEST).write_text("another")
    copied = shell.dfs(f"-get /flink/savepoints/{ID} /flink/savepoints/{LATER} {tmp_path}/backup")
    assert (1, f"get: `{tmp_path}/backup/{ID}': File exists\n") == (copied.code, copied.err)
    assert "another" == (tmp_path / "backup" / ID / MANIFEST).read_text()
    assert [ID, LATER] == sorted(path.name for path in (tmp_path / "backup").iterdir())


def test_one_copy_gets_the_name_that_is_asked_for(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by `cp`: a new name, a folder that exists, the working directory. An alias is copied under the id."""
    monkeypatch.chdir(tmp_path)
    assert 0 == shell.dfs(f"-get /flink/savepoints/{ID}/{MANIFEST} here.json").code
    assert asyncio.run(shell.objects.get(f"{ID}/{MANIFEST}")) == (tmp_path / "here.json").read_bytes()
    assert 0 == shell.dfs("-copyToLocal hdfs:///flink/savepoints/savepoint-latest").code
    assert (tmp_path / LATER / MANIFEST).is_file()
    missing = shell.dfs(f"-get /flink/savepoints/{ID} {tmp_path}/no/such")
    assert (1, f"get: `{tmp_path}/no/such': {NO_SUCH}: `file://{tmp_path}/no/such'\n") == (missing.code, missing.err)
    assert (1, f"get: `/flink/savepoints/nothing': {NO_SUCH}\n") == (
        (missing := shell.dfs("-get /flink/savepoints/nothing .")).code,
        missing.err,
    )


def test_a_savepoint_that_is_being_written_is_not_copied(shell: Shell, tmp_path: Path) -> None:
    refused = shell.dfs(f"-get /flink/savepoints/{TORN} {tmp_path}/copy")
    assert 1 == refused.code
    assert refused.err.startswith(f"get: `/flink/savepoints/{TORN}': the savepoint is not complete")
    assert not (tmp_path / "copy").exists()


def test_a_deletion_is_the_savepoints_own(shell: Shell, in_use: set[str]) -> None:
    """A base and one that is being written stay, with the reason. What is deleted is deleted as a whole."""
    in_use.add(ID)
    deleted = shell.dfs("-rm -r -skipTrash /flink/savepoints/*")
    assert (1, f"Deleted /flink/savepoints/{LATER}\n") == (deleted.code, deleted.out)
    assert f"rm: `/flink/savepoints/{ID}': The savepoint {ID} is not deleted: the job's generation came" in deleted.err
    assert f"rm: `/flink/savepoints/{TORN}': The savepoint {TORN} is not deleted: it is being written." in deleted.err
    assert {ID, TORN, "latest.json"} == {entry.path.split("/")[0] for entry in asyncio.run(shell.objects.list())}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"-rm /flink/savepoints/{ID}", "Is a directory"),
        (
            f"-rm /flink/savepoints/{ID}/{MANIFEST}",
            "a savepoint is deleted as a whole: say the folder of the savepoint",
        ),
        (f"-rm -r /flink/savepoints/{ID}/data", "a savepoint is deleted as a whole: say the folder of the savepoint"),
        ("-rm -r /flink/savepoints", "it is a mount, which cannot be deleted: name the savepoints"),
        ("-rm -r /flink/savepoints/savepoint-latest", f"say the savepoint's id, {LATER}: "),
        ("-rm -r /flink/savepoints/nothing", NO_SUCH),
    ],
)
def test_a_deletion_that_would_tear_a_savepoint_is_refused(
    shell: Shell, in_use: set[str], line: str, reason: str
) -> None:
    before = asyncio.run(shell.objects.list())
    refused = shell.dfs(line)
    assert (1, "") == (refused.code, refused.out)
    assert f"rm: `{line.split()[-1]}': {reason}" in refused.err
    assert before == asyncio.run(shell.objects.list())


def test_the_runbooks_cleaning_finds_no_old_name(shell: Shell) -> None:
    """It fails as in Hadoop, and says which command deletes old savepoints. With -f it is silent."""
    deleted = shell.dfs("-rm -r /flink/savepoints/savepoint-old-*")
    assert 1 == deleted.code
    assert f"rm: `/flink/savepoints/savepoint-old-*': {NO_SUCH}\n" in deleted.err
    assert "portfolio-stream savepoint expire" in deleted.err
    forced = shell.dfs("-rm -r -f /flink/savepoints/savepoint-old-*")
    assert (0, "", "") == (forced.code, forced.out, forced.err)


def test_sizes_and_contents(shell: Shell) -> None:
    content = asyncio.run(shell.objects.get(f"{ID}/{MANIFEST}"))
    assert content is not None
    assert content.decode() == shell.dfs(f"-cat /flink/savepoints/{ID}/{MANIFEST}").out
    refused = shell.dfs(f"-cat /flink/savepoints/{ID}")
    assert (1, f"cat: `/flink/savepoints/{ID}': Is a directory\n") == (refused.code, refused.err)
    size = sum(entry.bytes for entry in asyncio.run(shell.objects.list(ID)))
    files = len(asyncio.run(shell.objects.list(ID)))
    assert f"{size}  {size}  /flink/savepoints/{ID}\n" == shell.dfs(f"-du -s /flink/savepoints/{ID}").out
    assert f"{files:>12} {size:>18}" in shell.dfs(f"-count /flink/savepoints/{ID}").out
    for option, path, code in (
        ("-e", ID, 0),
        ("-d", ID, 0),
        ("-f", ID, 1),
        ("-f", f"{ID}/{MANIFEST}", 0),
        ("-e", "x", 1),
    ):
        assert code == shell.dfs(f"-test {option} /flink/savepoints/{path}").code


def test_the_report_has_the_places_true_figures(shell: Shell, tmp_path: Path) -> None:
    """`hdfs dfsadmin -report`: the bytes of all savepoints, and the disk's own figures. A bucket has no capacity."""
    reported = shell.type("dfsadmin -report")
    assert (0, "") == (reported.code, reported.err)
    lines = dict(line.split(": ", 1) for line in reversed(reported.out.splitlines()) if ": " in line)
    used = sum(entry.bytes for entry in asyncio.run(shell.objects.list()))
    assert used == int(lines["DFS Used"].split()[0])
    if "://" in shell.objects.location:
        assert lines["Configured Capacity"].startswith("unlimited")
        return
    disk = os.statvfs(tmp_path)
    assert disk.f_blocks * disk.f_frsize == int(lines["Configured Capacity"].split()[0])
    assert abs(disk.f_bavail * disk.f_frsize - int(lines["DFS Remaining"].split()[0])) < 1 << 30
    assert 0 == shell.dfs("-df -h").code


def test_a_place_that_does_not_answer_is_an_error(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runbook's check whether the store can be reached: it must fail if it cannot."""
    monkeypatch.setenv("PORTFOLIO_SAVEPOINT_DIR", "/dev/null/savepoints")
    failed = bare.type("dfsadmin -report")
    assert failed.code
    assert "Operator action:" in failed.err


def test_a_root_that_does_not_answer_is_named_by_its_own_variable(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTFOLIO_HDFS_ROOT", "/dev/null/root")
    for line in ("dfsadmin -report", "dfs -df", "dfs -ls /"):
        failed = bare.type(line)
        assert failed.code
        assert "PORTFOLIO_HDFS_ROOT" in failed.err
        assert "PORTFOLIO_SAVEPOINT_DIR" not in failed.err


def test_all_other_paths_are_the_root(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PORTFOLIO_HDFS_ROOT they are refused by name; with it, they are there beside the mounts."""
    refused = shell.dfs("-ls /logs")
    assert 1 == refused.code
    assert "PORTFOLIO_HDFS_ROOT" in refused.err
    (tmp_path / "root" / "logs").mkdir(parents=True)
    (tmp_path / "root" / "logs" / "a.txt").write_text("hello\n")
    (tmp_path / "root" / "flink" / "savepoints").mkdir(parents=True)
    (tmp_path / "root" / "flink" / "savepoints" / "hidden").write_text("behind the mount")
    monkeypatch.setenv("PORTFOLIO_HDFS_ROOT", str(tmp_path / "root"))
    assert ["/flink", "/logs"] == columns(shell.dfs("-ls /"), 8)
    assert "hello\n" == shell.dfs("-cat /logs/a.txt").out
    assert ["/logs/a.txt"] == columns(shell.dfs("-ls /logs/*.txt"), 8)
    assert [f"/flink/savepoints/{one}" for one in (TORN, ID, LATER)] == columns(shell.dfs("-ls /flink/savepoints"), 8)
    assert "Deleted /logs\n" == shell.dfs("-rm -r /logs").out
    assert not (tmp_path / "root" / "logs").exists()


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("dfs -put a /flink/savepoints", 1, "copy a savepoint's folder"),
        ("dfs -setrep 3 /", 1, "no counterpart"),
        ("dfs -foo", 255, "-foo: Unknown command"),
        ("dfs -ls -z /", 255, "-ls: Illegal option -z"),
        ("dfs -get", 255, "-get: Not enough arguments: expected 1 but got 0"),
        ("dfs", 255, "hdfs dfs one of -ls"),
        ("", 255, "hdfs dfsadmin -report"),
        ("dfsadmin -safemode leave", 1, "hdfs dfsadmin -report"),
        ("namenode -format", 1, "no counterpart"),
        ("dfs -ls hdfs://namenode:8020/flink/savepoints", 2, "without a host"),
        ("dfs -ls s3://bucket/x", 2, "aws s3"),
        ("dfs -ls file:///tmp", 2, "another file system"),
    ],
)
def test_what_is_not_here_is_refused_by_name(bare: Shell, line: str, code: int, text: str) -> None:
    """With the exit code of Hadoop where Hadoop refuses it too, and with what to type instead."""
    refused = bare.type(line)
    assert (code, "") == (refused.code, refused.out)
    assert text.lower() in refused.err.lower()
    assert "Operator action:" in refused.err


def test_an_empty_place_is_an_empty_folder(bare: Shell) -> None:
    """Before the first savepoint. Its newest savepoint does not exist."""
    listed = bare.dfs("-ls /flink/savepoints")
    assert (0, "", "") == (listed.code, listed.out, listed.err)
    missing = bare.dfs("-ls /flink/savepoints/savepoint-latest")
    assert (1, f"ls: `/flink/savepoints/savepoint-latest': {NO_SUCH}\n") == (missing.code, missing.err)


def test_the_version_is_not_hadoops(bare: Shell) -> None:
    assert "No Hadoop is installed" in bare.type("version").out
