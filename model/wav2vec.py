"""wav2vec 2.0 (Baevski et al., NeurIPS 2020), the "large, layer-normed" variant, as an audio feature encoder.

Seven strided convolutions turn 16 kHz sound into a feature every 20 ms, a convolution over time adds position, and a
pre-norm transformer (Xiong et al., ICML 2020) adds context. Parameter names are those of the published checkpoints,
so that their tensors load strictly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class Wav2VecOptions:
    """Sizes; the defaults are wav2vec2-large's.

    Attributes:
        channels: of the convolutional encoder.
        kernels, strides: of its layers; the strides' product is 320 samples = 20 ms.
        width, layers, heads, feed_forward: of the transformer.
        position_kernel, position_groups: of the positional convolution.
    """

    channels: int = 512
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    width: int = 1024
    layers: int = 24
    heads: int = 16
    feed_forward: int = 4096
    position_kernel: int = 128
    position_groups: int = 16


class _ConvLayer(nn.Module):
    def __init__(self, inside: int, outside: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inside, outside, kernel, stride=stride)
        self.layer_norm = nn.LayerNorm(outside)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.layer_norm(self.conv(x).transpose(1, 2)).transpose(1, 2))


class _FeatureExtractor(nn.Module):
    def __init__(self, options: Wav2VecOptions) -> None:
        super().__init__()
        inside = (1, *[options.channels] * (len(options.kernels) - 1))
        self.conv_layers = nn.ModuleList(
            _ConvLayer(channels, options.channels, kernel, stride)
            for channels, kernel, stride in zip(inside, options.kernels, options.strides, strict=True)
        )

    def forward(self, audio: Tensor) -> Tensor:
        x = audio[:, None]
        for layer in self.conv_layers:
            x = layer(x)
        return x.transpose(1, 2)


class _FeatureProjection(nn.Module):
    def __init__(self, options: Wav2VecOptions) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(options.channels)
        self.projection = nn.Linear(options.channels, options.width)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.projection(self.layer_norm(x))
        return projected


class _PositionalConvolution(nn.Module):
    """A wide grouped convolution, weight-normalised per kernel tap; an even kernel's extra last output is dropped."""

    def __init__(self, options: Wav2VecOptions) -> None:
        super().__init__()
        kernel = options.position_kernel
        conv = nn.Conv1d(options.width, options.width, kernel, padding=kernel // 2, groups=options.position_groups)
        self.conv = parametrizations.weight_norm(conv, dim=2)
        self.extra = 1 - kernel % 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.transpose(1, 2))
        return functional.gelu(y[..., : y.shape[-1] - self.extra]).transpose(1, 2)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in
                   (self.q_proj, self.k_proj, self.v_proj))  # fmt: skip
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(-2))
        return out


class _FeedForward(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(width, inner)
        self.output_dense = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.output_dense(functional.gelu(self.intermediate_dense(x)))
        return out


class _Layer(nn.Module):
    def __init__(self, options: Wav2VecOptions) -> None:
        super().__init__()
        self.attention = _Attention(options.width, options.heads)
        self.layer_norm = nn.LayerNorm(options.width)
        self.feed_forward = _FeedForward(options.width, options.feed_forward)
        self.final_layer_norm = nn.LayerNorm(options.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.layer_norm(x))
        out: Tensor = x + self.feed_forward(self.final_layer_norm(x))
        return out


class _Encoder(nn.Module):
    def __init__(self, options: Wav2VecOptions) -> None:
        super().__init__()
        self.pos_conv_embed = _PositionalConvolution(options)
        self.layer_norm = nn.LayerNorm(options.width)
        self.layers = nn.ModuleList(_Layer(options) for _ in range(options.layers))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_conv_embed(x)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.layer_norm(x)
        return out


class Wav2Vec(nn.Module):
    """16 kHz sound to contextual features.

    ``masked_spec_embed`` is the published model's SpecAugment token: kept so that checkpoints load strictly, not used.
    """

    def __init__(self, options: Wav2VecOptions = Wav2VecOptions()) -> None:
        super().__init__()
        self.options = options
        self.masked_spec_embed = nn.Parameter(torch.zeros(options.width))
        self.feature_extractor = _FeatureExtractor(options)
        self.feature_projection = _FeatureProjection(options)
        self.encoder = _Encoder(options)

    def forward(self, audio: Tensor, frames: int | None = None) -> Tensor:
        """Features of sound.

        Args:
            audio: [B, N] at 16 kHz, each of zero mean and unit variance (:func:`normalise_audio`).
            frames: resample the convolutional features to so many, linearly with the ends aligned, before the
                transformer (FaceFormer, Fan et al. 2022); None keeps one every 20 ms.

        Returns:
            [B, frames, width].
        """
        x = self.feature_extractor(audio)
        if frames is not None:
            x = functional.interpolate(x.transpose(1, 2), frames, mode="linear", align_corners=True).transpose(1, 2)
        out: Tensor = self.encoder(self.feature_projection(x))
        return out


def normalise_audio(audio: Tensor) -> Tensor:
    """Zero mean and unit variance per clip, as wav2vec 2.0 was trained: [..., N] -> [..., N]."""
    centred = audio - audio.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-7).sqrt()


def modern_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint with weight normalisation in torch's parametrization spelling.

    Older torch wrote ``conv.weight_g`` and ``conv.weight_v``; they are
    ``conv.parametrizations.weight.original0`` and ``original1``.
    """
    spelling = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    out = {}
    for name, value in state.items():
        stem, _, last = name.rpartition(".")
        out[f"{stem}.{spelling[last]}" if last in spelling else name] = value
    return out
