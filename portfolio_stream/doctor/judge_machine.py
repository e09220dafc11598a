"""Judges the machine and the settings. Pure."""

import difflib
import shlex
from collections.abc import Iterable, Iterator, Mapping

from portfolio_stream.doctor.evidence import DataFolder, KafkaDisks, Listening, Machine
from portfolio_stream.doctor.findings import Finding, Private, Words, error, remark, say, warning
from portfolio_stream.doctor.kafka_evidence import Topics
from portfolio_stream.http.addresses import DEFAULT_PORT, is_loopback
from portfolio_stream.settings import PREFIX, SHORTEST_TOKEN, VARIABLES, Settings, unknown_variables, variable

OLDEST_PYTHON = (3, 11)
FEWEST_FILES = 1024  # the web server then serves its 256 connections (http/listener.py)
GOOD_FILES = 4096
MEBIBYTE, GIBIBYTE = 1 << 20, 1 << 30
BESIDES_STATE = 130 * MEBIBYTE  # Python, its modules, the transactions under way (docs/operations.md)
SCARCE, FULL = 0.20, 0.03  # of a file system
FEWEST_FREE = 256 * MEBIBYTE  # RocksDB writes a memtable of 32 MiB and merges files
ALIKE = 0.75  # of two names: a letter more or less, or two letters in the wrong order
NEW_TOKEN = "export PORTFOLIO_WEB_TOKEN=$(openssl rand -hex 16)"
SETUP = "make setup"


def judge_versions(machine: Machine) -> Iterator[Finding]:
    python = ".".join(map(str, machine.python))
    if machine.python[:2] < OLDEST_PYTHON:
        needed = ".".join(map(str, OLDEST_PYTHON))
        yield error("Python", say("Python is {python}; {needed} or newer is needed", python=python, needed=needed),
                    run=f"make clean && make setup PYTHON=python{needed}")  # fmt: skip
    for package in machine.packages:
        if package.is_right:
            continue
        found = package.found or "not installed"
        words = say("{name} is {found}; this package needs {needed}",
                    name=package.name, found=found, needed=package.needed or "it")  # fmt: skip
        yield error("libraries", words, run=f"python -m pip install {shlex.quote(package.name + package.needed)}")


def judge_build(machine: Machine) -> Iterator[Finding]:
    if machine.is_build_stale:
        yield warning("compiled fold", "the compiled modules are not of these sources, so the interpreted ones run",
                      run=SETUP)  # fmt: skip
    elif machine.interpreted:
        yield remark("compiled fold", say("the fold runs interpreted: {reason}", reason=machine.interpreted))


def judge_open_files(machine: Machine) -> Iterator[Finding]:
    soft, hard = machine.open_files
    if soft is None or soft >= FEWEST_FILES:
        return
    possible = GOOD_FILES if hard is None else min(GOOD_FILES, hard)
    words = say("a process may open {soft} files; a worker needs {needed} for all its connections",
                soft=soft, needed=FEWEST_FILES)  # fmt: skip
    if possible >= FEWEST_FILES:
        yield warning("open files", words, run=f"ulimit -n {possible}")
    else:
        yield warning("open files", words, do="raise the hard limit (nofile) of the worker's user")


def judge_memory(settings: Settings, machine: Machine) -> Iterator[Finding]:
    limit = machine.memory_limit
    if limit is None:
        return
    needed = settings.state_memory * MEBIBYTE + BESIDES_STATE
    words = say(
        "a worker needs {needed} MiB, PORTFOLIO_STATE_MEMORY ({state}) among them; there are {limit} MiB",
        needed=needed // MEBIBYTE, state=settings.state_memory, limit=limit // MEBIBYTE,
    )  # fmt: skip
    fitting = int((limit * 0.8 - BESIDES_STATE) // MEBIBYTE)
    mend: dict[str, str] = (
        {"run": f"export PORTFOLIO_STATE_MEMORY={fitting}"} if fitting >= 64 else {"do": "give the worker more memory"}
    )
    if needed > limit:
        yield error("memory", words, **mend)
    elif needed > limit * 0.8:
        yield warning("memory", words, **mend)


def judge_variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    for name in unknown_variables(environment):
        free = {one.removeprefix(PREFIX): one for one in VARIABLES if one not in environment}
        like = difflib.get_close_matches(name.removeprefix(PREFIX), free, n=1, cutoff=ALIKE)
        words = say("the variable {name} is set, and nothing reads it", name=Private(name))
        if like:
            mend = say('export {right}="${name}"; unset {name}', right=free[like[0]], name=Private(name))
        else:
            mend = say("unset {name}", name=Private(name))
        yield warning("environment", words, run=mend)


def judge_token(settings: Settings) -> Iterator[Finding]:
    where = variable("web_token")
    if settings.web_token is None and not is_loopback(settings.web_host):
        words = say("PORTFOLIO_WEB_HOST is no loopback address, and there is no token: no worker starts")
        yield error(where, words, run=NEW_TOKEN)
    elif settings.web_token is None:
        yield remark(where, "there is no token: a worker refuses each request that changes something", run=NEW_TOKEN)
    elif settings.has_short_token:
        words = say("the token has fewer than {needed} characters and can be guessed", needed=SHORTEST_TOKEN)
        kind = remark if is_loopback(settings.web_host) else warning
        yield kind(where, words, run=NEW_TOKEN)


def judge_data_folder(data_folder: DataFolder) -> Iterator[Finding]:
    path = str(data_folder.path)
    if data_folder.unwritable is not None:
        words = say("this user cannot write there: {reason}", reason=data_folder.unwritable)
        yield error(say("data folder {path}", path=Private(path)), words, run=_permit(path, data_folder.is_owner))
    for folder in data_folder.locked_out:
        words = say("this user may not write the identity or the store in it")
        yield error(
            say("worker's folder {path}", path=Private(folder)), words, run=_permit(folder, data_folder.is_owner)
        )


def _permit(path: str, is_owner: bool) -> Words:
    quoted = Private(shlex.quote(path))
    if is_owner:
        return say("mkdir -p {path} ; chmod -R u+rwX {path}", path=quoted)
    return say("sudo mkdir -p {path} && sudo chown -R $(id -u):$(id -g) {path}", path=quoted)


def judge_disk(data_folder: DataFolder) -> Iterator[Finding]:
    room = data_folder.room
    where = say("data folder {path}", path=Private(str(data_folder.path)))
    values = {"free": _size(room.free), "total": _size(room.total), "store": _size(data_folder.store_bytes)}
    if room.free < FEWEST_FREE or room.free < room.total * FULL:
        words = say("{free} of {total} are free: a full disk ends the worker", **values)
        yield error(where, words, do="make room, or name a folder on another disk in PORTFOLIO_DATA_DIR")
    elif room.free < data_folder.store_bytes:
        words = say("{free} of {total} are free, and the stores have {store}: a merge may need as much again", **values)
        yield warning(where, words, do="make room, or name a folder on another disk in PORTFOLIO_DATA_DIR")


def judge_rebuild_room(data_folder: DataFolder, topics: Topics, disks: KafkaDisks) -> Iterator[Finding]:
    """One worker that is left alone reads the whole changelog into its store."""
    needed = disks.bytes_of(topics.changelog)
    have = data_folder.room.free + data_folder.store_bytes
    if have < needed:
        words = say("one worker may have to hold the whole state: {needed} of changelog, and there is room for {have}",
                    needed=_size(needed), have=_size(have))  # fmt: skip
        yield warning(say("data folder {path}", path=Private(str(data_folder.path))), words,
                      do="make room, or name a folder on another disk in PORTFOLIO_DATA_DIR")  # fmt: skip


def judge_port(settings: Settings, ports: Iterable[Listening]) -> Iterator[Finding]:
    """The web port is free, or a worker has it. Without PORTFOLIO_WEB_PORT a worker takes the next free port."""
    for port in ports:
        where = say("web port {address}", address=Private(port.address))
        if port.kind == "worker":
            yield remark(where, say("the worker {worker} answers there", worker=Private(port.worker or "?")))
        elif port.kind == "other" and settings.web_port is not None:
            taken = "another program listens there: no worker of these settings starts"
            yield error(where, taken, run="unset PORTFOLIO_WEB_PORT")
        elif port.kind == "other":
            words = say("another program listens at {port}: a worker takes the next free port", port=DEFAULT_PORT)
            yield remark(where, words)


def judge_advertised(settings: Settings, advertised: Listening) -> Iterator[Finding]:
    where = say("PORTFOLIO_WEB_ADVERTISED {address}", address=Private(advertised.address))
    if advertised.kind == "other":
        words = "what answers there is no worker: the other workers cannot reach the worker of these settings"
        yield error(where, words, do="set PORTFOLIO_WEB_ADVERTISED to the host:port at which this worker answers")
    elif advertised.kind == "nobody":
        yield remark(where, "nobody answers there: the worker does not run, or this machine cannot reach the address")
    if is_loopback(advertised.address) and not is_loopback(settings.web_host):
        words = "other machines cannot reach a loopback address"
        yield warning(where, words, do="set PORTFOLIO_WEB_ADVERTISED to an address that the other machines can reach")


def _size(count: int) -> str:
    return f"{count / GIBIBYTE:.1f} GiB" if count >= GIBIBYTE else f"{count / MEBIBYTE:.0f} MiB"
