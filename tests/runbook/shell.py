"""Run the commands of a block as an operator does: one bash for the block, one command after the other.

- Variables, the folder and background jobs of a command are there for the next command of the block.
- A command that never ends by itself gets SIGINT after its time, as from Ctrl-C: bash and the whole pipeline get it.
- When the block is over, its background jobs end.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

LOOK_SECONDS = 0.02
LONGEST_SECONDS = 180.0  # for a command that ends by itself: a restart of three brokers on two busy cores
SIGINT_SECONDS = 30.0  # from Ctrl-C to a command's end
END_SECONDS = 10.0


class Done(NamedTuple):
    """What one command did."""

    command: str
    out: str
    err: str
    #: None: the command did not end, not even after Ctrl-C
    code: int | None
    seconds: float

    @property
    def text(self) -> str:
        return self.out + self.err


class Shell:
    """One bash, for the commands of one block."""

    def __init__(self, folder: Path, environment: Mapping[str, str], working: Path) -> None:
        """`folder` gets the commands and what they print. It must be empty."""
        self._folder = folder
        self._count = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=working,
            env=environment,
            start_new_session=True,
            text=True,
            bufsize=1,
        )
        self._tell("trap : INT")  # bash outlives Ctrl-C, its children do not

    def run(
        self, command: str, *, ends: float | None = None, sees: str = "", types: str = "", merged: bool = False
    ) -> Done:
        """Run a command to its end.

        `ends`: Ctrl-C comes after so many seconds, or as soon as the operator `sees` this pattern in the output.
        `types`: what the operator types meanwhile.
        """
        self._count += 1
        paths = {part: self._folder / f"{self._count:02}.{part}" for part in ("sh", "in", "out", "err", "code")}
        paths["sh"].write_text(f"{command}\n")
        paths["in"].write_text(types)
        errors = "2>&1" if merged else f"2>'{paths['err']}'"
        begun = time.monotonic()
        self._tell(f". '{paths['sh']}' <'{paths['in']}' >'{paths['out']}' {errors}; echo $? >'{paths['code']}'")
        code = self._code(paths["code"], LONGEST_SECONDS if ends is None else ends, (paths["out"], paths["err"]), sees)
        if code is None:
            os.killpg(self._process.pid, signal.SIGINT)
            code = self._code(paths["code"], SIGINT_SECONDS)
        seconds = time.monotonic() - begun
        out, err = (_read(paths[part]) for part in ("out", "err"))
        return Done(command, out, err, code, seconds)

    def close(self) -> None:
        """End bash and what it has started, but for daemons: those have sessions of their own."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                break
            if number == signal.SIGTERM and self._process.stdin is not None:
                self._process.stdin.close()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")

    def _code(self, path: Path, seconds: float, outputs: tuple[Path, ...] = (), sees: str = "") -> int | None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            text = _read(path)
            if text.endswith("\n"):
                return int(text)
            if self._process.poll() is not None:
                raise AssertionError(f"bash ended with {self._process.returncode}")
            if sees and re.search(sees, "".join(map(_read, outputs))):
                return None
            time.sleep(LOOK_SECONDS)
        return None


def _read(path: Path) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", path.read_text(errors="replace")) if path.exists() else ""
