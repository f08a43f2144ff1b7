"""The page's skinning (JavaScript) against the package's (numpy), vertex by vertex."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import duologue.viewer as viewer
import numpy as np
import pytest
from dataset_factory import make_pair
from duologue.fitting.head_model import HeadModel
from duologue.fitting.load_head import load_head_model
from duologue.schemas.row import Pair
from duologue.viewer.compact import Basis, compact_modes
from duologue.viewer.overlay import head_vertices
from duologue.viewer.page_data import model_data, pack, pack_modes, pair_data
from head_model_factory import with_everything

STATIC = Path(viewer.__file__).parent / "static"
NODE = shutil.which("node")
RUN = """
const Pose = require(process.argv[1]);
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
const head = Pose.model(given.model), out = {};
for (const who of ["a", "b"]) {
  const person = Pose.person(given.pair[who]);
  out[who] = given.frames.map((k) => { const v = Pose.vertices(head, person, k); return v && Array.from(v); });
}
process.stdout.write(JSON.stringify(out));
"""


def fitting_pair(model: HeadModel, seed: int = 3) -> Pair:
    """A pair whose rows refer to ``model``, with random neck, jaw and eyes."""
    pair = make_pair(seed, frames=60)
    rng = np.random.default_rng(seed)
    heads = {}
    for who in ("a", "b"):
        head = getattr(pair.fitted, who)
        expression = 0.5 * rng.normal(size=(60, len(model.expression_names)))
        expression[~head.valid] = np.nan
        neck = np.where(head.valid[:, None], 0.2 * rng.normal(size=(60, 3)), np.nan)
        heads[who] = replace(
            head,
            shape=rng.normal(size=len(model.shape_names)).astype(np.float32),
            expression=expression.astype(np.float32),
            neck=neck.astype(np.float32),
        )
    fitted = replace(pair.fitted, head_model_id=model.model_id, head_model_sha256=model.sha256, **heads)
    return replace(pair, fitted=fitted)


def in_javascript(pair: Pair, model: HeadModel, frames: list[int], basis: Basis | None = None) -> dict[str, Any]:
    """Vertices of both heads as the page poses them; None where it draws none."""
    if NODE is None:
        pytest.skip("node is not on this machine")
    given = {"model": model_data(model, basis), "pair": pair_data(pair, model, None, basis), "frames": frames}
    done = subprocess.run(
        [NODE, "-e", RUN, str(STATIC / "pose.js")], input=json.dumps(given), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("make", [lambda: load_head_model("canonical"), with_everything], ids=["canonical", "all"])
def test_posed_as_in_python(make: Any) -> None:
    model = make()
    pair = fitting_pair(model)
    frames = [k for k in range(0, 60, 7) if pair.fitted.a.valid[k] and pair.fitted.b.valid[k]]
    assert len(frames) >= 5
    found = in_javascript(pair, model, frames)
    for who in ("a", "b"):
        for place, k in enumerate(frames):
            expected = head_vertices(model, getattr(pair.fitted, who), k)
            assert np.abs(np.reshape(found[who][place], (-1, 3)) - expected).max() < 2e-5  # metres


def test_nothing_is_posed_where_nothing_was_measured() -> None:
    model = load_head_model("canonical")
    pair = fitting_pair(model)
    for who in ("a", "b"):
        valid = getattr(pair.fitted, who).valid
        assert not valid.all()
        found = in_javascript(pair, model, list(range(60)))[who]
        assert [one is not None for one in found] == valid.tolist()


def test_a_compact_basis_moves_the_same_vertices() -> None:
    model = load_head_model("canonical")
    pair = fitting_pair(model)
    heads = (pair.fitted.a, pair.fitted.b)
    basis = compact_modes(model.expression_dirs, np.concatenate([head.expression for head in heads]))
    k = int(np.flatnonzero(heads[0].valid)[4])
    found = np.reshape(in_javascript(pair, model, [k], basis)["a"][0], (-1, 3))
    error = np.linalg.norm(found - head_vertices(model, heads[0], k), axis=1)
    assert np.sqrt(np.mean(error**2)) < 7e-5


def test_compact_finds_the_rank_of_the_motion() -> None:
    rng = np.random.default_rng(0)
    modes = rng.normal(size=(200, 3, 40)) * 1e-3
    low = rng.normal(size=(90, 4)) @ rng.normal(size=(4, 40))
    low[7] = np.nan
    basis = compact_modes(modes, low)
    assert basis.modes.shape == (200, 3, 4)
    made = basis.coefficients(low)
    assert np.isnan(made[7]).all()
    good = np.isfinite(low).all(axis=1)
    assert np.abs(made[good] @ basis.modes.reshape(-1, 4).T - low[good] @ modes.reshape(-1, 40).T).max() < 1e-4


def test_modes_are_rounded_far_below_the_measurement() -> None:
    modes = np.random.default_rng(1).normal(size=(50, 3, 6)) * np.array([1e-2, 1e-3, 1e-4, 0, 1, 5e-2])
    packed = pack_modes(modes)
    q = np.frombuffer(base64.b64decode(packed["q"]["d"]), "<i2").reshape(packed["q"]["s"])
    scale = np.frombuffer(base64.b64decode(packed["scale"]["d"]), "<f4")
    back = np.moveaxis(q * scale[:, None, None], 0, 2)
    assert np.abs(back - modes).max(axis=(0, 1)) == pytest.approx(0, abs=1.1 * np.abs(modes).max() / 65534)


def test_packed_nan_stays_nan() -> None:
    spec = pack(np.array([[1.0, np.nan]]))
    assert spec["s"] == [1, 2]
    assert np.isnan(np.frombuffer(base64.b64decode(spec["d"]), "<f4")[1])
