"""The embedding network computes what the package its weights come from computes."""

from __future__ import annotations

import numpy as np
from duologue.transforms.voice_embedding import VoiceEmbedding, mel_filters


def test_filters_are_the_slaney_bank() -> None:
    import librosa

    reference = librosa.filters.mel(sr=16000, n_fft=400, n_mels=40).T
    assert np.abs(mel_filters() - reference).max() < 1e-6 * reference.max() + 1e-8


def test_windows_equal_the_reference_encoder() -> None:
    from resemblyzer.voice_encoder import VoiceEncoder

    rng = np.random.default_rng(0)
    audio = (rng.normal(0, 0.05, 48000) * np.abs(np.sin(np.arange(48000) / 3000))).astype(np.float32)
    reference, slices = VoiceEncoder("cpu", verbose=False).embed_utterance(audio, True, rate=2.5)[1:]
    model = VoiceEmbedding(bfloat16=False)
    starts = np.array([s.start // 160 for s in slices if s.stop <= len(audio)])
    ours = model(model.mel(audio), starts, (160,))[:, 0]
    assert len(starts) >= 2
    assert np.abs(ours - reference[: len(starts)]).max() < 1e-4


def test_an_early_read_equals_a_short_run() -> None:
    audio = np.random.default_rng(1).normal(0, 0.05, 32000).astype(np.float32)
    model = VoiceEmbedding()
    mel = model.mel(audio)
    both = model(mel, np.array([0, 20]), (80, 160))
    short = model(mel, np.array([0, 20]), (80,))
    assert np.allclose(both[:, 0], short[:, 0], atol=1e-6)
    assert np.allclose(np.linalg.norm(both, axis=-1), 1, atol=1e-5)


def test_bfloat16_moves_embeddings_little() -> None:
    rng = np.random.default_rng(2)
    audio = (rng.normal(0, 0.05, 48000) * np.abs(np.sin(np.arange(48000) / 3000))).astype(np.float32)
    exact, fast = VoiceEmbedding(bfloat16=False), VoiceEmbedding(bfloat16=True)
    starts = np.arange(0, 140, 20)
    one, other = (model(model.mel(audio), starts, (60, 160)) for model in (exact, fast))
    assert 0 < np.max(1 - np.sum(one * other, axis=-1)) < 0.005
