import jax.numpy as jnp
import numpy as np

from baselines.physics_oracle import ball_shooting, predict_angles, quadratic_fit, shooting
from worldmodel.data.sequences import as_unit_frames
from worldmodel.worlds.ball import BallOptions
from worldmodel.worlds.collecting import collect
from worldmodel.worlds.pendulum.physics import PAPER, simulate
from worldmodel.worlds.simulator import Simulator


def trajectories(length: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    start = np.stack([random.uniform(-np.pi, np.pi, 50), random.uniform(-8, 8, 50)], axis=1).astype(np.float32)
    torques = random.uniform(-2, 2, (50, length - 1)).astype(np.float32)
    return np.asarray(simulate(jnp.asarray(start), jnp.asarray(torques), PAPER)), torques


def test_shooting_finds_the_state_that_made_the_angles():
    states, torques = trajectories()
    wrapped = np.angle(np.exp(1j * states[:, :15, 0]))  # as angles are read off frames
    found = shooting(wrapped, torques[:, :14], PAPER)
    np.testing.assert_allclose(np.cos(found[:, 0]), np.cos(states[:, 14, 0]), atol=0.01)
    np.testing.assert_allclose(found[:, 1], states[:, 14, 1], atol=0.02)
    ahead = predict_angles(found, torques[:, 14:], PAPER)
    assert np.median(np.abs(np.cos(ahead) - np.cos(states[:, 15:, 0]))) < 0.01


def test_the_quadratic_fit_is_exact_for_a_parabola():
    time = 0.1 * np.arange(-6, 1)
    angles = 0.3 + 2.0 * time - 1.5 * time**2
    np.testing.assert_allclose(quadratic_fit(np.stack([angles, -angles]), 0.1), [[0.3, 2.0], [-0.3, -2.0]], atol=1e-6)


def test_a_ball_is_found_by_five_frames_and_followed_for_sixty():
    data = collect(BallOptions(), 300, 75)
    simulator = Simulator.of(data, "data")
    places = simulator.reader()(as_unit_frames(data.frames[:, :15]).reshape(300, 15, -1))
    found = ball_shooting(places, data.actions[:, :14])
    assert np.quantile(np.abs(found - data.states[:, 14]).max(axis=1), 0.9) < 0.05
    ahead = simulator.states(found, data.actions[:, 14:])[:, 1:]
    errors = np.median(np.linalg.norm((ahead - data.states[:, 15:])[..., :2], axis=-1), axis=0)
    assert errors[0] < 0.003
    assert errors[-1] < 0.03
