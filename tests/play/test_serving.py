"""The page's server: who may play, what it ignores, how it ends, and a user's mistakes."""

import base64
import dataclasses
import http.client
import json
import signal
import socket
import urllib.error
import urllib.request
from concurrent.futures import Future
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import run_script, untrained_dvbf
from playwright.sync_api import Browser
from visiting import Visit, serve, server, visit  # noqa: F401 (fixtures)

from worldmodel.data.sequences import Sequences
from worldmodel.data.storage import save_sequences
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.models.dvbf.model import DVBF
from worldmodel.play.live import latent_cloud
from worldmodel.play.serving import Player, Stage, describe_moment, describe_world
from worldmodel.worlds.simulator import Simulator


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


def test_a_dream_that_broke_is_still_told(trained: DVBF, unseen: Sequences):
    dreamer, simulator = Dreamer(trained), Simulator.of(unseen, "data")
    stage = Stage(dreamer, simulator, simulator.reader(), *latent_cloud(dreamer, unseen), 5, Future())
    moment = Player(stage, jax.random.key(0)).next_moment()
    nothing = np.full_like(moment.latent, np.nan)
    broken = moment._replace(latent=nothing, dream_frame=np.full_like(moment.dream_frame, np.nan), apart=np.nan)
    told = json.loads(json.dumps(describe_moment(stage, broken), allow_nan=False))
    assert told["seen_at"] == describe_moment(stage, moment)["seen_at"]
    assert told["apart"] == 100


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
