"""wav2vec 2.0 (Baevski et al., NeurIPS 2020) and HuBERT (Hsu et al. 2021), which share it, as audio feature encoders.

Seven strided convolutions turn 16 kHz sound into a feature every 20 ms, a convolution over time adds position, and a
transformer adds context: pre-norm with layer-normed convolutions in the large models, post-norm with one group norm in
the base models. Parameter names are those of the published checkpoints, so that their tensors load strictly.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from ..schemas.errors import UsageError

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class Wav2VecOptions:
    """Sizes; the defaults are wav2vec2-large's.

    Attributes:
        channels: of the convolutional encoder.
        kernels, strides: of its layers; the strides' product is 320 samples = 20 ms.
        width, layers, heads, feed_forward: of the transformer.
        position_kernel, position_groups: of the positional convolution.
        layer_normed: every convolution has a layer norm (large); else the first has a group norm (base).
        pre_norm: the transformer normalises before its parts (large), or after them (base).
        bias: of the strided convolutions.
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
    layer_normed: bool = True
    pre_norm: bool = True
    bias: bool = True


class _ConvLayer(nn.Module):
    def __init__(self, inside: int, outside: int, kernel: int, stride: int, bias: bool, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inside, outside, kernel, stride=stride, bias=bias)
        self.norm = norm
        if norm == "layer":
            self.layer_norm: nn.Module = nn.LayerNorm(outside)
        elif norm == "group":
            self.layer_norm = nn.GroupNorm(outside, outside)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm == "layer":
            x = self.layer_norm(x.transpose(1, 2)).transpose(1, 2)
        elif self.norm == "group":
            x = self.layer_norm(x)
        return functional.gelu(x)


def _conv_norm(options: Wav2VecOptions, index: int) -> str:
    if options.layer_normed:
        return "layer"
    return "group" if index == 0 else ""


class _FeatureExtractor(nn.Module):
    def __init__(self, options: Wav2VecOptions) -> None:
        super().__init__()
        inside = (1, *[options.channels] * (len(options.kernels) - 1))
        self.conv_layers = nn.ModuleList(
            _ConvLayer(channels, options.channels, kernel, stride, options.bias, _conv_norm(options, index))
            for index, (channels, kernel, stride) in enumerate(
                zip(inside, options.kernels, options.strides, strict=True)
            )
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
        self.pre_norm = options.pre_norm

    def forward(self, x: Tensor) -> Tensor:
        if not self.pre_norm:
            x = self.layer_norm(x + self.attention(x))
            after: Tensor = self.final_layer_norm(x + self.feed_forward(x))
            return after
        x = x + self.attention(self.layer_norm(x))
        out: Tensor = x + self.feed_forward(self.final_layer_norm(x))
        return out


class _Encoder(nn.Module):
    def __init__(self, options: Wav2VecOptions) -> None:
        super().__init__()
        self.pos_conv_embed = _PositionalConvolution(options)
        self.layer_norm = nn.LayerNorm(options.width)
        self.layers = nn.ModuleList(_Layer(options) for _ in range(options.layers))
        self.pre_norm = options.pre_norm

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_conv_embed(x)
        x = x if self.pre_norm else self.layer_norm(x)
        for layer in self.layers:
            x = layer(x)
        return self.layer_norm(x) if self.pre_norm else x


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


def load_folder(folder: str | Path) -> tuple[Wav2Vec, str]:
    """A published wav2vec 2.0 or HuBERT model from a local folder, and the sha256 of its weights.

    The folder holds ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin`` (read weights-only). Heads that
    follow the encoder (CTC, quantizer) are left out; every tensor of the encoder must be there.

    Raises:
        UsageError: files missing, another architecture, or tensors that do not fit.
    """
    root = Path(folder)
    try:
        config = json.loads((root / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"audio encoder {folder}: no readable config.json ({error})") from error
    kind = config.get("model_type")
    if kind not in ("wav2vec2", "hubert"):
        raise UsageError(f"audio encoder {folder}: model_type is {kind!r}, expected wav2vec2 or hubert")
    found = [root / name for name in ("model.safetensors", "pytorch_model.bin") if (root / name).exists()]
    if not found:
        raise UsageError(f"audio encoder {folder}: neither model.safetensors nor pytorch_model.bin")
    model = Wav2Vec(_options_of(config, folder))
    try:
        if found[0].suffix == ".bin":
            state = torch.load(found[0], map_location="cpu", weights_only=True)
        else:
            state = read_safetensors(found[0])
    except Exception as error:  # torch raises whatever zipfile, pickle and its own reader raise
        raise UsageError(f"audio encoder {found[0]} cannot be read ({' '.join(str(error).split())[:120]})") from error
    given = modern_names({name.removeprefix(f"{kind}."): value.float() for name, value in state.items()})
    expected = model.state_dict()
    given.setdefault("masked_spec_embed", expected["masked_spec_embed"])
    wrong = [name for name, value in expected.items() if name not in given or given[name].shape != value.shape]
    if wrong:
        raise UsageError(
            f"audio encoder {folder}: {len(wrong)} tensors missing or of another shape, such as {wrong[0]}"
        )
    model.load_state_dict({name: given[name] for name in expected})
    with open(found[0], "rb") as stream:
        return model.eval(), hashlib.file_digest(stream, "sha256").hexdigest()


def _options_of(config: Mapping[str, Any], folder: str | Path) -> Wav2VecOptions:
    try:
        channels = set(config["conv_dim"])
        if len(channels) != 1:
            raise ValueError(f"conv_dim {config['conv_dim']}")
        return Wav2VecOptions(
            channels=int(channels.pop()),
            kernels=tuple(config["conv_kernel"]),
            strides=tuple(config["conv_stride"]),
            width=int(config["hidden_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            feed_forward=int(config["intermediate_size"]),
            position_kernel=int(config["num_conv_pos_embeddings"]),
            position_groups=int(config["num_conv_pos_embedding_groups"]),
            layer_normed=config["feat_extract_norm"] == "layer",
            pre_norm=bool(config["do_stable_layer_norm"]),
            bias=bool(config["conv_bias"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"audio encoder {folder}: config.json does not describe such a model ({error})") from error


_SAFE_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file: a length, a JSON header, raw little-endian numbers.

    Raises:
        ValueError: not such a file, or a type that it does not know.
    """
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    if length > len(data) - 8:
        raise ValueError("not a safetensors file")
    header = json.loads(data[8 : 8 + length])
    body = bytearray(data[8 + length :])
    out = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, stop = entry["data_offsets"]
        kind = _SAFE_TYPES.get(entry["dtype"])
        if kind is None or not 0 <= start <= stop <= len(body):
            raise ValueError(f"tensor {name} of type {entry['dtype']}")
        flat = torch.frombuffer(body[start:stop], dtype=kind) if stop > start else torch.zeros(0, dtype=kind)
        out[name] = flat.reshape(entry["shape"])
    return out
