"""From mixed sound and a layout to two moving heads: any length, by overlapping windows that are denoised together.

All windows share one noisy sequence. At every sampler step each window predicts its clean frames, predictions are
cross-faded where windows overlap, and the whole sequence takes one step (MultiDiffusion, Bar-Tal et al. 2023): there is
no joint to see, and windows run in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..fitting.rotations import exp_so3
from ..schemas.errors import UsageError
from ..schemas.heads import HeadTrack
from ..schemas.pair import SAMPLE_RATE
from ..schemas.tracks import Float32
from .checkpoint import Trained, load_trained
from .diffusion import calmed, multistep
from .dyad_metrics import gaze_directions
from .gaps import bridged
from .given import Given, given, motion_of
from .manner import CHANGE, manner_from, tilts_of
from .network import DualStream
from .representation import Scene, decode, flip, part_slices, partner_frames

BATCH = 64  # windows denoised at once
KEPT = 4  # batches whose part of every layer is kept between steps: 3 GB at the default width
EDGE = 1e-3  # weight of a window's outermost frame against its neighbour's


@dataclass(frozen=True)
class Placement:
    """Where one person is at the first frame.

    Attributes:
        head_centre: [3] metres, camera frame: midpoint between the eyes.
        rotation: [3] axis-angle of the head, zero facing the camera; None faces the partner.
        shape: [S] identity coefficients; None is the mean head.
        held: the head's turn about the vertical stays about that of ``rotation``: its median over the clip lies within
            :data:`.given.HELD` of it. Otherwise only the first frame has it.
    """

    head_centre: tuple[float, float, float] | Float32
    rotation: tuple[float, float, float] | Float32 | None = None
    shape: Float32 | None = None
    held: bool = False


FACE_TO_FACE = (Placement((-0.45, 0.0, 1.5)), Placement((0.45, 0.0, 1.5)))


@dataclass(frozen=True)
class Generated:
    """Two generated heads.

    Attributes:
        fps: frames a second. head_model_id: of the coefficients.
        a, b: tracks of T frames in one camera frame; ``valid`` throughout; gaze is the mean axis of the generated eyes.
            Uncertainties, residual, box are NaN (nothing was measured), confidence is 1.
        speaking: [2, T] probabilities: those given, or the network's.
    """

    fps: float
    head_model_id: str
    a: HeadTrack
    b: HeadTrack
    speaking: Float32


def generate(
    trained: Trained | str,
    audio: Float32,
    placement: tuple[Placement, Placement] = FACE_TO_FACE,
    *,
    speaking: Float32 | None = None,
    partner: tuple[HeadTrack | None, HeadTrack | None] = (None, None),
    manner: Mapping[str, float] | None = None,
    seed: int = 0,
    guidance: float | None = None,
    steps: int | None = None,
    overlap_s: float = 2.0,
    device: str = "auto",
) -> Generated:
    """Animate both people of a conversation.

    Args:
        trained: from :func:`.checkpoint.load_trained`, or the path of a checkpoint or of a run's folder.
        audio: [N] mixed sound at 16 kHz, -1..1, at least 0.2 s. T = floor(fps N / 16000) frames come out.
        placement: of person a (left in the image) and b.
        speaking: [2, T] who speaks when; None lets the network hear it (which voice is whose is then its choice).
        partner: the measured motion of a or of b over the same T frames, who then comes back as measured, gaps bridged;
            the other one is generated to go with it. ``placement`` is :func:`place_like` of the measured pair.
        manner: how they are to behave: any of :data:`.manner.MANNERS` (layout scalars by name), such as
            ``{"mutual_share": 0.5}``; what is not told is left to the network. Tilts are held as turns are, and
            the distance changes by ``distance_change_m`` from the first frames to the last.
        seed: the same gives the same motion. guidance, steps: of the sampler; None takes the configuration's.
        overlap_s: seconds that neighbouring windows share.
        device: where a path is loaded.

    Raises:
        UsageError: sound that is not such an array, masks or a partner of another length, a place that is no place, a
            network that was not trained to answer a partner or to be told a manner.
    """
    net = load_trained(trained, device) if isinstance(trained, str) else trained
    fps, options = net.config.load.fps, net.config.diffusion
    sound = _checked(audio, fps)
    features = features_of(net, torch.from_numpy(sound))
    frames = features.shape[0]
    masks = None
    if speaking is None and not net.config.losses.masks:
        raise UsageError(
            "this network was trained without a speaking-mask predictor (losses.masks 0): it has to be told who "
            "speaks, by generate(speaking=...) or sample --answer"
        )
    if speaking is not None:
        wanted = np.asarray(speaking, np.float32)
        if wanted.shape != (2, frames):
            raise UsageError(f"speaking masks have shape {list(wanted.shape)}, this sound needs [2, {frames}]")
        masks = torch.from_numpy(np.nan_to_num(wanted))[None].to(net.device)
    if manner and not options.manner_told:
        raise UsageError("this network was not trained to be told how people behave (diffusion.manner_told 0)")
    scene = _scene(placement, net)
    told = manner_from(manner or {}).to(net.device)
    held = torch.tensor([[p.held for p in placement]], device=net.device)
    known = given(scene, net.statistics, held, tilts_of(told), told[:, CHANGE])
    kept: list[HeadTrack | None] = [None, None]
    for who, head in enumerate(partner):
        if head is not None:
            _check_partner(partner, head, frames, net)
            kept[who] = whole = bridged(head)
            seen = torch.tensor([[who == 0, who == 1]], device=net.device)
            known = known.seeing(seen, motion_of(whole, who, scene, net.statistics))
    x, masks = sample_motion(
        net.model,
        features[None],
        masks,
        scene.layout(),
        seed=seed,
        steps=options.steps if steps is None else steps,
        guidance=options.guidance if guidance is None else guidance,
        slow_noise=options.slow_noise,
        clip=options.clip,
        window=net.config.load.window,
        overlap=round(overlap_s * fps),
        known=known,
        manner=told if manner else None,
        manner_guidance=options.manner_guidance,
    )
    raw = net.statistics.restore(x)
    a, b = (mine or made for mine, made in zip(kept, _tracks(raw, scene, placement, net), strict=True))
    return Generated(fps, net.statistics.head_model_id, a, b, masks[0].float().cpu().numpy())


def _check_partner(
    partner: tuple[HeadTrack | None, HeadTrack | None], head: HeadTrack, frames: int, net: Trained
) -> None:
    if None not in partner:
        raise UsageError("both people's motion is given: there is nothing to generate")
    if not net.config.diffusion.partner_given:
        raise UsageError("this network was not trained to answer a partner (diffusion.partner_given 0)")
    if len(head.valid) != frames:
        raise UsageError(f"the partner's motion has {len(head.valid)} frames, this sound needs {frames}")
    if head.expression.shape[1] != net.statistics.expression:
        raise UsageError(
            f"the partner's motion has {head.expression.shape[1]} expression coefficients; this network's head model "
            f"({net.statistics.head_model_id}) has {net.statistics.expression}"
        )


def _checked(audio: Float32, fps: float) -> Float32:
    sound = np.asarray(audio)
    if sound.ndim != 1 or not np.issubdtype(sound.dtype, np.floating):
        raise UsageError(f"sound must be mono, [N] floats at 16 kHz; got shape {list(sound.shape)} of {sound.dtype}")
    if len(sound) < max(0.2 * SAMPLE_RATE, 2 * SAMPLE_RATE / fps):
        raise UsageError(f"{len(sound) / SAMPLE_RATE:.2f} s of sound is too short; at least 0.2 s")
    if not np.isfinite(sound).all():
        raise UsageError("the sound holds NaN or infinity")
    return np.ascontiguousarray(sound, np.float32)


@torch.inference_mode()  # type: ignore[untyped-decorator]
def features_of(net: Trained, sound: Tensor) -> Tensor:
    """[N] -> [T, F] on the network's device; a pretrained encoder hears 30 s at a time with 2 s around them."""
    fps = net.config.load.fps
    per_frame = SAMPLE_RATE / fps
    total = int(len(sound) / per_frame + 0.01)  # N itself is a rounded number
    piece, margin = round(30 * fps), round(2 * fps)
    if net.config.audio.encoder == "logmel" or total <= piece + 2 * margin:
        cut = sound[: round(total * per_frame)].to(net.device)
        whole: Tensor = net.front(cut[None])[0]
        return whole
    parts = []
    for start in range(0, total, piece):
        low, high = max(start - margin, 0), min(start + piece + margin, total)
        heard = net.front(sound[round(low * per_frame) : round(high * per_frame)][None].to(net.device))[0]
        parts.append(heard[start - low : min(start + piece, total) - low])
    return torch.cat(parts)


def window_starts(frames: int, window: int, overlap: int) -> list[int]:
    """First frames of windows that cover all frames; the last one ends with the last frame."""
    if frames <= window:
        return [0]
    stride = max(window - overlap, 1)
    return [*range(0, frames - window, stride), frames - window]


def window_weights(starts: list[int], frames: int, width: int) -> Tensor:
    """[windows, width] cross-fade: linear over what a window shares with its neighbours, summing to 1 at each frame."""
    index = torch.arange(width, dtype=torch.float32)
    weights = torch.ones(len(starts), width)
    for k, start in enumerate(starts):
        before = starts[k - 1] + width - start if k else 0
        after = start + width - starts[k + 1] if k + 1 < len(starts) else 0
        if before:
            weights[k] *= ((index + 0.5) / before).clamp(EDGE, 1)
        if after:
            weights[k] *= ((width - index - 0.5) / after).clamp(EDGE, 1)
    total = torch.zeros(frames)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + width] += weight
    return torch.stack([w / total[s : s + width] for s, w in zip(starts, weights, strict=True)])


@torch.inference_mode()  # type: ignore[untyped-decorator]
def sample_motion(
    model: DualStream,
    features: Tensor,
    speaking: Tensor | None,
    layout: Tensor,
    *,
    seed: int,
    steps: int,
    guidance: float,
    slow_noise: float,
    clip: float,
    window: int,
    overlap: int,
    known: Given | None = None,
    manner: Tensor | None = None,
    manner_guidance: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Normalised motion of both people.

    Args:
        features: [B, T, F] of the front end. speaking: [B, 2, T] or None. layout: [B, 2, L].
        known: what is known (:func:`.given.given`): every clean prediction is moved there, so that it holds exactly and
            the other frames are denoised to go with it. People whose motion is known enter as they are, at time 0.
        slow_noise: :func:`.diffusion.calmed`.
        guidance, manner_guidance: weights of the sound and of the manner: predictions are g heard + (1 - g) deaf
            + m (told - heard).
        manner: [B, 6] how they behave (:mod:`.manner`), of every window.

    Returns:
        [B, 2, T, D] and the speaking masks [B, 2, T] that were used.
    """
    if steps < 1:
        raise UsageError(f"{steps} sampler steps: at least one is needed")
    batch, frames, _ = features.shape
    device = features.device
    # Masks from one pass over the sound, so that a voice stays one person's; the network hears windows, as trained.
    masks = model.mask_predictor(model.hear(features)).sigmoid() if speaking is None else speaking
    starts = window_starts(frames, window, overlap)
    width = min(window, frames)
    weights = window_weights(starts, frames, width).to(device)
    layouts = layout.repeat(len(starts), 1, 1)
    begins = torch.tensor([float(s == 0) for s in starts], device=device).repeat_interleave(batch)

    def cut(values: Tensor, dim: int) -> Tensor:
        return torch.cat([values.narrow(dim, s, width) for s in starts])

    heard = torch.cat([model.hear(part) for part in cut(features, 1).split(BATCH)])
    told = (heard, cut(masks, 2), layouts, begins)
    branches, weights_of = [model.condition_on(*told)], [1.0]
    if guidance != 1:
        branches.append(model.condition_on(*told, silent=torch.ones_like(begins, dtype=torch.bool)))
        weights_of = [guidance, 1 - guidance]
    if manner is not None:
        behave = manner.repeat(len(starts), 1)
        behave[begins == 0, CHANGE] = torch.nan
        branches.append(model.condition_on(*told, manner=behave))
        weights_of = [weights_of[0] - manner_guidance, *weights_of[1:], manner_guidance]
    # All branches of guidance in one batch. What is the same at every step is computed once, where memory allows.
    conditions = torch.cat(branches).split(BATCH)
    ready = [model.told(part) for part in conditions] if len(conditions) <= KEPT else None

    seen = torch.zeros((batch, 2), dtype=torch.bool, device=device) if known is None else known.seen

    def begun(x: Tensor) -> Tensor:
        return x if known is None else known.lead(x)

    def predict(x: Tensor, t: float) -> Tensor:
        pieces = cut(x if known is None else known.clean(x), 2).repeat(len(branches), 1, 1, 1)
        times = torch.where(seen, 0.0, t).repeat(len(pieces) // batch, 1)
        clean = torch.cat(
            [
                model(part, when, condition)
                for part, when, condition in zip(
                    pieces.split(BATCH), times.split(BATCH), conditions if ready is None else ready, strict=True
                )
            ]
        )
        clean = torch.stack([w * part for w, part in zip(weights_of, clean.chunk(len(branches)), strict=True)]).sum(0)
        out = torch.zeros_like(x)
        for start, weight, part in zip(starts, weights, clean.split(batch), strict=True):
            out[:, :, start : start + width] += weight[:, None] * part
        return begun(out)

    # Drawn on the CPU, so that a seed means the same on every device.
    noise = torch.randn((batch, 2, frames, model.dims), generator=torch.Generator().manual_seed(seed))
    noise = noise if slow_noise == 1 else calmed(noise, slow_noise)
    return begun(multistep(predict, noise.to(device), steps, clip)), masks  # again: the sampler clips


def _scene(placement: tuple[Placement, Placement], net: Trained) -> Scene:
    centre = torch.tensor(np.stack([p.head_centre for p in placement]), dtype=torch.float32, device=net.device)[None]
    if not torch.isfinite(centre).all() or bool((centre[0, 0] - centre[0, 1]).norm() < 0.05):
        raise UsageError("the two heads need different places, at least 5 cm apart")
    frame = partner_frames(centre)
    facing = torch.eye(3, device=net.device).expand(1, 2, 3, 3).clone()
    for index, place in enumerate(placement):
        if place.rotation is not None:
            turned = exp_so3(torch.tensor(np.asarray(place.rotation), dtype=torch.float32, device=net.device))
            facing[0, index] = frame[0, index].T @ turned
    return Scene(
        frame=frame,
        centre=centre,
        translation=centre,  # the root joint follows once the head's turn is known
        facing=facing,
        known=torch.ones(1, dtype=torch.bool, device=net.device),
        facing_known=torch.ones(1, 2, dtype=torch.bool, device=net.device),
    )


def _tracks(
    raw: Tensor, scene: Scene, placement: tuple[Placement, Placement], net: Trained
) -> tuple[HeadTrack, HeadTrack]:
    where = part_slices(net.statistics.expression)["translation"]
    raw = raw.clone()
    raw[..., where] -= raw[:, :, :1, where]  # relative to the first frame, exactly
    posed = decode(raw, scene)
    eyes_from_root = exp_so3(posed["rotation"]) @ flip(raw) @ net.statistics.centre_offset
    posed["translation"] = posed["translation"] - eyes_from_root[:, :, :1]
    posed["head_centre"] = posed["translation"] + eyes_from_root
    arrays = {name: value[0].float().cpu().numpy() for name, value in posed.items()}
    return _track(arrays, 0, placement[0], net), _track(arrays, 1, placement[1], net)


def _track(arrays: dict[str, Any], index: int, placement: Placement, net: Trained) -> HeadTrack:
    mine: dict[str, Any] = {name: np.ascontiguousarray(values[index]) for name, values in arrays.items()}
    frames = len(mine["jaw"])
    gaze = gaze_directions(mine["rotation"], mine["eyes"]).astype(np.float32)
    unknown = np.full(frames, np.nan, np.float32)
    shape = np.zeros(net.statistics.shape, np.float32)
    if placement.shape is not None:
        if len(placement.shape) != len(shape):
            raise UsageError(f"{len(placement.shape)} identity coefficients; this head model has {len(shape)}")
        shape = np.asarray(placement.shape, np.float32)
    return HeadTrack(
        track_id="ab"[index], shape=shape, **mine, gaze_raw=gaze, gaze=gaze, rotation_sd=unknown[:, None].repeat(3, 1),
        translation_sd=unknown, gaze_sd=unknown, residual=unknown, box=np.full((frames, 4), np.nan, np.float32),
        confidence=np.ones(frames, np.float32), valid=np.ones(frames, bool), scale_log_sd=0.0,
    )  # fmt: skip


def place_like(truth: tuple[HeadTrack, HeadTrack], *, facing: bool = True) -> tuple[Placement, Placement]:
    """The placement of a measured pair's first common valid frame.

    Raises:
        UsageError: no frame shows both.
    """
    both = truth[0].valid & truth[1].valid
    if not both.any():
        raise UsageError("no frame in which both people were measured")
    first = int(np.argmax(both))
    one, two = (
        Placement(head.head_centre[first], head.rotation[first] if facing else None, head.shape) for head in truth
    )
    return one, two
