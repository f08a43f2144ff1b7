"""A data set labelled again from its landmarks: the same head gives the same bytes, another head a whole new set."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from duologue import __version__, cli
from duologue.fitting.dyad import relate
from duologue.fitting.fit import FitOptions
from duologue.fitting.load_head import load_head_model
from duologue.pipeline import refit, refit_verb
from duologue.pipeline.config import CurateConfig, config_hash, config_yaml
from duologue.pipeline.stages_heads import head_backend
from duologue.schemas import landmarks, voice_tracks
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from duologue.schemas.files import LocalFiles
from duologue.schemas.finish import finish_dataset, write_pairs, write_rejects
from duologue.schemas.landmarks import landmark_row, rounded, write_landmark_shard
from duologue.schemas.pair import pair_id
from duologue.schemas.records import Backend, Reject
from duologue.schemas.row import Pair, Provenance, Source, pair_row, table_to_rows
from duologue.schemas.takedown import TAKEDOWNS, Takedown, takedown_bytes
from duologue.schemas.tracks import ClipTracks
from duologue.schemas.verify import verify
from duologue.schemas.voice_tracks import voice_row, write_voice_shard
from duologue.synthesis.face_tracks import TrackOptions, sample_clip
from duologue.tests.dataset_factory import make_pair
from duologue.transforms.fit import fit_pair, head_fitter
from duologue.transforms.score import clip_scores

FIT = FitOptions(identity_iterations=2, track_iterations=2, identity_frames=8)
CONFIG = replace(CurateConfig(), fit=FIT)
DETECTOR = Backend("faces", "mediapipe", "1" * 64, "Apache-2.0")
VIDEOS = ("1" * 64, "2" * 64, "3" * 64)


def a_pair(tracks: ClipTracks, digest: str) -> Pair:
    """What curation makes of a clip: sound and turns of the factory, everything else measured."""
    head = load_head_model("canonical")
    fitted = fit_pair(tracks, head_fitter("canonical", FIT))
    heard = make_pair(7, frames=len(fitted.times), start_s=tracks.start_s)
    identifier = pair_id(tracks.video_id, tracks.start_s, tracks.end_s, digest)
    relation = relate(fitted, seed=identifier)
    sound = {name: heard.scores[name] for name in ("speech_share", "bound_share", "snr_db")}
    backends = (DETECTOR, head_backend(head))
    return replace(
        heard,
        pair_id=identifier,
        source=Source(tracks.video_id, f"{tracks.video_id[0]}.mp4", tracks.start_s, tracks.end_s, tracks.shot_index),
        fitted=fitted,
        relation=relation,
        scores=clip_scores(tracks, fitted, relation, sound, {}),
        provenance=Provenance(digest, __version__, backends),
        person_a="someone",
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs with landmarks; the third in order of ids repeats the first."""
    root = tmp_path_factory.mktemp("refit") / "set"
    head = load_head_model("canonical")
    digest = config_hash(CONFIG, [DETECTOR, head_backend(head)])
    options = TrackOptions(n_frames=30, occlusions=(0, 1), occlusion_frames=6)
    pairs, rows = [], []
    for seed, video in enumerate(VIDEOS):
        tracks = rounded(replace(sample_clip(head, options, seed)[0], video_id=video, shot_index=seed))
        pairs.append(a_pair(tracks, digest))
        rows.append(landmark_row(pairs[-1].pair_id, tracks))
    pairs.sort(key=lambda pair: pair.pair_id)
    scores = {**pairs[2].scores, "duplicate_similarity": 0.875}
    pairs[2] = replace(pairs[2], duplicate_of=pairs[0].pair_id, scores=scores)
    files = LocalFiles(root)
    rows.sort(key=lambda row: row["pair_id"])
    finish_dataset(
        root,
        write_pairs(root, [pair_row(pair) for pair in pairs]),
        write_rejects(root, [Reject("f" * 64, "9.mp4", "scan", "one_face", "one face", 0.0, 20.0)]),
        config_hash=digest,
        code_version=__version__,
        config_yaml=config_yaml(CONFIG),
        funnel={"score": {"kept": {"items": 3, "hours": 0.001}}},
        beside=[write_landmark_shard(files, rows, 0, 1)],
    )
    return root


def run(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    refit_verb.configure(parser)
    return int(refit.run(parser.parse_args([str(word) for word in (*words, "--quiet")])))


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "_work" not in path.parts
    }


def test_the_same_head_model_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    assert run(source, "--head-model", "canonical", "--out", tmp_path / "again") == 0
    before, after = digests(source), digests(tmp_path / "again")
    shards = [name for name in before if name.startswith(("pairs/", "landmarks/", "rejects/"))]
    assert len(shards) == 3
    assert {name: after[name] for name in shards} == {name: before[name] for name in shards}
    assert after["selection.parquet"] == before["selection.parquet"]


@pytest.fixture(scope="module")
def other(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set with the second head, in the folder that is named where none is given."""
    before = digests(source)
    assert run(source, "--head-model", "second") == 0
    assert digests(source) == before  # the source is only read
    return source.with_name("set-" + load_head_model("second").model_id)


def test_another_head_model_gives_a_whole_data_set(source: Path, other: Path) -> None:
    report = verify(other)
    assert report.problems == []
    assert report.pairs == 3
    second = load_head_model("second")
    data, old = Dataset(other), Dataset(source)
    assert data.manifest.head_model_id == second.model_id
    assert data.manifest.config_hash == config_hash(CONFIG, [DETECTOR, head_backend(second)])
    before = {pair.source.video_id: pair for pair in old.pairs(selected=False)}
    for pair in data.pairs(selected=False):
        was = before[pair.source.video_id]
        assert pair.pair_id != was.pair_id
        assert pair.fitted.head_model_sha256 == second.sha256
        assert [b.weights_sha256 for b in pair.provenance.backends] == ["1" * 64, second.sha256]
        assert pair.voices.turns == was.voices.turns
        assert pair.voices.audio == was.voices.audio
        assert (pair.person_a, pair.source) == (was.person_a, was.source)
        assert pair.scores["snr_db"] == was.scores["snr_db"]
        assert pair.scores["residual_a"] != was.scores["residual_a"]
        # Another head, the same people: they stand where they stood.
        shift = abs(pair.relation.layout["distance_m"] / was.relation.layout["distance_m"] - 1)
        assert 0 < shift < 0.1
    assert [r.reason for r in data.rejects()] == ["one_face"]
    funnel = json.loads((other / "funnel.json").read_text())
    assert funnel["refit"]["kept"]["items"] == funnel["score"]["kept"]["items"] == 3
    assert yaml.safe_load((other / "config.yaml").read_text())["backends"]["head_model"] == "second"


def test_voices_come_along_and_gaze_that_needs_pixels_does_not(source: Path, tmp_path: Path) -> None:
    """As curated with separated voices and an appearance network for gaze."""
    old = Dataset(source)
    root, network = tmp_path / "set", Backend("gaze", "onnx:look.onnx", "3" * 64)
    config = replace(CONFIG, backends=replace(CONFIG.backends, gaze="onnx", gaze_path="gone/look.onnx"))
    models = (DETECTOR, network, head_backend(load_head_model("canonical")))
    digest = config_hash(config, models)
    pairs = []
    for pair in old.pairs(selected=False):
        where = pair.source
        name = pair_id(where.video_id, where.start_s, where.end_s, digest)
        pairs.append(replace(pair, pair_id=name, duplicate_of="", provenance=Provenance(digest, __version__, models)))
    names = {pair.pair_id: new for pair, new in zip(old.pairs(selected=False), pairs, strict=True)}
    pairs.sort(key=lambda pair: pair.pair_id)
    (entry,) = old.manifest.of_kind("landmarks")
    measured = [
        {**row, "pair_id": names[row["pair_id"]].pair_id}
        for row in table_to_rows(pq.ParquetFile(source / entry.path).read(), landmarks.BY_NAME)
    ]
    voices = []
    for pair, sound in ((pairs[0], pairs[0].voices.audio), (pairs[1], None)):  # and none of the last one's
        where = pair.source
        voices.append(voice_row(pair.pair_id, where.video_id, where.start_s, where.end_s, sound, None, 0.25))
    files = LocalFiles(root)
    beside = [
        write_landmark_shard(files, sorted(measured, key=lambda row: row["pair_id"]), 0, 1),
        write_voice_shard(files, voices, 0, 1),
    ]
    finish_dataset(
        root, write_pairs(root, [pair_row(pair) for pair in pairs]), [], config_hash=digest, code_version=__version__,
        config_yaml=config_yaml(config), funnel={}, beside=beside,
    )  # fmt: skip
    plan = refit.make_refit_plan(str(root), "canonical", str(tmp_path / "out"))
    assert plan.note.split("; ")[-1] == "gaze of onnx:look.onnx needs pixels: it is read off the irises"
    assert run(root, "--head-model", "canonical", "--out", tmp_path / "out") == 0
    new = Dataset(tmp_path / "out")
    assert verify(tmp_path / "out").problems == []
    was = {pair.source.video_id: pair.pair_id for pair in pairs}
    by_id = {row["pair_id"]: row for row in voices}
    (entry,) = new.manifest.of_kind("voices")
    table = pq.ParquetFile(tmp_path / "out" / entry.path).read()
    found = {row["pair_id"]: row for row in table_to_rows(table, voice_tracks.BY_NAME)}
    for pair in new.pairs(selected=False):
        assert pair.provenance.backends == (DETECTOR, models[-1])
        assert pair.pair_id != was[pair.source.video_id]  # another gaze is another measurement
        before, after = by_id.get(was[pair.source.video_id]), found[pair.pair_id]
        assert after["residual_share"] == (before["residual_share"] if before else None)
        told = (before or {}).get("a.audio")
        assert (after["a.audio"] or {}).get("bytes") == (told or {}).get("bytes")
        assert after["b.audio"] is None
    assert yaml.safe_load((tmp_path / "out/config.yaml").read_text())["backends"]["gaze"] == "geometric"


def test_duplicates_keep_their_meaning_under_new_names(source: Path, other: Path) -> None:
    def repeats(root: Path) -> set[tuple[str, str, float]]:
        pairs = {pair.pair_id: pair for pair in Dataset(root).pairs(selected=False)}
        return {
            (pair.source.video_id, pairs[pair.duplicate_of].source.video_id, pair.scores["duplicate_similarity"])
            for pair in pairs.values()
            if pair.duplicate_of
        }

    assert len(repeats(source)) == 1
    assert repeats(other) == repeats(source)


def test_it_can_be_refitted_again(source: Path, other: Path, tmp_path: Path) -> None:
    """Back to the first head: the rows of the first data set, but for the order in which duplicates were found."""
    assert run(other, "--head-model", "canonical", "--out", tmp_path / "back") == 0
    before, after = digests(source), digests(tmp_path / "back")
    assert after["pairs/pairs-00000-of-00001.parquet"] == before["pairs/pairs-00000-of-00001.parquet"]


def test_takedowns_hold_and_pairs_without_landmarks_are_said(source: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    for path in source.rglob("*.*"):
        (root / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        (root / path.relative_to(source)).write_bytes(path.read_bytes())
    data = Dataset(root)
    entry = data.manifest.of_kind("landmarks")[0]
    table = pq.ParquetFile(root / entry.path).read()
    kept = table.filter([row != VIDEOS[0] for row in table["video_id"].to_pylist()])
    pq.write_table(kept, root / entry.path)
    out.mkdir()
    (out / TAKEDOWNS).write_bytes(takedown_bytes([Takedown("video", VIDEOS[1])]))
    assert run(root, "--head-model", "canonical", "--out", out) == 0
    new = Dataset(out)
    assert [pair.source.video_id for pair in new.pairs(selected=False)] == [VIDEOS[2]]
    assert verify(out).problems == []
    lost = [reject for reject in new.rejects() if reject.stage == "refit"]
    assert [(reject.video_id, reject.reason) for reject in lost] == [(VIDEOS[0], "landmarks_lost")]


def test_a_repeat_of_a_row_taken_down_stands_alone(source: Path, tmp_path: Path) -> None:
    (later,) = (pair for pair in Dataset(source).pairs(selected=False) if pair.duplicate_of)
    original = Dataset(source).pair(later.duplicate_of)
    out = tmp_path / "out"
    out.mkdir()
    (out / TAKEDOWNS).write_bytes(takedown_bytes([Takedown("video", original.source.video_id)]))
    assert run(source, "--head-model", "canonical", "--out", out) == 0
    assert {pair.pair_id: pair.duplicate_of for pair in Dataset(out).pairs(selected=False)}[later.pair_id] == ""
    assert verify(out).problems == []


def test_what_cannot_be_done_is_one_line(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is the data set itself"):
        run(source, "--head-model", "second", "--out", f"{source}/../set")
    with pytest.raises(UsageError, match="another data set"):
        run(source, "--head-model", "second", "--out", _copy_without_landmarks(source, tmp_path / "other"))
    with pytest.raises(UsageError, match=r"holds no landmarks.*run\.landmarks"):
        run(tmp_path / "other", "--head-model", "second", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError):
        run(source, "--head-model", tmp_path / "missing.pkl")


def test_a_wrong_request_that_shows_while_it_runs_is_no_crash(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Job:
        def run(self) -> None:
            raise UsageError("the weights are gone")

    monkeypatch.setattr(refit, "new_pipeline", lambda _: Job())
    monkeypatch.setattr(refit, "build_refit", lambda *_: None)
    words = ["refit", str(source), "--head-model", "canonical", "--out", str(tmp_path / "out"), "--quiet"]
    assert cli.main(words) == 2
    assert capsys.readouterr().err == "duologue refit: the weights are gone\n"


def _copy_without_landmarks(source: Path, to: Path) -> Path:
    data = Dataset(source)
    finish_dataset(
        to, write_pairs(to, list(data.pairs(selected=False))), [], config_hash="5" * 16, code_version=__version__,
        config_yaml=config_yaml(CONFIG), funnel={},
    )  # fmt: skip
    return to
