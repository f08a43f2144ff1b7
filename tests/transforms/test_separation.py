"""Speech separation: pyannote's real pipeline on checkpoints made here, and each source to the face that speaks it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from duologue.schemas.errors import UsageError
from duologue.transforms.separation import PyannoteSeparator, person_tracks
from pyannote_factory import low_and_high, make_pipeline, make_separator


def distortion_db(track: np.ndarray, voice: np.ndarray) -> float:
    """Signal to distortion at the voice's own level, dB."""
    return float(10 * np.log10(np.sum(voice**2) / np.sum((track - voice) ** 2)))


@pytest.fixture(scope="module")
def separator(tmp_path_factory: pytest.TempPathFactory) -> PyannoteSeparator:
    return PyannoteSeparator(str(make_separator(tmp_path_factory.mktemp("pyannote") / "separation")))


@pytest.mark.parametrize("swapped", [False, True])
def test_each_person_gets_the_own_voice(separator: PyannoteSeparator, swapped: bool) -> None:
    """Through Pipeline.from_pretrained, SpeechSeparation and its clustering: both voices come back alone, in level."""
    voices, speaks_low, speaks_high, _ = low_and_high()
    mixture = voices.sum(axis=0)
    sources = separator(mixture)
    assert sources.shape == (2, len(mixture))
    masks = (speaks_high, speaks_low) if swapped else (speaks_low, speaks_high)
    found = person_tracks(mixture, sources, *masks, 25.0)
    assert found.a is not None
    assert found.b is not None
    own = voices[::-1] if swapped else voices
    for track, voice in zip((found.a, found.b), own, strict=True):
        # the pipeline adds its windows without weighing them: levels fall towards the ends of the sound
        assert distortion_db(track, voice) > distortion_db(mixture, voice) + 5
        inner = slice(16000 * 3, 16000 * 9)
        assert distortion_db(track[inner], voice[inner]) > distortion_db(mixture[inner], voice[inner]) + 8
        print(
            distortion_db(track, voice),
            distortion_db(mixture, voice),
            distortion_db(track[inner], voice[inner]),
            distortion_db(mixture[inner], voice[inner]),
        )
    assert found.residual_share < 0.2
    assert len(separator.backend.weights_sha256) == 64


@pytest.mark.parametrize("audio", [np.zeros(0), np.zeros(16000), np.full(4000, 0.1)], ids=["empty", "silence", "short"])
def test_nothing_to_take_apart(separator: PyannoteSeparator, audio: np.ndarray) -> None:
    sound = audio.astype(np.float32)
    sources = separator(sound)
    assert sources.shape == (0, len(sound))
    found = person_tracks(sound, sources, np.zeros(25, np.float32), np.zeros(25, np.float32), 25.0)
    assert (found.a, found.b) == (None, None)


def test_a_source_of_nobody_on_screen_is_left_over() -> None:
    voices, low, high, _ = low_and_high()
    rng = np.random.default_rng(1)
    music = rng.normal(0, 0.05, voices.shape[1]).astype(np.float32)
    mixture = voices.sum(axis=0) + music
    found = person_tracks(mixture, np.stack([music, 0.1 * voices[1], -voices[0]]), low, high, 25.0)
    assert found.a is not None
    assert found.b is not None
    assert np.allclose(found.a, voices[0], atol=1e-3)
    assert np.allclose(found.b, voices[1], atol=1e-3)
    assert found.residual_share == pytest.approx(np.sum(music**2) / np.sum(mixture**2), abs=0.03)
    silent = person_tracks(mixture, np.stack([music, voices[0]]), low, np.zeros_like(high), 25.0)
    assert silent.b is None
    doubled = person_tracks(
        mixture, np.stack([voices[0] * (np.arange(len(music)) < 60000), voices[0]]), low, high, 25.0
    )
    assert doubled.a is not None
    assert doubled.b is None


def test_what_does_not_separate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="SpeakerDiarization, not pyannote's SpeechSeparation"):
        PyannoteSeparator(str(make_pipeline(tmp_path / "pyannote")))
    with pytest.raises(UsageError, match="separation_path"):
        PyannoteSeparator("")
    with pytest.raises(UsageError, match="neither a folder nor a hub id"):
        PyannoteSeparator(str(tmp_path / "absent"))
