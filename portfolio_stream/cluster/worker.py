"""One worker that a supervisor keeps: its process, its phase, and when it may be started again."""

import asyncio
import signal
import time
from collections.abc import Callable, Mapping

from portfolio_stream.cluster import hosted
from portfolio_stream.cluster.child import ACTION, SETTLED_SECONDS, Child, name_of_end
from portfolio_stream.cluster.folder import ClusterFolder, WorkerShown, WorkerStart
from portfolio_stream.cluster.plan import ALIVE, SeenProcess, WorkerPhase, pause
from portfolio_stream.cluster.serving import SILENT, Serving
from portfolio_stream.http.addresses import authority
from portfolio_stream.processes import OwnProcess

BAD_SETTINGS = 2  # a worker's exit code
FAILURES = 3  # starts in a row that failed; then the cause is worth an operator's look

Say = Callable[[str], None]


class SupervisedWorker:
    def __init__(self, number: int, folder: ClusterFolder, host: str, changed: Callable[[], None], say: Say) -> None:
        self.number = number
        self.name = folder.worker_name(number)
        self.phase = WorkerPhase.ENDED
        self.settings: Mapping[str, str] = {}
        self.port = 0
        #: starts in a row whose process ended within SETTLED_SECONDS
        self.failures = 0
        self._folder = folder
        self._host = host
        self._changed = changed
        self._say = say
        self._child: Child | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._restarts = -1
        self._due = 0.0
        self._cause: str | None = None
        self._action: str | None = None

    @property
    def address(self) -> str:
        return f"http://{authority(self._host, self.port)}"

    @property
    def has_process(self) -> bool:
        return self.phase in (WorkerPhase.STARTING, WorkerPhase.SERVING, WorkerPhase.STOPPING)

    def seen(self) -> SeenProcess:
        return SeenProcess(self.number, self.phase, self.settings, max(0.0, self._due - time.monotonic()))

    def shown(self) -> WorkerShown:
        return WorkerShown(
            number=self.number,
            name=self.name,
            state=self.phase.value,
            pid=self._child.pid if self._child is not None and self.has_process else None,
            address=self.address,
            failures=self.failures,
            restarts=max(0, self._restarts),
            log=str(self._folder.worker_log(self.number)),
            settings=dict(self.settings),
            cause=self._cause,
            action=self._action,
        )

    # -- start and stop

    def adopt(self, process: OwnProcess, start: WorkerStart) -> None:
        """Take the process of a supervisor before us."""
        self._child = self._new_child({})
        self._child.adopt(process)
        self.port, self.settings = start.port, start.settings
        self._begin()

    async def start(self, environment: Mapping[str, str], settings: Mapping[str, str], port: int) -> None:
        """Start a process with `environment` and the job's `settings`. There is none."""
        if settings != self.settings:
            self.failures = 0
        self.port, self.settings = port, settings
        self._folder.write_start(self.number, WorkerStart(port=port, settings=dict(settings)))
        own = {"PORTFOLIO_INSTANCE_ID": self.name, "PORTFOLIO_WEB_PORT": str(port)}
        self._child = self._new_child({**environment, **settings, **own})
        try:
            await self._child.start()
        except OSError as error:  # no room for a process or for its log
            self._fail(f"it cannot be started: {error}")
            return
        self._begin()
        self._say(f"{self.name} is started: process {self._child.pid}, {self.address}")

    def _new_child(self, environment: Mapping[str, str]) -> Child:
        log = self._folder.worker_log(self.number)
        command = hosted.command(self._folder.worker_pid(self.number), log)
        return Child(self.name, command, environment, log)

    def _begin(self) -> None:
        self.phase, self._restarts = WorkerPhase.STARTING, self._restarts + 1
        self._keeping = asyncio.create_task(self._keep(), name=f"worker {self.number}")

    def stop(self, number: signal.Signals) -> None:
        """Begin to stop the process. SIGTERM: it leaves the group. SIGUSR2: it stays a member."""
        assert self._child is not None  # noqa: S101  it has a process
        self.phase, self._cause, self._action = WorkerPhase.STOPPING, None, None
        self._restarts -= 1  # the next start was asked for
        self._stopping = asyncio.create_task(self._child.stop(self._say, number))

    async def ended(self) -> None:
        """Wait for the end of its process, if there is one."""
        if self._keeping is not None:
            await self._keeping

    def let_go(self) -> None:
        """Look after the process no longer; it goes on."""
        if self._keeping is not None:
            self._keeping.cancel()

    # -- what is seen

    def look(self, found: Serving) -> None:
        """Take what the worker said about itself."""
        if self.phase not in ALIVE:
            return
        self.phase = WorkerPhase.SERVING if found.serves else WorkerPhase.STARTING
        if found.reason != SILENT or self.failures == 0:  # the cause of the last end says more
            self._cause, self._action = found.reason, None

    async def _keep(self) -> None:
        """Wait for the process's end, and note what it means for the next start."""
        child = self._child
        assert child is not None  # noqa: S101  `_begin` comes after it
        code = await child.wait()
        was_asked = self.phase is WorkerPhase.STOPPING
        is_settled = time.monotonic() - child.started >= SETTLED_SECONDS
        self._wait(0 if was_asked or is_settled else self.failures + 1)
        if not was_asked:
            self._note_end(child, code)
        self._changed()

    def _fail(self, cause: str) -> None:
        self._wait(self.failures + 1)
        if cause != self._cause:
            self._cause, self._action = cause, None
            self._say(f"{self.name}: {cause}")

    def _wait(self, failures: int) -> None:
        self.phase, self.failures = WorkerPhase.ENDED, failures
        self._due = time.monotonic() + pause(failures)

    def _note_end(self, child: Child, code: int) -> None:
        ended = f"{self.name} (process {child.pid}) {name_of_end(code)}"
        self._cause, self._action = f"it {name_of_end(code)}", None
        if code > 0:
            self._cause, self._action = child.why()
            ended = f"{ended}: {self._cause} {ACTION} {self._action}"
        if code == BAD_SETTINGS:
            self.phase = WorkerPhase.REFUSED
        self._say(ended)
