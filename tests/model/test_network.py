"""The network and what surrounds it: representation, schedule, losses, switches, sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from duologue.fitting.rotations import exp_so3, geodesic
from duologue.model.audio_features import AudioOptions, LogMel, cache_features
from duologue.model.data import LoaderOptions, PairLoader
from duologue.model.diffusion import (
    SLOW,
    DiffusionOptions,
    add_noise,
    calmed,
    multistep,
    sampler_times,
    signal_and_noise,
)
from duologue.model.dyad_metrics import gaze_directions
from duologue.model.layers import NetworkOptions
from duologue.model.losses import LossOptions, MotionLoss, mask_loss
from duologue.model.network import DualStream
from duologue.model.representation import (
    EYE_REACH,
    LAYOUT_DIM,
    STILL,
    Statistics,
    axes_of,
    decode,
    dim_count,
    dim_names,
    encode,
    eye_directions,
    eyes_of,
    part_slices,
    scene_of,
    statistics_of,
)
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from train_factory import SMALL, batch_of, write_small_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_set(tmp_path_factory.mktemp("set"))


def test_the_representation_is_undone_exactly(folder: Path) -> None:
    batch = batch_of(folder)
    scene = scene_of(batch, torch.full((8,), 30))
    raw = encode(batch, scene)
    assert raw.shape == (8, 2, 75, dim_count(20)) == (8, 2, 75, len(dim_names(20)))
    back, good = decode(raw, scene), batch.valid
    for name in ("expression", "jaw", "neck", "eyes", "translation"):
        torch.testing.assert_close(back[name][good], getattr(batch, name)[good], atol=1e-5, rtol=0)
    turn = geodesic(exp_so3(back["rotation"][good]), exp_so3(batch.rotation[good]))
    assert float(turn.max()) < 2e-3
    for name in ("translation", "rotation"):
        moved = raw[..., part_slices(20)[name]]
        assert float(moved[:, :, 30].abs().max()) < 1e-6  # the anchor


def test_it_does_not_depend_on_where_the_camera_stood(folder: Path) -> None:
    batch = batch_of(folder)
    turn = exp_so3(torch.tensor([0.0, 0.7, 0.0]))
    from duologue.fitting.rotations import log_so3

    moved = replace(
        batch,
        rotation=log_so3(turn @ exp_so3(batch.rotation)),
        translation=batch.translation @ turn.T,
        head_centre=batch.head_centre @ turn.T,
    )
    one, two = (encode(b, scene_of(b)) for b in (batch, moved))
    good = batch.valid
    torch.testing.assert_close(one[good], two[good], atol=2e-4, rtol=0)
    torch.testing.assert_close(scene_of(batch).layout(), scene_of(moved).layout(), atol=2e-4, rtol=0)


def test_a_head_of_rotation_zero_faces_the_partner(folder: Path) -> None:
    scene = scene_of(batch_of(folder))
    forward = -scene.frame[..., 2]
    towards = scene.centre.flip(1) - scene.centre
    towards[..., 1] = 0
    towards /= towards.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(forward, towards, atol=1e-5, rtol=0)


def test_eye_directions_are_those_of_the_metrics(folder: Path) -> None:
    batch = batch_of(folder)
    scene = scene_of(batch)
    local = eye_directions(encode(batch, scene))
    shared = torch.einsum("bpij,bpwj->bpwi", scene.frame, local)[0, 0]
    wanted = gaze_directions(batch.rotation[0, 0].numpy(), batch.eyes[0, 0].numpy())
    good = batch.valid[0, 0].numpy()
    np.testing.assert_allclose(shared.numpy()[good], wanted[good], atol=1e-4)


def test_no_predicted_axis_turns_an_eye_out_of_its_head() -> None:
    head = exp_so3(torch.tensor([[0.1, 2.9, 0.0], [0.0, 0.3, 0.2]]))
    axes = torch.tensor([[[0.0, 0.0, -3.0], [0.1, 0.1, -0.4]]]).expand(2, -1, -1)
    eyes = eyes_of(axes, head)
    assert float(eyes.norm(dim=-1).max()) <= EYE_REACH + 1e-6
    torch.testing.assert_close(eyes[..., 2], torch.zeros(2, 2))
    seen = axes_of(eyes[1], head[1])  # within reach: only the length is lost
    torch.testing.assert_close(seen, torch.nn.functional.normalize(axes[1], dim=-1), atol=1e-6, rtol=0)


def test_statistics_normalise_and_keep_what_never_varies(folder: Path) -> None:
    options = LoaderOptions(batch_size=8, window=75, split="", selected=False, shuffle=False, workers=1)
    batches = list(PairLoader(folder, options))
    stats = statistics_of(batches, "canonical")
    x = torch.cat([stats.normalise(encode(b, scene_of(b)))[b.valid] for b in batches])
    vary = stats.varies
    torch.testing.assert_close(x.mean(0), torch.zeros(stats.dims), atol=1e-3, rtol=0)
    torch.testing.assert_close(x.std(0)[vary], torch.ones(int(vary.sum())), atol=0.02, rtol=0)
    assert not vary[part_slices(20)["neck"]].any()
    assert not x[:, part_slices(20)["neck"]].any()
    steps = [
        (stats.normalise(encode(b, scene_of(b))).diff(dim=2), b.valid[:, :, 1:] & b.valid[:, :, :-1]) for b in batches
    ]
    moved = torch.cat([step[both] for step, both in steps]).square().mean(0).sqrt()
    torch.testing.assert_close(moved[vary].clamp_min(STILL), stats.change[vary], atol=1e-4, rtol=1e-3)
    again = Statistics.of_state(stats.state())
    assert torch.equal(again.sd, stats.sd)


def test_the_schedule_and_the_sampler() -> None:
    signal, noise = signal_and_noise(torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(signal**2 + noise**2, torch.ones(3))
    assert signal[0] == 1
    assert signal[2] < 1e-3
    clean = torch.randn(2, 3, 4)
    same = multistep(lambda x, t: clean, torch.randn(2, 3, 4), 5, 9.0)  # an oracle is believed
    torch.testing.assert_close(same, clean)
    mixed = add_noise(clean, torch.tensor([0.0, 1.0]), torch.ones_like(clean))
    torch.testing.assert_close(mixed[0], clean[0])
    torch.testing.assert_close(mixed[1], torch.ones(3, 4), atol=1e-3, rtol=1e-2)


def test_few_steps_of_the_sampler_are_near_the_exact_path() -> None:
    """Of Gaussian data of variance v the best prediction is linear, and the exact path ends at sqrt(v) noise."""
    noise = torch.ones(1, dtype=torch.float64)

    def ends(v: float, steps: int) -> float:
        def predict(x: torch.Tensor, t: float) -> torch.Tensor:
            signal, spread = (value.item() for value in signal_and_noise(torch.tensor(t, dtype=torch.float64)))
            return v * signal / (v * signal**2 + spread**2) * x

        return float(multistep(predict, noise, steps, 99.0)) / v**0.5

    for v in (1.0, 0.25, 0.04):  # first order on even times ends at 0.88, 0.85 and 0.70 of it in ten steps
        assert abs(ends(v, 10) - 1) < 0.05
        assert abs(ends(v, 6) - 1) < 0.08


def test_times_of_the_sampler_lie_close_together_at_both_ends() -> None:
    times = sampler_times(6)
    steps = -times.diff()
    assert times[0] == 1
    assert 0 < times[-1] < 0.03  # later, small motion would be drawn too small
    assert steps[0] < steps[1] < steps[2]
    assert steps[4] < steps[3] < steps[2]
    assert sampler_times(1).tolist() == [1]


def test_only_the_slow_part_of_the_noise_is_calmed() -> None:
    frames = 2 * SLOW
    when = (torch.arange(frames) + 0.5) / frames * torch.pi
    wave = {k: torch.cos(k * when)[None, None, :, None] for k in (0, 1, 3, 4, 5, 40)}  # k half-waves over the clip
    quick = wave[5] - 2 * wave[40]
    slow = 0.7 * wave[0] + wave[1] - wave[3] + 0.2 * wave[4]  # the last is just SLOW frames long
    torch.testing.assert_close(calmed(slow + quick, 0.5), 0.5 * slow + quick, atol=1e-5, rtol=1e-5)
    noise = torch.randn(2, 2, 75, 3)
    torch.testing.assert_close(calmed(noise, 1.0), noise, atol=1e-5, rtol=1e-5)
    assert float(calmed(noise, 0.0).mean(2).abs().max()) < 1e-5
    with pytest.raises(UsageError, match="slow_noise"):
        DiffusionOptions(slow_noise=1.5)


def _loss(batch, **options: float):
    stats = statistics_of([batch], "canonical")
    truth = stats.normalise(encode(batch, scene_of(batch)))
    return MotionLoss(LossOptions(**options), stats, [3, *range(20, 23)]), stats, truth


def test_losses_are_zero_for_the_truth_and_ignore_what_was_not_measured(folder: Path) -> None:
    batch = batch_of(folder)
    loss, _, truth = _loss(batch)
    none = torch.zeros(8, dtype=torch.bool)
    args = (batch.valid, batch.gaze_valid, batch.speaking, none)
    assert float(loss(truth, truth, *args)["loss"]) < 1e-5
    spoilt = torch.where(batch.valid[..., None], truth, truth + 50)
    assert float(loss(spoilt, truth, *args)["loss"]) < 1e-5
    for name, part in part_slices(20).items():
        if name == "neck":
            continue
        moved = truth.clone()
        moved[..., part] += 0.5
        terms = loss(moved, truth, *args)
        group = {"jaw": "expression", "eyes": "rotation"}.get(name, name)
        assert float(terms[group]) > 1e-3
        assert (float(terms["gaze"]) > 1e-5) == (name == "eyes")  # axes in the shared frame: the head may turn beneath


def test_the_weights_are_the_papers() -> None:
    options = LossOptions()
    names = ("expression", "rotation", "translation", "velocity", "gaze")
    assert [getattr(options, name) for name in names] == [1, 8, 1, 1, 5]


def test_velocity_is_in_units_of_each_numbers_own_change(folder: Path) -> None:
    batch = batch_of(folder)
    loss, stats, truth = _loss(batch)
    args = (torch.ones_like(batch.valid), batch.gaze_valid, batch.speaking, torch.zeros(8, dtype=torch.bool))
    truth = torch.nan_to_num(truth)
    for number in stats.varies.nonzero()[:, 0].tolist():
        moved = truth.clone()
        moved[..., ::2, number] += stats.change[number]
        velocity = float(loss(moved, truth, *args)["velocity"])
        assert velocity == pytest.approx(1 / int(stats.varies.sum()), rel=1e-3)
    moved = truth + 0.3  # standing elsewhere is no velocity
    assert float(loss(moved, truth, *args)["velocity"]) < 1e-6


def test_heads_that_turn_much_weigh_more(folder: Path) -> None:
    batch = batch_of(folder)
    none = torch.zeros(8, dtype=torch.bool)
    args = (batch.valid, batch.gaze_valid, batch.speaking, none)
    values = []
    for factor in (1.0, 3.0):
        loss, _, truth = _loss(batch, high_rotation=factor)
        moved = truth.clone()
        moved[..., part_slices(20)["eyes"]] += 0.5
        values.append(float(loss(moved, truth, *args)["gaze"]))
    assert values[0] < values[1] < 3 * values[0]  # some samples, not all


def test_mouth_only_rows_teach_the_speakers_mouth_alone(folder: Path) -> None:
    batch = batch_of(folder)
    loss, _, truth = _loss(batch)
    every = torch.ones(8, dtype=torch.bool)
    guess = (truth + torch.randn_like(truth)).requires_grad_()
    terms = loss(guess, truth, batch.valid, batch.gaze_valid, batch.speaking, every)
    terms["loss"].backward()
    touched = guess.grad.abs() > 0
    wanted = torch.zeros_like(touched)
    wanted[..., [3, 20, 21, 22]] = (batch.valid & (batch.speaking >= 0.5))[..., None]
    assert not (touched & ~wanted).any()
    assert touched[wanted & (truth.abs() >= 0)].float().mean() > 0.4  # the still jaw axes have no truth to differ from
    assert float(terms["expression"].detach()) == 0


def test_predicted_masks_may_come_in_either_order() -> None:
    speaking = (torch.rand(3, 2, 40) > 0.5).float()
    logits = (speaking * 2 - 1) * 20
    known = torch.ones(3, 40, dtype=torch.bool)
    assert float(mask_loss(logits.flip(1), speaking, known)) < 1e-3
    assert float(mask_loss(-logits, speaking, known)) > 1


@pytest.mark.parametrize("backbone", ["unet", "transformer"])
def test_one_network_for_both_people(backbone: str) -> None:
    torch.manual_seed(0)
    options = NetworkOptions(**{**SMALL, "backbone": backbone})
    model = DualStream(12, 320, options, AudioOptions(width=16, layers=1)).eval()
    for p in model.parameters():  # zero-initialised joints would hide what is tested
        if not p.any():
            torch.nn.init.normal_(p, std=0.2)
    x, t = torch.randn(2, 2, 21, 12), torch.tensor([0.3, 0.7])
    layout, speaking, heard = torch.randn(2, 2, LAYOUT_DIM), torch.rand(2, 2, 21), model.hear(torch.randn(2, 21, 320))
    begins = torch.ones(2)
    out = model(x, t, model.condition_on(heard, speaking, layout, begins))
    swapped = model(x.flip(1), t, model.condition_on(heard, speaking.flip(1), layout.flip(1), begins))
    torch.testing.assert_close(out, swapped.flip(1), atol=1e-5, rtol=1e-4)
    other = x.clone()
    other[:, 1] += 1
    c = model.condition_on(heard, speaking, layout, begins)
    assert (model(other, t, c)[:, 0] - out[:, 0]).abs().max() > 1e-3  # the partner is seen
    torch.testing.assert_close(model(x, t[:, None].expand(2, 2), c), out)  # each may have a time of their own
    assert (model(x, torch.stack([t, 0 * t], 1), c)[:, 0] - out[:, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("switch", ["cross_attention", "roles", "masks", "audio", "layout"])
def test_each_ingredient_can_be_switched_off(switch: str) -> None:
    torch.manual_seed(0)
    changed = {}
    for on in (True, False):
        options = NetworkOptions(**{**SMALL, "roles": switch == "roles", "masks": switch == "masks", switch: on})
        torch.manual_seed(1)
        model = DualStream(12, 320, options, AudioOptions(width=16, layers=1)).eval()
        for p in model.parameters():
            if not p.any():
                torch.nn.init.normal_(p, std=0.2)
        x, t, begins = torch.randn(1, 2, 20, 12), torch.tensor([0.5]), torch.ones(1)
        layout, speaking, sound = torch.randn(1, 2, LAYOUT_DIM), torch.rand(1, 2, 20), torch.randn(1, 20, 320)
        base = model(x, t, model.condition_on(model.hear(sound), speaking, layout, begins))
        if switch == "cross_attention":
            x = torch.stack([x[:, 0], x[:, 1] + 1], 1)
        elif switch == "audio":
            sound = sound + 1
        elif switch == "layout":
            layout = layout + 1
        else:
            speaking = 1 - speaking
        after = model(x, t, model.condition_on(model.hear(sound), speaking, layout, begins))
        changed[on] = float((after - base)[:, 0].abs().max())
    assert changed[True] > 1e-3
    assert changed[False] < 1e-6


def test_sound_that_stops_halfway_through_training_is_hidden() -> None:
    model = DualStream(12, 320, NetworkOptions(**SMALL), AudioOptions(width=16, layers=1)).eval()
    heard = model.hear(torch.randn(2, 20, 320))
    rest = (torch.rand(2, 2, 20), torch.randn(2, 2, LAYOUT_DIM), torch.ones(2))
    silent = model.condition_on(heard, *rest, silent=torch.tensor([True, False]))
    again = model.condition_on(heard + 1, *rest, silent=torch.tensor([True, False]))
    assert torch.equal(silent[0], again[0])
    assert not torch.equal(silent[1], again[1])


def test_log_mel_finds_the_tone() -> None:
    front = LogMel()
    t = torch.arange(16_000) / 16_000
    features = front(torch.stack([0.1 * torch.sin(6.283 * f * t) for f in (300.0, 3000.0)]))
    assert features.shape == (2, 25, 320)
    low, high = features.view(2, 25, 4, 80).mean((1, 2)).argmax(-1).tolist()
    assert low < 20 < 45 < high < 80


def test_features_are_cached_once_and_cut_to_windows(folder: Path, tmp_path: Path) -> None:
    data, front, computed = Dataset(folder), LogMel(), []
    cache = cache_features(data, front, tmp_path, progress=computed.append)
    assert computed[-1] == 24
    cache_features(data, front, tmp_path, progress=lambda n: pytest.fail("computed again"))
    batch = batch_of(folder, window=50)
    got = cache.read(batch.pair_ids, batch.starts.tolist(), 50)
    torch.testing.assert_close(got[:, 5:45], front(batch.audio)[:, 5:45], atol=2e-2, rtol=1e-2)
    with pytest.raises(UsageError, match="no cached audio features"):
        cache.read(["nobody"], [0], 50)


@pytest.mark.parametrize(("fps", "frames"), [(24.0, 250), (30.0, 18_000), (30000 / 1001, 250), (25.0, 250), (12.5, 3)])
def test_any_frame_rate_has_its_frames_where_they_are(fps: float, frames: int) -> None:
    audio = torch.zeros(1, round(frames * 16_000 / fps))
    click = round((frames - 2) * 16_000 / fps) + 100
    audio[0, click : click + 60] = 0.5
    heard = LogMel(fps)(audio)
    assert heard.shape == (1, frames, 320)
    assert int(heard[0].mean(1).argmax()) == frames - 2  # no drift over ten minutes
