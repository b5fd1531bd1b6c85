"""The whole main job on Gymnasium's Pendulum-v1: collect, train the static VAE, train the DVBF, imagine, report.

Every stage is one of the other scripts, called as a person would call it. A stage whose result is there already
is kept, so that a demo that was stopped goes on where it was; delete the folder to begin anew.
"""

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

from worldmodel.support.files import UserError
from worldmodel.support.script import run_script

SCRIPTS = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Options:
    out: Path = Path("runs/demo")
    """Folder for everything that the demo writes."""


def main(options: Options) -> None:
    out = options.out
    train, test = out / "train.npz", out / "test.npz"
    started = time.monotonic()
    pendulum = ("collect.py", "--env", "Pendulum-v1", "--size", "24", "--crop", "0.55")
    stage("training data", train, *pendulum, "--sequences", "600", "--frames", "40", "--seed", "0", "--out", train)
    stage("test data", test, *pendulum, "--sequences", "60", "--frames", "100", "--seed", "1", "--out", test)
    vae, dvbf = out / "vae", out / "dvbf"
    train_vae = ("train.py", "vae", "--data", train, "--out", vae)
    train_stage("static VAE", vae, "latent_walk.gif", *train_vae)
    train_dvbf = ("train.py", "dvbf", "--data", train, "--out", dvbf, "--steps", "5000")
    train_stage("DVBF", dvbf, "health.json", *train_dvbf)
    evaluate = ("evaluate.py", "--run", dvbf, "--data", test, "--vae", vae, "--context", "10")
    stage("imagination and its evaluation", dvbf / "evaluation", *evaluate, quiet=True)
    stage("report", dvbf / "report.html", "report.py", "--run", dvbf, quiet=True)
    print_summary(out, time.monotonic() - started)


def stage(name: str, result: Path, *command: str | Path, quiet: bool = False) -> None:
    """Run one script, unless its result is there already; `quiet` keeps what it prints for the summary."""
    if result.exists():
        print(f"\n== {name}: {result} is there already and is kept")
        return
    script, *arguments = map(str, command)
    print(f"\n== {name}: python scripts/{script} {' '.join(arguments)}", flush=True)
    output = subprocess.DEVNULL if quiet else None
    with subprocess.Popen([sys.executable, SCRIPTS / script, *arguments], stdout=output) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.wait()  # Ctrl-C has reached the script too: it is saving its last state
            raise
    if status != 0:
        raise UserError(f"the demo stopped at '{name}' (exit status {status}); make demo goes on from there")


def train_stage(name: str, run: Path, written_last: str, *command: str | Path) -> None:
    """Run a training, or go on with the one that is there and is not finished."""
    resume = ["--resume"] if (run / "config.json").exists() else []
    stage(name, run / written_last, *command, *resume)


def print_summary(out: Path, seconds: float) -> None:
    from worldmodel.evaluation.record import read_evaluation
    from worldmodel.evaluation.tables import summary

    print(f"\n== done in {seconds:.0f} s\n")
    print(summary(read_evaluation(out / "dvbf" / "evaluation" / "evaluation.json")))
    print()
    for picture, what in (
        ("dvbf/report.html", "everything below and more on one page, with how to read it: open it in a browser"),
        ("dvbf/evaluation/film_strip.png", "true and imagined frames side by side"),
        ("dvbf/evaluation/rollouts.gif", "the same, moving, in real time"),
        ("dvbf/evaluation/counterfactuals.gif", "one beginning, five futures under other actions"),
        ("dvbf/learning.gif", "how the DVBF learnt: frames, imagined frames, latents"),
        ("vae/learning.gif", "how the static VAE learnt"),
        ("vae/latent_walk.gif", "the VAE's decoder along a walk through its latent space"),
    ):
        print(f"  {out / picture!s:<48} {what}")
    print(f"\npush the pendulum yourself: python scripts/play.py --run {out / 'dvbf'}")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
