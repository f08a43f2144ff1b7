"""The whole flow as one Beam graph. It reads like the picture in docs/design.md; each stage is explained in its file.

inputs -> probe -> scan -> shots -> track -> clips ┐
                    └───── listen -> turns ────────┴ bind -> fit -> relate and score -> write
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import StandardOptions

from ..schemas.records import Video
from ..transforms.elements import ClipTask, Span, TrackDone, TurnsDone
from ..transforms.stage import RunStage, Stage, StageOutputs
from .inputs import ReadItems
from .plan import Plan
from .sink import WriteDataset, target_of
from .stages_pixels import same_content, scan_pieces, track_pieces
from .stages_sound import listen_pieces


@dataclass
class _Flow:
    """Applies stages and gathers what leaves them sideways.

    Attributes:
        hinted: tell the runner what each stage needs. The DirectRunner would start a set of workers per hint.
    """

    plan: Plan
    hinted: bool
    rejects: list[beam.PCollection]
    tallies: list[beam.PCollection]

    def run(self, stage: Stage, **hints: str) -> beam.PTransform:
        flow = self

        class Apply(beam.PTransform):
            def expand(self, elements: beam.PCollection) -> beam.PCollection:
                plan, needs = flow.plan, hints if flow.hinted else {}
                out: StageOutputs = elements | RunStage(
                    stage, plan.work, plan.code_version, plan.failure_limit, **needs
                )
                flow.rejects.append(out.rejects)
                flow.tallies.append(out.tally)
                return out.main

        return Apply(label=f"run {stage.name}")


def build(root: beam.Pipeline, plan: Plan, item_chunks: list[str]) -> beam.PCollection:
    """Add the whole flow to a pipeline; returns the entries of the manifest it writes."""
    runner = root.options.view_as(StandardOptions).runner or "DirectRunner"
    flow = _Flow(plan, runner != "DirectRunner", [], [])
    run, stages, config = flow.run, plan.stages, plan.config.run

    videos = (
        root
        | "inputs" >> ReadItems(item_chunks, plan.work.root)
        | "probe" >> run(stages.probe, min_ram="4GB")
        | "one of each content" >> _per(lambda video: video.video_id, partial(same_content, takedowns=plan.takedowns))
    )
    spans = (
        videos
        | "scan pieces" >> beam.FlatMap(scan_pieces, config.scan_piece_s)
        | "spread scans" >> beam.Reshuffle()
        | "scan" >> run(stages.scan, min_ram="4GB")
        | "by video" >> _gather(lambda piece: _part(piece.video), lambda piece: piece.start_s)
        | "shots" >> run(stages.shots)
    )
    clips = (
        spans
        | "track pieces" >> beam.FlatMap(track_pieces, config.track_piece_s, config.track_warm_s)
        | "spread tracks" >> beam.Reshuffle()
        | "track" >> run(stages.track, min_ram="4GB")
        | "by shot" >> _gather(_shot_of, lambda piece: piece.start_s)
        | "clips" >> run(stages.clips)
    )
    if config.geometry_only:
        tasks = clips
    else:
        turns = (
            spans
            | "videos with people" >> _per(lambda span: _part(span.video), _one_video)
            | "listen pieces" >> beam.FlatMap(listen_pieces, plan.config.listen)
            | "spread listening" >> beam.Reshuffle()
            | "listen" >> run(stages.listen, min_ram="4GB")
            | "heard by video" >> _gather(lambda piece: _part(piece.video), lambda piece: piece.start_s)
            | "turns" >> run(stages.turns, min_ram="4GB")
        )
        tasks = (
            {
                "clips": clips | "clip key" >> beam.WithKeys(lambda task: _part(task.clip.video)),
                "turns": turns | "turns key" >> beam.WithKeys(lambda done: _part(done.video)),
            }
            | "meet by video" >> beam.CoGroupByKey()
            | "join" >> beam.FlatMap(join_by_video)
        )
    rows = (
        tasks
        | "spread clips" >> beam.Reshuffle()
        | "evidence" >> run(stages.evidence, min_ram="4GB")
        | "evidence by video" >> _gather(lambda e: _part(e.task.clip.video), lambda e: (e.start_s, e.task.clip.a))
        | "bind" >> run(stages.bind)
        | "spread bound" >> beam.Reshuffle()
        | "fit" >> run(stages.fit, min_ram="4GB")
        | "score" >> run(stages.score, min_ram="4GB")
    )
    rejects = tuple(flow.rejects) | "all rejects" >> beam.Flatten()
    tallies = tuple(flow.tallies) | "all tallies" >> beam.Flatten()
    return (rows, rejects, tallies) | "write" >> WriteDataset(target_of(plan))


def _part(video: Video) -> str:
    """Key of one part of one video."""
    return f"{video.video_id} {video.start_s:.6f} {video.end_s:.6f}"


def _shot_of(piece: TrackDone) -> str:
    return f"{_part(piece.span.video)} {piece.span.shot_index}"


def _per(key: Callable[[Any], str], reduce: Callable[[Iterable[Any]], Iterable[Any]]) -> beam.PTransform:
    """Elements of one key together, reduced to some of them; no dependence on the order in which they came."""
    return "key" >> beam.WithKeys(key) | "group" >> beam.GroupByKey() | beam.FlatMap(lambda item: reduce(item[1]))


def _gather(key: Callable[[Any], str], order: Callable[[Any], Any]) -> beam.PTransform:
    """All elements of one key as one tuple, in ``order``."""
    return (
        "key" >> beam.WithKeys(key)
        | "group" >> beam.GroupByKey()
        | "sort" >> beam.Map(lambda item: tuple(sorted(item[1], key=order)))
    )


def _one_video(spans: Iterable[Span]) -> list[Video]:
    return [min((span.video for span in spans), key=lambda video: video.uri)]


def join_by_video(item: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[ClipTask]:
    """Every clip with the turns of its video. A video whose listening failed has none: its clips go on unheard."""
    _, found = item
    turns: list[TurnsDone] = list(found["turns"])
    tasks: list[ClipTask] = sorted(found["clips"], key=lambda task: (task.start_s, task.clip.a))
    for task in tasks:
        yield replace(task, turns=turns[0] if turns else None)
