"""Training runs: exact resume, stages, ranks, clear errors."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_factory import make_pair, write_dataset
from duologue import cli
from duologue.model import checkpoint
from duologue.model.audio_features import front_end
from duologue.model.data import LoaderOptions, PairLoader
from duologue.model.losses import MotionLoss, mouth_dims
from duologue.model.network import DualStream
from duologue.model.objective import Objective
from duologue.model.ranks import Ranks
from duologue.model.representation import Statistics
from duologue.model.run_log import validate
from duologue.model.sample import generate
from duologue.model.supply import loader_of, statistics_of_sets
from duologue.model.train import Stopped, learning_rate, train
from duologue.model.train_config import TrainConfig, load_config
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from train_factory import SMALL, config_for, losses, write_small_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_set(tmp_path_factory.mktemp("set"))


def test_the_loss_curve_is_the_same_after_a_resume(folder: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    dropout = {**SMALL, "dropout": 0.2}
    train(config_for(folder, whole, network=dropout))
    train(config_for(folder, cut, network=dropout), until=4)
    assert checkpoint.read(cut)["step"] == 4
    train(config_for(folder, cut, network=dropout))
    assert losses(whole) == losses(cut)
    assert len(losses(whole)) == 6
    one, two = (checkpoint.read(out) for out in (whole, cut))
    assert all(torch.equal(value, two["ema"][name]) for name, value in one["ema"].items())


def test_two_stages_one_run(folder: Path, tmp_path: Path) -> None:
    stages = [{"steps": 2, "data": [{"path": str(folder)}]}, {"steps": 3, "data": [{"path": str(folder)}]}]
    train(config_for(folder, tmp_path / "cut", stages=stages), until=3)  # inside the second stage
    train(config_for(folder, tmp_path / "cut", stages=stages))
    train(config_for(folder, tmp_path / "whole", stages=stages))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_curves_hold_what_was_learned_alone(folder: Path, tmp_path: Path) -> None:
    """A batch of dubbed rows has no loss of poses, which is not one of zero."""
    real = [make_pair(k, video=f"v{k}", frames=75) for k in range(24)]
    made = [replace(pair, source=replace(pair.source, origin="dubbed")) for pair in real]
    write_dataset(tmp_path / "dubbed", made)
    stages = [{"steps": 1, "data": [{"path": str(path)}]} for path in (folder, tmp_path / "dubbed")]
    train(config_for(folder, tmp_path / "run", stages=stages))
    lines = [json.loads(line) for line in (tmp_path / "run" / "curves.jsonl").read_text().splitlines()]
    one, two = (line for line in lines if line["kind"] == "train")
    assert one["rotation"] > 0
    assert "mouth" not in one
    assert two["mouth"] > 0
    assert not {"expression", "rotation", "translation", "velocity", "gaze"} & two.keys()
    assert two["loss"] > 0


def test_validation_losses_are_means_over_the_batches_that_hold_any(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = iter([{"loss": 2.0, "mouth": 0.0}, {"loss": 0.0, "mouth": 0.5}])
    made = lambda *_: lambda *_: {name: torch.tensor(value) for name, value in next(terms).items()}  # noqa: E731
    monkeypatch.setattr("duologue.model.run_log.Objective", made)
    options = LoaderOptions(batch_size=2, window=48, split="", selected=False, shuffle=False, workers=1)
    batch = next(iter(PairLoader(folder, options)))
    found = validate(None, None, None, None, lambda sound: sound, Ranks(0, 1, torch.device("cpu")), [batch, batch])
    assert found == {"loss": 1.0, "mouth": 0.5}


def test_bf16_and_cached_features_train_too(folder: Path, tmp_path: Path) -> None:
    done = train(
        config_for(
            folder, tmp_path / "run", precision="bf16",
            audio={"width": 16, "layers": 1, "cache": str(tmp_path / "cache")}, losses={"gaze": 0.0},
        )
    )  # fmt: skip
    assert math.isfinite(done["loss"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "curves.jsonl").read_text().splitlines()]
    assert all(line["masks"] > 0.1 for line in lines)  # the cached sound counts as heard


def test_a_mask_predictor_of_no_weight_is_left_alone_and_sampling_then_needs_masks(
    folder: Path, tmp_path: Path
) -> None:
    stages = [{"steps": 2, "data": [{"path": str(folder)}]}]
    train(config_for(folder, tmp_path / "run", stages=stages, losses={"masks": 0.0}))
    assert "masks" not in json.loads((tmp_path / "run/curves.jsonl").read_text().splitlines()[0])
    net = checkpoint.load_trained(tmp_path / "run")
    second = np.zeros(16_000, np.float32)
    with pytest.raises(UsageError, match="without a speaking-mask predictor"):
        generate(net, second, steps=1)
    assert generate(net, second, speaking=np.zeros((2, 25), np.float32), steps=1).speaking.max() == 0


def test_warm_up_then_cosine(folder: Path, tmp_path: Path) -> None:
    it = config_for(folder, tmp_path)
    rates = [learning_rate(it, step) for step in range(6)]
    assert rates[:2] == [5e-4, 1e-3]
    assert rates[2] == 1e-3
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_a_loss_that_is_not_finite_stops_the_run(folder: Path, tmp_path: Path) -> None:
    train(config_for(folder, tmp_path / "run"), until=3)
    state = checkpoint.read(tmp_path / "run")
    before = (tmp_path / "run" / checkpoint.LAST).read_bytes()
    state["model"]["condition.bias"][:] = torch.nan
    state.pop("version")
    checkpoint.save(tmp_path / "run" / checkpoint.LAST, state)
    poisoned = (tmp_path / "run" / checkpoint.LAST).read_bytes()
    assert poisoned != before
    with pytest.raises(Stopped, match=r"step 4: .*not finite; the last checkpoint is"):
        train(config_for(folder, tmp_path / "run"))
    assert (tmp_path / "run" / checkpoint.LAST).read_bytes() == poisoned  # nothing written over it


def test_one_line_errors(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    train(config_for(folder, out), until=1)
    with pytest.raises(UsageError, match=r"network.width = 16.* 32.*another out folder"):
        train(config_for(folder, out, network={**SMALL, "width": 32}))
    path = tmp_path / "c.json"

    def fails(tree: object, *settings: str) -> str:
        path.write_text(json.dumps(tree))
        argv = ["train", str(path)]
        for setting in settings:
            argv += ["--set", setting]
        assert cli.main(argv) == 2
        return capsys.readouterr().err.strip()

    good = checkpoint.plain(config_for(folder, tmp_path / "other"))
    for words, tree, settings in (
        ("needs out, stages", {}, ()),
        ("no option widht", {**good, "network": {"widht": 3}}, ()),
        ("must be a number", {**good, "optimiser": {"lr": "fast"}}, ()),
        ("network.width is 12", good, ("network.width=12",)),
        ("network.condition is 15; it must be even", good, ("network.condition=15",)),
        ("audio.width must be a positive even number", good, ("audio.width=15",)),
        ("seed is -1", good, ("seed=-1",)),
        ("seed is 10{30}; it must lie in", good, ("seed=1" + "0" * 30,)),
        ("config.optimiser.lr must be a number", {**good, "optimiser": {"lr": 10**400}}, ()),
        ("load.pool_groups must be positive", good, ("load.pool_groups=0",)),
        ("is not a data-set folder|manifest", good, ("stages.0.data.0.path=" + str(tmp_path),)),
        ("no selected pair", good, ("load.selected=true", "stages.0.data.0.path=" + str(_unselected(tmp_path)))),
        ("no readable config.json", good, ("audio.encoder=" + str(tmp_path),)),
        ("needs head_model", good, ("losses.lips=1",)),
        ("optimiser.lr is -1; it must be positive", good, ("optimiser.lr=-1",)),
        ("the weight of .* is 0; it must be positive", good, ("stages.0.data.0.weight=0",)),
        ("optimiser.ema is 1.5", good, ("optimiser.ema=1.5",)),
        ("optimiser.warmup is -3; it must not be negative", good, ("optimiser.warmup=-3",)),
        ("losses.gaze is -1; it must not be negative", good, ("losses.gaze=-1",)),
        ("config.losses.lips must be a number, not nan", good, ("losses.lips=.nan",)),
        ("network.dropout is 2", good, ("network.dropout=2",)),
        ("load.continues is 4", good, ("load.continues=4",)),
        ("load.window is 1; it must be at least 2", good, ("load.window=1",)),
        ("log.every is -5", good, ("log.every=-5",)),
        ("canonical-1, the data sets are labelled", good, ("head_model=canonical",)),
        ("is not a checkpoint", good, ("out=" + str(_broken(tmp_path)),)),
    ):
        line = fails(tree, *settings)
        assert "\n" not in line
        assert any(re.search(word, line) for word in words.split("|")), line


def test_a_run_says_what_came_of_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "c.json", tmp_path / "run"
    path.write_text(json.dumps(checkpoint.plain(config_for(folder, out))))
    assert cli.main(["train", str(path)]) == 0
    done, then = capsys.readouterr().out.splitlines()
    assert done.startswith("step 6, loss ")
    assert then == f"{out}/last.pt: duologue sample AUDIO --checkpoint {out} --out MADE"
    assert cli.main(["train", str(path)]) == 0
    assert capsys.readouterr().out == f"{out}/last.pt is at step 6, the last one: nothing to do\n"
    assert cli.main(["train", str(path), "--set", f"out={path}/run"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"duologue train: config: cannot write to out, {path}/run: Not a directory"
    assert cli.main(["train", str(path), "--set", f"out={tmp_path}/other", "--set", f"audio.cache={path}"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"duologue train: audio.cache: cannot write to {path}: Not a directory"


def test_a_run_cut_short_in_its_curves_goes_on_and_a_finished_one_has_nothing_to_do(
    folder: Path, tmp_path: Path
) -> None:
    quiet = {"every": 0, "save_every": 3, "validate_every": 0, "sample_every": 0, "tensorboard": False}
    train(config_for(folder, tmp_path, log=quiet), until=3)
    curves = tmp_path / "curves.jsonl"
    curves.write_text('{"step": 1, "kind": "train", "loss": 1.0}\n{"step": 2, "ki')
    said: list[str] = []
    train(config_for(folder, tmp_path, log=quiet), say=said.append)
    assert [json.loads(line)["step"] for line in curves.read_text().splitlines()] == [1, 6]
    assert not any("loss" in line for line in said)
    again = train(config_for(folder, tmp_path, log=quiet))
    assert (again["steps"], again["loss"], again["samples_per_s"], again["loader_wait_share"]) == (6, None, None, None)


def test_what_a_run_will_miss_is_told_before_it_begins(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after the thousands of steps to the first plot."""
    log = {"every": 0, "save_every": 0, "validate_every": 1, "sample_every": 0, "tensorboard": False}
    write_dataset(tmp_path / "all", [make_pair(k, video=f"v{k}") for k in range(24)])
    known = Dataset(tmp_path / "all")
    write_dataset(tmp_path / "no_val", [known.pair(key) for key in known.ids(selected=False, split="train")])
    said: list[str] = []
    stages = [{"steps": 1, "data": [{"path": str(tmp_path / "no_val")}]}]
    train(config_for(folder, tmp_path / "run", stages=stages, log=log), say=said.append)
    assert f"{tmp_path}/no_val has no validation pairs: no validation losses, no plots of samples" in said
    monkeypatch.setattr("duologue.model.run_log.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="plots of samples need matplotlib"):
        train(config_for(folder, tmp_path / "two", log=log | {"sample_every": 5000, "tensorboard": True}))


def test_checkpoints_and_devices_that_do_not_fit_are_one_line(folder: Path, tmp_path: Path) -> None:
    train(config_for(folder, tmp_path), until=1)
    state = checkpoint.read(tmp_path)
    state.pop("version")
    for name in ("model", "ema"):
        state[name] = {**state[name], "layout.0.weight": torch.zeros(3, 3)}
    checkpoint.save(tmp_path / checkpoint.LAST, state)
    for load in (lambda: train(config_for(folder, tmp_path)), lambda: checkpoint.load_trained(tmp_path)):
        with pytest.raises(UsageError, match="weights and configuration disagree"):
            load()
    state["config"]["diffusion"]["zork"] = 3
    checkpoint.save(tmp_path / checkpoint.LAST, state)
    with pytest.raises(UsageError, match=r"last\.pt is of another version of the trainer: .*has no option zork"):
        train(config_for(folder, tmp_path))
    checkpoint.save(tmp_path / checkpoint.LAST, {name: value for name, value in state.items() if name != "ema"})
    with pytest.raises(UsageError, match="not a checkpoint of this version"):
        checkpoint.load_trained(tmp_path)
    torch.save({"version": checkpoint.VERSION - 1, **state}, tmp_path / checkpoint.LAST)
    with pytest.raises(UsageError, match="not a checkpoint of this version"):
        checkpoint.load_trained(tmp_path)
    for name in ("banana", "cuda" if not torch.cuda.is_available() else "cuda:99"):
        with pytest.raises(UsageError, match=f"device '{name}'"):
            checkpoint.load_trained(tmp_path, name)


def _unselected(root: Path) -> Path:
    out = root / "unselected"
    if not out.exists():
        write_dataset(out, [make_pair(k, scores={"speech_share": 0.0}) for k in range(3)])
    return out


def _broken(root: Path) -> Path:
    (root / "broken").mkdir(exist_ok=True)
    (root / "broken" / checkpoint.LAST).write_bytes(b"half a file")
    return root / "broken"


def test_yaml_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("out: x\nstages:\n- steps: 5\n  data: [{path: d}]\noptimiser: {lr: 1e-4}\n")
    it = load_config(path, ["network.width=64", "stages.0.steps=7", "network.cross_attention=false"])
    assert (it.optimiser.lr, it.network.width, it.steps, it.network.cross_attention) == (1e-4, 64, 7, False)
    with pytest.raises(UsageError, match=r"takes a\.b=value"):
        load_config(path, ["network.width"])


def torchrun(config: TrainConfig, path: Path) -> subprocess.CompletedProcess[str]:
    """``duologue train`` in two processes."""
    path.write_text(json.dumps(checkpoint.plain(config)))
    argv = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29573"]
    return subprocess.run(
        [*argv, "-m", "duologue.cli", "train", str(path), "--json"],
        capture_output=True, text=True, timeout=200, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_two_processes_train_together(folder: Path, tmp_path: Path) -> None:
    """Weights and curves are those of one process that averages the gradients of both processes' batches, after a
    resume, too."""

    def configured(steps: int) -> TrainConfig:
        stages = [{"steps": steps, "data": [{"path": str(folder)}]}]
        return config_for(folder, tmp_path / "run", stages=stages, device="cpu")

    for steps in (2, 4):
        done = torchrun(configured(steps), tmp_path / "c.json")
        assert done.returncode == 0, done.stderr[-2000:]
        state = checkpoint.read(tmp_path / "run")
        assert (state["step"], len(state["loaders"])) == (steps, 2)
    it = configured(4)
    statistics, front = Statistics.of_state(state["statistics"]), front_end(it.audio, it.load.fps)
    torch.manual_seed(it.seed)
    model = DualStream(statistics.dims, front.dims, it.network, it.audio)
    objective = Objective(
        model, MotionLoss(it.losses, statistics, mouth_dims(statistics.expression, None)), statistics, it
    )
    rule = torch.optim.AdamW(model.parameters(), weight_decay=it.optimiser.weight_decay, betas=(0.9, 0.99), fused=True)
    ranks = [Ranks(rank, 2, torch.device("cpu")) for rank in (0, 1)]
    streams = [iter(loader_of(it, it.stages[0].data, one, statistics.head_model_id, None)) for one in ranks]
    curve, seen = [], []
    for step in range(4):
        rule.param_groups[0]["lr"] = learning_rate(configured(2 if step < 2 else 4), step)
        rule.zero_grad()
        values = []
        for rank, stream in enumerate(streams):
            batch = next(stream)
            seen += batch.pair_ids
            seed = int(np.random.SeedSequence([it.seed, step, rank]).generate_state(1)[0])
            loss = objective(batch, front(batch.audio), seed)["loss"]
            (loss / 2).backward()
            values.append(float(loss.detach()))
        torch.nn.utils.clip_grad_norm_(model.parameters(), it.optimiser.clip)
        rule.step()
        curve.append(sum(values) / 2)
    assert losses(tmp_path / "run") == pytest.approx(curve, rel=1e-5)
    assert len(set(seen[:16])) == 16  # no pair twice in an epoch
    for name, value in model.state_dict().items():
        torch.testing.assert_close(state["model"][name], value, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_a_sigterm_leaves_a_checkpoint_of_the_step_it_came_in(folder: Path, tmp_path: Path) -> None:
    """Machines that are taken back send it; nothing that was learned is lost, and the run goes on as if unbroken."""
    stages = [{"steps": 100_000, "data": [{"path": str(folder)}]}]
    log = {"every": 1, "save_every": 0, "validate_every": 0, "sample_every": 0, "tensorboard": False}
    it = config_for(folder, tmp_path / "run", stages=stages, log=log)
    (tmp_path / "c.json").write_text(json.dumps(checkpoint.plain(it)))
    argv = [sys.executable, "-m", "duologue.cli", "train", str(tmp_path / "c.json")]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("step 3/"):
                running.send_signal(signal.SIGTERM)
                break
        said = running.stderr.read().splitlines()
    assert running.returncode == 128 + signal.SIGTERM
    step = checkpoint.read(it.out)["step"]
    assert 3 <= step < 1000
    assert said[-1] == (
        f"duologue train: told to end; {it.out}/last.pt is at step {step}, the same command goes on from there"
    )
    assert sorted(path.name for path in Path(it.out).iterdir()) == ["config.json", "curves.jsonl", "last.pt"]
    train(it, until=step + 2)
    whole = config_for(folder, tmp_path / "whole", stages=stages, log=log)
    train(whole, until=step + 2)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_two_processes_stop_with_one_line(folder: Path, tmp_path: Path) -> None:
    stages = [{"steps": 4, "data": [{"path": str(folder)}]}]
    it = config_for(
        folder, tmp_path / "run", stages=stages, device="cpu", optimiser={"lr": 1e12, "warmup": 0},
        log={"every": 1, "save_every": 1, "validate_every": 0, "sample_every": 0, "tensorboard": False},
    )  # fmt: skip
    done = torchrun(it, tmp_path / "c.json")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("duologue train: ")]
    assert len(said) == 1, said
    assert re.search(rf"step \d: .* not finite; the last checkpoint is {re.escape(it.out)}/last.pt", said[0])
    state = checkpoint.read(it.out)
    assert all(bool(value.isfinite().all()) for value in state["model"].values())


def test_large_sets_count_by_weight_in_the_statistics(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the first of several sets alone."""
    wide = write_dataset(tmp_path / "other", [make_pair(k, video=f"w{k}", frames=75) for k in range(200)])
    monkeypatch.setattr("duologue.model.supply.STATISTICS_WINDOWS", 128)
    data = [{"path": str(tmp_path / "other")}, {"path": str(folder)}]
    it = config_for(folder, tmp_path / "run", stages=[{"steps": 1, "data": data}])
    one = statistics_of_sets(it, Dataset(folder).manifest.head_model_id)
    assert one.samples == 64 + len(Dataset(folder).ids(selected=False, split="train")), wide


@pytest.mark.slow  # a C++ compiler builds the kernels: minutes
def test_a_compiled_network_trains_as_the_plain_one(folder: Path, tmp_path: Path) -> None:
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    train(config_for(folder, plain))
    train(config_for(folder, compiled, compile=True))
    np.testing.assert_allclose(losses(compiled), losses(plain), rtol=1e-5)
    one, two = (checkpoint.read(out)["model"] for out in (plain, compiled))
    assert one.keys() == two.keys()
