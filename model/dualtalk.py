"""DualTalk (Peng et al., CVPR 2025, arXiv 2505.18096), re-built from its published definition, as a baseline.

From both people's sound and the *partner's true motion* it predicts one person's motion: 50 FLAME expression
coefficients, jaw and head axis-angle. It is offline and deterministic. Where paper and release differ (the paper's
sigmoid in the modulation and its alignment attention) this follows the release, whose tensors it loads.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..schemas.errors import UsageError
from .dualtalk_format import FPS, MOTION_DIM
from .wav2vec import SAMPLE_RATE, Wav2Vec, Wav2VecOptions, modern_names

HEADS = 4  # of every attention in the model


@dataclass(frozen=True)
class DualTalkOptions:
    """Sizes; the defaults are the release's (647 million parameters, 631 of them in the two audio encoders).

    Attributes:
        width: of one person's features ("feature_dim").
        modulation: weight of the adaptive modulation.
        dropout: after the interaction module's attention.
        audio: of each of the two audio encoders.
    """

    width: int = 256
    modulation: float = 0.1
    dropout: float = 0.5
    audio: Wav2VecOptions = field(default_factory=Wav2VecOptions)


class JointEncoder(nn.Module):
    """Each person's sound through its own encoder, projected by shared weights; the partner's motion by an MLP."""

    def __init__(self, options: DualTalkOptions) -> None:
        super().__init__()
        self.audio_encoder1 = Wav2Vec(options.audio)
        self.audio_encoder2 = Wav2Vec(options.audio)
        for encoder in (self.audio_encoder1, self.audio_encoder2):
            encoder.feature_extractor.requires_grad_(False)
        self.audio_projection = nn.Linear(options.audio.width, options.width)
        self.blendshape_encoder = nn.Sequential(
            nn.Linear(MOTION_DIM, options.width // 2),
            nn.ReLU(),
            nn.Linear(options.width // 2, options.width),
            nn.ReLU(),
        )

    def forward(
        self, own_audio: Tensor, partner_audio: Tensor, partner_motion: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[B, N] own sound, [B, N] partner's, [B, T', 56] -> [B, T, D], [B, T, D], [B, T', D]."""
        frames = frame_count(own_audio.shape[1])
        own = self.audio_projection(self.audio_encoder1(own_audio, frames))
        partner = self.audio_projection(self.audio_encoder2(partner_audio, frames))
        return own, partner, self.blendshape_encoder(partner_motion)


class TemporalEnhancer(nn.Module):
    """The partner's sound asks the partner's motion; a bidirectional LSTM follows it through time."""

    def __init__(self, options: DualTalkOptions) -> None:
        super().__init__()
        self.cross_attention = nn.MultiheadAttention(options.width, HEADS, batch_first=True)
        self.temporal_lstm = nn.LSTM(options.width, options.width // 2, 2, bidirectional=True, batch_first=True)

    def forward(self, partner_audio: Tensor, partner_motion: Tensor) -> Tensor:
        """[B, T, D], [B, T', D] -> [B, T, D]."""
        mixed, _ = self.cross_attention(partner_audio, partner_motion, partner_motion, need_weights=False)
        out: Tensor = self.temporal_lstm(mixed)[0]
        return out


class Interaction(nn.Module):
    """Own sound and the enhanced partner side by side through self-attention."""

    def __init__(self, options: DualTalkOptions) -> None:
        super().__init__()
        width = 2 * options.width
        self.interaction_encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, HEADS, 2048, batch_first=True), 3, enable_nested_tensor=False
        )
        self.self_attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, own_audio: Tensor, enhanced: Tensor) -> Tensor:
        """[B, T, D], [B, T, D] -> [B, T, 2 D]."""
        x = self.interaction_encoder(torch.cat([own_audio, enhanced], -1))
        out: Tensor = self.dropout(self.self_attention(x, x, x, need_weights=False)[0])
        return out


class Synthesis(nn.Module):
    """One transformer decoder layer over its own input, a linear modulation, the motion."""

    def __init__(self, options: DualTalkOptions) -> None:
        super().__init__()
        width = 2 * options.width
        self.synthesis_decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(width, HEADS, 2048, batch_first=True), 1
        )
        self.blendshape_predictor = nn.Linear(width, MOTION_DIM)
        self.modulation_layer = nn.Linear(width, width)
        self.modulation = options.modulation

    def forward(self, interaction: Tensor) -> Tensor:
        """[B, T, 2 D] -> [B, T, 56]."""
        x = self.synthesis_decoder(interaction, interaction)
        out: Tensor = self.blendshape_predictor(x + self.modulation * self.modulation_layer(x))
        return out


class DualTalk(nn.Module):
    """The whole model."""

    def __init__(self, options: DualTalkOptions = DualTalkOptions()) -> None:
        super().__init__()
        self.options = options
        self.joint_encoder = JointEncoder(options)
        self.temporal_enhancer = TemporalEnhancer(options)
        self.interaction_module = Interaction(options)
        self.synthesis_module = Synthesis(options)

    def forward(self, own_audio: Tensor, partner_audio: Tensor, partner_motion: Tensor) -> Tensor:
        """One person's motion.

        Args:
            own_audio, partner_audio: [B, N] at 16 kHz, normalised (:func:`.wav2vec.normalise_audio`), of one length.
            partner_motion: [B, T', 56] expression, jaw, head at 25 fps; T' need not be T.

        Returns:
            [B, T, 56] with T = ceil(25 N / 16000).
        """
        own, partner, motion = self.joint_encoder(own_audio, partner_audio, partner_motion)
        return self.from_features(own, partner, motion)

    def from_features(self, own_audio: Tensor, partner_audio: Tensor, partner_motion: Tensor) -> Tensor:
        """The model after its encoders: three times [B, T, D] -> [B, T, 56]; what cached audio features go through."""
        enhanced = self.temporal_enhancer(partner_audio, partner_motion)
        out: Tensor = self.synthesis_module(self.interaction_module(own_audio, enhanced))
        return out


def frame_count(samples: int) -> int:
    """Frames that the model makes of so many samples: the last one may be begun only."""
    return math.ceil(samples / SAMPLE_RATE * FPS)


def dualtalk_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """The published loss: squared errors of expression, jaw, head and of the velocity of all, each of weight one.

    Args:
        predicted, truth: [B, T, 56].
    """
    parts = zip(predicted.split((50, 3, 3), -1), truth.split((50, 3, 3), -1), strict=True)
    velocity = functional.mse_loss(predicted.diff(dim=1), truth.diff(dim=1))
    return torch.stack([functional.mse_loss(a, b) for a, b in parts]).sum() + velocity


def load_state(model: DualTalk, state: Mapping[str, Tensor]) -> None:
    """Load a published checkpoint's tensors, all of them and no others.

    Accepts both spellings of weight normalisation, and names under ``module.`` (data-parallel training).

    Raises:
        UsageError: tensors missing, unknown or of another shape; the line names the first few.
    """
    given = modern_names({name.removeprefix("module."): value for name, value in state.items()})
    expected = {name: value.shape for name, value in model.state_dict().items()}
    wrong = [f"missing {name}" for name in expected if name not in given]
    wrong += [f"unknown {name}" for name in given if name not in expected]
    wrong += [
        f"{name} is {list(given[name].shape)}, not {list(shape)}"
        for name, shape in expected.items()
        if name in given and given[name].shape != shape
    ]
    if wrong:
        raise UsageError(
            f"not a DualTalk checkpoint of this size ({len(wrong)} tensors differ): {'; '.join(wrong[:4])}"
        )
    model.load_state_dict(given, strict=True, assign=any(p.is_meta for p in model.parameters()))


def load_checkpoint(path: str | Path, options: DualTalkOptions = DualTalkOptions()) -> DualTalk:
    """A DualTalk ready to predict, from a ``.pth`` of its state dict (read weights-only: no code runs).

    Raises:
        UsageError: no such file, not a state dict, or not of these sizes.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError as error:
        raise UsageError(f"no checkpoint {path}") from error
    except Exception as error:  # torch raises whatever zipfile, pickle and its own reader raise
        raise UsageError(f"{path} is not a torch state dict: {' '.join(str(error).split())[:160]}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"{path} is not a state dict of tensors")
    with torch.device("meta"):  # 2.6 GB need not be initialised to be overwritten
        model = DualTalk(options)
    load_state(model, state)
    return model.eval()
