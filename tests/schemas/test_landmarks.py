"""Landmark shards carry the measured tracks to a later fit, to 1/64 of a pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from duologue.schemas import landmarks
from duologue.schemas.errors import UsageError
from duologue.schemas.files import LocalFiles
from duologue.schemas.finish import finish_dataset, write_pairs
from duologue.schemas.landmarks import landmark_row, tracks_from_row, write_landmark_shard
from duologue.schemas.records import Focal
from duologue.schemas.remove import remove
from duologue.schemas.repair import repair
from duologue.schemas.row import table_to_rows
from duologue.schemas.takedown import Takedown
from duologue.schemas.tracks import N_LANDMARKS, ClipTracks, FaceTrack
from duologue.schemas.verify import verify
from duologue.tests.dataset_factory import CONFIG_HASH, make_pairs


def make_tracks(seed: int, video_id: str = "v", frames: int = 12) -> ClipTracks:
    rng = np.random.default_rng(seed)

    def track(name: str) -> FaceTrack:
        valid = np.arange(frames) != 4
        points = rng.uniform(0, 1000, (frames, N_LANDMARKS, 3)).astype(np.float32)
        points[~valid] = np.nan
        box = rng.uniform(0, 500, (frames, 4)).astype(np.float32)
        confidence = np.where(valid, 0.75, 0).astype(np.float32)
        return FaceTrack(name, points, box, valid, confidence, np.ones(frames, np.float32), np.zeros(16, np.float32))

    times = 1.7 + np.arange(frames) / 29.97
    return ClipTracks(
        video_id,
        2,
        1.8,
        2.0,
        1280,
        720,
        times,
        track("t0"),
        track("t1"),
        Focal(900.0 + seed, "user", 0.15) if seed else None,
    )


def test_round_trip(tmp_path: Path) -> None:
    tracks = [make_tracks(seed) for seed in range(3)]
    rows = [landmark_row(f"{index:032x}", one) for index, one in enumerate(tracks)]
    entry = write_landmark_shard(LocalFiles(tmp_path), rows, 0, 1)
    assert (entry.rows, entry.path) == (3, "landmarks/landmarks-00000-of-00001.parquet")
    table = pq.ParquetFile(tmp_path / entry.path).read()
    for one, row in zip(tracks, table_to_rows(table, landmarks.BY_NAME), strict=True):
        again = tracks_from_row(row)
        np.testing.assert_array_equal(again.times, one.times)  # times are not rounded
        assert again.focal == one.focal
        for ours, theirs in ((one.a, again.a), (one.b, again.b)):
            np.testing.assert_allclose(ours.landmarks, theirs.landmarks, atol=1 / 64 + 1e-4)
            assert ours.landmarks.dtype == theirs.landmarks.dtype
            np.testing.assert_array_equal(ours.valid, theirs.valid)
            assert ours.identity.shape == theirs.identity.shape
            assert ours.track_id == theirs.track_id
    older = list(table_to_rows(table.drop_columns(["focal_source", "focal_log_sd"]), landmarks.BY_NAME))[1]
    assert tracks_from_row(older).focal == Focal(901.0, "metadata", 0.1)
    with pytest.raises(UsageError, match="lack times: written by another version"):
        tracks_from_row({name: value for name, value in older.items() if name != "times"})


def test_shards_say_what_they_hold() -> None:
    for field in landmarks.landmark_schema():
        assert field.metadata[b"description"]
    assert landmarks.landmark_schema().field("a.landmarks").metadata[b"unit"] == b"px"


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[str], str]:
    pairs = make_pairs(4, frames=20)
    entries = write_pairs(tmp_path, pairs, shards=1)
    ids = sorted(pair.pair_id for pair in pairs)
    shard = write_landmark_shard(LocalFiles(tmp_path), [landmark_row(key, make_tracks(1)) for key in ids], 0, 1)
    finish_dataset(
        tmp_path, entries, [], config_hash=CONFIG_HASH, code_version="0.1.0", config_yaml="", funnel={},
        beside=[shard],
    )  # fmt: skip
    return tmp_path, ids, pairs[0].source.video_id


def test_they_belong_to_the_data_set_and_are_taken_down_with_it(written: tuple[Path, list[str], str]) -> None:
    root, ids, video_id = written
    assert verify(root).problems == []
    gone = remove(root, [Takedown("video", video_id)]).pairs
    assert len(gone) == 2
    shards = list((root / "landmarks").iterdir())
    assert len(shards) == 1
    left = pq.ParquetFile(shards[0]).read(columns=["pair_id"])["pair_id"].to_pylist()
    assert left == [key for key in ids if key not in gone]
    assert verify(root).problems == []


def test_shards_of_before_are_verified_repaired_and_taken_down(written: tuple[Path, list[str], str]) -> None:
    """They lack what tells where a focal length came from."""
    root, ids, video_id = written
    [path] = (root / "landmarks").iterdir()
    pq.write_table(pq.ParquetFile(path).read().drop_columns(list(landmarks.LANDMARKS_MAY_LACK)), path)
    (root / "manifest.json").unlink()
    repair(root)  # names the file anew
    assert verify(root).problems == []
    gone = remove(root, [Takedown("video", video_id)]).pairs
    assert verify(root).problems == []
    [path] = (root / "landmarks").iterdir()
    assert pq.ParquetFile(path).metadata.num_rows == len(ids) - len(gone)
