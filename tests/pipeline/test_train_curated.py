"""From pixels to a network: curated pairs, single-speaker rows dubbed, two stages of training, a sample."""

from __future__ import annotations

import json
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_FOCAL_PX
from duologue.cli import main
from duologue.schemas.dataset import Dataset
from duologue.synthesis.render import render_conversation
from duologue.synthesis.scenario import load_scenario
from duologue.synthesis.script import write_script
from duologue.synthesis.soundtrack import mix_audio
from duologue.synthesis.voices import SAMPLE_RATE, Voice, available

ALL_TRAIN = ("--set", "select.val_share=0", "--set", "select.test_share=0", "--quiet")


def film_of_one(folder: Path, who: int, out: Path) -> None:
    """Half of the conversation's picture with that person's voice alone."""
    scenario = load_scenario(str(folder / "scenario.yaml"))
    voices = tuple(Voice(p.voice, p.rate, p.pitch) for p in scenario.people)
    lines = write_script(
        scenario.seconds, (voices[0], voices[1]), scenario.seed, scenario.overlaps, scenario.backchannels
    )
    sound = mix_audio(tuple(line for line in lines if line.speaker == who), scenario)
    with wave.open(str(out.with_suffix(".wav")), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(SAMPLE_RATE)
        stream.writeframes((sound * 32767).astype("<i2").tobytes())
    command = [
        "ffmpeg",
        "-loglevel",
        "error",
        "-i",
        str(folder / "conversation.mp4"),
        "-i",
        str(out.with_suffix(".wav")),
    ]
    command += ["-map", "0:v", "-map", "1:a", "-vf", f"crop=320:360:{320 * who}:0", str(out)]
    subprocess.run(command, check=True, timeout=120)


@pytest.fixture(scope="module")
def long_conversation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough that either person speaks for a fifth of it, as a dialogue of singles needs."""
    if not available():
        pytest.skip("espeak-ng is not installed")
    folder = tmp_path_factory.mktemp("long_conversation")
    camera = f"{{focal_px: {SMALL_FOCAL_PX:g}}}"
    text = f"seconds: 20\nwidth: 640\nheight: 360\nshots: [{{start_s: 0, camera: {camera}}}]\n"
    (folder / "scenario.yaml").write_text(text)
    render_conversation(load_scenario(str(folder / "scenario.yaml")), folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_curated_pairs_and_dubbed_singles_train_in_two_stages(
    long_conversation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, solo, dubbed = tmp_path / "pairs", tmp_path / "solo", tmp_path / "dubbed"
    focal = ("--set", f"fit.focal_px={SMALL_FOCAL_PX:g}")
    assert main(["curate", str(long_conversation / "conversation.mp4"), *ALL_TRAIN, *focal, "--out", str(pairs)]) == 0
    films = tmp_path / "films"
    films.mkdir()
    for who in (0, 1):
        film_of_one(long_conversation, who, films / f"{who}.mp4")
    (films / "0.wav").unlink()
    (films / "1.wav").unlink()
    assert main(["curate", str(films), "--people", "1", *ALL_TRAIN, "--out", str(solo)]) == 0
    assert main(["dub", str(solo), "--out", str(dubbed)]) == 0
    assert {row["origin"] for row in Dataset(dubbed).rows(["origin"])} == {"dubbed"}

    out = tmp_path / "run"
    config = {
        "out": str(out),
        "stages": [
            {"steps": 12, "data": [{"path": str(pairs)}]},
            {"steps": 8, "data": [{"path": str(pairs)}, {"path": str(dubbed)}]},
        ],
        "load": {"batch_size": 1, "window": 64, "workers": 1},
        "network": {"width": 16, "levels": 2, "blocks": 1, "heads": 2, "condition": 16},
        "audio": {"width": 16, "layers": 1},
        "optimiser": {"lr": 2e-3, "warmup": 2},
        "log": {"every": 1, "tensorboard": False, "validate_every": 0, "sample_every": 0},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert main(["train", str(tmp_path / "config.json"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 20
    curve = [json.loads(line) for line in (out / "curves.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) for line in curve)
    # Pairs teach everything but "mouth"; a dubbed batch teaches only that.
    first, second = curve[:12], curve[12:]
    assert all(line["mouth"] == 0 and line["rotation"] > 0 for line in first)
    assert any(line["mouth"] > 0 and line["rotation"] == 0 for line in second)

    sound = films / "talk.wav"
    subprocess.run(["ffmpeg", "-loglevel", "error", "-i", str(films / "0.mp4"), str(sound)], check=True, timeout=60)
    made = tmp_path / "made"
    assert main(["sample", str(sound), "--checkpoint", str(out), "--steps", "2", "--out", str(made)]) == 0
    assert len(Dataset(made)) == 1
