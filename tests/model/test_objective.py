"""One training step: in some samples one person is seen as they are, and only the other is wanted back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from duologue.model.losses import LossOptions, MotionLoss
from duologue.model.network import DualStream
from duologue.model.objective import Objective
from duologue.model.representation import encode, scene_of, statistics_of
from train_factory import batch_of, config_for, write_small_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_set(tmp_path_factory.mktemp("set"))


@pytest.mark.parametrize("share", [0.0, 0.999])
def test_a_given_partner_is_clean_and_not_scored(folder: Path, tmp_path: Path, share: float) -> None:
    torch.manual_seed(0)
    batch = batch_of(folder)
    statistics = statistics_of([batch], "canonical")
    config = config_for(folder, tmp_path, diffusion={"partner_given": share}, losses={"masks": 0.0})
    model = DualStream(statistics.dims, 320, config.network, config.audio)
    seen = []

    def note(module: torch.nn.Module, told: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        seen.append((told[0], told[1]))
        return out.detach().requires_grad_()

    outs: list[torch.Tensor] = []
    model.register_forward_hook(note)
    model.register_forward_hook(lambda *call: outs.append(call[2]))
    objective = Objective(model, MotionLoss(LossOptions(), statistics, [0]), statistics, config)
    features = torch.randn(len(batch.valid), batch.valid.shape[2], 320)
    objective(batch, features, seed=3)["loss"].backward()
    noisy, times = seen[0]
    clean = times == 0
    assert clean.any(1).float().mean() == (1.0 if share else 0.0)
    assert not clean.all(1).any()
    continues = torch.zeros(len(batch.valid))
    # The same draws as the step's: which anchor each sample has.
    draw = torch.Generator().manual_seed(3)
    goes_on = torch.rand(len(continues), generator=draw) < config.load.continues
    anchor = torch.where(goes_on, torch.randint(batch.valid.shape[2], (len(continues),), generator=draw), 0)
    truth = statistics.normalise(encode(batch, scene_of(batch, anchor)))
    truth = torch.where(batch.valid[..., None], truth, 0.0)
    gradient = outs[0].grad
    assert gradient is not None
    for sample in range(len(clean)):
        for person in range(2):
            if clean[sample, person]:
                torch.testing.assert_close(noisy[sample, person], truth[sample, person])
                assert not gradient[sample, person].any()
            else:
                assert gradient[sample, person].any()
                assert (noisy[sample, person] - truth[sample, person]).abs().max() > 1e-3


def test_half_precision_is_the_networks_alone(folder: Path, tmp_path: Path) -> None:
    batch = batch_of(folder)
    statistics = statistics_of([batch], "canonical")
    torch.manual_seed(0)
    features = torch.randn(len(batch.valid), batch.valid.shape[2], 320)
    scored = []
    for precision in ("fp32", "bf16"):
        config = config_for(folder, tmp_path, precision=precision, losses={"masks": 0.0})
        torch.manual_seed(0)
        model = DualStream(statistics.dims, 320, config.network, config.audio)
        kinds: list[torch.dtype] = []
        model.condition.register_forward_hook(lambda *call, kinds=kinds: kinds.append(call[2].dtype))

        class Spy(MotionLoss):
            def __call__(self, predicted, truth, *rest):  # type: ignore[no-untyped-def]
                scored.append((predicted, truth, torch.is_autocast_enabled("cpu")))
                return super().__call__(predicted, truth, *rest)

        objective = Objective(model, Spy(LossOptions(), statistics, [0]), statistics, config)
        objective(batch, features, seed=1)
        assert kinds == [torch.bfloat16 if precision == "bf16" else torch.float32]
    assert torch.equal(scored[0][1], scored[1][1])
    assert scored[1][1].dtype == scored[1][0].dtype == torch.float32
    assert not scored[1][2]
    assert not torch.equal(scored[0][0], scored[1][0])
