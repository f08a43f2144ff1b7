"""Processes that train together, one a GPU (``torchrun``)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from ..schemas.errors import UsageError
from .train_config import TrainConfig


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    world: int
    device: torch.device


def join_ranks(config: TrainConfig) -> Ranks:
    """This process's place; joins the others over NCCL (GPUs) or gloo where ``torchrun`` started several.

    Raises:
        UsageError: cuda is asked for, and there is none.
    """
    wanted = config.device
    cuda = torch.cuda.is_available() if wanted == "auto" else wanted == "cuda"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("device is cuda, and torch finds none")
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    return Ranks(int(os.environ.get("RANK", "0")), world, device)


def any_of_ranks(flag: bool, ranks: Ranks) -> bool:
    """Whether it is set in any process, each of which must call this."""
    if ranks.world == 1:
        return flag
    told = torch.tensor(float(flag), device=ranks.device)
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return bool(told)


def mean_of_ranks(values: Mapping[str, Tensor], ranks: Ranks) -> dict[str, float]:
    """Scalars by name, averaged over all processes, each of which must call this with the same names in one order."""
    stacked = torch.stack([value.detach().float() for value in values.values()])
    if ranks.world > 1:
        dist.all_reduce(stacked)
        stacked = stacked / ranks.world
    return dict(zip(values, stacked.tolist(), strict=True))
