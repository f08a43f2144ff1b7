"""The whole pipeline: one command from a messy folder to a data set, the same bytes however it got there."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import SMALL_FOCAL_PX
from duologue.cli import main
from duologue.pipeline.funnel import STAGES
from duologue.schemas.audio import decode_audio
from duologue.schemas.dataset import Dataset
from duologue.schemas.row import Row
from duologue.schemas.verify import verify
from duologue.synthesis.truth import Truth, read_truth
from duologue.tests.pipeline.conftest import Run, curate, progress, published, start
from duologue.transforms.detect_faces import FaceDetector
from scipy.spatial.transform import Rotation

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def row(curated: Run) -> Row:
    (only,) = Dataset(curated.out).rows()
    return only


@pytest.fixture
def truth(small_conversation: Path) -> Truth:
    return read_truth(small_conversation)


def test_the_run_ends_with_the_funnel_and_the_next_command(curated: Run) -> None:
    assert curated.code == 0
    assert "1 pairs" in curated.stdout
    assert f"duologue view {curated.out}" in curated.stdout
    for stage in STAGES:
        assert stage in curated.stdout


def test_the_data_set_is_sound(curated: Run) -> None:
    report = verify(Dataset(curated.out).files)
    assert report.sound, report.problems
    assert report.pairs == 1


def test_the_row_says_where_it_comes_from(row: Row, messy_folder: Path) -> None:
    content = (messy_folder / "a_conversation.mp4").read_bytes()
    assert row["video_id"] == hashlib.sha256(content).hexdigest()
    assert (row["start_s"], row["end_s"], row["fps"], row["n_frames"]) == (0.0, 8.0, 25.0, 200)
    assert row["focal_px"] == SMALL_FOCAL_PX
    assert row["focal_source"] == "user"


def test_two_files_of_one_content_are_one_video_with_the_smaller_uri(row: Row, messy_folder: Path) -> None:
    assert row["source_uri"] == str(messy_folder / "a_conversation.mp4")


@pytest.mark.parametrize("who", ["a", "b"])
def test_a_head_is_where_it_was(row: Row, truth: Truth, who: str) -> None:
    person = getattr(truth, who)
    valid = np.asarray(row[f"{who}.valid"])
    frames = slice(0, row["n_frames"])
    assert valid.mean() > 0.95
    rotation = Rotation.from_rotvec(np.asarray(row[f"{who}.rotation"])[valid])
    off = (rotation.inv() * Rotation.from_rotvec(person.rotation[frames][valid])).magnitude()
    assert np.degrees(off).mean() < 14.0
    centre = np.asarray(row[f"{who}.head_centre"])[valid]
    assert np.median(centre[:, 2] / person.head_centre[frames][valid][:, 2]) == pytest.approx(1.0, abs=0.15)
    assert np.linalg.norm(centre - person.head_centre[frames][valid], axis=1).mean() < 0.25


def test_gaze_is_near_the_truth(row: Row, truth: Truth) -> None:
    for who in ("a", "b"):
        valid = np.asarray(row[f"{who}.valid"])
        gaze = np.asarray(row[f"{who}.gaze"])[valid]
        known = np.isfinite(gaze).all(axis=1)
        cosine = (gaze * getattr(truth, who).gaze[: row["n_frames"]][valid]).sum(axis=1)[known]
        assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 20.0


def test_the_relation_is_the_room_s(row: Row, truth: Truth) -> None:
    both = np.asarray(row["a.valid"]) & np.asarray(row["b.valid"])
    distance = np.asarray(row["distance_m"])[both]
    assert np.median(distance / truth.distance_m[: row["n_frames"]][both]) == pytest.approx(1.0, abs=0.15)
    assert np.nanmean(np.asarray(row["a.box"])[:, 0]) < np.nanmean(np.asarray(row["b.box"])[:, 0])
    assert np.asarray(row["a.head_centre"])[both, 0].max() < np.asarray(row["b.head_centre"])[both, 0].min()
    assert row["captions"]


def test_every_turn_goes_to_the_face_that_spoke_it(row: Row, truth: Truth) -> None:
    assert len(row["turns"]) >= len(truth.turns)
    assert row["scores.binding_margin"] > 1.0
    for turn in row["turns"]:
        shared = {
            face: sum(
                max(0.0, min(turn["end_s"], true.end_s) - max(turn["start_s"], true.start_s))
                for true in truth.turns
                if true.face == face
            )
            for face in ("a", "b")
        }
        assert turn["face"] == max(shared, key=lambda face: shared[face])
    for who in ("a", "b"):
        speaking = np.asarray(row[f"{who}.speaking"]) > 0.5
        assert (speaking == getattr(truth, who).speaking[: row["n_frames"]]).mean() > 0.7


@pytest.mark.parametrize(
    ("name", "stage", "reason"),
    [
        ("empty.mp4", "probe", "unreadable"),
        ("text.mp4", "probe", "unreadable"),
        (r"caf\udce9.mp4", "probe", "unreadable"),
        ("truncated.mp4", "probe", "unreadable"),
        ("silent_nobody.mp4", "shots", "no_face"),
        ("no_video.mp4", "probe", "no_video"),
        ("short.mp4", "probe", "too_short"),
        ("nobody.mp4", "shots", "no_face"),
    ],
)
def test_a_bad_file_costs_one_reject_with_its_reason(
    curated: Run, messy_folder: Path, name: str, stage: str, reason: str
) -> None:
    rejects = [reject for reject in Dataset(curated.out).rejects() if reject.uri == str(messy_folder / name)]
    assert [(reject.stage, reject.reason) for reject in rejects] == [(stage, reason)]
    assert rejects[0].detail


def test_there_are_no_other_rejects(curated: Run) -> None:
    assert len(Dataset(curated.out).rejects()) == 8


def test_a_second_run_computes_nothing_and_writes_the_same_bytes(curated: Run, tmp_path: Path) -> None:
    out = shutil.copytree(curated.out, tmp_path / "again")
    assert curate(out, *curated.options).code == 0
    worked = progress(out)
    assert {stage for stage, _ in worked} == set(STAGES)
    assert [stage for stage, fresh in worked if fresh] == []
    assert published(out) == published(curated.out)


def test_two_processes_give_the_same_bytes(curated: Run, tmp_path: Path) -> None:
    out, log = tmp_path / "two", tmp_path / "log"
    child = start("curate", *curated.options, "--out", str(out), "--workers", "2", "--quiet", log=log)
    assert child.wait(timeout=240) == 0, log.read_text()
    assert published(out) == published(curated.out)
    workers = list((out / "_work/progress").glob("*.tsv"))
    assert 1 <= len(workers) <= 2
    assert f"{child.pid}.tsv" not in {path.name for path in workers}


def test_a_killed_run_leaves_nothing_to_trust_and_the_same_command_finishes_it(
    curated: Run, tmp_path: Path, capsys: Capture
) -> None:
    out, log = tmp_path / "killed", tmp_path / "log"
    child = start("curate", *curated.options, "--out", str(out), "--quiet", log=log)
    deadline = time.monotonic() + 120
    tick = threading.Event()
    while not list(out.glob("_work/ledger/track/*.json")):
        assert child.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        tick.wait(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (out / "manifest.json").exists()
    assert main(["verify", str(out)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert curate(out, *curated.options).code == 0
    worked = progress(out)
    assert ("track", False) in worked
    assert ("fit", True) in worked
    assert published(out) == published(curated.out)
    assert not [path for path in out.rglob("*") if path.name.startswith(".partial")]


def test_a_takedown_is_respected_by_a_later_run(curated: Run, row: Row, tmp_path: Path) -> None:
    out = shutil.copytree(curated.out, tmp_path / "removed")
    assert main(["remove", str(out), "--video", str(row["video_id"])]) == 0
    assert len(Dataset(out)) == 0
    assert curate(out, *curated.options).code == 0
    assert len(Dataset(out)) == 0
    assert row["video_id"] not in {reject.video_id for reject in Dataset(out).rejects()}
    assert verify(Dataset(out).files).sound
    assert not [path for path in out.rglob("*") if str(row["video_id"])[:16] in path.name]


def test_a_damaged_work_file_is_noticed_and_made_again_once_deleted(curated: Run, tmp_path: Path) -> None:
    out = shutil.copytree(curated.out, tmp_path / "damaged")
    (file,) = (out / "_work/score").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:-100] + bytes(100))
    run = curate(out, *curated.options)
    assert run.code == 1
    said = [line for line in run.stderr.splitlines() if line.startswith("duologue curate:")]
    assert len(said) == 1
    assert "is damaged; delete it and run again" in said[0]
    assert "Traceback" in (out / "_work/error.log").read_text()
    file.unlink()
    assert curate(out, *curated.options).code == 0
    assert [stage for stage, fresh in progress(out) if fresh] == ["score"]
    assert published(out) == published(curated.out)


def test_separated_voices_lie_beside_the_pairs(curated: Run, tmp_path: Path) -> None:
    """Only the rows are made again; everything before comes from the ledger. Without a pipeline: one line, no work."""
    from pyannote_factory import make_separator

    out = shutil.copytree(curated.out, tmp_path / "separated")
    source = make_separator(tmp_path / "pyannote")
    options = ["--set", "backends.separation=pyannote", "--set", f"backends.separation_path={source}"]
    assert curate(out, *curated.options, *options).code == 0
    data = Dataset(out)
    (entry,) = data.manifest.of_kind("voices")
    (row,) = pq.read_table(out / entry.path).to_pylist()
    assert row["pair_id"] == data.ids()[0]
    heard = [decode_audio(row[f"{who}.audio"]["bytes"]) for who in "ab" if row[f"{who}.audio"]]
    assert all(abs(len(sound) / 16000 - (row["end_s"] - row["start_s"])) < 0.01 for sound in heard)
    assert (row["residual_share"] < 1.0) == bool(
        heard
    )  # this pipeline parts voices at 1 kHz: espeak's share both bands
    (pair,) = data.rows()
    assert ("separate", f"pyannote:{source}") in {(b["stage"], b["name"]) for b in pair["backends"]}
    assert verify(data.files).sound
    assert {name for name, fresh in progress(out) if fresh} == {"score"}
    refused = curate(tmp_path / "no", *curated.options, "--set", "backends.separation=pyannote")
    assert refused.code == 2
    assert refused.stderr.count("\n") == 1
    assert not Dataset(curated.out).manifest.of_kind("voices")


def test_a_silent_film_is_kept_when_geometry_is_all_that_is_wanted(silent_run: Run) -> None:
    assert silent_run.code == 0
    (row,) = Dataset(silent_run.out).rows()
    assert row["audio"] is None
    assert row["turns"] == []
    assert np.isnan(np.asarray(row["a.speaking"], np.float32)).all()
    assert np.asarray(row["a.valid"]).mean() > 0.9
    assert 0.2 < np.nanmedian(np.asarray(row["distance_m"])) < 3.0
    assert Dataset(silent_run.out).ids() == [row["pair_id"]]
    assert verify(Dataset(silent_run.out).files).sound


def test_a_silent_film_is_a_reject_otherwise(two_portraits: Path, tmp_path: Path) -> None:
    run = curate(tmp_path / "out", str(two_portraits))
    assert run.code == 0
    assert [(reject.stage, reject.reason) for reject in Dataset(run.out).rejects()] == [("shots", "no_audio")]
    assert len(Dataset(run.out)) == 0


def test_a_broken_setup_stops_the_job_with_one_line(
    two_portraits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("no such device")

    monkeypatch.setattr(FaceDetector, "detect", broken)
    run = curate(tmp_path / "out", str(two_portraits), "--quiet", "--set", "run.min_failed=1")
    assert run.code == 1
    assert "Traceback" not in run.stderr
    line = run.stderr.splitlines()[-1]
    assert line.startswith("duologue curate: gave up: 1 of 1 items broke in stage scan: 1 x OSError: no such device")
    assert "while running" not in line
    assert not (run.out / "manifest.json").exists()


def test_rows_open_with_pyarrow_alone(curated: Run) -> None:
    (shard,) = (curated.out / "pairs").glob("*.parquet")
    table = pq.read_table(shard)
    assert table.num_rows == 1
    assert b"m" in {(field.metadata or {}).get(b"unit", b"") for field in table.schema}
