"""The page's server: who may play, what it ignores, how it ends, and a user's mistakes."""

import base64
import dataclasses
import http.client
import json
import shutil
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

from worldmodel.data.sequences import Sequences, WorldRecord
from worldmodel.data.storage import save_sequences
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.models.dvbf.model import DVBF
from worldmodel.play.live import Dream
from worldmodel.play.runs import open_runs, require_same_world
from worldmodel.play.serving import Player, Stage, describe_moment, describe_world
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError
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
    dream = Dream.of("runs/some", "dvbf", Dreamer(untrained_dvbf(data)), data)
    simulator = Simulator.of(data, "data")
    stage = Stage([dream], simulator, simulator.reader(), 5, Future())
    world = describe_world(stage)
    assert (world["height"], world["width"], world["speed"]) == (16, 16, 2.0)
    moment = Player(stage, jax.random.key(0)).next_moment()
    sent = np.frombuffer(base64.b64decode(describe_moment(stage, moment)["truth"]), np.uint8).reshape(16, 16, 3)
    np.testing.assert_array_equal(sent, moment.frame)


def test_a_dream_that_broke_is_still_told_and_so_is_the_other(trained: DVBF, unseen: Sequences):
    dream, simulator = Dream.of("runs/some", "dvbf", Dreamer(trained), unseen), Simulator.of(unseen, "data")
    stage = Stage([dream, dream], simulator, simulator.reader(), 5, Future())
    moment = Player(stage, jax.random.key(0)).next_moment()
    whole = moment.dreams[0]
    nothing = np.full_like(whole.latent, np.nan)
    broken = whole._replace(latent=nothing, frame=np.full_like(whole.frame, np.nan), apart=np.nan, outside=np.inf)
    moment = moment._replace(dreams=[broken, whole])
    told, other = json.loads(json.dumps(describe_moment(stage, moment), allow_nan=False))["dreams"]
    assert told["seen_at"] == other["seen_at"] == other["at"]
    assert told["apart"] == told["outside"] == 100
    assert other["apart"] < 100


def test_what_is_told_of_several_dreams_is_in_their_order(trained: DVBF, unseen: Sequences):
    models = {"one": trained, "two": untrained_dvbf(unseen)}
    dreams = [Dream.of(name, f"{name}-model", Dreamer(model), unseen) for name, model in models.items()]
    simulator = Simulator.of(unseen, "data")
    stage = Stage(dreams, simulator, simulator.reader(), 5, Future())
    world = json.loads(json.dumps(describe_world(stage), allow_nan=False))
    assert [(told["name"], told["model"]) for told in world["dreams"]] == [("one", "one-model"), ("two", "two-model")]
    moment = Player(stage, jax.random.key(0)).next_moment()
    sent = json.loads(json.dumps(describe_moment(stage, moment), allow_nan=False))
    for dream, told, shown, at in zip(dreams, world["dreams"], moment.dreams, sent["dreams"], strict=True):
        np.testing.assert_allclose(told["cloud"], dream.view(dream.cloud)[:, :2], atol=1e-3)
        np.testing.assert_allclose(at["at"], dream.view(shown.latent)[:2], atol=1e-3)
        assert at["apart"] == pytest.approx(shown.apart, rel=1e-3)
        picture = np.frombuffer(base64.b64decode(at["picture"]), np.uint8).reshape(16, 16, 3)
        np.testing.assert_allclose(picture[..., 0], 255 * shown.frame, atol=0.51)


def test_runs_have_the_shortest_names_that_tell_them_apart(dvbf_run: Path, tmp_path: Path):
    folders = [tmp_path / name for name in ("a/dvbf", "b/dvbf", "b/dkf")]
    for folder in folders:
        shutil.copytree(dvbf_run, folder)
    runs = open_runs(folders)
    assert {name: run.folder for name, run in runs.items()} == dict(
        zip(("a/dvbf", "b/dvbf", "b/dkf"), folders, strict=True)
    )
    assert list(open_runs(folders[1:])) == ["dvbf", "dkf"]


def test_a_run_of_another_world_does_not_fit(dvbf_run: Path, pendulum_data: Sequences, tmp_path: Path):
    ball, pendulum = (WorldRecord(name, {}, {}) for name in ("ball", "pendulum"))
    folder, path = tmp_path / "run", Path("some.npz")
    shutil.copytree(dvbf_run, folder)
    config = json.loads((folder / "config.json").read_text())
    config["data"]["world"] = dataclasses.asdict(pendulum)
    (folder / "config.json").write_text(json.dumps(config))
    for world in (pendulum, None):
        require_same_world(Run.open(folder), dataclasses.replace(pendulum_data, world=world), path)
    other = dataclasses.replace(pendulum_data, world=ball)
    require_same_world(Run.open(dvbf_run), other, path)  # which does not know its world
    with pytest.raises(UserError, match=rf"some\.npz: shows the world ball, but {folder} was trained in pendulum"):
        require_same_world(Run.open(folder), other, path)


def test_bad_input_is_one_line(dvbf_run: Path, pendulum_data: Sequences, tmp_path: Path):
    small = tmp_path / "small"
    shutil.copytree(dvbf_run, small)
    config = json.loads((small / "config.json").read_text())
    config["data"]["scale"]["frame_shape"] = [8, 8]
    (small / "config.json").write_text(json.dumps(config))
    stateless, other = tmp_path / "stateless.npz", tmp_path / "other.npz"
    save_sequences(stateless, dataclasses.replace(pendulum_data, states=None, state_names=()))
    heavier = dataclasses.replace(pendulum_data, actions=2 * pendulum_data.actions)
    save_sequences(other, heavier)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, message in (
            (("--port", 0, *5 * ("--run", dvbf_run)), "--run must be given 1 to 4 times, not 5"),
            (("--port", 0, "--run", dvbf_run, "--run", dvbf_run / ".." / dvbf_run.name), "dvbf: is given twice"),
            (("--run", tmp_path / "nothing", "--port", 0), "nothing: not a run folder"),
            (("--run", dvbf_run, "--run", tmp_path / "nothing", "--port", 0), "nothing: not a run folder"),
            (
                ("--run", dvbf_run, "--run", small, "--port", 0),
                f"frames are [16, 16], but {small} was trained on [8, 8]",
            ),
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
