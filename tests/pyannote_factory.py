"""pyannote pipelines made at test time: a random diarization, and a separation that parts voices at 1 kHz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from duologue.transforms import torchaudio_shim

torchaudio_shim.install()

import pyannote.audio  # noqa: E402
import torch  # noqa: E402
from pyannote.audio.core.model import Model  # noqa: E402
from pyannote.audio.core.task import Problem, Resolution, Specifications  # noqa: E402

HOP = 320
SPLIT_HZ = 1000.0


def bands(waveforms: torch.Tensor) -> torch.Tensor:
    """[B, 1, n] -> [B, 2, n] below and above 1 kHz."""
    n = waveforms.shape[-1]
    spectrum = torch.fft.rfft(waveforms[:, 0])
    low = torch.fft.rfftfreq(n, 1 / 16000) < SPLIT_HZ
    return torch.stack([torch.fft.irfft(spectrum * keep, n) for keep in (low, ~low)], 1)


class _Framed(Model):  # type: ignore[misc]
    def __init__(self, sample_rate: int = 16000, num_channels: int = 1, task: Any = None) -> None:
        super().__init__(sample_rate=sample_rate, num_channels=num_channels, task=task)
        self.scale = torch.nn.Parameter(torch.ones(1))

    def num_frames(self, num_samples: int) -> int:
        return num_samples // HOP

    def receptive_field_size(self, num_frames: int = 1) -> int:
        return num_frames * HOP

    def receptive_field_center(self, frame: int = 0) -> int:
        return frame * HOP + HOP // 2

    def build(self) -> None:
        pass


class BandSeparator(_Framed):
    """Stands where ToTaToNet does: (speaker activations, separated sources)."""

    dimension = 1

    def forward(self, waveforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        parts = bands(waveforms)
        frames = parts[..., : parts.shape[-1] // HOP * HOP].unflatten(-1, (-1, HOP))
        level = frames.square().mean(-1).sqrt()
        return (torch.sigmoid(500 * (level - 0.01)) * self.scale).transpose(1, 2), 3.0 * parts.transpose(1, 2)


class BandEmbedding(_Framed):
    """A voice is how much of it is low and high."""

    dimension = 2

    def forward(self, waveforms: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        power = bands(waveforms).square()
        if weights is not None:
            grown = torch.nn.functional.interpolate(weights[:, None].float(), power.shape[-1])
            power = power * grown
        return power.mean(-1).sqrt() * self.scale


def save(model: Model, specifications: Any, folder: Path) -> None:
    model.specifications = specifications
    folder.mkdir(parents=True)
    torch.save(
        {
            "state_dict": model.state_dict(),
            "hyper_parameters": {"sample_rate": 16000, "num_channels": 1},
            "pytorch-lightning_version": "2.6.6",
            "epoch": 0,
            "global_step": 0,
            "pyannote.audio": {
                "versions": {"torch": torch.__version__, "pyannote.audio": pyannote.audio.__version__},
                "architecture": {"module": type(model).__module__, "class": type(model).__name__},
                "specifications": specifications,
            },
        },
        folder / "pytorch_model.bin",
    )


def make_separator(root: Path) -> Path:
    """A SpeechSeparation pipeline in the 4.x folder layout; ``root`` must have "pyannote" in its path."""
    frames = {"resolution": Resolution.FRAME, "duration": 5.0, "classes": ["one", "two"]}
    turns = Specifications(problem=Problem.MULTI_LABEL_CLASSIFICATION, permutation_invariant=True, **frames)
    sources = Specifications(problem=Problem.MONO_LABEL_CLASSIFICATION, **frames)
    save(BandSeparator(), (turns, sources), root / "segmentation")
    embedding = Specifications(Problem.REPRESENTATION, Resolution.CHUNK, 5.0, classes=["x", "y"])
    save(BandEmbedding(), embedding, root / "embedding")
    (root / "config.yaml").write_text(
        "pipeline:\n"
        "  name: pyannote.audio.pipelines.SpeechSeparation\n"
        "  params:\n"
        "    segmentation: $model/segmentation\n"
        "    segmentation_step: 0.2\n"
        "    embedding: $model/embedding\n"
        "    embedding_exclude_overlap: true\n"
        "    clustering: AgglomerativeClustering\n"
        "params:\n"
        "  segmentation: {min_duration_off: 0.0, threshold: 0.5}\n"
        "  clustering: {method: average, threshold: 0.4, min_cluster_size: 1}\n"
        "  separation: {leakage_removal: true, asr_collar: 0.2}\n"
    )
    return root


def make_pipeline(root: Path) -> Path:
    """A random diarization pipeline in the 4.x folder layout."""
    from pyannote.audio.models.embedding import XVectorMFCC
    from pyannote.audio.models.segmentation import PyanNet

    torch.manual_seed(0)
    segmentation = Specifications(
        Problem.MONO_LABEL_CLASSIFICATION,
        Resolution.FRAME,
        5.0,
        classes=["a", "b", "c"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    embedding = Specifications(Problem.REPRESENTATION, Resolution.CHUNK, 3.0, classes=["x", "y"])
    made = {
        "segmentation": (PyanNet(sincnet={"stride": 10}, lstm={"hidden_size": 16, "num_layers": 1}), segmentation),
        "embedding": (XVectorMFCC(dimension=32), embedding),
    }
    for name, (model, specifications) in made.items():
        model.specifications = specifications
        model.build()
        (root / name).mkdir(parents=True)
        kind = type(model)
        torch.save(
            {
                "state_dict": model.state_dict(),
                "hyper_parameters": dict(model.hparams),
                "pytorch-lightning_version": "2.6.6",
                "epoch": 0,
                "global_step": 0,
                "pyannote.audio": {
                    "versions": {"torch": torch.__version__, "pyannote.audio": pyannote.audio.__version__},
                    "architecture": {"module": kind.__module__, "class": kind.__name__},
                    "specifications": specifications,
                },
            },
            root / name / "pytorch_model.bin",
        )
    (root / "plda").mkdir()
    rng = np.random.default_rng(0)
    lda = np.linalg.qr(rng.normal(size=(32, 32)))[0]
    np.savez(root / "plda" / "xvec_transform.npz", mean1=np.zeros(32), mean2=np.zeros(32), lda=lda)
    np.savez(root / "plda" / "plda.npz", mu=np.zeros(32), tr=np.eye(32), psi=np.linspace(2, 0.1, 32))
    (root / "config.yaml").write_text(
        "pipeline:\n"
        "  name: pyannote.audio.pipelines.SpeakerDiarization\n"
        "  params:\n"
        "    segmentation: $model/segmentation\n"
        "    embedding: $model/embedding\n"
        "    plda: $model/plda\n"
        "    clustering: AgglomerativeClustering\n"
        "    segmentation_step: 0.5\n"
        "params:\n"
        "  clustering: {method: average, threshold: 0.7, min_cluster_size: 2}\n"
        "  segmentation: {min_duration_off: 0.0}\n"
    )
    return root


def low_and_high(seconds: float = 12.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """[2, n] a low and a high "voice", their speaking masks [T] at 25 fps each, overlapping for a while; [T] times."""
    n = round(seconds * 16000)
    t = np.arange(n) / 16000
    spans = ((0.5, 4.5), (3.5, 7.0)), ((7.5, 9.0), (9.5, 11.5))
    on = [np.zeros(n, bool), np.zeros(n, bool)]
    for pair in spans:
        for who, (lo, hi) in enumerate(pair):
            on[who] |= (t >= lo) & (t < hi)
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(0, 0.1, (1, 1, n)).astype(np.float32))
    voices = bands(noise)[0].numpy() * (0.4 + np.abs(np.sin(2 * np.pi * 3 * t)))
    voices = np.stack([voices[0] * on[0] * 2.5, voices[1] * on[1]]).astype(np.float32)
    clock = np.arange(round(seconds * 25)) / 25
    masks = [np.interp(clock, t, m.astype(np.float32)).astype(np.float32) for m in on]
    return voices, masks[0], masks[1], clock
