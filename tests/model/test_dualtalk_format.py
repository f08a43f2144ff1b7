"""DualTalk's files: round trips, the published demo files, and everything that may be wrong with them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from duologue.model.dualtalk_format import (
    Clip,
    Side,
    clip_names,
    file_stem,
    motion_bytes,
    read_clip,
    read_motion,
    read_npz,
    read_wav,
    split_name,
    wav_bytes,
    write_clip,
)
from duologue.schemas.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st

DEMO = Path(__file__).parents[2].parent / "shared" / "media" / "dualtalk_demo"


def side(seed: int, frames: int = 60, extra_samples: int = 0) -> Side:
    rng = np.random.default_rng(seed)
    audio = rng.uniform(-0.5, 0.5, frames * 640 + extra_samples).astype(np.float32)
    return Side(rng.normal(size=(frames, 56)).astype(np.float32), audio, rng.normal(size=100).astype(np.float32))


def test_the_published_demo_reads() -> None:
    if not DEMO.exists():
        pytest.skip("the demo files are not here")
    assert clip_names(DEMO) == ["UbjUDM1MiGE_sub_video_72", "xkHwlcDSOjc_sub_video_109_000"]
    for name, frames, seconds, has in (
        ("UbjUDM1MiGE_sub_video_72", 587, 23.488, 1),
        ("xkHwlcDSOjc_sub_video_109_000", 750, 29.952, 0),
    ):
        clip = read_clip(DEMO, name)
        assert clip.frames == frames
        motion, audio = clip.sides[has].motion, clip.sides[has].audio
        assert clip.sides[1 - has].motion is None
        assert motion is not None
        assert motion.shape == (frames, 56)
        assert audio is not None
        assert len(audio) == min(round(seconds * 16000), frames * 640)
        assert 0.01 < np.abs(audio).max() <= 1.5
        raw = np.load(DEMO / f"{file_stem(name, has + 1)}.npz")
        np.testing.assert_array_equal(motion[:, 50:53], raw["pose"][:, 3:])  # jaw
        np.testing.assert_array_equal(motion[:, 53:], raw["pose"][:, :3])  # head
        assert abs(clip.sides[has].shape).max() > 0.1


def test_a_twin_with_both_sides_comes_back(tmp_path: Path) -> None:
    clip = Clip("abc_sub_video_1_000", (side(0), side(1)))
    files = write_clip(tmp_path, clip)
    assert [path.name for path in files] == [
        f"abc_sub_video_1_000_speaker{k}.{kind}" for k in (1, 2) for kind in ("npz", "wav")
    ]
    again = read_clip(tmp_path, clip_names(tmp_path)[0])
    for before, after in zip(clip.sides, again.sides, strict=True):
        np.testing.assert_array_equal(after.motion, before.motion)
        np.testing.assert_array_equal(after.audio, before.audio)
        np.testing.assert_array_equal(after.shape, before.shape)
    raw = np.load(files[0])
    assert {key: (raw[key].shape, raw[key].dtype.name) for key in raw} == {
        "exp": ((60, 50), "float32"), "pose": ((60, 6), "float32"), "shape": ((60, 100), "float32"),
    }  # fmt: skip
    before = [path.read_bytes() for path in files]
    write_clip(tmp_path, clip)
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize("extra", [-640, -512, 0, 400, 640])
def test_one_frame_more_or_less_of_sound_is_normal(tmp_path: Path, extra: int) -> None:
    write_clip(tmp_path, Clip("c", (side(0, extra_samples=extra), side(1))))
    clip = read_clip(tmp_path, "c")
    assert clip.frames == 60
    assert clip.sides[0].audio is not None
    assert len(clip.sides[0].audio) == 60 * 640 + min(extra, 0)


def test_sides_of_one_frame_difference_are_cut_alike_and_more_is_an_error(tmp_path: Path) -> None:
    write_clip(tmp_path, Clip("near", (side(0, 60), side(1, 61))))
    assert [len(s.motion) for s in read_clip(tmp_path, "near").sides if s.motion is not None] == [60, 60]
    write_clip(tmp_path, Clip("far", (side(0, 60), side(1, 63))))
    with pytest.raises(UsageError, match=r"far: .*\[60, 63\].*more than one frame"):
        read_clip(tmp_path, "far")


def test_names() -> None:
    assert split_name("a_sub_video_3_speaker2") == ("a_sub_video_3", 2)
    assert split_name("a_speaker3") is None
    assert split_name("speaker1") is None
    with pytest.raises(ValueError, match="speaker 0"):
        file_stem("a", 0)


def test_folders_without_clips(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no"):
        clip_names(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        clip_names(tmp_path / "none")
    with pytest.raises(UsageError, match="neither npz nor wav"):
        read_clip(tmp_path, "c")


@given(st.lists(st.floats(-2, 2, width=32), max_size=50))
def test_any_float_sound_comes_back_exactly(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.mktemp("wav") / "x.wav"
    samples = np.array(values, np.float32)
    path.write_bytes(wav_bytes(samples))
    np.testing.assert_array_equal(read_wav(path), samples)


def test_our_sound_files_open_in_other_readers(tmp_path: Path) -> None:
    import soundfile

    samples = np.linspace(-1, 1, 1000, dtype=np.float32)
    (tmp_path / "x.wav").write_bytes(wav_bytes(samples))
    info = soundfile.info(tmp_path / "x.wav")
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (16000, 1, "FLOAT", 1000)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "x.wav", dtype="float32")[0], samples)
    soundfile.write(tmp_path / "pcm.wav", samples, 16000, subtype="PCM_16")
    np.testing.assert_allclose(read_wav(tmp_path / "pcm.wav"), samples, atol=4e-5)
    soundfile.write(tmp_path / "ext.wav", samples, 16000, subtype="FLOAT", format="WAVEX")
    np.testing.assert_array_equal(read_wav(tmp_path / "ext.wav"), samples)
    soundfile.write(tmp_path / "wide.wav", np.stack([samples, samples], 1), 48000, subtype="FLOAT")
    with pytest.raises(UsageError, match="48000 Hz, 2 channels"):
        read_wav(tmp_path / "wide.wav")


def wav_of(form: bytes) -> bytes:
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "not a WAV"),
        (b"OggS" + bytes(40), "not a WAV"),
        (wav_of(b"\x03\x00"), "no fmt or data"),
        (wav_bytes(np.array([np.nan], np.float32)), "NaN"),
    ],
)
def test_bad_sound_is_one_line(tmp_path: Path, data: bytes, line: str) -> None:
    (tmp_path / "x.wav").write_bytes(data)
    with pytest.raises(UsageError, match=line):
        read_wav(tmp_path / "x.wav")


def test_bad_motion_is_one_line(tmp_path: Path) -> None:
    exp, pose = np.zeros((5, 50), np.float32), np.zeros((5, 6), np.float32)
    cases = {
        "no_pose.npz": ({"exp": exp}, "has no pose"),
        "short.npz": ({"exp": exp, "pose": pose[:4]}, r"\[T, 50\] and \[T, 6\]"),
        "nan.npz": ({"exp": exp * np.nan, "pose": pose}, "NaN or infinity"),
        "whole.npz": ({"exp": exp.astype(int), "pose": pose.astype(int)}, "holds int64"),
    }
    for name, (arrays, line) in cases.items():
        np.savez(tmp_path / name, **arrays)
        with pytest.raises(UsageError, match=line):
            read_npz(tmp_path / name)
    (tmp_path / "text.npz").write_text("no")
    np.save(tmp_path / "flat.npy", np.zeros((5, 50)))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, line in (("text.npz", "not an npz"), ("flat.npy", r"shape \[5, 50\]"), ("object.npy", "not an npy")):
        with pytest.raises(UsageError, match=line):
            read_motion(tmp_path / name)


def test_npy_and_npz_are_the_same_motion(tmp_path: Path) -> None:
    motion = side(3).motion
    assert motion is not None
    np.save(tmp_path / "a.npy", motion)
    (tmp_path / "a.npz").write_bytes(motion_bytes(motion, np.zeros(100, np.float32)))
    np.testing.assert_array_equal(read_motion(tmp_path / "a.npy"), read_motion(tmp_path / "a.npz"))
