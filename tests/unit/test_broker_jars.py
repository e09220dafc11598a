import hashlib
from pathlib import Path

import pytest

from portfolio_stream.broker.cluster import ignore
from portfolio_stream.errors import BrokerCacheUnusable, BrokerDownloadFailed, BrokerJarMismatch
from portfolio_stream.kafka.tools import jars

CONTENT = {"first": b"one jar", "second": b"another jar"}


def line(artifact: str, content: bytes) -> str:
    return f"org.example.group:{artifact}:1.0 {hashlib.sha256(content).hexdigest()} {len(content)}"


class JarsWorld:
    """A Maven repository, a lock and a cache in one temporary folder: no network, the real fetch."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "repository"
        self.lock = folder / "kafka.lock"
        self.environment = {"MAVEN_MIRROR": self.repository.as_uri(), "XDG_CACHE_HOME": str(folder / "cache")}
        self.cache = jars.cache_dir(self.environment)
        self.lock.write_text("".join(f"{line(name, content)}\n" for name, content in CONTENT.items()), encoding="ascii")
        for jar in jars.read_lock(self.lock):
            self.publish(jar, CONTENT[jar.artifact])

    def publish(self, jar: jars.Jar, content: bytes) -> None:
        path = self.repository / jar.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def provide(self) -> Path:
        return jars.provide(self.environment, ignore, self.lock)

    def cached(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.cache.glob("*.jar")}


WHOLE = {"first-1.0.jar": b"one jar", "second-1.0.jar": b"another jar"}


@pytest.fixture
def world(tmp_path: Path) -> JarsWorld:
    return JarsWorld(tmp_path)


def test_a_line_of_the_lock_says_where_a_repository_keeps_the_jar() -> None:
    """Folders are the group's parts, then artifact and version."""
    jar = jars.Jar.from_string(line("first", b"one jar"))
    assert jar.path == "org/example/group/first/1.0/first-1.0.jar"
    assert jar.size == 7


def test_the_committed_lock_is_of_one_kafka() -> None:
    """Every Kafka jar has the same version, broker, tools and a log binding are there, and no name occurs twice."""
    locked = jars.read_lock()
    assert {jars.KAFKA_VERSION} == {jar.version for jar in locked if jar.group == "org.apache.kafka"}
    assert {"kafka_2.13", "kafka-clients", "kafka-tools", "log4j-core", "log4j-slf4j-impl"} <= {
        jar.artifact for jar in locked
    }
    assert len(locked) == len({jar.name for jar in locked})


def test_the_jmx_exporter_has_a_folder_of_its_own() -> None:
    """In Kafka's folder it would be on the class path, and each of the two would delete the other's jars."""
    exporter, kafka = (jars.cache_dir({"XDG_CACHE_HOME": "/c"}, lock) for lock in (jars.JMX_EXPORTER_LOCK, jars.LOCK))
    (jar,) = jars.read_lock(jars.JMX_EXPORTER_LOCK)
    assert Path(f"/c/portfolio-stream/jmx-exporter-{jar.version}") == exporter != kafka


def test_the_committed_lock_comes_back_as_it_was_read() -> None:
    """Sorted, one jar a line: a new lock differs only where jars do."""
    locked = jars.read_lock()
    assert "".join(f"{jar}\n" for jar in sorted(locked)) == jars.LOCK.read_text(encoding="ascii")


def test_the_committed_lock_names_no_address() -> None:
    """It stays valid behind any mirror."""
    assert "//" not in jars.LOCK.read_text(encoding="ascii")


def test_missing_jars_are_fetched(world: JarsWorld) -> None:
    """After the first call the folder holds exactly what the lock names."""
    assert world.cache == world.provide()
    assert world.cached() == WHOLE


def test_the_second_time_needs_no_repository(world: JarsWorld) -> None:
    """A whole cache works offline."""
    world.provide()
    world.environment["MAVEN_MIRROR"] = "file:///nowhere"
    assert world.cache == world.provide()


def test_only_a_damaged_jar_is_fetched_again(world: JarsWorld) -> None:
    """A truncated jar is noticed by its size; the others are not touched."""
    world.provide()
    kept = (world.cache / "first-1.0.jar").stat().st_mtime_ns
    (world.cache / "second-1.0.jar").write_bytes(b"anoth")
    world.provide()
    assert world.cached() == WHOLE
    assert kept == (world.cache / "first-1.0.jar").stat().st_mtime_ns


def test_a_jar_that_an_older_lock_left_is_removed(world: JarsWorld) -> None:
    """Everything in the folder is on the class path."""
    world.cache.mkdir(parents=True)
    (world.cache / "old-0.9.jar").write_bytes(b"old")
    world.provide()
    assert world.cached() == WHOLE


@pytest.mark.parametrize("content", [b"evil jar of other size", b"0ne jar"], ids=["size", "checksum"])
def test_a_jar_that_is_not_the_locked_one_is_refused(world: JarsWorld, content: bytes) -> None:
    """It never gets its name in the cache, and nothing else is left behind."""
    world.publish(jars.read_lock(world.lock)[0], content)
    with pytest.raises(BrokerJarMismatch, match=r"first-1\.0\.jar"):
        world.provide()
    assert "first-1.0.jar" not in world.cached()
    assert list(world.cache.glob(".*.part")) == []


def test_without_a_repository_the_error_says_what_to_do(world: JarsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with the jar, the reason and the variable; no address, which may hold a password."""
    monkeypatch.setattr(jars, "RETRY_SECONDS", 0.0)
    world.environment["MAVEN_MIRROR"] = "http://user:secret@127.0.0.1:1/maven"
    with pytest.raises(BrokerDownloadFailed) as caught:
        world.provide()
    assert "MAVEN_MIRROR" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_made_is_named(world: JarsWorld, tmp_path: Path) -> None:
    """A file stands where the folder would be."""
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(BrokerCacheUnusable, match="XDG_CACHE_HOME"):
        world.provide()


def test_progress_tells_jars_and_megabytes(world: JarsWorld) -> None:
    """One sentence for each jar, in the caller's thread."""
    told: list[str] = []
    jars.provide(world.environment, told.append, world.lock)
    assert f"Fetched 2 of 2 jars of Kafka {jars.KAFKA_VERSION}, 0 of 0 MB" == told[-1]
