"""Checks without truth on real clips of two people whose identities are known: ``duologue accuracy --real`` and more.

    python bench/real.py [--media FOLDER] [--ict FOLDER_OR_ARCHIVE] [--work FOLDER] [--json] [--write]

The checks are those of ``pipeline/accuracy/real.py``. Beyond them, people are told apart by hand (PEOPLE), and fits are
made with ICT-FaceKit too. The clips are curated (geometry only) into --work, a temporary folder by default; the fits
start from the landmarks stored there. Half rate is every second of the same landmarks here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from duologue.bench.fit import open_ict
from duologue.fitting.load_head import load_head_model
from duologue.pipeline.accuracy.real import Clip, altered, check, curated, text

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "bench" / "results" / "real.json"
CLIPS = ("two_sitcom_cuts.mp4", "two_faces_family_silent.mp4", "two_faces_headpose.gif")
BARS = {"ict": 4.2, "canonical": 6.0}
# Who is who in two_sitcom_cuts.mp4: start of the shot, about, seconds -> the people a and b.
PEOPLE = {1.7: ("woman in brown", "man in stripes"), 13.0: ("blonde woman", "man in red"),
          18.4: ("woman in brown", "man in stripes"), 20.6: ("blonde woman", "man in red")}  # fmt: skip


def known(clip: Clip) -> Clip:
    """The clip with its people as told apart by hand; nobody where they were not."""
    who = next((p for at, p in PEOPLE.items() if abs(at - clip.tracks.start_s) < 0.5), None)
    return replace(clip, people=who if clip.name == CLIPS[0] and who else ("", ""))


def commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, help="folder with the clips; without them nothing is measured")
    parser.add_argument("--ict", help="ICT-FaceKit folder or archive")
    parser.add_argument("--work", type=Path, help="keep the curated clips here, for a second run")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.relative_to(ROOT)}")
    args = parser.parse_args()
    media = args.media or ROOT.parent / "shared" / "media"
    videos = [media / name for name in CLIPS if (media / name).exists()]
    if not videos and args.media:
        raise SystemExit(f"none of {', '.join(CLIPS)} in {media}")
    if not videos:
        print(json.dumps({"skipped": f"needs {', '.join(CLIPS)}: --media DIR"}))
        return
    torch.set_num_threads(1)
    models = {"canonical": load_head_model("canonical")}
    ict = open_ict(args.ict)
    if ict is not None:
        models["ict"] = ict
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        clips = [known(clip) for clip in curated(videos, work / "clips")]
        flipped = curated(altered(videos, work / "mirrored-videos", "mirror"), work / "mirrored")
    results: dict[str, Any] = {}
    for name, model in models.items():
        results[name] = check(model, clips, flipped)
        if not args.json:
            print(f"\n{name}\n{text(results[name])}")
    best = results.get("ict", results["canonical"])
    document = {
        **{f"held_out_{name}_pct": result["held_out"]["median_pct"] for name, result in results.items()},
        "mirror_rotation_deg": best["mirror"]["rotation_deg"],
        "mirror_relative_position_cm": best["mirror"]["relative_position_cm"],
        "identity_margin": best["identity"]["margin"],
        "half_rate_rotation_deg": best["half_rate"]["rotation_deg"],
        "bars_held_out_pct": BARS,
        "models": results,
        "command": "python bench/real.py " + " ".join(sys.argv[1:]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "commit": commit(),
    }
    if args.write:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
