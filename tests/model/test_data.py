"""The loader: what is in a batch, the order for any number of workers, exact resume, ranks, windows, augmentation."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_factory import make_pair, without_audio, write_dataset
from duologue.fitting.head_model import rotation_matrix
from duologue.fitting.load_head import load_head_model
from duologue.model.augment import MirrorMaps, mirror_maps, reflect
from duologue.model.data import Batch, LoaderOptions, PairLoader
from duologue.model.mix import MixedLoader
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from duologue.schemas.finish import reselect
from duologue.schemas.row import Pair
from duologue.schemas.selection import SelectionOptions

ALL = LoaderOptions(batch_size=4, window=50, split="", selected=False, pool_groups=1, workers=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pairs of 40, 75 and 130 frames in six shards, so in six row groups."""
    root = tmp_path_factory.mktemp("set")
    pairs = [make_pair(k, video=f"v{k}", frames=(40, 75, 130)[k % 3]) for k in range(23)]
    write_dataset(root, [*pairs, without_audio(make_pair(23, video="v23", frames=130))], shards=6)
    return root


def epoch(loader: PairLoader) -> list[Batch]:
    return list(loader)


def names(batches: list[Batch]) -> list[tuple[str, int, bool]]:
    return [
        (key, int(start), bool(swap))
        for batch in batches
        for key, start, swap in zip(batch.pair_ids, batch.starts, batch.swapped, strict=True)
    ]


def same(one: Batch, two: Batch) -> bool:
    return all(
        torch.equal(value, getattr(two, name)) if isinstance(value, torch.Tensor) else value == getattr(two, name)
        for name, value in vars(one).items()
    )


def test_a_batch_holds_what_the_rows_hold(folder: Path) -> None:
    pairs = {pair.pair_id: pair for pair in Dataset(folder).pairs(selected=False)}
    seen: Counter[str] = Counter()
    for batch in epoch(PairLoader(folder, replace(ALL, drop_last=False))):
        for i, key in enumerate(batch.pair_ids):
            pair, start, frames = pairs[key], int(batch.starts[i]), int(batch.frames[i])
            part = slice(start, start + 50)
            order = (pair.fitted.b, pair.fitted.a) if batch.swapped[i] else (pair.fitted.a, pair.fitted.b)
            speaking = (pair.voices.speaking_a, pair.voices.speaking_b)
            for slot, head in enumerate(order):
                valid = batch.valid[i, slot].numpy()
                np.testing.assert_array_equal(valid[:frames], head.valid[part])
                assert not valid[frames:].any()
                for name in ("expression", "rotation", "eyes", "gaze", "head_centre"):
                    got = getattr(batch, name)[i, slot].numpy()
                    np.testing.assert_array_equal(
                        got[:frames][valid[:frames]], getattr(head, name)[part][head.valid[part]]
                    )
                    assert not got[~valid].any()  # never NaN
                np.testing.assert_array_equal(batch.shape[i, slot].numpy(), head.shape)
                wanted = speaking[1 - slot if batch.swapped[i] else slot][part]
                np.testing.assert_array_equal(batch.speaking[i, slot, :frames].numpy(), np.nan_to_num(wanted))
            sound = pair.voices.samples()[start * 640 : (start + 50) * 640]
            np.testing.assert_array_equal(batch.audio[i, : len(sound)].numpy(), sound)
            assert bool(batch.audio_valid[i]) == (pair.voices.audio is not None)
            assert batch.audio.shape[1] == 50 * 640
            seen[key] += 1
    assert seen == Counter({key: max(len(pair.fitted.times) // 50, 1) for key, pair in pairs.items()})


@pytest.mark.parametrize("workers", [2, 5])
def test_order_and_bytes_do_not_depend_on_workers(folder: Path, workers: int) -> None:
    one, many = PairLoader(folder, ALL), PairLoader(folder, replace(ALL, workers=workers))
    for _ in range(2):
        a, b = epoch(one), epoch(many)
        assert len(a) == len(one) > 3
        assert all(same(x, y) for x, y in zip(a, b, strict=True))


def test_epochs_seeds_and_no_shuffle(folder: Path) -> None:
    loader = PairLoader(folder, ALL)
    first, second = names(epoch(loader)), names(epoch(loader))
    assert loader.epoch == 2
    assert first != second
    assert names(epoch(PairLoader(folder, ALL))) == first
    assert names(epoch(PairLoader(folder, replace(ALL, seed=1)))) != first
    assert any(start % 50 for _, start, _ in first)  # windows lie anywhere
    assert 0.2 < np.mean([swap for _, _, swap in first]) < 0.8
    stored = names(epoch(PairLoader(folder, replace(ALL, shuffle=False, drop_last=False))))
    ids = [key for key, _, _ in stored]
    assert list(dict.fromkeys(ids)) == [row["pair_id"] for row in Dataset(folder).rows(["pair_id"])]
    assert not any(start % 50 or swap for _, start, swap in stored)


def test_pools_mix_row_groups(folder: Path) -> None:
    shard_of = {
        row["pair_id"]: number
        for number, entry in enumerate(Dataset(folder).shards)
        for row in Dataset(folder).open(entry).read(columns=["pair_id"]).to_pylist()
    }
    for pool, most in ((1, 2), (6, 4)):
        batches = epoch(PairLoader(folder, replace(ALL, pool_groups=pool)))
        kinds = [len({shard_of[key] for key in batch.pair_ids}) for batch in batches]
        assert max(kinds) <= most
        if pool == 6:
            assert np.mean(kinds) > 2


@pytest.mark.parametrize("stop", [0, 1, 3, 5])
def test_resume_gives_the_exact_next_batch(folder: Path, stop: int) -> None:
    whole = PairLoader(folder, replace(ALL, pool_groups=2))
    reference = [*whole, *whole]
    loader = PairLoader(folder, replace(ALL, pool_groups=2, workers=3))
    stream, taken = iter(loader), []
    for _ in range(stop):
        taken.append(next(stream))
    state = loader.state_dict()
    stream.close()  # type: ignore[attr-defined]
    again = PairLoader(folder, replace(ALL, pool_groups=2, workers=2))
    again.load_state_dict(state)
    rest = [*again, *again]
    assert all(same(x, y) for x, y in zip([*taken, *rest], reference, strict=True))
    assert next(iter(loader)).pair_ids == rest[0].pair_ids  # an abandoned iterator's loader goes on as well


def test_resume_reads_nothing_that_lies_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = PairLoader(folder, ALL)
    loader.load_state_dict({"epoch": 0, "batch": len(loader) - 1, "fingerprint": loader.fingerprint})
    read: list[object] = []
    original = PairLoader._read
    monkeypatch.setattr(PairLoader, "_read", lambda self, group: read.append(group) or original(self, group))
    assert len(list(loader)) == 1
    assert 1 <= len(read) <= 3


def test_a_state_of_something_else_is_refused(folder: Path) -> None:
    state = PairLoader(folder, ALL).state_dict()
    PairLoader(folder, replace(ALL, workers=7)).load_state_dict(state)
    for other in (replace(ALL, seed=2), replace(ALL, window=40), replace(ALL, batch_size=5)):
        with pytest.raises(UsageError, match="another data set, other options"):
            PairLoader(folder, other).load_state_dict(state)


def test_ranks_share_the_epoch(folder: Path) -> None:
    options = replace(ALL, batch_size=2)
    loaders = [PairLoader(folder, options, rank=rank, world=2) for rank in (0, 1)]
    assert len(loaders[0]) == len(loaders[1])
    parts = [names(epoch(loader)) for loader in loaders]
    assert len(parts[0]) == len(parts[1]) == 2 * len(loaders[0])
    assert not {key for key, _, _ in parts[0]} & {key for key, _, _ in parts[1]}


def test_splits_and_selection(tmp_path: Path) -> None:
    pairs = [
        make_pair(k, video=f"v{k}", frames=75, scores={"speech_share": 0.1} if k == 3 else None) for k in range(40)
    ]
    write_dataset(tmp_path, pairs, shards=2)
    reselect(tmp_path, SelectionOptions(val_share=0.3))
    data = Dataset(tmp_path)
    for split in ("train", "val"):
        wanted = data.ids(split=split)
        assert wanted
        options = LoaderOptions(batch_size=1, window=75, split=split, workers=1)
        assert sorted(key for key, _, _ in names(epoch(PairLoader(tmp_path, options)))) == wanted
    with pytest.raises(UsageError, match="do not give each of 1 ranks a batch of 64"):
        PairLoader(tmp_path, LoaderOptions(batch_size=64))


def test_refusals(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="manifest"):
        PairLoader(tmp_path)
    with pytest.raises(UsageError, match="head model canonical, this network with flame"):
        PairLoader(folder, ALL, head_model_id="flame")
    with pytest.raises(UsageError, match="25 frames a second, not 30"):
        PairLoader(folder, replace(ALL, fps=30.0))
    with pytest.raises(UsageError, match="batch_size must be positive"):
        LoaderOptions(batch_size=0)
    with pytest.raises(UsageError, match="rank 2 of 2"):
        PairLoader(folder, ALL, rank=2, world=2)
    write_dataset(tmp_path / "other", [make_pair(0, video="other")])
    manifest = tmp_path / "other" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"head_model_id": "canonical"', '"head_model_id": "flame"'))
    with pytest.raises(UsageError, match="is labelled with head model canonical, its manifest says flame"):
        PairLoader(tmp_path / "other", ALL)
    write_dataset(tmp_path / "empty", [])
    with pytest.raises(UsageError, match="has no pair"):
        PairLoader(tmp_path / "empty", ALL)


def test_damage_is_one_line(tmp_path: Path) -> None:
    pairs = [make_pair(k, video=f"v{k}") for k in range(4)]
    broken = replace(pairs[0], voices=replace(pairs[0].voices, audio=b"fLaC" + bytes(100)))
    write_dataset(tmp_path, [broken, *pairs[1:]], shards=1)
    with pytest.raises(UsageError, match=r"group 0, cannot be read \(.*see 'duologue verify'"):
        epoch(PairLoader(tmp_path, ALL))
    assert len(epoch(PairLoader(tmp_path, replace(ALL, audio=False)))) == 1


def test_mixing_by_weight_resumes_too(folder: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, [make_pair(100 + k, video=f"w{k}") for k in range(8)], shards=2)

    def mixed() -> MixedLoader:
        return MixedLoader([PairLoader(folder, ALL), PairLoader(tmp_path, ALL)], [3, 1])

    stream, whole = mixed(), []
    source = iter(stream)
    states = []
    for _ in range(60):
        states.append(stream.state_dict())
        whole.append(next(source))
    second = set(Dataset(tmp_path).ids(selected=False))
    share = np.mean([batch.pair_ids[0] in second for batch in whole])
    assert 0.1 < share < 0.42
    again = mixed()
    again.load_state_dict(states[41])
    rest = iter(again)
    assert all(same(next(rest), wanted) for wanted in whole[41:50])
    with pytest.raises(UsageError, match="positive weights"):
        MixedLoader([PairLoader(folder, ALL)], [0])


def test_mixing_head_models_is_refused(folder: Path, tmp_path: Path) -> None:
    def flame(pair: Pair) -> Pair:
        return replace(pair, fitted=replace(pair.fitted, head_model_id="flame-2023", head_model_tier="flame"))

    write_dataset(tmp_path, [flame(make_pair(k, video=f"x{k}")) for k in range(4)])
    with pytest.raises(UsageError, match="one network has one head model"):
        MixedLoader([PairLoader(folder, ALL), PairLoader(tmp_path, ALL)], [1, 1])


@pytest.fixture(scope="module")
def maps() -> MirrorMaps:
    return mirror_maps(load_head_model())


def test_mirror_maps_exchange_left_and_right(maps: MirrorMaps) -> None:
    head = load_head_model()
    assert maps.residual < 0.02
    order = {name: index for index, name in enumerate(head.expression_names)}
    one = np.eye(len(order), dtype=np.float32)
    np.testing.assert_allclose(maps.expression @ one[order["eyeBlinkLeft"]], one[order["eyeBlinkRight"]], atol=0.03)
    np.testing.assert_allclose(maps.expression @ one[order["mouthPucker"]], one[order["mouthPucker"]], atol=0.03)
    np.testing.assert_allclose(maps.expression @ maps.expression, one, atol=0.05)


def test_a_mirrored_scene_is_the_mirror_image(maps: MirrorMaps) -> None:
    """Vertices placed with mirrored parameters are the reflected vertices of the other slot."""
    head, rng = load_head_model(), np.random.default_rng(0)
    arrays = {
        name: (rng.normal(size=(2, 2, 3, 3)) * 0.4).astype(np.float32)
        for name in ("rotation", "neck", "jaw", "translation", "gaze", "head_centre")
    }
    arrays["eyes"] = (rng.normal(size=(2, 2, 3, 2, 3)) * 0.2).astype(np.float32)
    arrays["expression"] = (rng.normal(size=(2, 2, 3, maps.expression.shape[0])) * 0.3).astype(np.float32)
    shape = (rng.normal(size=(2, 2, maps.shape.shape[0])) * 0.5).astype(np.float32)
    valid = rng.random((2, 2, 3)) > 0.3
    before = {name: array.copy() for name, array in arrays.items()}
    shape_before, valid_before = shape.copy(), valid.copy()
    reflect(arrays, shape, valid, np.array([False, True]), maps)
    for name in arrays:
        np.testing.assert_array_equal(arrays[name][0], before[name][0])
    np.testing.assert_array_equal(valid[1], valid_before[1, ::-1])

    def place(source: dict[str, np.ndarray], identity: np.ndarray, slot: int) -> np.ndarray:
        get = {name: array[1, slot, 0].astype(np.float64) for name, array in source.items()}
        posed = head.pose(identity[1, slot], get["expression"], get["jaw"], get["neck"], get["eyes"])
        root = head.posed_joints(identity[1, slot])[0]
        turned = (posed - root) @ (rotation_matrix(get["rotation"]) @ np.diag([1.0, -1.0, -1.0])).T
        return np.asarray(turned + get["translation"])

    mirrored = place(arrays, shape, 0)
    original = place(before, shape_before, 1) * [-1, 1, 1]
    distance = np.sqrt(((mirrored[:, None] - original[None]) ** 2).sum(-1)).min(axis=1)
    assert np.median(distance) < 5e-4
    assert distance.max() < 5e-3


def test_the_loader_mirrors_half_of_the_samples(tmp_path: Path) -> None:
    write_dataset(tmp_path, [make_pair(k, video=f"v{k}") for k in range(16)], shards=1)
    flip = np.eye(20, dtype=np.float32)[::-1]
    fake = MirrorMaps("canonical", flip, np.eye(10, dtype=np.float32), 0.0)
    options = replace(ALL, batch_size=16, swap=False, window=75)
    (batch,) = epoch(PairLoader(tmp_path, options, mirror=fake))
    assert 2 < int(batch.mirrored.sum()) < 14
    pairs = {pair.pair_id: pair for pair in Dataset(tmp_path).pairs(selected=False)}
    for i, key in enumerate(batch.pair_ids):
        head = pairs[key].fitted.b if batch.mirrored[i] else pairs[key].fitted.a
        frame = int(np.argmax(head.valid))
        sign = -1 if batch.mirrored[i] else 1
        assert float(batch.head_centre[i, 0, frame, 0]) == pytest.approx(sign * float(head.head_centre[frame, 0]))
        assert float(batch.head_centre[i, 0, frame, 0]) < 0 < float(batch.head_centre[i, 1, frame, 0])  # 0 is left
    with pytest.raises(UsageError, match="mirror maps are flame's"):
        PairLoader(tmp_path, options, mirror=replace(fake, head_model_id="flame"))
