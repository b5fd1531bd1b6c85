"""Run folders that something is wrong with, and what the report makes of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import run_script
from made_up import HORIZON, Page, make_dvbf_run, make_vae_run, report
from playwright.sync_api import Browser

from worldmodel.data.sequences import Sequences
from worldmodel.reporting.report import write_report
from worldmodel.support.files import UserError

HOSTILE = "</style><script>alert(1)</script><img src=x onerror=alert(1)>\"'><b>{{ 7*7 }}\ud800"


@pytest.fixture
def dvbf(tmp_path: Path, pendulum_data: Sequences) -> Path:
    return make_dvbf_run(tmp_path / "swing", pendulum_data)


def hostile_dvbf(run: Path) -> None:
    path = run / "evaluation" / "evaluation.json"
    found = json.loads(path.read_text())
    found["data"] = found["samples"]["unit"] = HOSTILE
    for table in ("rows", "valid_prediction_frames"):
        found[table] = {HOSTILE if name == "shuffled actions" else name: row for name, row in found[table].items()}
    found["left_out"], found["model"] = [HOSTILE], HOSTILE
    found["measures"][0]["title"] = found["measures"][0]["unit"] = HOSTILE
    for probe in ("r2_linear", "r2_polynomial"):
        found[probe] = {HOSTILE: 0.5, "angular_velocity": 0.5}
    path.write_text(json.dumps(found))


def hostile_vae(run: Path) -> None:
    path = run / "posterior.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"in_words": [HOSTILE, HOSTILE]}))


@pytest.mark.parametrize(("make", "harm"), [(make_dvbf_run, hostile_dvbf), (make_vae_run, hostile_vae)])
def test_nothing_in_a_run_folder_can_put_html_into_the_page(
    make: Callable[[Path, Sequences], Path],
    harm: Callable[[Path], None],
    tmp_path: Path,
    pendulum_data: Sequences,
    browser: Browser,
):
    harmless = report(make(tmp_path / "harmless", pendulum_data))
    run = make(tmp_path / "<script>alert(1)<img src=x onerror=alert(1)>\"'", pendulum_data)
    harm(run)
    config = json.loads((run / "config.json").read_text())
    config["data"] |= {"path": HOSTILE, "fingerprint": HOSTILE}
    config["data"]["scale"]["frame_shape"] = [HOSTILE, HOSTILE]
    config["options"] = {HOSTILE: HOSTILE, "steps": [HOSTILE], "model": {**config["options"]["model"]}}
    config["options"]["model"]["latent_size"] = {HOSTILE: HOSTILE}
    config["versions"]["jax"] = HOSTILE
    (run / "config.json").write_text(json.dumps(config))
    page = report(run)

    def but_options(page: Page) -> list[tuple[str, list[str]]]:
        """Tags and attributes, without the table of the training's options, which has another length."""
        return [tag for tag in page.structure() if tag[0] not in ("tr", "td", "th")]

    assert but_options(page) == but_options(harmless)
    assert "<script>" in page.text
    assert "{{ 7*7 }}" in page.text

    with browser.new_page() as view:
        said: list[str] = []
        view.on("dialog", lambda dialog: said.append(dialog.message))
        view.on("console", lambda message: said.append(message.text))
        view.goto((run / "report.html").resolve().as_uri())
        assert said == []
        assert view.evaluate("document.scripts.length") == 0


DAMAGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another version": lambda found: {"version": 0},
    "a list": lambda found: [found],
    "no model": lambda found: found["rows"].pop("model"),
    "words for numbers": lambda found: found["rows"]["model"]["mse"].update(value=["<b>"] * HORIZON),
    "truth for numbers": lambda found: found["samples"].update(crps=[True] * HORIZON),
    "cut short": lambda found: found["rows"]["model"]["mse"]["low"].pop(),
    "beyond the horizon": lambda found: found.update(shown_horizons=[1, HORIZON + 1]),
    "before the first frame": lambda found: found.update(shown_horizons=[0]),
    "no horizons": lambda found: found.update(shown_horizons=[]),
    "half a frame": lambda found: found.update(shown_horizons=[1.5]),
    "no samples": lambda found: found["samples"].pop("crps"),
    "half of the samples": lambda found: found["samples"]["coverage"].pop("0.9"),
    "a measure that is not known": lambda found: found["measures"].pop(),
    "no form of a number": lambda found: found["measures"][0].update(form=">999999999.2f"),
    "too large a number": lambda found: found.update(dt=10**400),
    "no interval": lambda found: found["valid_prediction_frames"].update(model=3.0),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_evaluation_is_named_and_the_last_report_stays(case: str, dvbf: Path):
    report(dvbf)
    before = {path: path.read_bytes() for path in dvbf.rglob("*.html")}
    path = dvbf / "evaluation" / "evaluation.json"
    found = json.loads(path.read_text())
    changed = DAMAGED[case](found)
    path.write_text(json.dumps(changed if case in ("another version", "a list") else found))
    with pytest.raises(UserError, match=r"evaluation\.json: damaged, or of another version"):
        write_report(dvbf, dvbf / "report.html")
    assert {path: path.read_bytes() for path in dvbf.rglob("*.html")} == before
    assert not list(dvbf.glob(".report*"))


@pytest.mark.parametrize(
    ("kind", "name", "content", "message"),
    [
        ("dvbf", "health.json", b'{"kl_step": 1.0}', r"health\.json: damaged"),
        ("dvbf", "health.json", b"[]", r"health\.json: damaged"),
        ("dvbf", "evaluation/evaluation.json", b'{"rows"', r"evaluation\.json: not JSON"),
        ("dvbf", "evaluation/errors.png", b"no picture", r"errors\.png: no picture"),
        ("dvbf", "learning.gif", b"<svg onload='alert(1)'/>", r"learning\.gif: no picture"),
        ("dvbf", "config.json", b'{"model": "dvbf"}', r"config\.json: its data card"),
        ("dvbf", "config.json", b'{"model": "tree"}', "holds a run of tree, which is none of"),
        ("vae", "posterior.json", b'{"kl": [1.0]}', r"posterior\.json: damaged"),
    ],
)
def test_other_damaged_files_are_named(
    kind: str, name: str, content: bytes, message: str, tmp_path: Path, pendulum_data: Sequences
):
    run = {"dvbf": make_dvbf_run, "vae": make_vae_run}[kind](tmp_path / "run", pendulum_data)
    (run / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        write_report(run, run / "report.html")
    assert not (run / "report.html").exists()


def test_a_picture_that_was_cut_off_is_named(dvbf: Path):
    path = dvbf / "curves.png"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"curves\.png: no picture, or a damaged one"):
        write_report(dvbf, dvbf / "report.html")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--run {parent}/nothing", "nothing: not a run folder"),
        ("--run {run} --out {run}/config.json", "config.json: a report is an .html file"),
        ("--run {run} --out {run}/config.json/report.html", "cannot be written"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(arguments: str, message: str, dvbf: Path):
    before = {path: path.read_bytes() for path in dvbf.parent.rglob("*") if path.is_file()}
    result = run_script("report.py", *arguments.format(run=dvbf, parent=dvbf.parent).split())
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert {path: path.read_bytes() for path in dvbf.parent.rglob("*") if path.is_file()} == before
    assert not (dvbf.parent / "nothing").exists()
