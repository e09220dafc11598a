"""Find or get a browser for the web view's tests. `make test` runs this module.

An existing browser is used: PORTFOLIO_CHROMIUM, one on the PATH, or Playwright's own. Without one, Debian's package is
installed (only root can), or else Playwright's browser is downloaded. If both fail, the browser tests are skipped, and
say so.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FETCH_SECONDS = 240
HOW = "set PORTFOLIO_CHROMIUM to a Chromium or Chrome, or run `python -m tests.web.chromium`"


def find() -> str | None:
    """Returns the path of a browser's executable, or None."""
    if chosen := os.environ.get("PORTFOLIO_CHROMIUM"):
        return chosen
    on_path = next((found for name in NAMES if (found := shutil.which(name))), None)
    return on_path or _of_playwright()


def _of_playwright() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def fetch() -> list[str]:
    """Try to get a browser. Returns why each way failed, or nothing."""
    failures = []
    for name, commands in _ways():
        for command in commands:
            print(f"Getting a browser for the web view's tests: {' '.join(command)}", flush=True)
            failure = _failure(command)
            if failure is not None:
                failures.append(f"{name}: {failure}")
                break
        else:
            return []
    return failures


def _ways() -> list[tuple[str, list[list[str]]]]:
    """Returns the ways to get a browser: a name and the commands, which must all succeed."""
    ways = [("playwright", [[sys.executable, "-m", "playwright", "install", "chromium"]])]
    if shutil.which("apt-get") and os.geteuid() == 0:
        install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "chromium", "fonts-dejavu-core"]
        ways.insert(0, ("Debian", [["apt-get", "update", "--quiet"], install]))
    return ways


def _failure(command: list[str]) -> str | None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=FETCH_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"not within {FETCH_SECONDS} s"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    said = [line for line in lines if "rror" in line or line.startswith("E:")]
    return next(iter(said or lines), f"exit code {done.returncode}")


def main() -> None:
    """Get a browser if there is none. Never fails: without a browser, only the browser tests are skipped."""
    if find() is not None:
        return
    failures = fetch()
    if find() is None:
        print(f"No browser: the web view's browser tests will be skipped ({'; '.join(failures)}). To run them, {HOW}.")


if __name__ == "__main__":
    main()
