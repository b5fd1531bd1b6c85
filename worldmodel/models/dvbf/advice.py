"""What is wrong with a DVBF, in the words of its own options."""

from worldmodel.models import variational
from worldmodel.models.protocol import Problem

LARGEST_RADIUS = 0.9
"""of imagined latents, as a share of the ball that bounds them"""
GROWTH_REMEDY = "Raise --consistency-weight, or train on longer windows (--window)."
REMEDIES = {
    "positions only": "The velocity is not in the latent: keep a hidden part (--visible-size below --latent-size),"
    " raise --open-loop-share and --transition-kl-weight, do not lower --observation-std.",
    "dynamics in part": "Train longer (--steps), give the latents more room (--visible-size, --latent-size), collect"
    " more, or look at the data: do the actions move what the frames show, or is most of every frame noise?",
    "latents grow": GROWTH_REMEDY,
}
REMEDIES["dynamics not learnt"] = REMEDIES["dynamics in part"]


def explain(figures: dict[str, float], problems: list[Problem], bound: float) -> list[Problem]:
    """As Diagnosed.explain, for latents whose root mean square the transition keeps below `bound`."""
    radius = figures["imagined_rms"] / bound
    if radius > LARGEST_RADIUS and not any(problem.name == "latents grow" for problem in problems):
        seen = f"in long imagination they come to {radius:.0%} of the bound: rollouts beyond the training window drift."
        problems = [*problems, Problem("latents grow", seen)]
    return variational.explain(figures, problems, REMEDIES)
