"""Puts Flink's REST interface together: its answers, its changes, and the connection to the job."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from socket import gethostname

from portfolio_stream.control.linked_job import LinkedJob
from portfolio_stream.flink.changes import ChangeRoutes
from portfolio_stream.flink.figures import KnownWorker
from portfolio_stream.flink.gathering import Sources
from portfolio_stream.flink.server import PORT_REMEDY, FlinkServer
from portfolio_stream.http.addresses import listen
from portfolio_stream.jobs.background import BackgroundSwitches
from portfolio_stream.jobs.job_configuration import job_configuration
from portfolio_stream.jobs.switch import Switcher
from portfolio_stream.kafka.changelog_topics import ChangelogTopics
from portfolio_stream.observe.beside import log_failure
from portfolio_stream.savepoints.objects import open_objects
from portfolio_stream.settings import Settings, variable

log = logging.getLogger(__name__)

FIRST_SECONDS = 3.0  # for the first connection to the job: a client that asks at once finds it
CLIENT_ID = "portfolio-stream-supervisor"  # not of a worker's form: nobody asks it for a partition


@asynccontextmanager
async def serving(
    settings: Settings,
    workers: Callable[[], Sequence[KnownWorker]],
    logs: Callable[[], Sequence[Path]],
    wanted_workers: int,
) -> AsyncIterator[FlinkServer]:
    """Serve on PORTFOLIO_FLINK_HOST and PORTFOLIO_FLINK_PORT.

    `workers` are those that the supervisor keeps, `logs` its own log files, the newest first. `wanted_workers`: as many
    it keeps if the job does not say how many. Raises PortInUse, InvalidSetting, WebTokenMissing.
    """
    sock = listen(settings.flink_host, settings.flink_port, variable("flink_host"), PORT_REMEDY)
    try:
        job = LinkedJob(settings, CLIENT_ID)
        topics, objects, configuration = (
            ChangelogTopics(settings),
            open_objects(settings.savepoint_dir),
            job_configuration(settings),
        )
        switches = BackgroundSwitches(
            job,
            lambda report: Switcher(job, job.kafka, topics, objects, configuration, report),
            f"supervisor of {settings.data_dir.resolve()} at {gethostname()}",
        )
        changes = ChangeRoutes(job, switches, settings, wanted_workers).routes()
        sources = Sources(control=lambda: job.linked, reason=lambda: job.reason, workers=workers, logs=logs)
        server = FlinkServer(settings, sock, sources, changes)
    except BaseException:
        sock.close()
        raise
    linking = asyncio.create_task(job.run(switches.end_orphans), name="the job")
    linking.add_done_callback(log_failure)
    with suppress(TimeoutError):  # without Kafka, the first answers say that nobody knows the job
        await asyncio.wait_for(job.tried.wait(), FIRST_SECONDS)
    await server.start()
    log.info("serving Flink's REST interface port=%d", server.port)
    try:
        yield server
    finally:
        await server.stop()
        await switches.stop()
        linking.cancel()
        await asyncio.gather(linking, return_exceptions=True)
        await job.stop()
