"""The verb: keys, published scales, baselines, subsets, and folders that do not fit together."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from duologue.model import evaluate
from duologue.model.dualtalk_format import Clip, Side, motion_bytes, write_clip
from duologue.schemas.errors import UsageError


def motion(seed: int, frames: int = 80) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(frames, 56)) * 0.05, axis=0).astype(np.float32)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    truth, predictions = tmp_path / "truth", tmp_path / "predictions"
    predictions.mkdir()
    for k in range(2):
        write_clip(truth, Clip(f"c{k}", (Side(motion(k), None), Side(motion(k + 10, 81), None))))
        for speaker, frames in ((1, 79), (2, 80)):
            own = motion(k + 10 * (speaker - 1), frames)
            np.save(predictions / f"c{k}_speaker{speaker}.npy", own + np.float32(0.1))
    return truth, predictions


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    evaluate.configure(parser)
    return evaluate.run(parser.parse_args(["--protocol", "dualtalk", *words]))


def test_json_has_the_promised_keys(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    truth, predictions = map(str, folders)
    words = ["--truth", truth, "--predictions", predictions, "--train", truth, "--given", "audio", "--json"]
    assert call(*words) == 0
    got = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    for measure in ("fd", "pfd", "mse", "sid", "sid_reverse", "rpcc"):
        for group in ("exp", "jaw", "pose"):
            assert isinstance(got[f"{measure}_{group}"], float)
    assert got["mse_exp"] == pytest.approx(0.01, rel=1e-4)
    assert got["fd_exp"] == pytest.approx(50 * 0.01, rel=1e-2)
    assert got["published"]["mse_exp"] == pytest.approx(10 * got["mse_exp"])
    assert got["published"]["fd_jaw"] == pytest.approx(1000 * got["fd_jaw"])
    assert (got["files"], got["missing"], got["given"]) == (4, 0, "audio")
    assert set(got["baselines"]) == {"zero", "oracle_mean", "train_mean", "copy_partner", "nearest_neighbour"}
    assert got["baselines"]["oracle_mean"]["mse_exp"] < got["baselines"]["train_mean"]["mse_exp"]
    assert got["baselines"]["nearest_neighbour"]["published"]["mse_exp"] >= 0
    assert got["baselines_given"] == {
        "zero": "audio", "train_mean": "audio", "copy_partner": "partner-motion",
        "nearest_neighbour": "partner-motion", "oracle_mean": "truth",
    }  # fmt: skip


def test_the_table_names_every_system_and_its_input(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    truth, predictions = folders
    (predictions / "c0_speaker1.npy").unlink()
    assert call("--truth", str(truth), "--predictions", str(predictions), "--given", "partner-motion") == 0
    out, err = capsys.readouterr()
    assert "the partner's true motion and sound" in out
    for word in ("predictions", "zero", "oracle_mean", "copy_partner", "rpcc", "jaw", "3 files"):
        assert word in out
    assert "-0.00" not in out
    assert "3 of 4 true sides" in err
    assert max(map(len, out.splitlines())) <= 120
    named = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert named[:4] == ["zero", "copy_partner", "predictions", "oracle_mean"]  # beside the partner's copy, not zero


@pytest.mark.parametrize(
    ("given", "tracks"),
    [
        (None, [("", ["predictions"]), ("audio", ["zero"]), ("partner-motion", ["copy_partner"])]),
        ("audio", [("audio", ["zero", "predictions"]), ("partner-motion", ["copy_partner"])]),
        ("partner-motion", [("audio", ["zero"]), ("partner-motion", ["copy_partner", "predictions"])]),
    ],
)
def test_what_systems_are_given_is_not_mixed(given: str | None, tracks: list[tuple[str, list[str]]]) -> None:
    assert evaluate.by_track(["copy_partner", "zero"], given) == tracks


def test_predictions_in_the_data_sets_own_format(folders: tuple[Path, Path]) -> None:
    truth, predictions = folders
    before = evaluate.score_dualtalk(truth, predictions, baselines=False)
    for path in sorted(predictions.glob("*.npy")):
        path.with_suffix(".npz").write_bytes(motion_bytes(np.load(path), np.zeros(100, np.float32)))
        path.unlink()
    assert evaluate.score_dualtalk(truth, predictions, baselines=False) == before


def test_folders_that_do_not_fit(folders: tuple[Path, Path], tmp_path: Path) -> None:
    truth, predictions = folders
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="holds no"):
        evaluate.score_dualtalk(truth, empty)
    with pytest.raises(UsageError, match="not a folder"):
        evaluate.score_dualtalk(truth, tmp_path / "none")
    (truth / "c1_speaker2.npz").unlink()
    with pytest.raises(UsageError, match=r"c1_speaker1.npy is predicted, but .* has no c1_speaker2.npz"):
        evaluate.score_dualtalk(truth, predictions, baselines=False)
    np.save(predictions / "other_speaker1.npy", motion(0))
    (predictions / "other_speaker1.npz").write_bytes(motion_bytes(motion(0), np.zeros(100, np.float32)))
    with pytest.raises(UsageError, match="has both"):
        evaluate.score_dualtalk(truth, predictions, baselines=False)
