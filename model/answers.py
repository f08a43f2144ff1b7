"""What a trained network makes of measured pairs, so that boards can score it: of sound alone, or as mutual answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..schemas.errors import UsageError
from ..schemas.heads import HeadTrack
from ..schemas.pair import SAMPLE_RATE
from ..schemas.row import Pair
from ..schemas.tracks import Float32
from .checkpoint import Trained
from .sample import generate, place_like

Heads = tuple[HeadTrack, HeadTrack]


def sound_of(pair: Pair) -> Float32:
    """[N] the pair's sound at 16 kHz, cut or filled with silence to its frames; empty where it has none."""
    sound = pair.voices.samples()
    length = round(len(pair.fitted.times) / pair.fitted.fps * SAMPLE_RATE)
    return np.pad(sound[:length], (0, max(0, length - len(sound)))) if len(sound) else sound


def network_answers(net: Trained, *, partner_motion: bool = False, seed: int = 0) -> Callable[[Pair], Heads | None]:
    """A function from true pairs to one sample of the network.

    The network is given sound, speaking masks and where both sit and how they face at their first common frame; noise
    is of the seed and the pair's id.

    Args:
        partner_motion: each person is generated while the other's true motion is given as well.

    Returns:
        None of a pair without sound, or whose people are never measured at once.

    Raises:
        UsageError (when called): a pair of another frame rate, or a network that was not trained to answer a partner.
    """

    def answer(pair: Pair) -> Heads | None:
        truth = (pair.fitted.a, pair.fitted.b)
        sound = sound_of(pair)
        if not len(sound) or (truth[0].valid & truth[1].valid).sum() < 2:
            return None
        if pair.fitted.fps != net.config.load.fps:
            raise UsageError(
                f"pair {pair.pair_id} has {pair.fitted.fps:g} frames a second, the network {net.config.load.fps:g}"
            )
        places = place_like(truth)
        masks = np.stack([pair.voices.speaking_a, pair.voices.speaking_b])
        drawn = int(np.random.SeedSequence([seed, int(pair.pair_id[:8], 16)]).generate_state(1)[0])
        if not partner_motion:
            made = generate(net, sound, places, speaking=masks, seed=drawn)
            return made.a, made.b
        a = generate(net, sound, places, speaking=masks, seed=drawn, partner=(None, truth[1])).a
        b = generate(net, sound, places, speaking=masks, seed=drawn, partner=(truth[0], None)).b
        return a, b

    return answer
