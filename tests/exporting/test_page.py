"""The page that dreams by itself, opened from its file in a headless Chromium, as a person uses it."""

import base64
import dataclasses
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_ok, run_script
from playwright.sync_api import Browser, Page
from running import Loaded, in_browser  # noqa: F401 (a fixture)

import worldmodel as wm
from worldmodel.exporting.program import Program
from worldmodel.exporting.truth import ALBUM, TruthPrograms, points
from worldmodel.imagination.variables import apart, visible_variables
from worldmodel.play.live import as_pushed
from worldmodel.worlds.collecting import collect
from worldmodel.worlds.pendulum.options import PendulumOptions
from worldmodel.worlds.reading import shown_points
from worldmodel.worlds.simulator import Simulator

STEPS = 200


@pytest.fixture(scope="module")
def exported(dvbf_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "dream.html"
    result = run_script("export.py", "--run", dvbf_run, "--out", out)
    assert_ok(result)
    assert re.fullmatch(rf"{re.escape(str(out))}: \d+\.\d kB\n", result.stdout)
    return out


class Visitor:
    """A page, and all that it asked for or complained of."""

    def __init__(self, page: Page, file: Path):
        self.page, self.requests, self.complaints = page, [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(file.as_uri())
        page.wait_for_function("moments.length > 2")


@pytest.fixture
def visitor(browser: Browser, exported: Path, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """A parameter is the width of a phone."""
    width = getattr(request, "param", 1280)
    phone = {"has_touch": True, "is_mobile": True} if width < 500 else {}
    with browser.new_context(viewport={"width": width, "height": 800}, **phone) as context:
        visitor = Visitor(context.new_page(), exported)
        yield visitor
        assert visitor.complaints == []
        assert visitor.requests == [exported.as_uri()]


def test_200_steps_in_the_page_are_those_of_the_model_and_of_the_world(visitor: Visitor, dvbf_run: Path):
    """The truth, what the filter makes of it, the dream, and what it shows, under the same pushes."""
    run, start = wm.load(dvbf_run), [2.0, -1.0]
    pushes = np.random.default_rng(1).uniform(-2.5, 2.5, STEPS).round(2).tolist()
    visitor.page.evaluate("socket.close()")
    told = visitor.page.evaluate(
        """([start, pushes]) => {
            const worlds = socket.worlds, [dream] = worlds.dreams, all = [];
            const keep = (moment) => all.push({
                moment, state: [...worlds.state], frame: [...worlds.lookAt()],
                shown: [...dream.picture(worlds.dreamt[0])], seen: [...dream.vector.run(worlds.seen[0]).vector],
                dreamt: [...dream.vector.run(worlds.dreamt[0]).vector],
            });
            keep(worlds.start(start));
            for (const push of pushes) keep(worlds.step(push));
            return all;
        }""",
        [start, pushes],
    )
    found = {
        name: np.array([each[name] for each in told], np.float32)
        for name in ("state", "frame", "shown", "seen", "dreamt")
    }
    frames = found["frame"].reshape(-1, 1, 16, 16)
    world = Simulator.of(run.run.data(), "").world

    free = [as_pushed(world, 0.0, t)[None] for t in range(4)]
    states, drawn = [np.float32([start])], []
    for action in [*free, *(as_pushed(world, push, 0)[None] for push in pushes)]:
        drawn.append(world.frames(jnp.asarray(states[-1]), 16))
        states.append(np.asarray(world.step(jnp.asarray(states[-1]), jnp.asarray(action))))
    drawn.append(world.frames(jnp.asarray(states[-1]), 16))
    np.testing.assert_allclose(found["state"], np.concatenate(states[4:]), atol=2e-3, rtol=1e-4)
    # in steps of 1/255, in which a number may be rounded either way
    np.testing.assert_allclose(frames[:, 0], np.concatenate(drawn[4:]), atol=0.51 / 255 + 1e-3)
    np.testing.assert_allclose(255 * frames, np.round(255 * frames), atol=1e-4)

    first = np.concatenate([np.round(255 * np.asarray(each)) / 255 for each in drawn[:4]] + [frames[0]])[None]
    seen = dreamt = run.last(run.filter(first.astype(np.float32), np.stack(free, axis=1)))
    for t, push in enumerate([None, *pushes]):
        if push is not None:
            action = as_pushed(world, push, 0)[None]
            seen, dreamt = run.filter_step(seen, action, frames[t]), run.imagine_step(dreamt, action)
        np.testing.assert_allclose(found["seen"][t], run.vector(seen)[0], atol=1e-4)
        np.testing.assert_allclose(found["dreamt"][t], run.vector(dreamt)[0], atol=1e-4)
        np.testing.assert_allclose(found["shown"][t], run.decode(dreamt).ravel(), atol=1e-4)
    # both move, and they part
    assert np.ptp(found["dreamt"], axis=0).max() > 0.01
    assert np.abs(found["dreamt"] - found["seen"]).max() > 1e-3
    last = told[-1]["moment"]
    assert (last["seconds"], last["seconds_dreamt"]) == (20, 20)
    picture = np.frombuffer(base64.b64decode(last["dreams"][0]["picture"]), np.uint8).reshape(256, 3)
    np.testing.assert_allclose(picture, np.repeat(255 * found["shown"][-1][:, None], 3, axis=1), atol=0.51)


@pytest.mark.parametrize("visitor", [360, 1280], indirect=True)
def test_a_visitor_pushes_looks_and_begins_anew(visitor: Visitor):
    page, phone = visitor.page, visitor.page.viewport_size["width"] == 360
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not page.get_by_role("button", name="Autopilot").is_visible()
    assert "autopilot" not in page.inner_text("body").lower()
    assert re.search(r"asks no network: the model \(dvbf, [\d,]+ parameters\)", page.inner_text("#about"))
    page.wait_for_function("document.getElementById('rate').textContent.includes('frames a second')")
    if phone:
        page.evaluate("""() => document.getElementById("left").dispatchEvent(
            new PointerEvent("pointerdown", { pointerId: 1, bubbles: true }))""")
    else:
        page.keyboard.down("ArrowLeft")
    assert page.inner_text("#action-text") == "2.0 N m counter-clockwise"
    assert page.evaluate("socket.action") == 2
    if not phone:
        page.keyboard.up("ArrowLeft")
        assert page.evaluate("socket.action") == 0
    page.locator("#action").fill("-1.5")
    assert page.evaluate("socket.action") == 1.5
    before = page.evaluate("document.querySelector('.dream canvas').toDataURL()")
    page.wait_for_function("before => document.querySelector('.dream canvas').toDataURL() !== before", arg=before)
    for name, condition in (("fresh look", "moments.at(-1).seconds > 0"), ("Reset", "moments.length < 5")):
        page.wait_for_function("moments.at(-1).seconds_dreamt > 0.3 && moments.length > 5")
        button = page.get_by_role("button", name=name)
        (button.tap if phone else button.click)()
        page.wait_for_function(f"moments.at(-1).seconds_dreamt < 0.3 && {condition}")


def test_what_is_no_number_has_a_place_in_the_view(visitor: Visitor):
    """JSON has neither infinite numbers nor NaN."""
    places = visitor.page.evaluate(
        """() => {
            const [dream] = socket.worlds.dreams, [view, vector] = [dream.view, dream.vector];
            const at = (...latent) => {
                dream.view = { mean: [0, 0], axes: [[1, 0], [0, 1]] };
                dream.vector = { run: () => ({ vector: latent }) };
                const found = JSON.stringify(dream.place({}));
                [dream.view, dream.vector] = [view, vector];
                return found;
            };
            return [at(0.5, -2), at(Infinity, 1), at(-Infinity, 1), at(NaN, 1), at(3e38, 0)];
        }"""
    )
    assert places == ["[0.5,-2]", *3 * ["[100,100]"], "[3e+38,0]"]


def test_a_browser_that_cannot_run_it_is_told_so(browser: Browser, exported: Path):
    with browser.new_page() as page:
        page.add_init_script("delete globalThis.DecompressionStream")
        page.goto(exported.as_uri())
        page.wait_for_function("!document.getElementById('closed').hidden")
        assert "This browser cannot run the model: DecompressionStream" in page.inner_text("#closed")


def test_two_dreams_stand_side_by_side(browser: Browser, dvbf_run: Path, tmp_path: Path):
    copied, out = tmp_path / "copied", tmp_path / "two.html"
    shutil.copytree(dvbf_run, copied)
    assert_ok(run_script("export.py", "--run", dvbf_run, "--run", copied, "--out", out))
    with browser.new_page() as page:
        visitor = Visitor(page, out)
        assert page.locator(".dream h2").all_inner_texts() == ["Dream dvbf", "Dream copied"]
        assert page.evaluate("moments.every(({ dreams: [one, other] }) => one.picture === other.picture)")
        assert visitor.complaints == []
    assert out.stat().st_size < 1.3e6


@pytest.mark.parametrize("drawn", [True, False])
def test_the_truth_is_the_simulators(drawn: bool, in_browser: Callable[[Program], Loaded]):
    """Its steps, its pictures, and how far a frame is from it; where a world does not draw its frames, they are
    recorded ones, of states that are as near as any."""
    data = collect(PendulumOptions(), 40, 30, 16)
    simulator = Simulator.of(data if drawn else dataclasses.replace(data, frames=255 - data.frames), "")
    programs, world = TruthPrograms.of(simulator, jax.random.key(0)), simulator.world
    step, picture, difference = map(in_browser, (programs.step, programs.picture, programs.apart))
    reader, variable = simulator.reader(), visible_variables(world)[0]
    assert programs.pictures == (0 if drawn else ALBUM)
    for start, action in zip(programs.starts[:10], data.actions[0], strict=False):
        after = step({"state": start, "action": action})["next_state"]
        np.testing.assert_allclose(after, world.step(start[None], action[None]), rtol=1e-5, atol=1e-5)
        frame = picture({"state": after})["frame"]
        if drawn:
            np.testing.assert_allclose(frame, world.frames(jnp.asarray(after), 16), atol=0.51 / 255)
        else:
            same = (np.abs(simulator.album - 255 * frame[0]) < 0.01).all(axis=(1, 2))
            away = np.linalg.norm(shown_points(world, simulator.album_states) - shown_points(world, after), axis=1)
            assert away[same].min() < away.min() + 2 * np.pi / ALBUM
        wrong = apart(variable, reader(frame.reshape(1, -1))[0, 0], start[0])
        assert abs(difference({"state": start, "frame": frame})["apart"][0] - wrong) < 2


def test_places_in_a_program_are_those_of_the_album():
    world = PendulumOptions().build()
    states = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    np.testing.assert_allclose(points(world, jnp.asarray(states)), shown_points(world, states), atol=1e-6)
