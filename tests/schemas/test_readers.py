"""The four readers that people use open a data set in one line and see the values that were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from duologue.schemas.row import Pair
from duologue.tests.dataset_factory import write_dataset


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Pair]]:
    root = tmp_path_factory.mktemp("readers") / "ds"
    return root, write_dataset(root)


Written = tuple[Path, list[Pair]]


def close(values: object, pair: Pair) -> None:
    np.testing.assert_allclose(np.array(values, dtype=float), pair.fitted.a.gaze, atol=2e-5)


def test_pyarrow(written: Written) -> None:
    import pyarrow.dataset as ds

    root, pairs = written
    table = ds.dataset(root / "pairs").to_table(columns=["pair_id", "a.gaze", "scores.snr_db"])
    assert table["pair_id"].to_pylist() == [pair.pair_id for pair in pairs]
    close(table["a.gaze"][2].as_py(), pairs[2])
    few = ds.dataset(root / "pairs").to_table(columns=["pair_id"], filter=ds.field("scores.speech_share") > 0.5)
    assert few.num_rows == 5


def test_pandas(written: Written) -> None:
    import pandas as pd

    root, pairs = written
    frame = pd.read_parquet(root / "pairs", columns=["pair_id", "scores.snr_db", "a.gaze"])
    assert list(frame["pair_id"]) == [pair.pair_id for pair in pairs]
    close(np.stack(frame["a.gaze"][1]), pairs[1])


def test_duckdb(written: Written) -> None:
    import duckdb

    root, pairs = written
    rows = duckdb.sql(
        f"""select p.pair_id, "a.gaze", "scores.snr_db", "scores.music_share", len(turns), s.split
        from '{root}/pairs/*.parquet' p join '{root}/selection.parquet' s using (pair_id) where selected order by 1"""
    ).fetchall()
    assert len(rows) == 5
    by_id = {pair.pair_id: pair for pair in pairs}
    for key, gaze, snr, music, turns, split in rows:
        close(gaze, by_id[key])
        assert (snr, music, turns) == (22.0, None, 2)
        assert split in ("train", "val", "test")


def test_polars(written: Written) -> None:
    import polars as pl

    root, pairs = written
    frame = pl.read_parquet(
        root / "pairs/*.parquet", columns=["pair_id", "a.gaze", "b.valid", "scores.yaw95_a", "turns"]
    )
    assert frame["pair_id"].to_list() == [pair.pair_id for pair in pairs]
    close(frame["a.gaze"][0].to_list(), pairs[0])
    assert frame["b.valid"][0].to_list() == pairs[0].fitted.b.valid.tolist()
    assert frame["turns"][0].to_list()[0]["face"] == "a"


def test_huggingface(written: Written, tmp_path: Path) -> None:
    from datasets import Audio, load_dataset

    root, pairs = written
    rows = load_dataset("parquet", data_files=f"{root}/pairs/*.parquet", split="train", cache_dir=str(tmp_path))
    assert isinstance(rows.features["audio"], Audio)
    assert rows.features["audio"].sampling_rate == 16_000
    assert rows["pair_id"][:] == [pair.pair_id for pair in pairs]
    close(rows.select_columns(["a.gaze"])[3]["a.gaze"], pairs[3])
    light = rows.with_format("numpy", columns=["a.gaze"])[0]["a.gaze"]
    close(light, pairs[0])


def test_huggingface_decodes_the_sound(written: Written, tmp_path: Path) -> None:
    try:
        import torchcodec  # noqa: F401
    except (ImportError, RuntimeError) as error:  # RuntimeError: it does not find ffmpeg's libraries
        pytest.skip(f"datasets decodes sound with torchcodec: {error}"[:200])
    from datasets import load_dataset

    root, pairs = written
    rows = load_dataset("parquet", data_files=f"{root}/pairs/*.parquet", split="train", cache_dir=str(tmp_path))
    sound = rows[1]["audio"]
    assert sound["sampling_rate"] == 16_000
    np.testing.assert_allclose(sound["array"], pairs[1].voices.samples(), atol=1e-4)


def test_huggingface_streams(written: Written) -> None:
    from datasets import Audio, load_dataset

    root, pairs = written
    rows = load_dataset("parquet", data_files=f"{root}/pairs/*.parquet", split="train", streaming=True)
    row = next(iter(rows.cast_column("audio", Audio(decode=False))))
    assert row["pair_id"] == pairs[0].pair_id
    assert row["audio"]["bytes"] == pairs[0].voices.audio


def test_huggingface_reads_the_folder_by_its_card(written: Written, tmp_path: Path) -> None:
    from datasets import load_dataset

    root, pairs = written
    rows = load_dataset(str(root), "selection", split="everything", cache_dir=str(tmp_path))
    assert rows["pair_id"][:] == [pair.pair_id for pair in pairs]
    assert sum(rows["selected"][:]) == 5
    everything = load_dataset(str(root), split="everything", cache_dir=str(tmp_path))
    assert everything.num_rows == len(pairs)
