"""Generated pairs against true ones: a perfect prediction, known errors, baselines, refusals."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import make_pair, write_dataset
from duologue.fitting.load_head import load_head_model
from duologue.model import evaluate
from duologue.model.answers import network_answers
from duologue.model.checkpoint import load_trained
from duologue.model.evaluate_pairs import BASELINES, score_pairs
from duologue.model.sample import generate, place_like
from duologue.model.train import train
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from duologue.schemas.heads import HeadTrack
from duologue.schemas.row import Pair
from train_factory import config_for


def changed(pair: Pair, **arrays: object) -> Pair:
    """The pair with arrays of a replaced by what functions make of it."""
    new = {name: make(getattr(pair.fitted.a, name)) for name, make in arrays.items()}  # type: ignore[operator]
    return replace(pair, fitted=replace(pair.fitted, a=replace(pair.fitted.a, **new)))


@pytest.fixture
def pairs() -> list[Pair]:
    return [make_pair(k, video=f"v{k}") for k in range(3)]


def call(*words: object) -> int:
    parser = argparse.ArgumentParser()
    evaluate.configure(parser)
    return evaluate.run(parser.parse_args(["--protocol", "duologue", *map(str, words)]))


def test_a_perfect_prediction_beats_every_baseline(tmp_path: Path, pairs: list[Pair]) -> None:
    write_dataset(tmp_path / "truth", pairs)
    data = Dataset(tmp_path / "truth")
    means, baselines, count = score_pairs(data, data)
    assert count == 3
    assert set(baselines) == set(BASELINES) - {"train_mean", "nearest_neighbour"}
    for name, value in means.items():
        if name.startswith(("mse", "gaze", "distance", "position", "facing")):
            assert value == pytest.approx(0, abs=1e-9), name
            assert all(other[name] >= value for other in baselines.values()), name
    assert baselines["zero"]["mse_expression"] > baselines["oracle_mean"]["mse_expression"] > 0.01
    assert baselines["zero"]["gaze_deg"] > 1
    assert baselines["oracle_mean"]["sid_speaker"] == pytest.approx(0, abs=1e-5)
    assert means["sid_speaker"] > 3


def test_a_training_set_gives_its_mean_and_its_nearest_answers(tmp_path: Path, pairs: list[Pair]) -> None:
    """In a library that holds the very pair, the nearest answer is the person's own face."""
    write_dataset(tmp_path / "set", pairs)
    data = Dataset(tmp_path / "set")
    known = [data.pair(key) for key in data.ids(split="train")]
    assert len(known) >= 2
    write_dataset(tmp_path / "known", known)
    seen = Dataset(tmp_path / "known")
    _, baselines, _ = score_pairs(seen, seen, train=data)
    assert set(baselines) == set(BASELINES)
    near, mean = baselines["nearest_neighbour"], baselines["train_mean"]
    assert mean["mse_expression"] > 0.05
    # Frames 0 to 49 are the library's; what follows is the answer to a partner that is held still.
    assert near["mse_expression"] < 0.75 * mean["mse_expression"]
    with pytest.raises(UsageError, match="no training pair"):
        score_pairs(data, data, train=Dataset(blind_set(tmp_path / "blind", pairs)))


def blind_set(folder: Path, pairs: list[Pair]) -> Path:
    write_dataset(folder, [changed(pairs[0], valid=np.zeros_like, confidence=np.zeros_like)])
    return folder


def test_known_errors_are_found(tmp_path: Path, pairs: list[Pair]) -> None:
    write_dataset(tmp_path / "truth", pairs)
    moved = [
        changed(pair, head_centre=lambda x: x - np.float32([0.1, 0, 0]), jaw=lambda x: x + np.float32(0.2))
        for pair in pairs
    ]
    write_dataset(tmp_path / "made", moved[:2])
    means, _, count = score_pairs(Dataset(tmp_path / "truth"), Dataset(tmp_path / "made"), baselines=False)
    assert count == 2
    assert means["distance_m"] == pytest.approx(0.1, rel=0.02)
    assert means["mse_lip"] == pytest.approx(0.04 / 2, rel=1e-2)  # one of two people
    assert means["mse_rotation"] == 0
    assert "lve" not in means


def test_the_verb(tmp_path: Path, pairs: list[Pair], capsys: pytest.CaptureFixture[str]) -> None:
    def fit_mesh(head: HeadTrack) -> HeadTrack:
        wide = np.pad(head.expression, ((0, 0), (0, 14)))
        wide[~head.valid] = np.nan
        return replace(head, expression=wide.astype(np.float32))

    model = load_head_model().model_id
    sized = [
        replace(p, fitted=replace(p.fitted, head_model_id=model, a=fit_mesh(p.fitted.a), b=fit_mesh(p.fitted.b)))
        for p in pairs[:2]
    ]
    write_dataset(tmp_path / "truth", sized)
    folder = tmp_path / "truth"
    assert call("--truth", folder, "--predictions", folder, "--given", "audio", "--json") == 0
    got = json.loads(capsys.readouterr().out)
    assert got["lve"] == 0
    assert got["baselines"]["zero"]["lve"] > 1
    assert (got["pairs"], got["missing"], got["given"]) == (2, 0, "audio")
    assert got["mutual_gaze_ap"] is None  # nobody looks at the other in these
    assert got["baselines_given"] == {"zero": "audio", "copy_partner": "partner-motion", "oracle_mean": "truth"}
    assert call("--truth", folder, "--predictions", folder) == 0
    out = capsys.readouterr().out
    assert "facing_deg" in out
    assert "copy_partner: " in out
    title, names = out.splitlines()[1:3]
    columns = [[part.split() for part in line.split("|")] for line in (title, names)]
    assert [" ".join(words) for words in columns[0][1:]] == [
        "not stated",
        *(text for text, _ in evaluate.TRACKS.values()),
    ]
    assert columns[1][1:] == [["predictions"], ["zero"], ["copy_partner"], ["oracle_mean"]]


def test_a_networks_own_samples_are_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What ``generate`` gives for each pair, by the track that was asked for; pairs without sound are left out."""
    known = [make_pair(k, video=f"v{k}", frames=75) for k in range(24)]
    write_dataset(tmp_path / "set", known)
    train(
        config_for(tmp_path / "set", tmp_path / "run", stages=[{"steps": 2, "data": [{"path": str(tmp_path / "set")}]}])
    )
    net = load_trained(tmp_path / "run")
    pair = next(pair for pair in known if (pair.fitted.a.valid & pair.fitted.b.valid)[0])
    heads = (pair.fitted.a, pair.fitted.b)
    seed = int(np.random.SeedSequence([5, int(pair.pair_id[:8], 16)]).generate_state(1)[0])
    masks = np.stack([pair.voices.speaking_a, pair.voices.speaking_b])
    made = generate(net, pair.voices.samples(), place_like(heads), speaking=masks, seed=seed)
    alone = network_answers(net, seed=5)(pair)
    assert alone is not None
    np.testing.assert_array_equal(alone[0].rotation, made.a.rotation)
    np.testing.assert_array_equal(alone[1].jaw, made.b.jaw)
    mutual = network_answers(net, partner_motion=True, seed=5)(pair)
    assert mutual is not None
    answer = generate(
        net, pair.voices.samples(), place_like(heads), speaking=masks, seed=seed, partner=(heads[0], None)
    )
    np.testing.assert_array_equal(mutual[1].jaw, answer.b.jaw)
    assert not np.array_equal(mutual[1].jaw, made.b.jaw)

    words = ("--truth", tmp_path / "set", "--checkpoint", tmp_path / "run", "--seed", 5)
    assert call(*words, "--split", "train", "--json") == 0
    got = json.loads(capsys.readouterr().out)
    assert got["given"] == "audio"
    assert got["pairs"] == len(Dataset(tmp_path / "set").ids(split="train"))
    assert got["position_m"] < 1
    assert call(*words, "--split", "train", "--given", "partner-motion", "--no-baselines") == 0
    assert "predictions are given: the partner's true motion" in capsys.readouterr().out
    mute = [make_pair(k, video=f"v{k}", frames=75, audio=k != 3) for k in range(4)]
    write_dataset(tmp_path / "mute", mute)
    data = Dataset(tmp_path / "mute")
    assert score_pairs(data, network_answers(net), baselines=False)[2] == 3
    with pytest.raises(UsageError, match="no pair can be scored"):
        score_pairs(data, network_answers(net), ids=[mute[3].pair_id])
    write_dataset(tmp_path / "one", mute[:1])
    split = "val" if Dataset(tmp_path / "one").ids(split="train") else "train"
    with pytest.raises(UsageError, match=f"no selected pair in {split}"):
        call("--truth", tmp_path / "one", "--checkpoint", tmp_path / "run", "--split", split)
    with pytest.raises(UsageError, match="give --predictions DIR, or --checkpoint"):
        call("--truth", tmp_path / "one")
    flame = replace(mute[0], fitted=replace(mute[0].fitted, head_model_id="flame-2023", head_model_tier="flame"))
    write_dataset(tmp_path / "flame", [flame])
    only = Dataset(tmp_path / "flame").selection()["split"][0].as_py()
    with pytest.raises(UsageError, match=r"is of head model canonical, .* with flame-2023"):
        call("--truth", tmp_path / "flame", "--checkpoint", tmp_path / "run", "--split", only)


def test_mutual_gaze_is_ranked_by_angle(tmp_path: Path, pairs: list[Pair]) -> None:
    """a looks at b in the first half; b looks at a all the time."""
    both = pairs[0]
    a, b = both.fitted.a, both.fitted.b
    towards = b.head_centre - a.head_centre
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    early = np.arange(len(a.valid)) < 40
    gaze_a = np.where(early[:, None], towards, np.float32([0, 1, 0])) + 0 * a.gaze
    fitted = replace(both.fitted, a=replace(a, gaze=gaze_a), b=replace(b, gaze=-towards + 0 * b.gaze))
    true = replace(both, fitted=fitted, relation=replace(both.relation, mutual_gaze=early.astype(np.float32)))
    write_dataset(tmp_path, [true])
    data = Dataset(tmp_path)
    means, baselines, _ = score_pairs(data, data)
    assert means["mutual_gaze_ap"] == 1
    assert baselines["zero"]["mutual_gaze_ap"] < 0.95


def test_refusals(tmp_path: Path, pairs: list[Pair]) -> None:
    write_dataset(tmp_path / "truth", pairs[:1])
    write_dataset(tmp_path / "other", pairs[1:])
    truth = Dataset(tmp_path / "truth")
    with pytest.raises(UsageError, match="has no pair of"):
        score_pairs(truth, Dataset(tmp_path / "other"))
    flame = replace(pairs[0], fitted=replace(pairs[0].fitted, head_model_id="flame-2023", head_model_tier="flame"))
    write_dataset(tmp_path / "flame", [flame])
    with pytest.raises(UsageError, match="different head models"):
        score_pairs(truth, Dataset(tmp_path / "flame"))
    blind = changed(pairs[0], valid=np.zeros_like, confidence=np.zeros_like)
    write_dataset(tmp_path / "blind", [blind])
    with pytest.raises(UsageError, match="fewer than two frames"):
        score_pairs(truth, Dataset(tmp_path / "blind"), baselines=False)
