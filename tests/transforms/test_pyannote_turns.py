"""pyannote pipelines: the real loader on checkpoints made here, joining over pieces, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from duologue.schemas.errors import UsageError
from duologue.transforms import torchaudio_shim
from duologue.transforms.listen import ListenOptions
from duologue.transforms.pyannote_turns import PyannoteOptions, PyannotePiece, PyannoteTurns, join_pieces
from pyannote_factory import make_pipeline


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> PyannoteTurns:
    return PyannoteTurns(str(make_pipeline(tmp_path_factory.mktemp("pyannote") / "pipeline")))


def test_a_local_folder_goes_through_the_real_loader(pipeline: PyannoteTurns, tmp_path: Path) -> None:
    import os

    rng = np.random.default_rng(0)
    audio = (rng.normal(0, 0.1, 12 * 16000) * np.abs(np.sin(np.arange(12 * 16000) / 9000))).astype(np.float32)
    piece = pipeline.piece(audio, 100.0, keep=(101.0, 111.0))
    assert piece.segments, "a random network labels something"
    assert all(101.0 <= s < e <= 111.0 for s, e, _ in piece.segments)
    assert piece.embedding.shape[0] >= 1 + max(k for _, _, k in piece.segments)
    turns = join_pieces([piece])
    assert turns[0].speaker == "v0"
    assert turns == join_pieces([pipeline.piece(audio, 100.0, keep=(101.0, 111.0))])
    np.savez(tmp_path / "p.npz", **piece.to_arrays())
    with np.load(tmp_path / "p.npz") as stored:
        assert join_pieces([PyannotePiece.from_arrays(dict(stored))]) == turns
    whole = pipeline(audio, 100.0, ListenOptions(piece_s=6.4))
    assert whole[0].start_s >= 100.0
    assert whole[-1].end_s <= 112.0
    assert len(pipeline.backend.weights_sha256) == 64
    assert os.environ["PYANNOTE_METRICS_ENABLED"] == "0"


@pytest.mark.parametrize("audio", [np.zeros(0, np.float32), np.zeros(48000, np.float32)], ids=["empty", "silence"])
def test_silence_gives_nothing(pipeline: PyannoteTurns, audio: np.ndarray) -> None:
    assert join_pieces([pipeline.piece(audio, 0.0)]) == []
    assert pipeline(audio, 0.0) == []


def test_speakers_are_joined_over_pieces() -> None:
    one, two, three = np.eye(3, 8, dtype=np.float32)
    pieces = [
        PyannotePiece(((1.0, 4.0, 0), (4.0, 10.0, 1)), np.stack([one, two])),
        PyannotePiece(((10.0, 12.0, 0), (11.0, 13.0, 1)), np.stack([two + 0.1 * one, three])),
        PyannotePiece(((21.0, 22.0, 0),), (one + 0.2 * two)[None]),
    ]
    turns = join_pieces(pieces)
    assert [(t.start_s, t.end_s, t.speaker) for t in turns] == [
        (1.0, 4.0, "v0"),
        (4.0, 12.0, "v1"),
        (11.0, 13.0, "v2"),
        (21.0, 22.0, "v0"),
    ]
    assert {t.speaker for t in join_pieces(pieces, PyannoteOptions(same_voice=1.1))} == {f"v{i}" for i in range(5)}
    assert join_pieces([]) == []


@pytest.mark.parametrize("source", ["/nowhere/at/all", "no-owner", "a/b/c"])
def test_what_cannot_be_had_is_one_clear_line(source: str) -> None:
    with pytest.raises(UsageError) as caught:
        PyannoteTurns(source)
    assert source in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_pipeline(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.yaml"):
        PyannoteTurns(str(tmp_path))
    (tmp_path / "config.yaml").write_text("pipeline:\n  name: pyannote.audio.pipelines.NoSuchPipeline\n")
    with pytest.raises(UsageError, match="cannot load"):
        PyannoteTurns(str(tmp_path))


def test_a_hub_id_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    torchaudio_shim.install()
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError) as caught:
        PyannoteTurns("nobody/no-such-pipeline")
    assert "nobody/no-such-pipeline" in str(caught.value)
