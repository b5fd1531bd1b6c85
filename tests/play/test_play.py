"""The page to drive the dream, as a person uses it: in a browser, with keys and fingers."""

import base64
import contextlib
import dataclasses
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import SCRIPTS, run_script, untrained_dvbf
from playwright.sync_api import Browser, Page

from worldmodel.data.sequences import Sequences
from worldmodel.data.storage import save_sequences
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.pictures.figures import BLUE, ORANGE
from worldmodel.play.live import latent_cloud
from worldmodel.play.serving import Player, Stage, describe_moment, describe_world
from worldmodel.worlds.simulator import Simulator


@contextlib.contextmanager
def serve(run: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """The script, and the address that it prints."""
    command = [sys.executable, str(SCRIPTS / "play.py"), "--run", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line + process.communicate()[1]
        try:
            yield process, found.group()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(dvbf_run: Path) -> Iterator[str]:
    with serve(dvbf_run) as (_, url):
        yield url


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
        for _ in range(200):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("nothing happened within ten seconds")

    def picture(self, canvas: str) -> str:
        return self.page.evaluate("id => document.getElementById(id).toDataURL()", canvas)


@pytest.fixture
def visit(browser: Browser, server: str, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A new visit; a parameter is the width of the window."""
    with browser.new_page(viewport={"width": getattr(request, "param", 1280), "height": 720}) as page:
        visit = Visit(page, server)
        yield visit
        assert visit.complaints == []


def test_both_worlds_move_and_their_difference_is_shown(visit: Visit):
    names = ("truth", "dream", "latents", "history")
    before = [visit.picture(name) for name in names]
    visit.wait_for(lambda: all(visit.picture(name) != old for name, old in zip(names, before, strict=True)))
    size = "['truth', 'dream'].map(id => [document.getElementById(id).width, document.getElementById(id).height])"
    assert visit.page.evaluate(size) == [[16, 16], [16, 16]]
    assert re.fullmatch(r"\d+\.\d°", visit.page.inner_text("#apart"))
    assert re.fullmatch(r"\d+\.\d s", visit.page.inner_text("#dreamt"))
    shown = "() => document.getElementById('rate').textContent"
    visit.wait_for(lambda: re.fullmatch(r"\d+ frames a second, 2 times real time", visit.page.evaluate(shown)))
    seconds = [moment["seconds"] for moment in visit.moments]
    np.testing.assert_allclose(seconds, 0.1 * np.arange(len(seconds)), atol=1e-6)


def test_what_is_drawn_is_what_was_sent(visit: Visit):
    """The last frame's bytes against the pixels of the canvas."""
    next_frame = """async () => {
        const moment = await new Promise(done => {
            socket.addEventListener('message', event => done(JSON.parse(event.data)), {once: true});
        });
        const canvas = document.getElementById('dream');
        return [moment.dream, [...canvas.getContext('2d').getImageData(0, 0, 16, 16).data]];
    }"""
    sent, drawn = visit.page.evaluate(next_frame)
    expected = np.frombuffer(base64.b64decode(sent), np.uint8).reshape(256, 3)
    np.testing.assert_array_equal(np.array(drawn).reshape(256, 4), np.insert(expected, 3, 255, axis=1))


@pytest.mark.parametrize(
    ("key", "torque", "text"), [("ArrowLeft", 2, "2.0 N m counter-clockwise"), ("ArrowRight", -2, "2.0 N m clockwise")]
)
def test_an_arrow_key_pushes_while_it_is_held(visit: Visit, key: str, torque: int, text: str):
    visit.page.keyboard.down(key)
    assert visit.page.inner_text("#action-text") == text
    visit.page.keyboard.up(key)
    assert visit.page.inner_text("#action-text") == "none"
    visit.wait_for(lambda: len(visit.sent) == 2)
    assert list(map(float, visit.sent)) == [torque, 0]


def test_the_slider_pushes_until_the_space_key(visit: Visit):
    visit.page.locator("#action").fill("-1.5")
    assert visit.page.inner_text("#action-text") == "1.5 N m counter-clockwise"
    assert visit.page.get_attribute("#action", "aria-valuetext") == "1.5 N m counter-clockwise"
    visit.page.keyboard.press(" ")
    assert visit.page.inner_text("#action-text") == "none"
    assert visit.page.input_value("#action") == "0"
    visit.wait_for(lambda: len(visit.sent) == 2)
    assert list(map(float, visit.sent)) == [1.5, 0]


def test_a_fresh_look_puts_the_dream_where_the_filter_is(visit: Visit):
    def looks() -> list[dict]:
        return [moment for moment in visit.moments if moment["seconds_dreamt"] == 0]

    assert len(looks()) == 1  # the start
    visit.page.keyboard.press("l")
    visit.wait_for(lambda: len(looks()) == 2)
    visit.page.get_by_role("button", name="fresh look").click()
    visit.wait_for(lambda: len(looks()) == 3)
    for look in looks()[1:]:
        before = visit.moments[visit.moments.index(look) - 1]
        assert before["seconds"] == look["seconds"] > 0
        assert before["truth"] == look["truth"]
        assert look["dream_at"] == look["seen_at"] == before["seen_at"]
    assert visit.page.inner_text("#news") == "The model looked at the last true frames."


def test_every_reset_and_every_visitor_starts_elsewhere(visit: Visit, browser: Browser, server: str):
    def starts() -> list[dict]:
        return [moment for moment in visit.moments if moment["seconds"] == 0]

    visit.page.keyboard.press("r")
    visit.wait_for(lambda: len(starts()) == 2)
    visit.page.get_by_role("button", name="Reset").click()
    visit.wait_for(lambda: len(starts()) == 3)
    with browser.new_page() as page:
        places = [moment["dream_at"] for moment in (*starts(), Visit(page, server).moments[0])]
    assert len({tuple(place) for place in places}) == 4


@pytest.mark.parametrize("visit", [360, 1280], indirect=True)
def test_fits_the_screen_and_buttons_push_while_they_are_held(visit: Visit):
    page = visit.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for name, torque in (("counter-clockwise", 2), ("↻ clockwise", -2)):
        visit.sent.clear()
        page.get_by_role("button", name=name).hover()
        page.mouse.down()
        visit.wait_for(lambda: len(visit.sent) == 1)
        page.mouse.up()
        visit.wait_for(lambda: len(visit.sent) == 2)
        assert list(map(float, visit.sent)) == [torque, 0]


def test_colours_are_those_of_the_figures(visit: Visit):
    for canvas, colour in (("truth", BLUE), ("dream", ORANGE)):
        visit.wait_for(lambda: visit.moments[-1]["seconds_dreamt"] > 1)
        expected = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        border = f"getComputedStyle(document.getElementById('{canvas}')).borderTopColor"
        assert visit.page.evaluate(border) == f"rgb{expected}"


def test_nonsense_does_not_end_the_game(visit: Visit):
    """Messages that mean nothing are ignored; one that is far too long closes the websocket of who sent it."""
    talk = """messages => new Promise((done, fail) => {
        const socket = new WebSocket(`ws://${location.host}/play`);
        let count = 0;
        socket.onopen = () => messages.forEach(message => socket.send(message));
        socket.onmessage = () => { if (++count === 5) done('goes on'); };
        socket.onclose = event => done(event.code);
    })"""
    nonsense = ["", "nonsense", "nan", "inf", "1e999", "-", "{}", "\0", "é" * 20, "reset look"]
    assert visit.page.evaluate(talk, nonsense) == "goes on"
    assert visit.page.evaluate(f"({talk})([new Uint8Array([1, 2, 255])])") == "goes on"
    assert visit.page.evaluate(talk, ["9" * 100_000]) == 1009  # "message too big"
    count = len(visit.moments)
    visit.wait_for(lambda: len(visit.moments) > count + 2)


@pytest.mark.parametrize("origin", [{}, {"Origin": "http://elsewhere.example"}, {"Origin": "null"}])
def test_pages_from_elsewhere_may_not_play(server: str, origin: dict[str, str]):
    request = urllib.request.Request(server + "play", headers=origin)
    with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request):
        pass
    with refused.value:
        assert refused.value.code == 403


@pytest.mark.parametrize("path", ["", "play"])
def test_only_this_machine_s_own_names_are_answered(server: str, path: str):
    """A page from elsewhere whose name was made to mean this machine has that name for its Host and its Origin."""
    port = server.split(":")[-1].strip("/")
    names = {name: 200 for name in (f"localhost:{port}", "127.0.0.1", f"[::1]:{port}", "LOCALHOST:1")}
    names |= {
        name: 403 for name in (f"elsewhere.example:{port}", "localhost.example", "127.0.0.1.example", "me@localhost")
    }
    for host, expected in names.items():
        connection = http.client.HTTPConnection("127.0.0.1", int(port))
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        headers = {"Host": host, "Origin": f"http://{host}", "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode()}
        connection.request("GET", f"/{path}", headers=headers | (upgrade if path else {}))
        answer = connection.getresponse()
        assert answer.status == (101 if path and expected == 200 else expected), host
        if expected == 403:
            assert answer.read() == b"this server answers to localhost, 127.0.0.1 and [::1] alone"
        connection.close()


def test_the_page_says_when_the_dream_is_beyond_the_data_and_does_not_flicker(visit: Visit):
    assert all(0 < moment["outside"] <= 100 for moment in visit.moments)
    visit.page.evaluate("socket.close()")
    visit.page.evaluate("now = 1e9; performance.now = () => now")
    told = []
    for outside, seconds_dreamt, later in (
        (0.5, 0.0, 0),  # a fresh look, inside
        (1.5, 1.0, 400),  # outside, but not for long
        (0.9, 1.0, 50),
        (1.5, 1.0, 400),
        (1.5, 1.0, 200),  # for more than half a second
        (0.95, 1.0, 1000),  # hardly inside
        (0.5, 1.0, 1400),  # inside, but not for long
        (1.5, 1.0, 50),
        (0.5, 1.0, 1400),
        (0.5, 1.0, 200),  # for more than a second and a half
        (1.5, 0.0, 50),  # a fresh look, outside
        (0.5, 0.0, 50),
        (None, 1.0, 1000),
    ):
        moment = {"outside": outside, "seconds_dreamt": seconds_dreamt}
        told.append(visit.page.evaluate(f"now += {later}; tellOutside({json.dumps(moment)}); outside"))
        shown = visit.page.inner_text("#outside")
        assert shown == ("⚠ The dream is where the training data never was: what it shows is a guess." * told[-1])
    assert told == [False] * 4 + [True] * 5 + [False, True, False, False]
    assert visit.page.get_attribute("#outside", "aria-live") == "polite"


def test_the_autopilot_drives_until_somebody_pushes(visit: Visit):
    def last_plan() -> dict:
        return visit.moments[-1]["plan"]

    page, button = visit.page, visit.page.get_by_role("button", name="Autopilot")
    visit.wait_for(button.is_enabled)
    assert button.get_attribute("aria-pressed") == "false"
    assert page.locator("#ahead").is_hidden()
    page.keyboard.press("a")
    visit.wait_for(last_plan)
    assert button.get_attribute("aria-pressed") == "true"
    assert page.inner_text("#ahead").split() == ["0.5", "1", "1.5", "2", "s"]
    assert page.inner_text("#pilot-text").startswith("It tries plans of 2 s in the dream")
    visit.wait_for(lambda: re.fullmatch(r"−?\d+\.\d+", page.inner_text("#reward-later")))
    visit.wait_for(lambda: page.inner_text("#action-text").endswith("by the autopilot"))
    assert visit.moments[-1]["seconds_dreamt"] == 0
    page.keyboard.down("ArrowLeft")
    visit.wait_for(lambda: last_plan()["action"] == [2])
    assert page.inner_text("#action-text") == "2.0 N m counter-clockwise, by you"
    page.keyboard.up("ArrowLeft")
    visit.wait_for(lambda: last_plan()["action"] != [2])
    visit.wait_for(lambda: page.inner_text("#action-text").endswith("by the autopilot"))
    button.click()
    visit.wait_for(lambda: last_plan() is None)
    assert page.inner_text("#action-text") == "none"
    assert page.inner_text("#pilot-text") == ""
    visit.wait_for(lambda: visit.moments[-1]["seconds_dreamt"] > 0)
    assert list(visit.sent) == ["autopilot on", "2", "0", "0", "autopilot off"]


def test_the_plan_s_picture_is_drawn_in_place_of_the_dream(visit: Visit):
    visit.wait_for(visit.page.get_by_role("button", name="Autopilot").is_enabled)
    visit.page.keyboard.press("a")
    visit.wait_for(lambda: visit.moments[-1]["plan"])
    next_frame = """async () => {
        const moment = await new Promise(done => {
            socket.addEventListener('message', event => done(JSON.parse(event.data)), {once: true});
        });
        const canvas = document.getElementById('dream');
        return [moment.plan.picture, [...canvas.getContext('2d').getImageData(0, 0, 16, 16).data]];
    }"""
    sent, drawn = visit.page.evaluate(next_frame)
    expected = np.frombuffer(base64.b64decode(sent), np.uint8).reshape(256, 3)
    np.testing.assert_array_equal(np.array(drawn).reshape(256, 4), np.insert(expected, 3, 255, axis=1))


def test_the_page_says_why_there_is_no_autopilot_and_warns(visit: Visit):
    page, button = visit.page, visit.page.get_by_role("button", name="Autopilot")
    visit.wait_for(button.is_enabled)
    page.evaluate("showAutopilot({...pilot, warning: 'beware'})")
    assert page.inner_text("#pilot-warning") == "⚠ beware"
    page.evaluate("showAutopilot({missing: 'some.npz: has no rewards'})")
    assert page.inner_text("#pilot-text") == "There is no autopilot: some.npz: has no rewards."
    assert button.is_disabled()
    page.keyboard.press("a")
    assert button.get_attribute("aria-pressed") == "false"
    assert visit.sent == []


def test_ctrl_c_ends_it_and_tells_the_page(browser: Browser, dvbf_run: Path):
    with serve(dvbf_run) as (process, url), browser.new_page() as page:
        Visit(page, url)
        assert page.locator("#closed").is_hidden()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        page.locator("#closed").wait_for(state="visible")


def test_colour_frames_are_sent_as_they_are(pendulum_data: Sequences):
    frames = np.stack([pendulum_data.frames, 255 - pendulum_data.frames, pendulum_data.frames], axis=-1)
    data = dataclasses.replace(pendulum_data, frames=frames)
    dreamer = Dreamer(untrained_dvbf(data))
    simulator = Simulator.of(data, "data")
    stage = Stage(dreamer, simulator, simulator.reader(), *latent_cloud(dreamer, data), 5, Future())
    world = describe_world(stage)
    assert (world["height"], world["width"], world["speed"]) == (16, 16, 2.0)
    moment = Player(stage, jax.random.key(0)).next_moment()
    sent = np.frombuffer(base64.b64decode(describe_moment(stage, moment)["truth"]), np.uint8).reshape(16, 16, 3)
    np.testing.assert_array_equal(sent, moment.true_frame)


def test_bad_input_is_one_line(dvbf_run: Path, pendulum_data: Sequences, tmp_path: Path):
    stateless, other = tmp_path / "stateless.npz", tmp_path / "other.npz"
    save_sequences(stateless, dataclasses.replace(pendulum_data, states=None, state_names=()))
    heavier = dataclasses.replace(pendulum_data, actions=2 * pendulum_data.actions)
    save_sequences(other, heavier)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, message in (
            (("--run", tmp_path / "nothing", "--port", 0), "nothing: not a run folder"),
            (("--run", dvbf_run, "--port", 0, "--data", stateless), "stateless.npz: the true simulator needs"),
            (("--run", dvbf_run, "--port", 0, "--data", other), "other.npz: the true simulator needs"),
            (("--run", dvbf_run, "--port", 0, "--context", 4), "--context must be at least 5"),
            (("--run", dvbf_run, "--port", port), f"--port {port}: cannot be used: Address already in use;"),
            (("--run", dvbf_run, "--port", 65536), "--port must be between 0 and 65535, not 65536"),
        ):
            result = run_script("play.py", *arguments)
            assert result.returncode == 2, result.stderr
            [line] = result.stderr.splitlines()
            assert line.startswith("error: ")
            assert message in line
