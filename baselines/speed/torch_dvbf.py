"""The DVBF of worldmodel/models/dvbf/ and its training in plain PyTorch: what the speed of ours is compared with.

The same model (with FusionPosterior), the same objective and the same optimiser, as one writes them in PyTorch:
networks batched over time, a Python loop over the steps of the transition alone, and what no step changes computed
before the loop. tests/baselines/test_torch_dvbf.py holds the two to the same losses, gradients and frames. It computes
no metrics beside the loss, which is in its favour. PyTorch is an optional dependency (the group `bench`).
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import torch
from flax import nnx
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.data.scale import FrameScale
from worldmodel.models.distributions import MIN_STD
from worldmodel.models.dvbf.model import BALL_RADIUS, DVBF
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.training.step import CLIP


class Normal(NamedTuple):
    """Diagonal Gaussians."""

    mean: Tensor
    std: Tensor


class TorchFiltered(NamedTuple):
    """What a filter gives for B sequences of T frames; see variational.Inference."""

    latents: Tensor
    """`[B, T, Z]` samples"""
    features: Tensor
    """`[B, T, F]` what the encoder says of each frame"""
    initial: Normal
    """q(z_0) `[B, Z]`"""
    posterior: Normal
    """q(z_{t+1} | z_t, u_t, x_{t+1}) `[B, T-1, Z]`"""
    prior: Normal
    """p(z_{t+1} | z_t, u_t) `[B, T-1, Z]`"""


class MLP(nn.Module):
    """Fully connected layers of the given sizes, silu between them, linear at the end."""

    def __init__(self, sizes: Sequence[int]):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(i, o) for i, o in itertools.pairwise(sizes)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = functional.silu(layer(x))
        return self.layers[-1](x)


class Prepared(NamedTuple):
    """What the steps of a filter or a rollout share: made of the parameters once, before the loop."""

    matrices: Tensor
    """`[M * (Z + A), Z]` state and action matrices"""
    stds: Tensor
    """`[M, Z]` of the transition's noise"""
    widening: Tensor
    """`[M, Z]`"""
    gain: Tensor
    """`[M * V, Z - V]`"""


class Transition(nn.Module):
    """The parameters of p(z' | z, u), locally linear."""

    def __init__(self, latent_size: int, action_size: int, options: DVBFOptions):
        super().__init__()
        m = options.base_matrices
        self.weights = MLP((latent_size + action_size, options.mixture_hidden_size, m))
        self.state_matrices = nn.Parameter(torch.empty(m, latent_size, latent_size))
        self.action_matrices = nn.Parameter(torch.empty(m, action_size, latent_size))
        self.raw_noise_std = nn.Parameter(torch.empty(m, latent_size))


class Posterior(nn.Module):
    """The parameters of q(z' | z, u, x')."""

    def __init__(self, options: DVBFOptions):
        super().__init__()
        m, visible, hidden = options.base_matrices, options.visible_size, options.latent_size - options.visible_size
        self.measurement = MLP((options.feature_size, 2 * visible))
        self.raw_widening = nn.Parameter(torch.empty(m, options.latent_size))
        self.gain = nn.Parameter(torch.empty(m, visible, hidden))


class TorchDVBF(nn.Module):
    """The twin of a DVBF, with its parameters. Frames in and out are float `[..., H, W]` in [0, 1]."""

    def __init__(self, scale: FrameScale, options: DVBFOptions):
        super().__init__()
        if options.inference != "fusion" or options.annealing_share or options.precision != "float32":
            raise ValueError("the twin has the fusion posterior, no tempered likelihood, and float32")
        self.scale, self.options = scale, options
        pixels, features, hidden = scale.pixels, options.feature_size, options.hidden_size
        latent, prefix = options.latent_size, options.initial_frames
        self.encoder = MLP((pixels, hidden, features))
        prefix_size = prefix * features + (prefix - 1) * scale.action_size
        self.initial_network = MLP((prefix_size, hidden, 2 * latent))
        self.transition = Transition(latent, scale.action_size, options)
        self.posterior = Posterior(options)
        self.decoder = MLP((options.visible_size, hidden, hidden, pixels))

    def encode(self, frames: Tensor) -> Tensor:
        """`[B, T, H, W]` to features `[B, T, F]`."""
        pixels = (frames.flatten(2) - self.scale.pixel_mean) / self.scale.pixel_std
        return functional.silu(self.encoder(pixels))

    def initial(self, features: Tensor, actions: Tensor) -> Normal:
        """q(z_0) from the features `[..., K, F]` of the first frames and the scaled actions `[..., K-1, A]`."""
        flat = torch.cat([features.flatten(-2), actions.flatten(-2)], dim=-1)
        mean, raw_std = self.initial_network(flat).chunk(2, dim=-1)
        return Normal(mean, positive(raw_std))

    def decode(self, latents: Tensor) -> Tensor:
        """The mean frames `[..., H, W]` of latents `[..., Z]`."""
        pixels = self.decoder(latents[..., : self.options.visible_size])
        return (pixels * self.scale.pixel_std + self.scale.pixel_mean).unflatten(-1, self.scale.frame_shape)

    @property
    def observation_std(self) -> float:
        given = self.options.observation_std
        return self.scale.default_observation_std if given is None else given

    def prepare(self, noise_scale: float) -> Prepared:
        matrices = torch.cat([self.transition.state_matrices, self.transition.action_matrices], dim=1)
        stds = noise_scale * positive(self.transition.raw_noise_std)
        gain = self.posterior.gain.flatten(0, 1)
        return Prepared(matrices.flatten(0, 1), stds, positive(self.posterior.raw_widening), gain)

    def predict(self, latent: Tensor, action: Tensor, prepared: Prepared) -> tuple[Tensor, Normal]:
        """The mixture `[B, M]` and p(z' | z, u) for latents `[B, Z]` and scaled actions `[B, A]`."""
        stacked = torch.cat([latent, action], dim=1)
        mixture = torch.softmax(self.transition.weights(stacked), dim=1)
        mean = into_ball(latent + mix(mixture, stacked, prepared.matrices))
        return mixture, Normal(mean, mixture @ prepared.stds)

    def measure(self, features: Tensor) -> Normal:
        """What features `[..., F]` say of the visible latents, `[..., V]`."""
        mean, raw_std = self.posterior.measurement(features).chunk(2, dim=-1)
        return Normal(mean, positive(raw_std))

    def correct(self, prior: Normal, mixture: Tensor, measured: Normal, prepared: Prepared) -> Normal:
        """q(z' | z, u, x') from p(z' | z, u) `[B, Z]` and a measurement `[B, V]`."""
        visible = measured.mean.shape[1]
        std = prior.std * (mixture @ prepared.widening)
        prior_precision, precision = std[:, :visible] ** -2, measured.std**-2
        fused_precision = prior_precision + precision
        fused_mean = (prior_precision * prior.mean[:, :visible] + precision * measured.mean) / fused_precision
        moved = mix(mixture, fused_mean - prior.mean[:, :visible], prepared.gain)
        return Normal(
            torch.cat([fused_mean, prior.mean[:, visible:] + moved], dim=1),
            torch.cat([fused_precision**-0.5, std[:, visible:]], dim=1),
        )

    def filter(
        self, frames: Tensor, actions: Tensor, observed: Tensor, noise: Tensor, noise_scale: float
    ) -> TorchFiltered:
        """As DVBF.filter: frames `[B, T, H, W]`, actions `[B, T-1, A]`, observed `[B, T-1]`, noise `[B, T, Z]`."""
        prefix, prepared = self.options.initial_frames, self.prepare(noise_scale)
        actions = actions / self.scale.action_scale
        features = self.encode(frames)
        initial = self.initial(features[:, :prefix], actions[:, : prefix - 1])
        measured = self.measure(features[:, 1:])
        latent = initial.mean + initial.std * noise[:, 0]
        latents, priors, posteriors = [latent], [], []
        for t in range(actions.shape[1]):
            mixture, prior = self.predict(latent, actions[:, t], prepared)
            posterior = self.correct(prior, mixture, Normal(measured.mean[:, t], measured.std[:, t]), prepared)
            sees = observed[:, t, None]
            mean, std = torch.where(sees, posterior.mean, prior.mean), torch.where(sees, posterior.std, prior.std)
            latent = mean + std * noise[:, t + 1]
            latents.append(latent)
            priors.append(prior)
            posteriors.append(posterior)
        return TorchFiltered(torch.stack(latents, dim=1), features, initial, stack(posteriors), stack(priors))

    def imagine(self, latent: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """As DVBF.imagine: `[B, Z]`, `[B, S, A]` and noise `[B, S, Z]` to the S latents `[B, S, Z]` after `latent`."""
        prepared = self.prepare(self.options.final_noise_scale)
        actions = actions / self.scale.action_scale
        latents = []
        for t in range(actions.shape[1]):
            _, prior = self.predict(latent, actions[:, t], prepared)
            latent = prior.mean + prior.std * noise[:, t]
            latents.append(latent)
        return torch.stack(latents, dim=1)

    def loss(self, frames: Tensor, actions: Tensor, observed: Tensor, noise: Tensor, step: int, steps: int) -> Tensor:
        """objective.dvbf_loss, for given masks and noise."""
        options, help_given = self.options, early(step, steps)
        noise_scale = options.final_noise_scale ** min(max((step / steps - 0.2) / 0.5, 0.0), 1.0)
        filtered = self.filter(frames, actions, observed, noise, noise_scale)
        std, pixels = self.observation_std, self.scale.pixels
        error = (self.decode(filtered.latents) - frames).square().flatten(2).sum(dim=2)
        reconstruction = -0.5 * error / std**2 - pixels * (math.log(std) + 0.5 * math.log(2 * math.pi))
        step_kl = torch.where(observed, kl(filtered.posterior, filtered.prior), 0.0)
        weight = 1 + (options.transition_kl_weight - 1) * help_given
        bound = reconstruction.sum() - kl_from_unit(filtered.initial).sum() - weight * step_kl.sum()
        loss = -bound / reconstruction.numel()
        if options.consistency_weight > 0:
            distance = self.restart_distance(filtered.features, actions / self.scale.action_scale, filtered.latents)
            loss = loss + options.consistency_weight * distance
        return loss

    def restart_distance(self, features: Tensor, actions: Tensor, latents: Tensor) -> Tensor:
        """The mean of objective.restart_distance, for features `[B, T, F]` and scaled actions."""
        prefix = self.options.initial_frames
        windows = features.unfold(1, prefix, 1).transpose(2, 3)  # [B, T - K + 1, K, F]
        between = actions.unfold(1, prefix - 1, 1).transpose(2, 3)
        restart = self.initial(windows, between)
        return (latents[:, : windows.shape[1]] - restart.mean).square().mean()


class TorchTraining:
    """Updates of a TorchDVBF: random windows of the data, Adam with clipped gradients, the same schedules."""

    def __init__(
        self,
        model: TorchDVBF,
        frames: np.ndarray,
        actions: np.ndarray,
        steps: int,
        batch_size: int,
        learning_rate: float,
        window: int,
        seed: int = 0,
    ):
        """Frames uint8 `[N, T, H, W]`, actions float32 `[N, T-1, A]`; on the device of the model."""
        device = next(model.parameters()).device
        self.model, self.steps, self.batch_size, self.window = model, steps, batch_size, window
        self.frames, self.actions = torch.from_numpy(frames).to(device), torch.from_numpy(actions).to(device)
        self.optimiser = torch.optim.Adam(model.parameters(), fused=True)
        self.learning_rate, self.step = learning_rate, 0
        self.random = torch.Generator(device).manual_seed(seed)

    def train(self, updates: int) -> float:
        """So many updates; the mean loss."""
        losses = [self.update(*self.sample()) for _ in range(updates)]
        return float(torch.stack(losses).mean())

    def sample(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Windows of frames and actions, a mask of open-loop tails, and noise."""
        sequences, length = self.frames.shape[:2]
        batch, window, on = self.batch_size, self.window, {"device": self.frames.device, "generator": self.random}
        which = torch.randint(sequences, (batch, 1), **on)
        along = torch.arange(window, device=self.frames.device)
        time = torch.randint(length - window + 1, (batch, 1), **on) + along
        share = self.model.options.open_loop_share * early(self.step, self.steps)
        open_loop = torch.rand((batch, 1), **on) < share
        observed = ~open_loop | (along[:-1] < torch.randint(window - 1, (batch, 1), **on))
        noise = torch.randn((batch, window, self.model.options.latent_size), **on)
        return self.frames[which, time].float() / 255, self.actions[which, time[:, :-1]], observed, noise

    def update(self, frames: Tensor, actions: Tensor, observed: Tensor, noise: Tensor) -> Tensor:
        """One update; the loss before it."""
        for group in self.optimiser.param_groups:
            group["lr"] = warm_up_and_cosine(self.step, self.steps, self.learning_rate)
        loss = self.model.loss(frames, actions, observed, noise, self.step, self.steps)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimiser.step()
        self.step += 1
        return loss.detach()


def twin(model: DVBF) -> TorchDVBF:
    """A TorchDVBF with the parameters of a DVBF."""
    other = TorchDVBF(model.scale, model.options)
    arrays = named_arrays(nnx.state(model, nnx.Param))
    other.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return other


def named_arrays(params: nnx.State) -> dict[str, np.ndarray]:
    """The parameters of a DVBF, or their gradients, by the names and in the layout that they have in its twin."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(params))
    named = {jax.tree_util.keystr(path, simple=True, separator="."): np.array(leaf) for path, leaf in leaves}
    arrays = {}
    for name, array in named.items():
        if name.endswith(".kernel"):
            arrays[name.removesuffix(".kernel") + ".weight"] = array.T.copy()
        else:
            arrays[name] = array
    return arrays


def early(step: int, steps: int) -> float:
    """objective.early."""
    return min(max((0.7 - step / steps) / 0.4, 0.0), 1.0)


def warm_up_and_cosine(step: int, steps: int, learning_rate: float) -> float:
    """training.warm_up_and_cosine."""
    warm_up = min(200, max(1, steps // 10))
    if step < warm_up:
        return learning_rate * step / warm_up
    done = min(1.0, (step - warm_up) / (max(steps, warm_up + 1) - warm_up))
    return learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def mix(mixture: Tensor, x: Tensor, matrices: Tensor) -> Tensor:
    """sum_i alpha_i x M_i for a mixture `[B, M]`, x `[B, X]` and matrices `[M * X, Y]`."""
    return (mixture[:, :, None] * x[:, None, :]).flatten(1) @ matrices


def into_ball(latent: Tensor) -> Tensor:
    """dvbf.into_ball."""
    norm = (latent.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
    return latent * (BALL_RADIUS * latent.shape[1] ** 0.5 / norm).clamp(max=1)


def positive(raw: Tensor) -> Tensor:
    return functional.softplus(raw) + MIN_STD


def stack(steps: list[Normal]) -> Normal:
    """Gaussians `[B, Z]` of T - 1 steps to `[B, T-1, Z]`."""
    return Normal(torch.stack([step.mean for step in steps], dim=1), torch.stack([step.std for step in steps], dim=1))


def kl(q: Normal, p: Normal) -> Tensor:
    """KL(q || p), summed over the last axis."""
    ratio, distance = q.std / p.std, (q.mean - p.mean) / p.std
    return (0.5 * (ratio.square() + distance.square() - 1) - ratio.log()).sum(dim=-1)


def kl_from_unit(q: Normal) -> Tensor:
    """KL(q || N(0, I)), summed over the last axis."""
    return (0.5 * (q.std.square() + q.mean.square() - 1) - q.std.log()).sum(dim=-1)
