"""One film of two people with every kind of sound, through ``curate``: each ends in its scores and its reason."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import SMALL_FOCAL_PX
from duologue.cli import main
from duologue.schemas.dataset import Dataset
from duologue.synthesis.truth import Truth, read_truth
from duologue.synthesis.voices import Voice, speak

RATE, SECONDS, HELD_S = 16000, 8.0, 4.0  # the last picture is held for HELD_S where somebody unseen speaks
KINDS = ("none", "silence", "music", "clean", "clipped", "8khz", "surround", "early_end", "late_end", "one", "three")
UNSEEN = "And now a question from the last row, please."


def ffmpeg(*words: str | Path) -> None:
    subprocess.run(["ffmpeg", "-loglevel", "error", "-y", *map(str, words)], check=True, timeout=60)


def chords(seconds: float) -> np.ndarray:
    age = np.arange(round(seconds * RATE)) / RATE
    roots = (220.0, 174.6, 261.6, 196.0)
    out = np.zeros(len(age))
    for beat in range(int(seconds / 0.5)):
        since = np.maximum(age - 0.5 * beat, 0.0)
        on = (age >= 0.5 * beat) * np.exp(-3 * since)
        for note in (1.0, 1.25, 1.5):
            hertz = roots[beat // 4 % 4] * note
            out += on * sum(np.sin(2 * np.pi * k * hertz * since) / k**1.5 for k in range(1, 7))
    return 0.3 * out / np.abs(out).max()


def spoken_by(truth: Truth, face: str) -> np.ndarray:
    """[n] samples in which this person alone speaks."""
    at = np.arange(round(SECONDS * RATE)) / RATE
    own, others = np.zeros(len(at), bool), np.zeros(len(at), bool)
    for turn in truth.turns:
        mask = own if turn.face == face else others
        mask |= (at >= turn.start_s - 0.05) & (at < turn.end_s + 0.05)
    return own & ~others


def sounds(talk: np.ndarray, truth: Truth) -> dict[str, np.ndarray]:
    """Sound [n] by kind, from the film's own [n]."""
    rng = np.random.default_rng(0)
    talk = talk + rng.normal(0, 3e-4, len(talk))
    unseen = speak([(UNSEEN, Voice("en-us+klatt4"))])[0].samples[: round((HELD_S - 0.5) * RATE)]
    held = rng.normal(0, 3e-4, round(HELD_S * RATE))
    held[round(0.4 * RATE) :][: len(unseen)] += unseen
    return {
        "silence": np.zeros(len(talk)),
        "music": chords(SECONDS),
        "clean": talk,
        "clipped": np.clip(talk / np.abs(talk).max() * 20, -0.98, 0.98),
        "8khz": talk,
        "surround": talk,
        "early_end": talk[: round(1.5 * RATE)],
        "late_end": np.concatenate([talk, talk]),
        "one": np.where(spoken_by(truth, "a"), talk, rng.normal(0, 3e-4, len(talk))),
        "three": np.concatenate([talk, held]),
    }


@pytest.fixture(scope="module")
def lines(small_conversation: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By kind of sound: the row (or the reject) that the film ended in, and its selection."""
    film, folder = small_conversation / "conversation.mp4", tmp_path_factory.mktemp("sounds")
    truth = read_truth(small_conversation)
    ffmpeg("-i", film, "-ac", "1", "-ar", str(RATE), folder / "talk.wav")
    talk = np.pad(soundfile.read(folder / "talk.wav")[0], (0, RATE))[: round(SECONDS * RATE)]
    ffmpeg("-i", film, "-vf", f"tpad=stop_mode=clone:stop_duration={HELD_S}", "-an", "-crf", "18", folder / "held.mp4")
    films = folder / "films"
    films.mkdir()
    ffmpeg("-i", film, "-an", "-c:v", "copy", films / "none.mkv")
    for kind, sound in sounds(talk, truth).items():
        soundfile.write(folder / f"{kind}.wav", sound.astype(np.float32), RATE)
        how = {"8khz": ("-ar", "8000"), "surround": ("-ac", "6", "-ar", "48000")}.get(kind, ())
        picture = folder / "held.mp4" if kind == "three" else film
        ffmpeg(
            *("-i", picture, "-i", folder / f"{kind}.wav", "-map", "0:v", "-map", "1:a", "-c:v", "copy"),
            *("-c:a", "pcm_s16le", *how, films / f"{kind}.mkv"),
        )
    out = folder / "out"
    settings = ("--set", f"fit.focal_px={SMALL_FOCAL_PX:g}", "--set", "select.duplicates=true")
    assert main(["curate", str(films), *settings, "--quiet", "--out", str(out)]) == 0
    data = Dataset(out)
    chosen = {row["pair_id"]: row for row in data.selection().to_pylist()}
    found: dict[str, dict[str, Any]] = {Path(r.uri).stem: {"rejected": r.reason} for r in data.rejects()}
    for row in data.rows():
        found[Path(row["source_uri"]).stem] = row | {"reason": chosen[row["pair_id"]]["reason"]}
    return found


def score(line: Mapping[str, Any], name: str) -> float:
    value = line[f"scores.{name}"]
    return float("nan") if value is None else float(value)


def test_every_kind_ends_in_one_line(lines: dict[str, dict[str, Any]]) -> None:
    assert sorted(lines) == sorted(KINDS)
    assert lines["none"] == {"rejected": "no_audio"}
    assert [kind for kind in KINDS if "rejected" in lines[kind]] == ["none"]


@pytest.mark.parametrize("kind", ["silence", "music"])
def test_without_speech_nobody_speaks(kind: str, lines: dict[str, dict[str, Any]]) -> None:
    line = lines[kind]
    assert line["reason"] == "speech_share"
    assert line["turns"] == []
    assert score(line, "speech_share") == score(line, "speaking_a") == score(line, "speaking_b") == 0.0
    assert np.isnan(score(line, "snr_db"))
    if kind == "music":
        assert score(line, "music_share") > 0.8
        assert score(line, "loudness_db") > -40
    else:
        assert np.isnan(score(line, "music_share"))
        assert score(line, "loudness_db") == -100.0


@pytest.mark.parametrize("kind", ["clean", "clipped", "8khz", "surround", "late_end"])
def test_hard_sound_gives_the_line_of_clean_sound(kind: str, lines: dict[str, dict[str, Any]]) -> None:
    line, clean = lines[kind], lines["clean"]
    assert line["reason"] == ""
    assert {turn["face"] for turn in line["turns"]} == {"a", "b"}
    for name in ("speech_share", "speaking_a", "speaking_b", "bound_share"):
        assert score(line, name) == pytest.approx(score(clean, name), abs=0.06), name
    assert score(line, "off_screen_share") < 0.1
    assert (score(line, "clipping_share") > 0.05) == (kind == "clipped")
    assert line["end_s"] == pytest.approx(clean["end_s"], abs=0.05)


def test_sound_that_ends_early_leaves_the_rest_silent(lines: dict[str, dict[str, Any]]) -> None:
    line = lines["early_end"]
    assert line["reason"] == "speech_share"
    assert 0.0 < score(line, "speech_share") < 0.3
    assert all(turn["end_s"] < 1.8 for turn in line["turns"])
    speaking = np.asarray([line["a.speaking"], line["b.speaking"]], np.float64)
    assert (speaking[:, round(2.0 * line["fps"]) :] < 0.5).all()


def test_one_speaker_is_one_face(lines: dict[str, dict[str, Any]]) -> None:
    line = lines["one"]
    faces = {turn["face"] for turn in line["turns"]}
    assert len(faces - {""}) == 1
    (owner,) = faces - {""}
    other = "b" if owner == "a" else "a"
    assert score(line, f"speaking_{other}") < 0.05
    assert score(line, f"speaking_{owner}") == pytest.approx(score(line, "speech_share"), abs=0.1)
    assert score(line, "turn_changes") == 0
    assert score(line, "overlap_share") == 0


def test_a_third_voice_is_nobodys(lines: dict[str, dict[str, Any]]) -> None:
    line = lines["three"]
    late = [turn for turn in line["turns"] if turn["start_s"] > SECONDS]
    assert late
    assert {turn["face"] for turn in late} == {""}
    assert {turn["face"] for turn in line["turns"]} == {"a", "b", ""}
    unseen = sum(turn["end_s"] - turn["start_s"] for turn in late)
    told = score(line, "off_screen_share") * score(line, "speech_share") * (line["end_s"] - line["start_s"])
    assert told == pytest.approx(unseen, abs=0.4)
    assert line["reason"] == ("bound_share" if score(line, "bound_share") < 0.8 else "")
    assert score(line, "bound_share") + score(line, "off_screen_share") == pytest.approx(1.0, abs=0.01)
