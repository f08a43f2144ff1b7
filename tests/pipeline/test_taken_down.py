"""What was taken down does not come back with a later run, under another name or as the original of a repeat."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
from duologue.pipeline.config import load_config
from duologue.pipeline.plan import Plan, make_plan
from duologue.pipeline.rows import row_bytes
from duologue.pipeline.sink import WriteDataset, target_of
from duologue.pipeline.stages_pixels import ProbeStage, same_content
from duologue.schemas.dataset import Dataset
from duologue.schemas.records import InputItem, Reject, Video
from duologue.schemas.row import pair_row
from duologue.schemas.takedown import TAKEDOWNS, Takedown, takedown_bytes
from duologue.tests.dataset_factory import CONFIG_HASH, make_pair
from duologue.transforms.elements import PairDone
from duologue.transforms.stage import Tally
from duologue.transforms.work import WorkStore
from media_factory import Movie, write_movie


def plan_for(out: Path) -> Plan:
    plan = make_plan(load_config("", ["run.landmarks=false"]), str(out))
    return replace(plan, config_hash=CONFIG_HASH)


def test_a_repeat_of_a_row_taken_down_is_an_original(tmp_path: Path) -> None:
    """Three rows of one sound: the first shows somebody who was taken down, so the second repeats nothing."""
    out = tmp_path / "out"
    out.mkdir()
    (out / TAKEDOWNS).write_bytes(takedown_bytes([Takedown("person", "gone"), Takedown("source", "film")]))
    plan = plan_for(out)
    pairs = sorted((make_pair(seed) for seed in range(3)), key=lambda pair: pair.pair_id)
    pairs[0] = replace(pairs[0], person_a="gone")
    rows = []
    for pair in pairs:
        file = plan.work.put("score", pair.pair_id, row_bytes(pair_row(pair)), ".arrow")
        where = pair.source
        rows.append(
            PairDone(pair.pair_id, where.video_id, where.start_s, where.end_s, file, ("band",), tuple(range(200)))
        )
    rejects = [Reject("e" * 64, "x.mp4", "scan", "no_face", source_id=name) for name in ("film", "other")]
    with beam.Pipeline() as pipeline:
        parts = (
            pipeline | "rows" >> beam.Create(rows),
            pipeline | "rejects" >> beam.Create(rejects),
            pipeline | "tallies" >> beam.Create([Tally("score", "kept", 3, 9.0)]),
        )
        parts | "write" >> WriteDataset(target_of(plan))
    written = {pair.pair_id: pair.duplicate_of for pair in Dataset(out).pairs(selected=False)}
    assert written == {pairs[1].pair_id: "", pairs[2].pair_id: pairs[1].pair_id}
    assert [reject.source_id for reject in Dataset(out).rejects()] == ["other"]


def probed(stage: ProbeStage, path: Path, source_id: str = "") -> list[Video]:
    return list(stage.run(InputItem(str(path), source_id), WorkStore("unused")))


def test_a_source_takes_its_content_with_it_under_every_name(tmp_path: Path) -> None:
    one = write_movie(tmp_path / "one.mp4", Movie(seconds=4.0))
    copy = Path(shutil.copy(one, tmp_path / "copy.mp4"))
    (tmp_path / "broken.mp4").write_text("no film\n")
    for takedown in (Takedown("source", str(one)), Takedown("source", "film")):
        stage = ProbeStage(load_config("").probe, shortest_s=3.0, takedowns=(takedown,))
        videos = [*probed(stage, one, "film"), *probed(stage, copy)]
        assert same_content(videos, (takedown,)) == []
        assert [video.uri for video in same_content(videos)] == [str(copy)]
        assert len(same_content(probed(stage, copy), (takedown,))) == 1
    broken = ProbeStage(load_config("").probe, shortest_s=3.0, takedowns=(Takedown("source", "film"),))
    assert probed(broken, tmp_path / "broken.mp4", "film") == []  # nor is it a reject
