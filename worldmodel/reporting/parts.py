"""What a report shows, part by part: its figures, how to read them, what a bad one looks like, what makes them."""

import dataclasses

from worldmodel.models.protocol import WorldModel
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError


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


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the page: its figures, and what makes them."""

    anchor: str
    title: str
    command: str
    """makes the part; {run} is the run folder, {model} the model's name"""
    figures: tuple[Figure, ...]


EVALUATE = "python scripts/evaluate.py --run {run} --data DATA"
TRAIN = "python scripts/train.py {model} --out {run} --resume"

WORLD_PARTS = (
    Part(
        "imagined",
        "Imagined frames",
        EVALUATE,
        (
            Figure(
                "evaluation/film_strip.png",
                "One sequence, frame by frame",
                "Compare truth and model downwards in the orange frames, which were imagined from the actions alone;"
                " the row of errors is black where they agree.",
                "Errors that brighten from left to right until the two rows show different positions, or a model whose"
                " frames grow blurred or stand still.",
            ),
            Figure(
                "evaluation/rollouts.gif",
                "Good and bad sequences, in real time",
                "Each row is one sequence: truth, model and their difference; the border turns orange where the model"
                " sees no more frames.",
                "The two move apart soon after the border has turned, in the upper rows too.",
            ),
        ),
    ),
    Part(
        "errors",
        "How far can it be trusted?",
        EVALUATE,
        (
            Figure(
                "evaluation/errors.png",
                "Errors over the horizon",
                "The model's line belongs far on the better side of the naive predictors' and near the ceiling's;"
                " a band is the 95% bootstrap interval over the sequences.",
                "The model's line meets repeat last frame or mean frame: from there on it knows no more than they do;"
                " if it lies on shuffled actions, it ignores the actions.",
            ),
        ),
    ),
    Part(
        "samples",
        "Does it know what it does not know?",
        EVALUATE,
        (
            Figure(
                "evaluation/futures.png",
                "Sampled futures",
                "The line of the truth should run within the fan, half of the time in its dark middle; the fan may"
                " widen with time.",
                "A thin fan that the truth leaves (too sure), or one that covers everything from the first step on"
                " (it knows nothing).",
            ),
            Figure(
                "evaluation/reliability.png",
                "Are the intervals honest?",
                "Points on the diagonal: an interval that claims 90% holds the truth in 90% of the cases, and does so"
                " at every horizon.",
                "Points far below the diagonal (too sure of itself) or far above it (not sure enough), or coverage"
                " that sinks over the horizon.",
            ),
        ),
    ),
    Part(
        "counterfactuals",
        "What if the actions were others?",
        EVALUATE,
        (
            Figure(
                "evaluation/counterfactuals.png",
                "One beginning, five futures",
                "The same observed frames are continued with five action sequences: every imagined future should"
                " differ from the others as its true one does.",
                "Five futures that look alike: the model continues what it has seen and does not listen to the"
                " actions.",
            ),
            Figure(
                "evaluation/counterfactuals.gif",
                "The same five, in real time",
                "Follow one row: the imagined frames should move as the true simulator's do, and each row as its own"
                " actions say.",
                "Rows that all move alike, or imagined frames that soon lag behind the simulator or run ahead of it.",
            ),
        ),
    ),
    Part(
        "latents",
        "What is in the latent space?",
        EVALUATE,
        (
            Figure(
                "evaluation/latent_cloud.png",
                "The filtered latents",
                "Every point is a frame: where colours change smoothly along the cloud, the true variables can be read"
                " off the latent, though the model was shown none of them.",
                "Colours mixed like confetti, or a cloud that has positions in order and velocities not: such a model"
                " sees, and cannot foresee.",
            ),
            Figure(
                "evaluation/latent_paths.png",
                "Filtered and imagined paths",
                "The imagined path (orange) should lie on the filtered one (blue) and stay within the grey cloud even"
                " where the two part.",
                "Imagined paths that leave the cloud, spiral into a point or jump.",
            ),
            Figure(
                "evaluation/base_matrices.png",
                "The base matrices at work",
                "Each row is a linear system, the colour its weight in the mixture over time: weights should change"
                " smoothly with the state below, each system with a region of its own.",
                "One matrix with all the weight everywhere (one linear system for a nonlinear world), or weights that"
                " flicker from step to step.",
            ),
            Figure(
                "evaluation/eigenvalues.png",
                "Learned dynamics beside the physics",
                "The model's circles should lie on the crosses of the physics, where that is known: a pair off the real"
                " axis swings, what is outside the unit circle grows, what is inside fades.",
                "Circles far from the crosses: a wrong height is a wrong frequency, a wrong distance from 0 invents"
                " friction or makes rollouts explode.",
            ),
            Figure(
                "evaluation/decoder_circle.png",
                "The decoder along the learned circle",
                "What the decoder draws around the circle of a true angle (elsewhere along the direction in which"
                " latents vary most), above true frames: the two should agree, sharply, all the way.",
                "Blurred or double frames in places: there the latents of different positions lie on one another.",
            ),
        ),
    ),
    Part(
        "training",
        "How it learnt",
        TRAIN,
        (
            Figure(
                "curves.png",
                "Training curves",
                "Bound and reconstruction rise and flatten out; on the right, the error of imagined validation frames"
                " falls far below both naive predictors.",
                "A bound that falls or jumps late, a validation curve that parts from training, or an imagined error"
                " that stays at the naive ones while the bound looks fine.",
            ),
            Figure(
                "learning.gif",
                "Learning, from the first step to the last",
                "Truth is above the model: observed frames (blue) become right first, imagined ones (orange) follow,"
                " and the cloud of latents takes the shape of what moves, a ring for a pendulum.",
                "Frames that stay one and the same grey picture, imagined ones that never follow, or a cloud that"
                " remains a blob or shrinks to a point.",
            ),
        ),
    ),
)

FRAME_PARTS = (
    Part(
        "decoded",
        "Decoded frames",
        TRAIN,
        (
            Figure(
                "learning.gif",
                "Learning to reconstruct",
                "The lower row, reconstructed from the latent, should become the upper row early and stay sharp.",
                "A lower row that remains one and the same grey picture: the latent says nothing (collapse).",
            ),
            Figure(
                "latent_walk.gif",
                "A walk through the latent space",
                "The decoder along the directions in which the latents vary: frames should change smoothly and stay"
                " frames that the data could hold.",
                "Ghosts, double pictures or sudden jumps: the latents have holes between the frames of the data.",
            ),
        ),
    ),
    Part(
        "posterior",
        "What is in the latent space?",
        TRAIN,
        (
            Figure(
                "posterior.png",
                "How each dimension is used",
                "A dimension in use has KL well above 0 and a posterior std well below the prior's, drawn as the line"
                " at 1.",
                "Dimensions with no KL and a std of 1 while the frames are bad (collapse), or a std near 0.001 (an"
                " autoencoder in disguise).",
            ),
        ),
    ),
    Part(
        "training",
        "How it learnt",
        TRAIN,
        (
            Figure(
                "curves.png",
                "Training curves",
                "Bound and reconstruction rise and flatten out, the KL settles, and the validation error stays with"
                " the training error.",
                "A KL that falls to 0 (collapse), or a validation error that turns upwards while training goes on"
                " falling (overfitting).",
            ),
        ),
    ),
)


def parts_of(run: Run) -> tuple[Part, ...]:
    """The parts of a page, by the kind of the run's model; where its options are damaged, by what it has left."""
    try:
        of_sequences = isinstance(run.structure(), WorldModel)
    except UserError:
        of_sequences = not (run.folder / "posterior.json").exists()
    return WORLD_PARTS if of_sequences else FRAME_PARTS
