"""The report of a run: what it says, that it needs nothing else, and that no file can put its own HTML into it."""

import base64
import dataclasses
import itertools
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import assert_ok, run_script
from made_up import LEARNT, make_dvbf_run, make_vae_run, report
from PIL import Image
from playwright.sync_api import Browser

from worldmodel.data.sequences import Sequences, WorldRecord
from worldmodel.evaluation.health import Health, find_problems
from worldmodel.evaluation.judge import CEILING
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.planning.record import Acted
from worldmodel.reporting.parts import FRAME_PARTS, NO_OTHER_ACTIONS, WORLD_PARTS, Part
from worldmodel.support.files import UserError, write_json


@pytest.fixture
def dvbf(tmp_path: Path, pendulum_data: Sequences) -> Path:
    return make_dvbf_run(tmp_path / "swing", pendulum_data)


@pytest.fixture
def vae(tmp_path: Path, pendulum_data: Sequences) -> Path:
    return make_vae_run(tmp_path / "frames", pendulum_data)


def test_the_numbers_of_the_evaluation_are_in_the_page_rounded_and_with_their_intervals(dvbf: Path):
    page = report(dvbf)
    assert "R² of probes" in page.text
    assert "earlier state" not in page.text
    angles = page.group("Median angle error / degrees")
    assert angles["model"] == ["0.26 0.13 to 0.52", "2.6 1.3 to 5.2", "7.8 3.9 to 15.6"]
    assert angles["repeat last frame"] == ["5.2 2.6 to 10.4", "52 26 to 104", "156 78 to 312"]
    assert list(angles) == [
        "model",
        "repeat last frame",
        "mean frame",
        f"{CEILING} ceiling",
        "angle read off true frames ceiling",
    ]
    assert page.group("Pixel MSE × 1000")["model"] == ["0.12 0.06 to 0.25", "1.23 0.62 to 2.47", "3.70 1.85 to 7.41"]
    assert page.group("Sequences within 30 degrees")["model"] == ["3% 2% to 6%", "30% 15% to 60%", "90% 45% to 100%"]
    assert page.group("SSIM (1: equal)")["model"] == [
        "0.010 0.005 to 0.020",
        "0.100 0.050 to 0.200",
        "0.300 0.150 to 0.600",
    ]
    assert ["after so many imagined frames", "1 (0.05 s)", "10 (0.5 s)", "30 (1.5 s)"] in page.rows
    assert ["model", "26 13 to 30", "1.30 0.65 to 1.50"] in page.rows
    assert ["truths inside the 50% interval", "44%", "44%", "44%"] in page.rows
    assert ["truths inside the 90% interval", "89%", "89%", "89%"] in page.rows
    assert ["CRPS / degrees", "0.12", "1.23", "3.69"] in page.rows
    assert ["linear", "0.999", "0.987"] in page.rows
    assert ["polynomial", "1.000", "–"] in page.rows


def test_the_first_screen_has_the_headline_beside_repeating_the_last_frame(dvbf: Path):
    page = report(dvbf)
    first = " ".join(page.text[: page.text.index("Problems: none found")].split())
    assert "trained for 9,000 optimiser steps on 64 sequences of 15 frames (train.npz)" in first.lower()
    assert "Shown 10 frames of each of 60 sequences (test.npz), it imagined the next 30" in first
    assert re.search(r"30 frames, 1\.5 s\s*7\.8°\s*repeat last frame 156°", first)
    assert "Health check: no problem found" in first
    assert [len(figure["images"]) for figure in page.figures[:2]] == [1, 1]
    assert " ".join(page.figures[0]["caption"].split()) in first


def test_the_best_is_marked_and_the_ceilings_do_not_compete(dvbf: Path):
    page = report(dvbf)
    assert {name for name, _ in page.best} == {"model", "mean frame"}
    assert page.best.count(("mean frame", "1")) == 1  # its energy error
    assert page.best.count(("model", "1")) == 6  # five other metrics, valid frames
    assert page.best.count(("model", "2")) == 6


def test_data_without_states_has_pixels_for_a_headline(tmp_path: Path, pendulum_data: Sequences):
    run = make_dvbf_run(tmp_path / "any", pendulum_data, states=False)
    (run / "evaluation" / "futures.png").unlink()
    page = report(run)
    assert re.search(r"30 frames\s*3\.70\s*repeat last frame 74\.07", page.text)
    assert "angle error" not in page.text
    assert "R² of probes" not in page.text
    assert ["predictor", "frames"] in page.rows
    assert ["CRPS / brightness", "0.1230", "1.2300", "3.6900"] in page.rows


def test_what_has_left_the_training_data_is_told_where_it_is_known(dvbf: Path):
    assert "Beyond the training data" not in report(dvbf).text
    path = dvbf / "evaluation" / "evaluation.json"
    shares = {"true frames, filtered": [0.01, 0.02, 0.03], "imagined": [0.011, 0.25, 0.5]}
    outside = {"latents": shares, "actions": 0.07}
    write_json(path, json.loads(path.read_text()) | {"outside": outside})
    page = report(dvbf)
    assert ["true frames, filtered", "1%", "2%", "3%"] in page.rows
    assert ["imagined", "1%", "25%", "50%"] in page.rows
    assert "and 7% of the actions are beyond" in page.text
    assert "BEYOND THE TRAINING DATA" not in page.text
    write_json(path, json.loads(path.read_text()) | {"outside": outside | {"frames": 0.62}})
    assert "BEYOND THE TRAINING DATA: 62% of the frames of these" in report(dvbf).text
    write_json(path, json.loads(path.read_text()) | {"outside": outside | {"latents": {"imagined": [0.5]}}})
    with pytest.raises(UserError, match="damaged, or of another version"):
        report(dvbf)


def test_what_the_health_check_found_is_told_with_what_to_change(dvbf: Path, tiny_dvbf: DVBF):
    figures = LEARNT.figures | {"initial_std": 0.001, "shuffled_actions_mse": 0.0002}
    sick = Health(figures, find_problems(tiny_dvbf, figures))
    write_json(dvbf / "health.json", dataclasses.asdict(sick))
    page = report(dvbf)
    assert "Health check: 2 problems found" in page.text
    assert "none found" not in page.text
    for words in ("ZERO VARIANCE", "raise --observation-std", "ACTIONS UNUSED", "actions[:, t] must take frame t"):
        assert words in page.text


def test_a_diverged_run_says_so(dvbf: Path, tiny_dvbf: DVBF):
    figures = LEARNT.figures | {"open_loop_mse": float("nan")}
    write_json(dvbf / "health.json", dataclasses.asdict(Health(figures, find_problems(tiny_dvbf, figures))))
    assert "NOT A NUMBER: the training has diverged" in report(dvbf).text


@pytest.mark.parametrize(("kind", "parts"), [("dvbf", WORLD_PARTS), ("vae", FRAME_PARTS)])
def test_every_picture_is_in_the_page_byte_for_byte_with_its_caption(
    kind: str, parts: tuple[Part, ...], request: pytest.FixtureRequest
):
    run = request.getfixturevalue(kind)
    page = report(run)
    figures = [figure for part in parts for figure in part.figures]
    assert len(page.figures) == len(figures)
    for shown, figure in zip(page.figures, figures, strict=True):
        [image] = shown["images"]
        head, data = image["src"].split(",")
        assert head == f"data:image/{figure.file[-3:]};base64"
        assert base64.b64decode(data) == (run / figure.file).read_bytes()
        assert image["alt"] == figure.title
        for words in (figure.title, figure.reading, figure.bad):
            assert words in shown["caption"]
        with Image.open(run / figure.file) as picture:
            inches = 96 / 120 if figure.file.endswith("png") else 1
            assert int(image["width"]) == round(picture.width * inches)


def test_a_picture_that_an_earlier_version_gave_another_name_is_in_the_page(dvbf: Path):
    figures = len(report(dvbf).figures)
    (dvbf / "evaluation" / "decoder.png").rename(dvbf / "evaluation" / "decoder_circle.png")
    assert len(report(dvbf).figures) == figures


@pytest.mark.parametrize("kind", ["dvbf", "vae"])
def test_the_page_needs_nothing_else_and_is_in_order(kind: str, request: pytest.FixtureRequest):
    page = report(request.getfixturevalue(kind))
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.tags}
    assert all(value.startswith("data:image/") for value in page.attribute("src"))
    assert all(value.startswith("#") for value in page.attribute("href"))
    assert {value[1:] for value in page.attribute("href")} == set(page.attribute("id"))
    assert not any(name.startswith("on") or name == "style" for _, found in page.tags for name in found)
    style = page.source[page.source.index("<style>") : page.source.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in page.attribute("content")[0]
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(found.get("scope") for tag, found in page.tags if tag == "th")


def test_the_configuration_and_the_datas_card_are_there(dvbf: Path, pendulum_data: Sequences):
    page = report(dvbf)
    assert ["--final-noise-scale", str(DVBFOptions().final_noise_scale)] in page.rows
    assert ["--observation-std", "default"] in page.rows
    assert ["--seed", "3"] in page.rows
    assert ["file", "runs/train.npz"] in page.rows
    assert ["frame", "16 × 16 pixels"] in page.rows
    assert ["seconds between frames", "0.1"] in page.rows
    assert ["SHA-256", pendulum_data.fingerprint()] in page.rows
    assert ["jax", json.loads((dvbf / "config.json").read_text())["versions"]["jax"]] in page.rows


def test_an_evaluation_from_before_the_last_training_is_called_one(dvbf: Path):
    found = dvbf / "evaluation" / "evaluation.json"
    write_json(found, json.loads(found.read_text()) | {"trained_steps": 8000})
    assert "of an earlier state of this run, after 8,000 optimiser steps" in report(dvbf).text


def test_the_report_of_a_static_vae(vae: Path):
    page = report(vae)
    assert re.search(r"reconstruction error\s*4\.9%\s*of the frames' variance", page.text)
    assert re.search(r"dimensions in use\s*2\s*of 3", page.text)
    assert ["0", "2.246", "0.1174"] in page.rows
    assert page.text.count("1 of 3 dimensions collapsed (unused: [1]).") == 2  # on the first screen, and below
    assert "evaluate.py" not in page.text


def test_what_is_not_there_yet_is_named_with_the_command_that_makes_it(
    dvbf_run: Path, tmp_path: Path, pendulum_data: Sequences
):
    run = tmp_path / "a run"
    shutil.copytree(dvbf_run, run)
    for name in ("health.json", "curves.png", "learning.gif"):
        (run / name).unlink()
    page = report(run)
    assert page.figures == []
    commands = re.findall(r"Not there yet. This makes it:\s*(.*)", page.text)
    evaluate, train = sorted(set(commands))
    assert evaluate == f"python scripts/evaluate.py --run '{run}' --data DATA"
    assert [commands.count(each) for each in (evaluate, train)] == [len(WORLD_PARTS) - 2, 2]
    assert "Left out: the data has no record of its world" in page.text  # where a model could act

    _, script, *arguments = shlex.split(train)
    assert_ok(run_script(Path(script).name, *arguments))
    page = report(run)
    assert set(re.findall(r"Not there yet. This makes it:\s*(.*)", page.text)) == {evaluate}
    assert [figure["images"][0]["alt"] for figure in page.figures] == [f.title for f in WORLD_PARTS[-1].figures]


def test_what_an_evaluation_left_out_is_said_and_not_asked_for(dvbf: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(dvbf, run)
    for name in ("png", "gif"):
        (run / "evaluation" / f"counterfactuals.{name}").unlink()
    asked, told = (
        "Not there yet. This makes it: python scripts/evaluate.py",
        "Left out: other actions (none is ever done",
    )
    text = " ".join(report(run).text.split())
    assert asked in text
    assert told not in text
    path = run / "evaluation" / "evaluation.json"
    path.write_text(path.read_text().replace("left out: futures.png (no reason)", NO_OTHER_ACTIONS))
    text = " ".join(report(run).text.split())
    assert asked not in text
    assert told in text


def test_where_nobody_can_act_it_is_not_asked_for(tmp_path: Path, pendulum_data: Sequences):
    for name, told in (("ball", True), ("Pendulum-v1", False)):
        world = WorldRecord(name, {}, {"size": 16})
        text = report(make_dvbf_run(tmp_path / name, dataclasses.replace(pendulum_data, world=world))).text
        assert ("Left out: ball: is no Gymnasium environment" in text) == told
        assert ("python scripts/plan.py" in text) != told


def test_what_came_of_acting_is_there_between_floors_and_ceilings(dvbf: Path):
    place = dvbf / "acting" / "cem"
    found = Acted(
        env="Pendulum-v1",
        seed=1,
        start=None,
        steps=200,
        planner="cem",
        options={"horizon": 20},
        wanted="the reward",
        policy=False,
        returns=[-120.0, -140.0],
        lengths=[200, 200],
        ended=0.0,
        seconds_per_decision=0.0024,
        dreamt=[-10.0],
        real=[-11.0],
        floors={"random actions": [-1200.0, -1300.0]},
        ceilings={"optimum": [-110.0, -130.0]},
        reward=None,
        warnings=["Only 0.10% of the data are near the best reward."],
        outcomes={"upright": 1.0},
    )
    found.write(place)
    for name in ("episodes.gif", "returns.png"):
        (place / name).write_bytes((dvbf / "curves.png").read_bytes())
    page = report(dvbf)
    assert page.group("return of an episode") == {
        "random actions": ["-1250.0", "-1300.0", "-1200.0"],
        "model": ["-130.0", "-140.0", "-120.0"],
        "optimum": ["-120.0", "-130.0", "-110.0"],
    }
    assert "2.4 ms a decision; upright 1." in page.text
    assert "near the best reward" in page.text
    assert [figure["images"][0]["alt"] for figure in page.figures][-4:-2] == [
        "The real world, and the plans in it: cem",
        "Returns, and whether they were dreamt rightly: cem",
    ]


def test_a_number_that_is_not_there_is_a_dash(dvbf: Path):
    path = dvbf / "evaluation" / "evaluation.json"
    found = json.loads(path.read_text())
    for part in ("value", "low", "high"):
        found["rows"]["model"]["psnr"][part][0] = None
    write_json(path, found)
    page = report(dvbf)
    assert page.group("PSNR / dB")["model"][0] == "–"
    assert page.best.count(("repeat last frame", "1")) == 1


def test_the_script_writes_what_the_function_writes(dvbf: Path, tmp_path: Path):
    out = tmp_path / "elsewhere" / "page.html"
    result = run_script("report.py", "--run", dvbf, "--out", out)
    assert_ok(result)
    assert str(out) in result.stdout
    assert out.read_text() == report(dvbf).source


@pytest.mark.parametrize("kind", ["dvbf", "vae"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_in_a_browser(kind: str, width: int, request: pytest.FixtureRequest, browser: Browser):
    run = request.getfixturevalue(kind)
    report(run)
    backgrounds = {}
    for scheme in ("light", "dark"):
        with browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            offline=True,
        ) as context:
            page = context.new_page()
            said: list[str] = []
            asked: list[str] = []
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.on("request", lambda request, asked=asked: asked.append(request.url.split(":")[0]))
            page.goto((run / "report.html").resolve().as_uri())
            assert said == []
            assert set(asked) <= {"file", "data"}
            sizes = page.evaluate("[...document.images].map(image => image.naturalWidth)")
            assert len(sizes) >= 4
            assert min(sizes) > 0
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            backgrounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
            card = page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
            assert card == "rgb(255, 255, 255)"
    assert backgrounds["light"] == "rgb(255, 255, 255)"
    assert backgrounds["dark"] != backgrounds["light"]
