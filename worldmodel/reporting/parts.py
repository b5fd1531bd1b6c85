"""What a report shows, part by part: its figures, how to read them, what a bad one looks like, what makes them."""

import dataclasses

from worldmodel.models.protocol import WorldModel
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError

EVALUATE = "python scripts/evaluate.py --run {run} --data DATA"
NO_OTHER_ACTIONS = "left out: other actions (none is ever done in the data)"
TRAIN = "python scripts/train.py {model} --out {run} --resume"


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture that a run folder may hold."""

    file: str
    """in the run folder"""
    title: str
    reading: str
    """one sentence: how to read it"""
    bad: str
    """one sentence: what a bad one looks like"""
    once: str = ""
    """the file's name in runs of earlier versions"""


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the page: its figures, and what makes them."""

    anchor: str
    title: str
    figures: tuple[Figure, ...]
    command: str
    """makes the part; {run} is the run folder, {model} the model's name"""
    instead: str = ""
    """the line of an evaluation that stands here where it left the part out"""


def evaluated(anchor: str, title: str, *figures: Figure, instead: str = "") -> Part:
    return Part(anchor, title, figures, EVALUATE, instead)


def trained(anchor: str, title: str, *figures: Figure) -> Part:
    return Part(anchor, title, figures, TRAIN)


WORLD_PARTS = (
    evaluated(
        "imagined",
        "Imagined frames",
        Figure(
            "evaluation/film_strip.png",
            "One sequence, frame by frame",
            "Orange frames were imagined from the actions alone: the lowest row is black where they agree with the"
            " truth, and hatched where the true frame is missing.",
            "Errors that brighten from left to right, frames that grow blurred, or frames that stand still.",
        ),
        Figure(
            "evaluation/rollouts.gif",
            "Good and bad sequences, in real time",
            "One sequence a row; the border turns orange where the model sees no more frames.",
            "Truth and model move apart soon after the border has turned, in the upper rows too.",
        ),
    ),
    evaluated(
        "errors",
        "How far can it be trusted?",
        Figure(
            "evaluation/errors.png",
            "Errors over the horizon",
            "The model's line belongs far on the better side of the naive predictors' and near the ceiling's.",
            "Where it meets repeat last frame or mean frame it knows no more than they do; on shuffled actions, it"
            " ignores the actions.",
        ),
    ),
    evaluated(
        "samples",
        "Does it know what it does not know?",
        Figure(
            "evaluation/futures.png",
            "Sampled futures",
            "The truth should run within the fan, half of the time in its dark middle; the fan may widen with time.",
            "A thin fan that the truth leaves (too sure), or one that covers everything from the first step on.",
        ),
        Figure(
            "evaluation/reliability.png",
            "Are the intervals honest?",
            "On the diagonal, an interval that claims 90% holds the truth in 90% of the cases.",
            "Points far below the diagonal (too sure) or above it (not sure enough), or coverage that sinks over the"
            " horizon.",
        ),
    ),
    evaluated(
        "counterfactuals",
        "What if the actions were others?",
        Figure(
            "evaluation/counterfactuals.png",
            "One beginning, several futures",
            "The same observed frames continue under other actions: imagined futures should differ as the true ones"
            " do.",
            "Futures that look alike: the model does not listen to the actions.",
        ),
        Figure(
            "evaluation/counterfactuals.gif",
            "The same futures, in real time",
            "Each row should move as its own actions say, in step with the true simulator where there is one.",
            "Rows that all move alike, or that soon lag behind the simulator or run ahead of it.",
        ),
        instead=NO_OTHER_ACTIONS,
    ),
    evaluated(
        "latents",
        "What is in the latent space?",
        Figure(
            "evaluation/latent_cloud.png",
            "The filtered latents",
            "Every point is a frame: where colours change smoothly, the true variables can be read off the latent,"
            " though the model was shown none of them.",
            "Colours mixed like confetti, or positions in order and velocities not: such a model sees, and cannot"
            " foresee.",
        ),
        Figure(
            "evaluation/latent_paths.png",
            "Filtered and imagined paths",
            "The imagined path (orange) should lie on the filtered one (blue), or at least within the grey cloud.",
            "Imagined paths that leave the cloud, spiral into a point or jump.",
        ),
        Figure(
            "evaluation/base_matrices.png",
            "The base matrices at work",
            "Each row is a linear system, its colour the weight in the mixture: weights should change smoothly with the"
            " state below, each system with a region of its own.",
            "One matrix with all the weight (a linear system for a nonlinear world), or weights that flicker.",
        ),
        Figure(
            "evaluation/eigenvalues.png",
            "Learned dynamics beside the physics",
            "The model's circles should lie on the crosses of the physics, where that is known.",
            "Circles far from the crosses: a wrong height is a wrong frequency, a wrong distance from 0 invents"
            " friction or makes rollouts explode.",
        ),
        Figure(
            "evaluation/decoder.png",
            "The decoder along the latents",
            "What the decoder draws along the variable or the direction that the title names, beneath true frames: the"
            " two should agree, sharply, all the way.",
            "Blurred or double frames in places: there the latents of different positions lie on one another.",
            once="evaluation/decoder_circle.png",
        ),
    ),
    Part("acting", "Acting by imagining", (), "python scripts/plan.py --run {run}"),
    trained(
        "training",
        "How it learnt",
        Figure(
            "curves.png",
            "Training curves",
            "Bound and reconstruction rise and flatten out; the error of imagined validation frames falls far below"
            " both naive predictors.",
            "A bound that falls or jumps late, a validation curve that parts from training, or an imagined error that"
            " stays at the naive ones while the bound looks fine.",
        ),
        Figure(
            "learning.gif",
            "Learning, from the first step to the last",
            "Truth is above the model: observed frames (blue) become right first, imagined ones (orange) follow, and"
            " the cloud of latents takes the shape of what moves.",
            "Frames that stay one and the same grey picture, imagined ones that never follow, or a cloud that remains a"
            " blob or shrinks to a point.",
        ),
    ),
)

FRAME_PARTS = (
    trained(
        "decoded",
        "Decoded frames",
        Figure(
            "learning.gif",
            "Learning to reconstruct",
            "The lower row, reconstructed from the latent, should become the upper row early and stay sharp.",
            "A lower row that remains one and the same grey picture: the latent says nothing (collapse).",
        ),
        Figure(
            "latent_walk.gif",
            "A walk through the latent space",
            "Frames should change smoothly and stay frames that the data could hold.",
            "Ghosts, double pictures or sudden jumps: the latents have holes between the frames of the data.",
        ),
    ),
    trained(
        "posterior",
        "What is in the latent space?",
        Figure(
            "posterior.png",
            "How each dimension is used",
            "A dimension in use has KL well above 0 and a posterior std well below the prior's, the line at 1.",
            "No KL and a std of 1 while the frames are bad (collapse), or a std near 0.001 (an autoencoder in"
            " disguise).",
        ),
    ),
    trained(
        "training",
        "How it learnt",
        Figure(
            "curves.png",
            "Training curves",
            "Bound and reconstruction rise and flatten out, the KL settles, and the validation error stays with the"
            " training error.",
            "A KL that falls to 0 (collapse), or a validation error that turns upwards while training goes on falling"
            " (overfitting).",
        ),
    ),
)


def acted_figures(place: str, planner: str) -> tuple[Figure, ...]:
    """Of one planner, whose pictures are in the folder `place` of the run."""
    return (
        Figure(
            f"{place}/episodes.gif",
            f"The real world, and the plans in it: {planner}",
            "Above (blue) what really happened, in real time; below (orange) what the plan of that moment was meant to"
            " bring. The true frame should soon look as the plan said.",
            "Plans that never come true, or that end where nothing is gained.",
        ),
        Figure(
            f"{place}/returns.png",
            f"Returns, and whether they were dreamt rightly: {planner}",
            "Left: the model's points belong far above the floors and next to the ceilings. Right: points on the line"
            " were paid what the dream had promised for the same actions.",
            "Points far below the line: the planner found a dream that is too good to be true.",
        ),
    )


def parts_of(run: Run) -> tuple[Part, ...]:
    """The parts of a page, by the kind of the run's model; where its options are damaged, by what it has left."""
    try:
        of_sequences = isinstance(run.structure(), WorldModel)
    except UserError:
        of_sequences = not (run.folder / "posterior.json").exists()
    return WORLD_PARTS if of_sequences else FRAME_PARTS
