"""The lens benchmark films what it says: lenses and head sizes as the priors have them, faces of one size."""

from __future__ import annotations

import numpy as np
from duologue.bench.lenses import WIDTH, films, summary
from duologue.fitting.camera import PRIOR_LOG_SD
from duologue.fitting.metric import HEAD_SIZE_LOG_SD
from duologue.pipeline.accuracy.rows import LEVELS, RowScore


def test_lenses_and_sizes_vary_as_the_priors_do() -> None:
    suite = [one.scenario for one in films(300, 3)]
    cameras = [one.shots[0].camera for one in suite if one.shots[0].camera is not None]
    lens = np.log([camera.focal_px / WIDTH for camera in cameras])
    assert abs(np.exp(np.median(lens)) - 1.374) < 0.01
    assert abs(lens.std() - PRIOR_LOG_SD) < 0.01
    away = [np.hypot(camera.position[0], camera.position[2]) / camera.focal_px for camera in cameras]
    np.testing.assert_allclose(away, away[0])  # so that faces keep their size
    sizes = np.log([person.size for one in suite for person in one.people])
    assert abs(sizes.std() - HEAD_SIZE_LOG_SD) < 0.004
    assert len({one.seed for one in suite}) == 300
    assert films(20, 3) != films(20, 4)


def test_coverage_is_the_share_of_all_errors() -> None:
    at = LEVELS.index(2.0)
    rows = [RowScore(inside={"depth": [(0.0, 10.0)] * len(LEVELS)}) for _ in range(2)]
    rows[1].inside["depth"][at] = (9.0, 10.0)
    found = summary(rows)
    assert found["coverage"]["depth"]["value"] == 0.45
    assert found["inside"]["depth"]["2.0"] == 0.45
    assert found["clips"] == 2
