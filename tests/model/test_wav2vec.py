"""Audio encoders from a local folder: both published variants, safetensors and torch files, clear errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from duologue.model import checkpoint
from duologue.model.audio_features import AudioOptions, front_end
from duologue.model.train import train
from duologue.model.wav2vec import Wav2Vec, Wav2VecOptions, load_folder
from duologue.schemas.errors import UsageError
from safetensors.torch import save_file
from train_factory import config_for, write_small_set

TINY = Wav2VecOptions(channels=8, width=16, layers=2, heads=2, feed_forward=24, position_kernel=4, position_groups=2)
BASE = replace(TINY, layer_normed=False, pre_norm=False, bias=False)


def write(folder: Path, options: Wav2VecOptions, kind: str = "wav2vec2", file: str = "model.safetensors") -> Wav2Vec:
    """A published model's folder, with a head that is not the encoder's."""
    torch.manual_seed(0)
    model = Wav2Vec(options).eval()
    config = {
        "model_type": kind, "conv_dim": [options.channels] * 7, "conv_kernel": options.kernels,
        "conv_stride": options.strides, "hidden_size": options.width, "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads, "intermediate_size": options.feed_forward,
        "num_conv_pos_embeddings": options.position_kernel, "num_conv_pos_embedding_groups": options.position_groups,
        "feat_extract_norm": "layer" if options.layer_normed else "group", "do_stable_layer_norm": options.pre_norm,
        "conv_bias": options.bias,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    state = {f"{kind}.{name}": value.contiguous() for name, value in model.state_dict().items()}
    state["lm_head.weight"] = torch.zeros(3, options.width)
    if file.endswith("bin"):
        torch.save(state, folder / file)
    else:
        save_file(state, folder / file)
    return model


@pytest.mark.parametrize(
    ("options", "kind", "file"),
    [
        (TINY, "wav2vec2", "model.safetensors"),
        (BASE, "hubert", "model.safetensors"),
        (BASE, "wav2vec2", "pytorch_model.bin"),
    ],
)
def test_a_folder_gives_the_model_that_was_saved(tmp_path: Path, options: Wav2VecOptions, kind: str, file: str) -> None:
    model = write(tmp_path, options, kind, file)
    loaded, digest = load_folder(tmp_path)
    assert len(digest) == 64
    sound = torch.randn(1, 16_000)
    torch.testing.assert_close(loaded(sound, 25), model(sound, 25))
    front = front_end(AudioOptions(encoder=str(tmp_path)), 25.0)
    assert front(torch.randn(2, 32_000)).shape == (2, 50, 16)


def test_the_base_variant_differs_from_the_large_one() -> None:
    torch.manual_seed(0)
    names = set(Wav2Vec(BASE).state_dict())
    assert "feature_extractor.conv_layers.0.layer_norm.weight" in names
    assert "feature_extractor.conv_layers.1.layer_norm.weight" not in names
    assert "feature_extractor.conv_layers.0.conv.bias" not in names
    out = Wav2Vec(BASE).eval()(torch.randn(1, 16_000))
    torch.testing.assert_close(out.mean(-1), torch.zeros(1, 49), atol=1e-4, rtol=0)  # its last act is a layer norm


def test_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no readable config.json"):
        load_folder(tmp_path)
    write(tmp_path, TINY)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(UsageError, match="cannot be read"):
        load_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"neither model.safetensors nor"):
        load_folder(tmp_path)
    write(tmp_path, replace(TINY, layers=1))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(UsageError, match="tensors missing"):
        load_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "whisper"}))
    with pytest.raises(UsageError, match="whisper"):
        load_folder(tmp_path)


def test_another_encoders_weights_are_refused(tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    write(encoder, TINY)
    it = config_for(
        write_small_set(tmp_path / "set"), tmp_path / "run", audio={"width": 16, "layers": 1, "encoder": str(encoder)}
    )
    train(it, until=1)
    checkpoint.load_trained(it.out)
    (encoder / "model.safetensors").unlink()
    write(encoder, replace(TINY, feed_forward=32))
    for load in (lambda: checkpoint.load_trained(it.out), lambda: train(it, until=2)):
        with pytest.raises(UsageError, match="was trained with other weights of the audio encoder"):
            load()
