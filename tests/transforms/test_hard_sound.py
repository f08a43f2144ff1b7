"""Sound that is not a clean dialogue: every case ends in the right scores and reasons, never in a crash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from duologue.schemas.records import InputItem
from duologue.transforms.audio import read_audio
from duologue.transforms.audio_scores import sound_scores
from duologue.transforms.bind import bind_evidence, bind_voices, join_parts, parent_voice, speaking_masks, video_offset
from duologue.transforms.listen import ListenModels, ListenOptions, cluster_turns, listen_piece
from duologue.transforms.probe import probe
from duologue.transforms.speaking import SpeakingOptions, shift_turns, sync_shift
from media_factory import Movie, write_movie
from talk_factory import Conversation, converse

VOICES = ("en-us", "en+f4", "en-us+klatt2")


@pytest.fixture(scope="module")
def models() -> ListenModels:
    import torch

    torch.set_num_threads(1)
    return ListenModels()


@pytest.fixture(scope="module")
def spoken() -> dict[str, list]:
    from duologue.synthesis import script, voices

    if not voices.available():
        pytest.skip("espeak-ng is not installed")
    return {name: voices.speak([(text, voices.Voice(name)) for text in script.TOPICS[0][:8]]) for name in VOICES}


def hear(audio: np.ndarray, models: ListenModels, parts: bool = False) -> list:
    return cluster_turns([listen_piece(audio, 0.0, ListenOptions(), models)], parts=parts)


def talk(spoken: dict[str, list], who: str, count: int) -> np.ndarray:
    """``count`` utterances, speaker after speaker, 0.4 s apart."""
    parts = [np.zeros(8000, np.float32)]
    for i in range(count):
        parts += [spoken[VOICES["abc".index(who[i % len(who)])]][i % 8].samples, np.zeros(6400, np.float32)]
    audio = np.concatenate(parts)
    return (audio + np.random.default_rng(0).normal(0, 1e-3, len(audio))).astype(np.float32)


def music(seconds: float) -> np.ndarray:
    """Chords of plucked, decaying harmonics with a beat."""
    t = np.arange(round(seconds * 16000)) / 16000
    out = np.zeros(len(t))
    for bar, root in enumerate((220.0, 174.6, 261.6, 196.0) * 4):
        for beat in range(4):
            at = bar * 2.0 + beat * 0.5
            age = t - at
            on = (age >= 0) & (age < 1.5)
            for note in (1.0, 1.25, 1.5):
                for k in range(1, 7):
                    out[on] += np.exp(-3 * age[on]) / k**1.5 * np.sin(2 * np.pi * root * note * k * age[on])
    return (0.1 * out / np.abs(out).max() * 3).astype(np.float32)


@pytest.mark.parametrize("kind", ["silence", "music", "noise", "hum"])
def test_nobody_speaks(kind: str, models: ListenModels, spoken: dict[str, list]) -> None:
    n = 14 * 16000
    audio = {
        "silence": np.zeros(n, np.float32),
        "music": music(14.0),
        "noise": np.random.default_rng(0).normal(0, 0.1, n).astype(np.float32),
        "hum": (0.2 * np.sin(2 * np.pi * 50 * np.arange(n) / 16000)).astype(np.float32),
    }[kind]
    turns = hear(audio, models)
    assert turns == []
    c = converse(spoken)
    evidence = bind_evidence(c.tracks, audio, 100.0, turns)
    result = speaking_masks(c.tracks, audio, 100.0, turns, bind_voices([evidence])[0], c.times)
    scores = result.scores() | sound_scores(audio, 100.0, turns)
    assert scores["speech_share"] == scores["speaking_a"] == scores["overlap_share"] == 0.0
    assert np.isnan(scores["av_offset_s"])
    assert np.isnan(scores["snr_db"])
    assert (scores["loudness_db"] == -100.0) == (kind == "silence")


@pytest.mark.parametrize("voice", range(3))
@pytest.mark.parametrize("count", [3, 8])
def test_one_speaker_is_one_voice(voice: int, count: int, models: ListenModels, spoken: dict[str, list]) -> None:
    turns = hear(talk(spoken, "abc"[voice], count), models)
    assert {t.speaker for t in turns} == {"v0"}


def test_three_speakers_are_three_voices(models: ListenModels, spoken: dict[str, list]) -> None:
    turns = hear(talk(spoken, "abc", 18), models)
    assert {t.speaker for t in turns} == {"v0", "v1", "v2"}


def test_real_single_speakers_are_one_voice(models: ListenModels) -> None:
    folder = Path(__file__).parents[2].parent / "shared" / "media" / "dualtalk_demo"
    if not folder.is_dir():
        pytest.skip("shared media is absent")
    import soundfile

    for path in sorted(folder.glob("*.wav")):
        audio, _ = soundfile.read(path, dtype="float32")
        for seconds in (8, 30):
            assert len({t.speaker for t in hear(audio[: seconds * 16000], models)}) == 1, (path.name, seconds)


@pytest.mark.parametrize("kind", ["clipped", "8 kHz", "quiet", "loud"])
def test_two_speakers_through_bad_recordings(kind: str, models: ListenModels, spoken: dict[str, list]) -> None:
    audio = talk(spoken, "ab", 10)
    if kind == "clipped":
        heard = np.clip(20 * audio, -0.9, 0.9)
        assert sound_scores(heard, 0.0, [])["clipping_share"] > 0.05
    elif kind == "8 kHz":
        spectrum = np.fft.rfft(audio)
        spectrum[np.fft.rfftfreq(len(audio), 1 / 16000) > 3900] = 0
        heard = np.fft.irfft(spectrum, len(audio))
    else:
        heard = audio * {"quiet": 0.01, "loud": 3.0}[kind]
    if kind != "clipped":
        assert sound_scores(heard, 0.0, [])["clipping_share"] < 0.001
    turns = hear(heard.astype(np.float32), models)
    assert {t.speaker for t in turns} == {"v0", "v1"}
    clean = hear(audio, models)
    share = sum(t.end_s - t.start_s for t in turns) / sum(t.end_s - t.start_s for t in clean)
    assert share == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("layout", "rate"), [("5.1", 48000), ("mono", 8000)])
def test_sound_of_other_layouts_reaches_the_voices(
    layout: str, rate: int, models: ListenModels, tmp_path: Path
) -> None:
    """A beep is no voice, in any layout; what matters is that the file's sound arrives and is listened to."""
    path = tmp_path / "beeps.mkv"
    write_movie(path, Movie(audio_layout=layout, audio_rate=rate, audio_codec="pcm_s16le"))
    video = probe(str(path), InputItem(str(path)))
    sound = read_audio(str(path), video, video.start_s, video.end_s)
    assert np.abs(sound).max() > 0.05
    assert hear(sound, models) == []


def bound(c: Conversation, audio: np.ndarray, turns: list, faces: dict[str, str] | None = None) -> tuple:
    evidence = bind_evidence(c.tracks, audio, c.tracks.start_s, turns)
    faces = faces or bind_voices([evidence])[0]
    offset = video_offset([evidence], [faces])
    return speaking_masks(c.tracks, audio, c.tracks.start_s, turns, faces, c.times, None, offset), offset, faces


@pytest.mark.parametrize("share", [0.4, 1.6])
def test_sound_shorter_and_longer_than_the_picture(share: float, models: ListenModels, spoken: dict[str, list]) -> None:
    c = converse(spoken)
    audio = np.pad(c.audio, (0, len(c.audio)))[: round(share * len(c.audio))]
    end = 100.0 + len(audio) / 16000
    turns = [replace(t, end_s=min(t.end_s, end)) for t in c.turns if t.start_s < end]
    result, _, faces = bound(c, audio, turns)
    silent = c.times > end + 0.3
    assert result.speaking_a[silent].max(initial=0.0) < 0.5
    assert faces["v0"] == "a"
    assert all(t.end_s <= c.tracks.end_s for t in result.turns)


def test_one_person_talks_and_one_listens(spoken: dict[str, list]) -> None:
    c = converse(spoken, order="a")
    result, _, faces = bound(c, c.audio, c.turns)
    assert faces == {"v0": "a"}
    assert result.scores()["speaking_b"] < 0.03
    assert result.share_bound > 0.97
    assert {t.face for t in result.turns} == {"a"}


def test_two_who_sound_alike_are_parted_by_their_faces(models: ListenModels, spoken: dict[str, list]) -> None:
    """One voice for the ear, cut in parts: faces part it where both speak, and join it where one does."""
    c = converse(spoken, owner={"a": "en-us", "b": "en-us", "o": "en-us"}, length_s=30.0)
    alike = [replace(t, speaker={"v0": "v0", "v1": "v0b"}[t.speaker]) for t in c.turns]
    result, _, faces = bound(c, c.audio, alike)
    assert faces == {"v0": "a", "v0b": "b"}
    assert (result.voice_a, result.voice_b) == ("v0", "v0b")
    one = converse(spoken, order="a", length_s=30.0)
    cut = [replace(t, speaker="v0b" if i % 2 else "v0") for i, t in enumerate(one.turns)]
    result, _, faces = bound(one, one.audio, cut)
    assert faces == {"v0": "a", "v0b": "a"}
    assert {t.speaker for t in result.turns} == {"v0"}
    assert {t.speaker for t in join_parts(cut, {})} == {"v0"}
    assert [parent_voice(v) for v in ("v12b", "v12", "SPEAKER_0b", "")] == ["v12", "", "", ""]
    voices = {t.speaker for t in hear(talk(spoken, "a", 8), models, parts=True)}
    assert voices <= {"v0", "v0b"}


@pytest.mark.parametrize("late", [-0.18, 0.14])
def test_sound_out_of_sync_is_corrected_or_kept(late: float, spoken: dict[str, list]) -> None:
    """Measured on the video, read at the shifted time, the clip is in sync again; ``keep`` stores the offset."""
    c = converse(spoken, offset_s=-late, length_s=24.0)
    _, offset, faces = bound(c, c.audio, c.turns)
    assert offset[0] == pytest.approx(late, abs=0.02)
    shift = sync_shift(offset)
    assert shift == pytest.approx(late, abs=0.02)
    moved = np.roll(c.audio, -round(shift * 16000))
    turns = shift_turns(c.turns, shift)
    left = (offset[0] - shift, offset[1])
    result = speaking_masks(c.tracks, moved, 100.0, turns, faces, c.times, None, left)
    assert abs(result.offset_s) < 0.02
    assert turns[0].start_s == pytest.approx(c.turns[0].start_s - shift, abs=1e-3)
    keep = SpeakingOptions(out_of_sync="keep")
    assert sync_shift(offset, keep) == 0.0
    kept = speaking_masks(c.tracks, c.audio, 100.0, c.turns, faces, c.times, keep, offset)
    assert kept.offset_s == pytest.approx(late, abs=0.02)
    assert sync_shift((late, 0.5)) == 0.0  # not sure enough
    assert sync_shift((0.03, 0.99)) == 0.0  # within a frame
    assert shift_turns(c.turns, 0.0) == c.turns
