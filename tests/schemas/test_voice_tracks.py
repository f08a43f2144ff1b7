"""``voices/``: separated tracks beside the pairs, verified, repaired and taken down with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from dataset_factory import CONFIG_HASH, make_pairs, write_pairs
from duologue.schemas.audio import decode_audio, encode_audio
from duologue.schemas.files import LocalFiles
from duologue.schemas.finish import finish_dataset
from duologue.schemas.manifest import MANIFEST
from duologue.schemas.remove import remove
from duologue.schemas.repair import repair
from duologue.schemas.takedown import Takedown
from duologue.schemas.verify import verify
from duologue.schemas.voice_tracks import voice_row, voice_schema, write_voice_shard


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[str], str]:
    pairs = sorted(make_pairs(4, frames=20), key=lambda pair: pair.pair_id)
    entries = write_pairs(tmp_path, pairs, shards=1)
    sound = encode_audio(np.sin(np.arange(12800) / 9).astype(np.float32) * 0.3)
    rows = [voice_row(p.pair_id, p.source.video_id, 0.0, 0.8, sound, None, 0.25) for p in pairs]
    shard = write_voice_shard(LocalFiles(tmp_path), rows, 0, 1)
    finish_dataset(
        tmp_path, entries, [], config_hash=CONFIG_HASH, code_version="0.1.0", config_yaml="", funnel={},
        beside=[shard],
    )  # fmt: skip
    return tmp_path, [pair.pair_id for pair in pairs], make_pairs(4, frames=20)[0].source.video_id


def test_tracks_come_back(written: tuple[Path, list[str], str]) -> None:
    root, ids, _ = written
    (path,) = (root / "voices").iterdir()
    rows = pq.read_table(path).to_pylist()
    assert [row["pair_id"] for row in rows] == ids
    sound = decode_audio(rows[0]["a.audio"]["bytes"])
    np.testing.assert_allclose(sound, np.sin(np.arange(12800) / 9) * 0.3, atol=1e-4)
    assert rows[0]["b.audio"] is None
    assert all(field.metadata[b"description"] for field in voice_schema())


def test_they_go_with_a_takedown(written: tuple[Path, list[str], str]) -> None:
    root, ids, video_id = written
    assert verify(root).problems == []
    gone = remove(root, [Takedown("video", video_id)]).pairs
    (path,) = (root / "voices").iterdir()
    assert pq.read_table(path)["pair_id"].to_pylist() == [key for key in ids if key not in gone]
    assert verify(root).problems == []


def test_they_are_verified_and_repaired(written: tuple[Path, list[str], str]) -> None:
    root, _, _ = written
    (root / MANIFEST).unlink()
    repair(root)
    assert verify(root).problems == []
    (path,) = (root / "voices").iterdir()
    path.write_bytes(path.read_bytes()[:-9] + b"?" * 9)
    assert [problem.path for problem in verify(root).problems] == [f"voices/{path.name}"]
    assert repair(root).quarantined == [f"voices/{path.name}"]
    assert verify(root).problems == []
