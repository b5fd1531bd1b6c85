"""The page to drive the dream, opened in a browser."""

import atexit
import contextlib
import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SCRIPTS
from playwright.sync_api import Browser, Page


@contextlib.contextmanager
def serve(*runs: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """The script, and the address that it prints."""
    options = [option for run in runs for option in ("--run", str(run))]
    command = [sys.executable, str(SCRIPTS / "play.py"), *options, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line + process.communicate()[1]
        try:
            yield process, found.group()
        finally:
            process.kill()


UNTIL_THE_END = contextlib.ExitStack()
atexit.register(UNTIL_THE_END.close)


@functools.cache
def address(run: Path) -> str:
    """Of one server for all who only visit: it takes ten seconds to start."""
    return UNTIL_THE_END.enter_context(serve(run))[1]


@pytest.fixture(scope="module")
def server(dvbf_run: Path) -> str:
    return address(dvbf_run)


class Visit:
    """A page that is open, and what went over its websocket."""

    def __init__(self, page: Page, url: str):
        self.page, self.sent, self.received, self.complaints = page, [], [], []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("websocket", self._listen)
        page.goto(url)
        self.wait_for(lambda: len(self.moments) > 2)

    def _listen(self, websocket) -> None:
        websocket.on("framesent", lambda text: self.sent.append(text))
        websocket.on("framereceived", lambda text: self.received.append(json.loads(text)))

    @property
    def world(self) -> dict:
        return self.received[0]

    @property
    def moments(self) -> list[dict]:
        return [message for message in self.received[1:] if "truth" in message]

    def wait_for(self, condition) -> None:
        for _ in range(1200):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("nothing happened within a minute")

    def picture(self, canvas: str) -> str:
        """Of the first canvas that a CSS selector finds."""
        return self.page.evaluate("selector => document.querySelector(selector).toDataURL()", canvas)


@pytest.fixture
def visit(browser: Browser, server: str, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A new visit; a parameter is the width of the window."""
    with browser.new_page(viewport={"width": getattr(request, "param", 1280), "height": 720}) as page:
        visit = Visit(page, server)
        yield visit
        assert visit.complaints == []
