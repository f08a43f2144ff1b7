from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from duologue.cli import main
from duologue.fitting.load_head import load_head_model
from duologue.fitting.reduce import reduce, reduced_landmarks
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from duologue.schemas.row import Pair
from duologue.schemas.verify import verify
from duologue.synthesis import voices
from duologue.synthesis.behaviour import Manner, gaze_plan, voice_signals
from duologue.synthesis.motion import RATE
from duologue.synthesis.parameters import (
    OUTLINE,
    ParameterOptions,
    behave_again,
    draw_layout,
    make_conversation,
    write_parameters,
)
from duologue.synthesis.script import Line
from duologue.synthesis.smalltalk import sentence
from duologue.synthesis.voices import Phoneme, Utterance
from scipy.spatial.transform import Rotation

needs_espeak = pytest.mark.skipif(not voices.available(), reason="espeak-ng is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not voices.available():
        pytest.skip("espeak-ng is not installed")
    folder = tmp_path_factory.mktemp("parameters") / "set"
    assert main(["synthesize", "--parameters", "14", "--seed", "3", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def pairs(made: Path) -> list[Pair]:
    return list(Dataset(made).pairs())


def test_the_set_is_sound_and_every_row_is_selected(made: Path, pairs: list[Pair]) -> None:
    report = verify(made)
    assert report.sound, report.problems
    assert len(pairs) == 14
    assert {pair.source.origin for pair in pairs} == {"synthetic"}


def test_nobody_appears_in_two_conversations(pairs: list[Pair]) -> None:
    people: dict[str, set[str]] = {}
    for pair in pairs:
        for person in (pair.person_a, pair.person_b):
            people.setdefault(person, set()).add(pair.source.video_id)
    assert all(len(videos) == 1 for videos in people.values())
    assert len(people) == 6


def test_lips_lead_the_sound_of_whoever_speaks_and_rest_otherwise(pairs: list[Pair]) -> None:
    own, swapped, silent = [], [], []
    for pair in pairs:
        level = 10 * np.log10((pair.voices.samples().reshape(250, -1) ** 2).mean(1) + 1e-8)
        a, b = pair.fitted.a.jaw[:, 0], pair.fitted.b.jaw[:, 0]
        talk_a, talk_b = pair.voices.speaking_a > 0, pair.voices.speaking_b > 0
        for jaw, other, alone in ((a, b, talk_a & ~talk_b), (b, a, talk_b & ~talk_a)):
            at = np.flatnonzero(alone[3:])
            if len(at) > 25:
                own.append(np.corrcoef(jaw[at], level[at + 3])[0, 1])
                swapped.append(other[at].mean())
                silent.append(jaw[at].mean())
    assert np.mean(own) > 0.3
    assert np.mean(silent) > 4 * np.mean(swapped)


def test_turns_tell_the_truth_about_the_sound(pairs: list[Pair]) -> None:
    for pair in pairs:
        samples = pair.voices.samples()
        times = pair.source.start_s + np.arange(len(samples)) / 16000
        speech = np.zeros(len(samples), bool)
        for turn in pair.voices.turns:
            speech |= (times >= turn.start_s) & (times < turn.end_s)
        if 0.05 < speech.mean() < 0.95:
            assert samples[speech].std() > 3 * samples[~speech].std()


def test_rows_do_not_depend_on_their_number(made: Path, tmp_path: Path) -> None:
    write_parameters(tmp_path / "few", ParameterOptions(4, seed=3))
    few = {row["pair_id"]: row for row in Dataset(tmp_path / "few").rows()}
    many = {row["pair_id"]: row for row in Dataset(made).rows()}
    assert len(few) == 4
    for key, row in few.items():
        np.testing.assert_array_equal(row["a.expression"], many[key]["a.expression"])
        assert row["audio"] == many[key]["audio"]


def test_several_shards_hold_every_row_once(tmp_path: Path) -> None:
    if not voices.available():
        pytest.skip("espeak-ng is not installed")
    write_parameters(tmp_path / "set", ParameterOptions(7, seed=5, rows_per_shard=3))
    dataset = Dataset(tmp_path / "set")
    assert len(dataset.shards) == 3
    assert len(dataset.ids()) == 7
    assert not (tmp_path / "set" / "_work").exists()


def test_a_set_that_is_there_is_left_alone(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = hashlib.sha256((made / "manifest.json").read_bytes()).digest()
    assert main(["synthesize", "--parameters", "2", "--out", str(made)]) == 2
    assert "holds a data set already" in capsys.readouterr().err
    assert hashlib.sha256((made / "manifest.json").read_bytes()).digest() == before


@needs_espeak
@pytest.mark.parametrize("name", ["README.md", "_work/ledger/scan/piece.json", "pairs/pairs-00000-of-00001.parquet"])
def test_files_of_something_else_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=r"is not a data set|unfinished run"):
        write_parameters(tmp_path, ParameterOptions(1))
    assert (tmp_path / name).read_text() == "mine"


@needs_espeak
def test_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    run = (
        "import resource, sys\n"
        "from duologue.synthesis.parameters import ParameterOptions, write_parameters\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "write_parameters(sys.argv[1], ParameterOptions(42, rows_per_shard=1))\n"
    )
    command = [sys.executable, "-c", run, str(tmp_path / "set")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert verify(tmp_path / "set").sound
    assert len(list((tmp_path / "set" / "pairs").iterdir())) == 42


def test_boxes_count_from_pixel_centres(pairs: list[Pair]) -> None:
    model = load_head_model("canonical")
    outline = reduce(model, OUTLINE)
    fitted = pairs[0].fitted
    for head in (fitted.a, fitted.b):
        shape = np.broadcast_to(head.shape, (len(head.valid), len(head.shape)))
        points = reduced_landmarks(outline, shape, head.expression, head.jaw) - model.posed_joints(head.shape)[0]
        turned = Rotation.from_rotvec(head.rotation).as_matrix() @ np.diag([1.0, -1.0, -1.0])
        placed = np.einsum("tij,tlj->tli", turned, points) + head.translation[:, None]
        pixels = placed[..., :2] / placed[..., 2:] * fitted.focal_px + [(fitted.width - 1) / 2, (fitted.height - 1) / 2]
        np.testing.assert_allclose(head.box, np.concatenate([pixels.min(1), pixels.max(1)], axis=1), atol=0.15)


def test_wrong_options_cost_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synthesize", "--parameters", "0", "--out", str(tmp_path / "x")]) == 2
    assert main(["synthesize", "--parameters", "3", "--seconds", "4", "--out", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_no_espeak_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> None:
        raise voices.UsageError("speech synthesis needs espeak-ng: apt-get install espeak-ng")

    monkeypatch.setattr("duologue.synthesis.exchange.speak", absent)
    with pytest.raises(voices.UsageError, match="needs espeak-ng"):
        write_parameters(tmp_path / "set", ParameterOptions(2))
    assert not (tmp_path / "set" / "manifest.json").exists()


@needs_espeak
def test_a_conversation_is_seeded_and_its_heads_stay_in_the_picture() -> None:
    model = load_head_model("canonical")
    outline = reduce(model, OUTLINE)
    one, two, other = (make_conversation(model, outline, 4, k) for k in (2, 2, 3))
    np.testing.assert_array_equal(one.sound, two.sound)
    np.testing.assert_array_equal(one.heads[0].rotation, two.heads[0].rotation)
    assert np.abs(one.heads[0].rotation - other.heads[0].rotation).max() > 0.01
    again, same, third = (behave_again(model, outline, one, 4, draw) for draw in (0, 0, 1))
    assert again.lines is one.lines
    np.testing.assert_array_equal(again.heads[0].shape, one.heads[0].shape)
    np.testing.assert_array_equal(again.heads[0].gaze, same.heads[0].gaze)
    for drawn in (one, third):  # they behave anew, in the same places
        assert np.abs(again.heads[0].rotation - drawn.heads[0].rotation).max() > 0.05
        assert np.linalg.norm(again.heads[1].head_centre - drawn.heads[1].head_centre, axis=1).mean() < 0.15
    for head in one.heads:
        assert head.box[:, :2].min() >= 0
        assert (head.box[:, 2] <= 1920).all()
        assert (head.box[:, 3] <= 1080).all()
        speed = np.degrees(np.abs(np.diff(head.rotation, axis=0))).max()
        assert speed < 30.0  # degrees a frame


def test_listeners_look_more_than_speakers() -> None:
    rng = np.random.default_rng(0)
    block = round(4 * RATE)
    own = np.tile(np.r_[np.ones(block), np.zeros(block)], 60).astype(bool)
    plan = gaze_plan(rng, own, ~own, Manner(), 1.0)
    assert (plan[~own] == 0).mean() > (plan[own] == 0).mean() + 0.15
    runs = np.diff(np.flatnonzero(np.diff(plan)))
    assert runs.min() >= 0.1 * RATE


def test_stress_is_where_the_voice_is_loud() -> None:
    wave = np.full(16000, 0.01, np.float32)
    wave[8000:9600] = 0.5
    line = Line(1, 1.0, Utterance("Is it?", wave, (Phoneme("a", 0.0, 1.0),)), "turn")
    heard = voice_signals((line,), 1, round(3 * RATE))
    assert abs(int(heard.stress.argmax()) - round(1.55 * RATE)) < 0.05 * RATE
    assert heard.question[round(1.95 * RATE)] > 0.5
    assert heard.speaking.sum() == RATE
    assert not voice_signals((line,), 0, round(3 * RATE)).stress.any()


def test_layouts_vary_and_sentences_have_no_holes() -> None:
    rng = np.random.default_rng(1)
    layouts = [draw_layout(rng) for _ in range(300)]
    distances = [layout["distance_m"] for layout in layouts]
    assert min(distances) < 0.45
    assert max(distances) > 2.0
    texts = {sentence(rng) for _ in range(200)}
    assert len(texts) > 190
    assert not any("{" in text for text in texts)
