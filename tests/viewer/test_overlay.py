"""The overlay: where things are drawn, what is left out, and the video that comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import make_pair, write_dataset
from duologue.cli import main
from duologue.fitting.head_model import HeadModel
from duologue.fitting.load_head import load_head_model
from duologue.schemas.errors import UsageError
from duologue.schemas.records import InputItem
from duologue.schemas.row import Pair
from duologue.transforms.probe import probe
from duologue.viewer.overlay import (
    caption_text,
    draw_pair,
    enlargement,
    facing_edges,
    head_vertices,
    nearest_frames,
    overlay_frames,
    project,
    write_overlay,
)
from media_factory import Movie, write_movie


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head_model("canonical")


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_movie(tmp_path_factory.mktemp("movie") / "movie.mp4", Movie(width=320, height=180, seconds=4.0))


def pair_of(movie: Path) -> Pair:
    """A pair that says it was measured on the movie, from 0.4 s on."""
    video = probe(str(movie), InputItem(str(movie)))
    pair = make_pair(2, frames=75, start_s=0.4)
    fitted = replace(pair.fitted, width=320, height=180, focal_px=225.0)
    source = replace(pair.source, video_id=video.video_id, source_uri=str(movie))
    return replace(pair, fitted=fitted, source=source)


def test_projection_is_a_pinhole_at_the_image_centre() -> None:
    points = np.array([[0.0, 0.0, 2.0], [0.5, -0.25, 2.0]])
    assert project(points, 800.0, 640, 360).tolist() == [[319.5, 179.5], [519.5, 79.5]]


def test_only_triangles_that_face_the_camera_have_lines() -> None:
    points = np.array([[0.0, 0.0], [0.0, 10.0], [10.0, 0.0], [10.0, 10.0]])  # y down
    front, back = [0, 1, 2], [1, 2, 3]
    both = facing_edges(points, np.array([front, back[::-1]]))
    assert both.tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    assert facing_edges(points, np.array([front, back])).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert facing_edges(points, np.array([front[::-1]])).tolist() == []


def test_the_face_of_a_frontal_head_has_lines_and_its_back_has_none(head: HeadModel) -> None:
    pair = make_pair(2, frames=60)
    person = pair.fitted.a
    k = int(np.flatnonzero(person.valid)[0])
    frontal = replace(person, rotation=np.zeros_like(person.rotation))
    edges = facing_edges(project(head_vertices(head, frontal, k), 900.0, 1280, 720), head.triangles)
    drawn = np.unique(edges)
    z = head.vertices[:, 2]
    assert np.isin(np.argsort(z)[-20:], drawn).all()  # the tip of the nose
    assert not np.isin(np.argsort(z)[:20], drawn).any()


def test_who_was_not_measured_is_not_drawn_and_said(head: HeadModel) -> None:
    pair = make_pair(2, frames=75)
    gap = int(np.flatnonzero(~pair.fitted.b.valid & pair.fitted.a.valid)[0])
    pair = replace(
        pair, fitted=replace(pair.fitted, b=replace(pair.fitted.b, box=np.full((75, 4), np.nan, np.float32)))
    )
    grey = np.full((720, 1280, 3), 90, np.uint8)
    drawn = draw_pair(grey, pair, gap, head, head.triangles)
    assert (drawn[200:500, :600] != 90).any()
    assert (drawn[:600, 700:] == 90).all()
    assert "b not measured" in caption_text(pair, gap)
    assert (grey == 90).all()


def test_the_caption_says_what_is_unknown() -> None:
    pair = make_pair(2, frames=75)
    nan = np.full(75, np.nan, np.float32)
    pair = replace(pair, relation=replace(pair.relation, distance_m=nan, mutual_gaze=nan))
    assert "distance unknown   mutual gaze unknown" in caption_text(pair, 3)
    assert "distance 0.80 +- 0.08 m" in caption_text(make_pair(2, frames=75), 3)


def test_every_frame_of_the_clip_clock_has_a_picture(movie: Path) -> None:
    pair = pair_of(movie)
    assert enlargement(pair) == 4
    frames = [(k, canvas.shape) for k, canvas in overlay_frames(pair, str(movie), None)]
    assert frames == [(k, (720, 1280, 3)) for k in range(75)]


def test_a_frame_of_the_clip_is_drawn_on_the_nearest_one_of_the_source() -> None:
    times = 13.0 + np.arange(6) / 25.0

    def shown(source: np.ndarray) -> list[int]:
        return [int(rgb[0]) for _, rgb in nearest_frames(times, ((t, np.array([k])) for k, t in enumerate(source)))]

    assert shown(times + 1e-12) == [0, 1, 2, 3, 4, 5]
    assert shown(times - 1e-12) == [0, 1, 2, 3, 4, 5]
    assert shown(13.0 + np.arange(9) / 30.0) == [0, 1, 2, 4, 5, 6]  # 0, 40, 80 .. ms; 0, 33, 67, 100, 133 .. ms
    assert shown(13.1 + np.arange(2) / 10.0) == [0, 0, 0, 0, 1, 1]
    assert shown(np.zeros(0)) == []


def test_the_video_has_the_clips_frames_and_sound(movie: Path, tmp_path: Path, head: HeadModel) -> None:
    write_dataset(tmp_path / "set", [pair_of(movie)])
    assert main(["view", str(tmp_path / "set"), "--out", str(tmp_path / "page"), "--video"]) == 0
    made = list((tmp_path / "page").glob("*.mp4"))
    assert [path.stem for path in made] == [pair_of(movie).pair_id]
    video = probe(str(made[0]), InputItem(str(made[0])))
    assert (video.width, video.height) == (1280, 720)
    assert video.has_audio
    assert video.mean_fps == pytest.approx(25.0, abs=0.01)
    assert video.duration_s == pytest.approx(3.0, abs=0.08)


def test_another_file_of_that_name_is_refused(movie: Path, tmp_path: Path) -> None:
    pair = pair_of(movie)
    other = replace(pair, source=replace(pair.source, video_id="0" * 64))
    with pytest.raises(UsageError, match="is not the video of pair"):
        write_overlay(other, str(movie), tmp_path / "out.mp4", None)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said(movie: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        write_overlay(pair_of(movie), str(movie), tmp_path / "nowhere" / "out.mp4", None)
