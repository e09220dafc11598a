"""The launchers `aws` and `hdfs`: the real AWS CLI on a bucket of savepoints, as the runbook types it; and a Hadoop."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from portfolio_stream.launchers.folder import provide
from portfolio_stream.launchers.kinds import Script
from portfolio_stream.launchers.scripts import Paths, text_of
from portfolio_stream.savepoints.check import verify
from portfolio_stream.savepoints.objects import open_objects
from tests.unit import savepoint_world as world
from tests.unit.savepoint_world import ID, LATER

PROGRAMS = Path(sys.executable).parent
SYSTEM = "/usr/bin:/bin"


def launcher(tmp_path: Path, programs: Path = PROGRAMS, name: str = "aws") -> Path:
    """A launcher for a Python environment in the folder `programs`. Returns the launcher's folder."""
    paths = Paths(Path("/j"), "", Path("/j"), programs / "python", programs)
    return provide(tmp_path / "launchers", {name: text_of(name, Script(f"{name}.sh"), paths)})


def typed(line: str, *folders: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Type a line in bash, with these folders before the system's own on PATH."""
    environment = {**os.environ, **variables, "PATH": ":".join([*map(str, folders), SYSTEM])}
    return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=False)


def program(tmp_path: Path, name: str) -> Path:
    """A program of the host, which prints what it gets. Returns its folder."""
    own = tmp_path / "own"
    own.mkdir()
    (own / name).write_text('#!/bin/sh\necho $AWS_DEFAULT_REGION "$@"\nexit 7\n')
    (own / name).chmod(0o755)
    return own


def is_whole(place: str, savepoint: str) -> bool:
    return asyncio.run(verify(open_objects(place), savepoint)).is_whole


def test_a_bucket_of_savepoints_is_listed_backed_up_and_restored(bucket: str, s3_server: str, tmp_path: Path) -> None:
    """Down to a folder, up to another bucket, and from there into a new place: every copy verifies."""
    asyncio.run(world.savepoint(open_objects(f"{bucket}/sp")))
    asyncio.run(world.savepoint(open_objects(f"{bucket}/sp"), name=LATER))
    backup = f"{bucket.removeprefix('s3://')}-backup"
    with urlopen(Request(f"{s3_server}/{backup}", method="PUT")):
        pass
    aws = launcher(tmp_path)
    down, restored = tmp_path / "flink-savepoints", tmp_path / "restored"

    listed = typed(f"aws s3 ls {bucket}/sp/", aws)
    assert (0, "") == (listed.returncode, listed.stderr)
    assert [f"PRE {ID}/", f"PRE {LATER}/"] == [line.strip() for line in listed.stdout.splitlines()][:2]
    synced = typed(
        f"aws s3 sync {bucket}/sp {down}/ && aws s3 sync {down}/ s3://{backup}/flink-savepoints/ && "
        f"aws s3 sync --quiet s3://{backup}/flink-savepoints/{ID} {restored}/{ID}",
        aws,
    )
    assert 0 == synced.returncode, synced.stderr
    assert "upload: " in synced.stdout
    for place in (str(down), f"s3://{backup}/flink-savepoints"):
        assert is_whole(place, ID)
        assert is_whole(place, "latest")
    assert is_whole(str(restored), "latest")

    buckets = typed("aws s3api list-buckets", aws)
    assert 0 == buckets.returncode
    assert f'"Name": "{backup}"' in buckets.stdout
    missing = typed("aws s3 ls s3://flink-checkpoints/", aws)
    assert missing.returncode
    assert "NoSuchBucket" in missing.stderr


@pytest.mark.parametrize(
    ("line", "variables", "passed"),
    [
        ("aws s3 ls", {"AWS_ENDPOINT_URL": "http://s3:1", "AWS_REGION": "here"},
         "here --endpoint-url http://s3:1 s3 ls"),
        ("aws s3 ls", {"AWS_ENDPOINT_URL": "http://s3:1", "AWS_ENDPOINT_URL_S3": "http://s3:2"},
         "--endpoint-url http://s3:2 s3 ls"),
        ("aws s3api list-buckets --endpoint-url http://s3:3", {"AWS_ENDPOINT_URL": "http://s3:1"},
         "s3api list-buckets --endpoint-url http://s3:3"),
        ("aws sts get-caller-identity", {"AWS_ENDPOINT_URL": "http://s3:1"}, "sts get-caller-identity"),
        ("aws s3 ls 's3://a bucket'", {}, "s3 ls s3://a bucket"),
    ],
)  # fmt: skip
def test_an_older_cli_is_told_where_the_savepoints_are(
    line: str, variables: dict[str, str], passed: str, tmp_path: Path
) -> None:
    """A CLI before AWS_ENDPOINT_URL would ask Amazon. The operator's own words count, and so does his own CLI."""
    own = program(tmp_path, "aws")
    unset = {name: "" for name in os.environ if name.startswith("AWS_")}
    ended = typed(line, launcher(tmp_path), own, **{**unset, **variables})
    assert (7, f"{passed}\n", "") == (ended.returncode, ended.stdout, ended.stderr)


def test_without_the_cli_the_launcher_says_what_to_install_and_what_does_the_same(tmp_path: Path) -> None:
    ended = typed("aws s3 ls", launcher(tmp_path, programs=tmp_path / "nothing"))
    assert (1, "") == (ended.returncode, ended.stdout)
    assert "Error: The AWS CLI is not installed." in ended.stderr
    assert "Operator action: Install it (`pipx install awscli`" in ended.stderr
    assert "`portfolio-stream savepoint list`" in ended.stderr


def test_on_a_host_with_hadoop_all_other_paths_are_hadoops(tmp_path: Path) -> None:
    """The launcher hides nothing that the host's own `hdfs` can do."""
    folders = launcher(tmp_path, name="hdfs"), program(tmp_path, "hdfs")
    place = {"PORTFOLIO_SAVEPOINT_DIR": str(tmp_path / "savepoints"), "AWS_DEFAULT_REGION": ""}
    for line in ("dfs -put a /user/ops", "dfs -ls /flink/savepoints-of-others", "dfsadmin -report", "namenode"):
        ended = typed(f"hdfs {line}", *folders, **place)
        assert (7, f"{line}\n") == (ended.returncode, ended.stdout)
    for path in ("/flink/savepoints", "hdfs:///flink/savepoints/"):
        ended = typed(f"hdfs dfs -ls {path}", *folders, **place)
        assert (0, "", "") == (ended.returncode, ended.stdout, ended.stderr)
    assert "portfolio-stream checkpoints" in typed("hdfs dfs -ls /flink/checkpoints", *folders, **place).stderr
