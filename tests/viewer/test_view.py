"""``duologue view``: the folder it writes, and what it says when it cannot."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import make_pair, make_pairs, without_audio, write_dataset
from duologue.cli import main
from duologue.fitting.load_head import load_head_model
from duologue.schemas.dataset import Dataset
from duologue.schemas.row import Pair
from duologue.viewer.page_data import as_json, page_facts, pair_data
from duologue.viewer.view import chosen_ids, page_html


def with_canonical_head(pair: Pair) -> Pair:
    """The same pair as if it had been fitted with the embedded head model, whose sha256 it then names."""
    model = load_head_model("canonical")
    return replace(pair, fitted=replace(pair.fitted, head_model_id=model.model_id, head_model_sha256=model.sha256))


def facts_in(page: Path) -> dict[str, object]:
    found = re.search(r"App\.start\((\{.*\})\);</script>", page.read_text())
    assert found is not None
    facts: dict[str, object] = json.loads(found.group(1))
    return facts


def test_writes_a_page_that_needs_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = write_dataset(tmp_path / "set", [with_canonical_head(pair) for pair in make_pairs(3)])
    assert main(["view", str(tmp_path / "set")]) == 0
    page = tmp_path / "set" / "view" / "index.html"
    assert str(page) in capsys.readouterr().out
    names = {path.relative_to(page.parent).as_posix() for path in page.parent.rglob("*") if path.is_file()}
    assert names == {"index.html", "model.js", *(f"pairs/{pair.pair_id}.js" for pair in pairs)}
    for path in page.parent.rglob("*.*"):
        if path.is_file():
            text = path.read_text()
            assert "http:" not in text
            assert "https:" not in text
            assert "fetch(" not in text
    facts = facts_in(page)
    assert facts["total"] == 3
    assert facts["model"] is True


def test_the_data_set_is_still_sound_with_a_page_inside(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    assert main(["view", str(tmp_path)]) == 0
    assert main(["report", str(tmp_path)]) == 0
    assert main(["verify", str(tmp_path)]) == 0


def test_ten_seconds_stay_under_five_megabytes(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", [with_canonical_head(make_pair(1, frames=250))])
    assert main(["view", str(tmp_path / "set"), "--out", str(tmp_path / "page")]) == 0
    assert sum(path.stat().st_size for path in (tmp_path / "page").rglob("*.*") if path.is_file()) < 5_000_000


def test_another_head_model_is_not_used(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", [make_pair(1)])
    assert main(["view", str(tmp_path / "set"), "--out", str(tmp_path / "page")]) == 0
    assert facts_in(tmp_path / "page" / "index.html")["model"] is False
    assert not (tmp_path / "page" / "model.js").exists()


def test_a_page_does_not_lie_among_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "set", [make_pair(1)])
    before = sorted(tmp_path.rglob("*"))
    assert main(["view", str(tmp_path / "set"), "--out", str(tmp_path / "set")]) == 2
    assert "is a data set: give the page a folder of its own" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "set/manifest.json").write_text("{")  # damaged, but the shards are there
    write_dataset(tmp_path / "other", [make_pair(2)])
    assert main(["view", str(tmp_path / "other"), "--out", str(tmp_path / "set")]) == 2
    assert "is a data set" in capsys.readouterr().err
    assert sorted((tmp_path / "set").rglob("*")) == [path for path in before if path != tmp_path / "set"]


def test_the_manifest_of_a_web_site_is_no_data_set(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", [make_pair(1)])
    (tmp_path / "site").mkdir()
    (tmp_path / "site/manifest.json").write_text('{"name": "my site"}')
    assert main(["view", str(tmp_path / "set"), "--out", str(tmp_path / "site")]) == 0
    assert (tmp_path / "site/index.html").exists()


def test_another_page_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "set", [make_pair(1)])
    site = tmp_path / "site"
    (site / "pairs").mkdir(parents=True)
    (site / "pairs" / "library.js").write_text("mine")
    (site / "index.html").write_text("<h1>mine</h1>")
    assert main(["view", str(tmp_path / "set"), "--out", str(site)]) == 2
    assert "is another page" in capsys.readouterr().err
    assert (site / "index.html").read_text() == "<h1>mine</h1>"
    (site / "index.html").unlink()
    for _ in range(2):
        assert main(["view", str(tmp_path / "set"), "--out", str(site)]) == 0
    assert (site / "pairs" / "library.js").read_text() == "mine"


def test_a_second_run_forgets_pairs_and_model_that_are_gone(tmp_path: Path) -> None:
    second = with_canonical_head(make_pair(2))
    second = replace(second, fitted=replace(second.fitted, head_model_sha256="0" * 64))
    pairs = write_dataset(tmp_path / "set", [with_canonical_head(make_pair(1)), second])
    page = tmp_path / "page"
    other = next(pair for pair in pairs if pair.fitted.head_model_sha256 == "0" * 64)
    assert main(["view", str(tmp_path / "set"), "--out", str(page)]) == 0
    assert (page / "model.js").exists()
    assert main(["view", str(tmp_path / "set"), "--out", str(page), "--pair", other.pair_id[:10]]) == 0
    assert [path.stem for path in (page / "pairs").iterdir()] == [other.pair_id]
    assert not (page / "model.js").exists()


def test_selected_pairs_come_first_and_the_limit_holds(tmp_path: Path) -> None:
    write_dataset(tmp_path, make_pairs(7))
    dataset = Dataset(tmp_path)
    ids = chosen_ids(dataset, [], 6)
    selected = set(dataset.ids())
    assert len(ids) == 6
    assert len(selected) == 6
    assert set(ids) == selected
    assert chosen_ids(dataset, [], 100)[-1] not in selected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing"], "not a folder"),
        (["SET", "--pair", "zzz"], "no pair zzz"),
        (["SET", "--limit", "0"], "--limit 0"),
        (["SET", "--head-model", "nowhere.npz"], "no such file"),
        (["SET", "--video"], "is not here: videos/"),
        (["SET", "--out", "FILE"], "cannot write"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "set", [make_pair(1)])
    (tmp_path / "file").write_text("in the way")
    places = {"SET": str(tmp_path / "set"), "FILE": str(tmp_path / "file"), "missing": str(tmp_path / "missing")}
    assert main(["view", *(places.get(word, word) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_text_from_outside_cannot_end_a_script() -> None:
    pair = make_pair(1)
    pair = replace(pair, source=replace(pair.source, source_uri="</script><script>alert(1)</script>"))
    text = as_json(pair_data(pair, None, None))
    assert "<" not in text
    assert json.loads(text)["source"]["source_uri"] == pair.source.source_uri
    page = page_html("</title><b>", {"dataset": "{{style}} </script>", "pairs": []})
    assert page.count("</script>") == 2
    assert "<b>" not in page


def test_a_pair_without_sound_has_no_sound() -> None:
    data = pair_data(without_audio(make_pair(1)), None, None)
    assert data["audio"] is None
    assert data["turns"] == []
    assert json.loads(as_json(data))["scores"]["binding_margin"] is None  # NaN is not JSON


def test_joint_limits_name_existing_scores() -> None:
    from duologue.schemas.pair import SCORES
    from duologue.schemas.selection import DEFAULTS

    facts = page_facts(DEFAULTS)
    assert set(facts["limits"]) <= set(SCORES)
    assert facts["limits"]["face_scale_b"] == {"name": "face_scale_px", "side": ">=", "value": 24.0}
    assert "snr_db" not in page_facts(replace(DEFAULTS, sound=False))["limits"]
    assert page_facts(None)["limits"] == {}


def test_the_outline_follows_the_sound() -> None:
    import base64

    pair = make_pair(1)
    peaks = pair_data(pair, None, None)["audio"]["peaks"]
    outline = np.frombuffer(base64.b64decode(peaks["d"]), "i1").reshape(peaks["s"]) / 127
    samples = pair.voices.samples()
    assert outline[:, 1].max() == pytest.approx(samples.max(), abs=0.01)
    assert outline[:, 0].min() == pytest.approx(samples.min(), abs=0.01)


def test_a_heavy_head_model_is_compacted_alike_in_page_and_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = write_dataset(tmp_path / "set", [with_canonical_head(make_pair(1))])

    def shapes() -> tuple[list[int], list[int]]:
        assert main(["view", str(tmp_path / "set"), "--out", str(tmp_path / "page")]) == 0
        texts = [tmp_path / "page" / "model.js", tmp_path / "page" / "pairs" / f"{pairs[0].pair_id}.js"]
        model, pair = (json.loads(path.read_text().split("(", 1)[1].removesuffix(");\n")) for path in texts)
        return model["expression"]["q"]["s"], pair["a"]["expression"]["s"]

    modes, coefficients = shapes()
    assert (modes[0], coefficients) == (34, [75, 20])
    monkeypatch.setattr("duologue.viewer.view.LARGEST", 10)
    modes, coefficients = shapes()
    assert coefficients == [75, modes[0]]
    assert modes[0] < 20
