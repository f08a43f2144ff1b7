"""Listening: the grid, bounded pieces that join exactly, voices, and real two-person speech."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from duologue.schemas.records import Turn
from duologue.transforms.listen import (
    ListenModels,
    ListenOptions,
    ListenPiece,
    cluster_turns,
    listen_grid,
    listen_piece,
)

MEDIA = Path(__file__).parents[2].parent / "shared" / "media"


@pytest.fixture(scope="module")
def models() -> ListenModels:
    import torch

    torch.set_num_threads(1)
    return ListenModels()


@pytest.fixture(scope="module")
def say(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], np.ndarray]:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    import librosa
    import soundfile

    folder = tmp_path_factory.mktemp("espeak")

    def speak(voice: str, text: str) -> np.ndarray:
        path = folder / "say.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-w", str(path), text], check=True)
        wave, rate = soundfile.read(path, dtype="float32")
        return np.asarray(librosa.resample(wave, orig_sr=rate, target_sr=16000), np.float32)

    return speak


TEXT_A = "Good morning, I wanted to ask you about the garden and the little house behind the river."
TEXT_B = "Well, the garden is larger than we thought, and nobody has lived in the house for seven years."


@pytest.fixture(scope="module")
def dialogue(say: Callable[[str, str], np.ndarray]) -> tuple[np.ndarray, list[tuple[float, float, str]]]:
    """Two espeak voices in turn, 0.4 s apart, with a little noise; and who spoke when."""
    rng = np.random.default_rng(0)
    parts, truth, at = [np.zeros(8000, np.float32)], [], 0.5
    for i in range(6):
        wave = say("en-us", TEXT_A) if i % 2 == 0 else say("en+f4", TEXT_B)
        parts += [wave, np.zeros(6400, np.float32)]
        truth.append((at, at + len(wave) / 16000, "ab"[i % 2]))
        at += len(wave) / 16000 + 0.4
    audio = np.concatenate(parts)
    return (audio + rng.normal(0, 1e-3, len(audio))).astype(np.float32), truth


def error_rate(truth: list[tuple[float, float, str]], turns: list[Turn], end: float, collar: float) -> float:
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    reference, heard = Annotation(), Annotation()
    for i, (lo, hi, who) in enumerate(truth):
        reference[Segment(lo, hi), i] = who
    for i, turn in enumerate(turns):
        heard[Segment(turn.start_s, turn.end_s), i] = turn.speaker
    metric = DiarizationErrorRate(collar=collar, skip_overlap=False)
    return float(metric(reference, heard, uem=Timeline([Segment(0, end)])))


def test_the_grid_is_fixed_whatever_the_start() -> None:
    spans = listen_grid(250.0, 1900.0)
    assert [(s.start_s, s.end_s) for s in spans] == [(250, 600), (600, 1200), (1200, 1800), (1800, 1900)]
    assert spans[0].read_start_s == 250.0
    assert spans[1].read_start_s == pytest.approx(596.8)
    assert spans[-1].read_end_s == 1900.0
    assert listen_grid(5.0, 5.0) == []


def test_two_voices_are_found_without_being_told(
    models: ListenModels, dialogue: tuple[np.ndarray, list[tuple[float, float, str]]]
) -> None:
    audio, truth = dialogue
    options = ListenOptions()
    turns = cluster_turns([listen_piece(audio, 0.0, options, models)], options)
    assert {t.speaker for t in turns} == {"v0", "v1"}
    assert turns[0].speaker == "v0"
    assert turns == sorted(turns, key=lambda t: t.start_s)
    assert error_rate(truth, turns, len(audio) / 16000, 0.5) < 0.03


def test_pieces_join_as_if_never_cut(
    models: ListenModels, dialogue: tuple[np.ndarray, list[tuple[float, float, str]]]
) -> None:
    audio, truth = dialogue
    whole_options, options = ListenOptions(), ListenOptions(piece_s=16.0)
    whole = listen_piece(audio, 0.0, whole_options, models)
    pieces = []
    for span in listen_grid(0.0, len(audio) / 16000, options):
        part = audio[round(span.read_start_s * 16000) : round(span.read_end_s * 16000)]
        pieces.append(listen_piece(part, span.read_start_s, options, models, (span.start_s, span.end_s)))
    assert sum(len(p.speech) for p in pieces) == len(whole.speech)
    speech = np.concatenate([p.speech for p in pieces])
    assert np.mean(np.abs(speech - whole.speech) < 0.1) > 0.98
    starts = np.concatenate([p.window_start_s for p in pieces])
    assert len(np.unique(starts)) == len(starts)
    assert len(set(starts) ^ set(whole.window_start_s)) <= 0.03 * len(starts)
    assert error_rate(truth, cluster_turns(pieces, options), len(audio) / 16000, 0.5) < 0.03


def test_a_piece_survives_its_file(models: ListenModels, say: Callable[[str, str], np.ndarray], tmp_path: Path) -> None:
    piece = listen_piece(say("en-us", TEXT_A), 600.0, ListenOptions(), models)
    np.savez(tmp_path / "piece.npz", **piece.to_arrays())
    with np.load(tmp_path / "piece.npz") as stored:
        again = ListenPiece.from_arrays(dict(stored))
    assert cluster_turns([again]) == cluster_turns([piece])
    assert cluster_turns([again])[0].start_s >= 600.0
    for name, array in piece.to_arrays().items():
        assert np.array_equal(array, again.to_arrays()[name]), name


def test_same_input_same_bytes(models: ListenModels, say: Callable[[str, str], np.ndarray]) -> None:
    audio = say("en+f4", TEXT_B)
    first, second = (listen_piece(audio, 0.0, ListenOptions(), models) for _ in range(2))
    assert first.embedding.tobytes() == second.embedding.tobytes()
    assert first.speech.tobytes() == second.speech.tobytes()


def test_one_voice_stays_one(models: ListenModels, say: Callable[[str, str], np.ndarray]) -> None:
    audio = np.concatenate([say("en-us", TEXT_A), np.zeros(8000, np.float32), say("en-us", TEXT_B)])
    turns = cluster_turns([listen_piece(audio, 0.0, ListenOptions(), models)])
    assert {t.speaker for t in turns} == {"v0"}


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(0, np.float32),
        np.zeros(100, np.float32),
        np.zeros(80000, np.float32),
        np.full(32000, np.nan, np.float32),
        np.random.default_rng(1).normal(0, 0.1, 48000).astype(np.float32),
        np.sin(np.arange(80000) * 0.173).astype(np.float32),
    ],
    ids=["empty", "a few samples", "silence", "nan", "noise", "tone"],
)
def test_no_speech_gives_no_turns(models: ListenModels, audio: np.ndarray) -> None:
    piece = listen_piece(audio, 0.0, ListenOptions(), models)
    assert cluster_turns([piece]) == []
    assert cluster_turns([]) == []


def test_real_dialogue_of_two(models: ListenModels) -> None:
    if not (MEDIA / "dialogue_2spk.wav").is_file():
        pytest.skip("shared media is absent")
    import soundfile

    audio, _ = soundfile.read(MEDIA / "dialogue_2spk.wav", dtype="float32")
    fields = [line.split() for line in (MEDIA / "dialogue_2spk.rttm").read_text().splitlines()]
    truth = [(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in fields]
    turns = cluster_turns([listen_piece(audio, 0.0, ListenOptions(), models)])
    assert error_rate(truth, turns, 30.0, 0.5) <= 0.05
    assert error_rate(truth, turns, 30.0, 0.0) <= 0.14


def test_a_crowd_is_not_a_voice() -> None:
    """A probability that lingers between the thresholds for seconds makes no turn; clear speech beside it does."""
    speech = np.concatenate([np.full(60, 0.98), np.full(60, 0.02), np.full(90, 0.55), np.full(30, 0.02)])
    nothing = np.zeros((0, 2, 256), np.float16)
    piece = ListenPiece(0.0, len(speech) * 0.032, speech.astype(np.float32), np.zeros(768, bool), np.zeros(0), nothing)
    turns = cluster_turns([piece])
    assert len(turns) == 1
    assert (turns[0].start_s, turns[0].end_s) == pytest.approx((0.0, 60 * 0.032 + 0.03))
    assert len(cluster_turns([piece], ListenOptions(least_mean_speech=0.0))) == 2
