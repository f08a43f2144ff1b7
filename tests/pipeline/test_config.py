from __future__ import annotations

from dataclasses import replace

import pytest
from duologue.pipeline.config import CurateConfig, config_hash, config_yaml, load_config
from duologue.schemas.errors import UsageError
from duologue.schemas.records import Backend


def test_defaults_survive_a_round_trip_through_yaml() -> None:
    assert load_config(config_yaml(CurateConfig())) == CurateConfig()


def test_settings_win_over_the_file() -> None:
    config = load_config("clips: {clip_s: 8.0}", ["clips.clip_s=6", "scan.shots.backend=transnetv2"])
    assert config.clips.clip_s == 6.0
    assert config.scan.shots.backend == "transnetv2"


@pytest.mark.parametrize(
    ("text", "settings", "says"),
    [
        ("", ["clips.length=6"], "unknown option clips.length"),
        ("", ["clips.clip_s=long"], "clips.clip_s"),
        ("", ["clips"], "stage.option=value"),
        ("", ["clips.clip_s.x=1"], "clips.clip_s"),
        ("- a\n- b\n", [], "mapping"),
        ("a: [", [], "not YAML"),
        ("trackk: {}", [], "unknown option trackk; known here: audio, backends"),
        ("", ["fit.focl_px=900"], "unknown option fit.focl_px; did you mean fit.focal_px?"),
        ("", ["clip_s=6"], "unknown option clip_s; did you mean scan.clip_s or clips.clip_s?"),
        ("", ["decode.backend=vlc"], "vlc"),
        ("", ["run.rows_per_shard=0"], "run.rows_per_shard: 0 is not at least 1"),
        ("run: {track_piece_s: -60}", [], "run.track_piece_s: -60.0 is not at least 1"),
        ("", ["run.max_failed_share=1.1"], "run.max_failed_share: 1.1 is not from 0 to 1"),
        ("", ["listen.piece_s=-600"], "listen.piece_s"),
        ("", ["listen.hop_s=0"], "listen.hop_s"),
        ("", ["listen.windows_s=[.nan, 1]"], "listen.windows_s"),
        ("", ["clips.clip_s=0"], "clips.clip_s"),
        ("", ["clips.clip_s=2"], "clips.shortest_s: 3 s is longer than clips.clip_s, 2 s"),
        ("", ["fit.fps=0"], "fit.fps"),
        ("", ["scan.people=7"], "scan.people"),
        ("", ["clips.people=1"], "contradicts scan.people"),
        ("", ["scan.shots.ratio=.nan"], "scan.shots.ratio: nan is not a finite number"),
        ("", ["track.detect_every_s=.inf"], "track.detect_every_s"),
    ],
)
def test_faults_are_one_line_that_names_the_option(text: str, settings: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(text, settings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "settings"), [("run: {geometry_only: true}", []), ("", ["run.geometry_only=true"])])
def test_geometry_only_selects_by_geometry_however_it_is_said(text: str, settings: list[str]) -> None:
    assert load_config().select.sound
    assert not load_config(text, settings).select.sound
    assert load_config(text, [*settings, "run.geometry_only=false"]).select.sound


def test_the_hash_is_of_what_is_measured() -> None:
    base = CurateConfig()
    same = replace(
        base,
        select=replace(base.select, snr_db=9.0),
        run=replace(base.run, rows_per_shard=7, landmarks=False),
        fit=replace(base.fit, batch_clips=4),
    )
    elsewhere = replace(base, backends=replace(base.backends, head_model="elsewhere/head.npz", faces_path="models"))
    network = replace(base, backends=replace(base.backends, faces="insightface"))
    head, again, another = (
        Backend("fit", "h", "1" * 64),
        Backend("fit", "moved", "1" * 64),
        Backend("fit", "h", "2" * 64),
    )
    other = replace(base, clips=replace(base.clips, clip_s=9.0))
    assert config_hash(base, [head]) == config_hash(same, [head])
    assert config_hash(base, [head]) == config_hash(elsewhere, [again])  # a model is what it holds, not where it lies
    assert config_hash(base, [head]) != config_hash(other, [head])
    assert config_hash(base, [head]) != config_hash(network, [head])
    assert config_hash(base, [head]) != config_hash(base, [another])
    cuts = Backend("shots", "scenes-1")
    assert config_hash(base, [head, cuts]) == config_hash(base, [cuts, head])
    assert config_hash(base, [head, cuts]) != config_hash(base, [head, Backend("shots", "scenes-2")])
