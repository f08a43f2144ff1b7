"""The pages in headless Chromium: what is drawn, what is not, and that nothing goes wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_factory import make_pair, make_pairs, write_dataset
from duologue.cli import main
from duologue.fitting.load_head import load_head_model
from duologue.schemas.row import Pair, Voices

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on this machine")

WIDTH, HEIGHT = 1280, 860
CAMERA = np.s_[70:250, 210:580]  # parts of the picture at this window size: see viewer/static/view.css
FACE_A, FACE_B, ABOVE = np.s_[310:420, 230:390], np.s_[310:420, 420:580], np.s_[100:400, 590:955]
TIMELINE = np.s_[480:850, 390:940]
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--enable-logging=stderr", "--virtual-time-budget=4000", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


@dataclass
class Shot:
    """What the browser made of a page: pixels [H, W, 3] RGB, the document, and what it logged."""

    rgb: np.ndarray
    dom: str
    console: list[str]

    def coloured(self, part: tuple[slice, slice], who: str) -> int:
        """Pixels of a person's colour: a is orange, b is blue."""
        red, _, blue = np.moveaxis(self.rgb[part].astype(int), 2, 0)
        return int(((red - blue if who == "a" else blue - red) > 25).sum())


def visit(page: Path, fragment: str, folder: Path, *more: str) -> Shot:
    assert CHROMIUM is not None
    profile, picture = folder / "profile", folder / "shot.png"
    places = (f"--window-size={WIDTH},{HEIGHT}", f"--user-data-dir={profile}", f"--screenshot={picture}", "--dump-dom")
    done = subprocess.run(
        [CHROMIUM, *SWITCHES, *places, *more, f"{page.as_uri()}{fragment}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    shutil.rmtree(profile, ignore_errors=True)
    log = [line for line in done.stderr.splitlines() if ":CONSOLE" in line and "GL Driver Message" not in line]
    pixels = cv2.imread(str(picture))
    assert pixels is not None
    return Shot(pixels[..., ::-1], done.stdout, log)


def clip() -> Pair:
    """Three seconds in which b is not measured for half a second (frames 30 to 42)."""
    model = load_head_model("canonical")
    pair = make_pair(4, frames=75)
    gap = np.zeros(75, dtype=bool)
    gap[30:43] = True
    heads = {}
    for who in ("a", "b"):
        head = getattr(pair.fitted, who)
        whole = ~head.valid  # the factory's own holes are filled from the frame before
        source = int(np.flatnonzero(head.valid)[0])
        lost = gap if who == "b" else np.zeros(75, dtype=bool)
        changed = {}
        for name, value in vars(head).items():
            if isinstance(value, np.ndarray) and value.shape[:1] == (75,) and name not in ("valid", "box"):
                made = value.copy()
                made[whole] = value[source]
                if value.dtype.kind == "f":
                    made[lost] = 0.0 if name == "confidence" else np.nan
                changed[name] = made
        changed |= {"valid": ~lost, "shape": np.zeros(10, np.float32)}
        changed["expression"] = np.where(lost[:, None], np.nan, np.zeros((75, 20))).astype(np.float32)
        heads[who] = replace(head, **changed)
    relation = pair.relation
    blank = {
        name: np.where(gap, np.nan, np.nan_to_num(getattr(relation, name), nan=0.8)).astype(np.float32)
        for name in ("distance_m", "looking_a", "looking_b", "mutual_gaze", "relative_position_sd")
    }
    blank["mutual_gaze"] = np.nan_to_num(blank["mutual_gaze"])
    fitted = replace(pair.fitted, head_model_id=model.model_id, head_model_sha256=model.sha256, **heads)
    return replace(pair, fitted=fitted, relation=replace(relation, **blank))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    pair = clip()
    nan = np.full(75, np.nan, np.float32)
    other = make_pair(5, frames=75)
    silent = replace(
        other, voices=Voices((), nan, nan), fitted=replace(other.fitted, head_model_id=pair.fitted.head_model_id)
    )
    write_dataset(folder / "set", [pair, silent])
    assert main(["view", str(folder / "set"), "--out", str(folder / "page")]) == 0
    return folder / "page" / "index.html"


def test_both_heads_are_drawn_in_every_view(page: Path, tmp_path: Path) -> None:
    shot = visit(page, f"#pair={clip().pair_id}&t=0.4", tmp_path)
    assert shot.console == []
    assert 'data-state="ready"' in shot.dom
    assert "data-problem" not in shot.dom
    for part in (CAMERA, ABOVE):
        assert shot.coloured(part, "a") > 400
        assert shot.coloured(part, "b") > 400
    assert shot.coloured(FACE_A, "a") > 3000
    assert shot.coloured(FACE_B, "b") > 3000
    for who in ("a", "b"):  # curves and turns
        assert shot.coloured(TIMELINE, who) > 2000
    assert "2.10 s  +0.40  frame 10/75" in shot.dom


def test_a_head_that_was_not_measured_is_absent(page: Path, tmp_path: Path) -> None:
    shot = visit(page, f"#pair={clip().pair_id}&t=1.4", tmp_path)  # frame 35
    assert "b not measured here" in shot.dom
    assert shot.coloured(FACE_A, "a") > 3000
    assert shot.coloured(FACE_B, "b") < 150  # fringes of letters
    assert shot.coloured(CAMERA, "a") > 400
    whole = visit(page, f"#pair={clip().pair_id}&t=0.4", tmp_path)
    assert shot.coloured(ABOVE, "b") < 0.15 * whole.coloured(ABOVE, "b")  # only words are left
    assert shot.console == []


def test_a_pair_without_sound_and_head_model_says_so(page: Path, tmp_path: Path) -> None:
    pair = make_pair(5, frames=75)
    shot = visit(page, f"#pair={pair.pair_id[:12]}&t=1", tmp_path)
    assert shot.console == []
    assert "Plain shapes, no expression" in shot.dom
    assert shot.coloured(FACE_A, "a") > 3000
    assert shot.coloured(CAMERA, "b") > 400


# Playing takes real time (sound has a clock of its own), so no virtual time here: the page logs when it is done.
DRIVE = """<script>
window.addEventListener("load", () => {
  const clock = () => (document.querySelector("#clock").textContent.match(/frame (\\d+)/) || [])[1];
  const key = (key, shiftKey) => document.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey }));
  const log = [], note = () => log.push(clock());
  const until = (true_, then) => (true_() ? then() : setTimeout(until, 20, true_, then));
  until(() => document.documentElement.dataset.state === "ready" && clock() !== undefined, () => {
    for (const [name, shift] of [["ArrowRight"], ["ArrowRight", true], ["ArrowLeft"], ["End"], ["Home"]]) {
      key(name, shift); note();
    }
    document.querySelector("[data-orbit=side]").click();
    key(" ");
    until(() => Number(clock()) > 0, () => {
      // At its end playing has stopped by itself, and the key would start it again.
      if (Number(clock()) < Number(log[3])) key(" ");
      note();
      setTimeout(() => { note(); console.log("frames: " + log.join(" ") + " ."); }, 400);
    });
  });
});
</script>"""
PATIENCE_S = 120


def played(page: Path, fragment: str, folder: Path) -> list[str]:
    """What the page logged, up to its line of frames; the browser is stopped then, or when patience ends."""
    assert CHROMIUM is not None
    live = [switch for switch in SWITCHES if not switch.startswith("--virtual-time-budget")]
    more = ("--remote-debugging-port=0", "--autoplay-policy=no-user-gesture-required")  # a port keeps it open
    browser = subprocess.Popen(
        [CHROMIUM, *live, *more, f"--user-data-dir={folder / 'profile'}", f"{page.as_uri()}{fragment}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    watch = threading.Timer(PATIENCE_S, browser.kill)
    watch.start()
    said = []
    with browser:
        assert browser.stderr is not None
        for line in browser.stderr:
            if ":CONSOLE" in line and "GL Driver Message" not in line:
                said.append(line)
                if "frames: " in line:
                    break
        browser.kill()
    watch.cancel()
    return said


@pytest.mark.parametrize("sound", [True, False])
def test_keys_step_and_play(page: Path, tmp_path: Path, sound: bool) -> None:
    shutil.copytree(page.parent, tmp_path / "copy")
    driven = tmp_path / "copy" / "index.html"
    driven.write_text(driven.read_text() + DRIVE)
    shown = clip().pair_id if sound else make_pair(5, frames=75).pair_id
    said = played(driven, f"#pair={shown}", tmp_path)
    assert len(said) == 1, said
    found = re.search(r"frames: ([\d ]+) \.", said[0])
    assert found is not None, said
    frames = [int(word) for word in found.group(1).split()]
    assert frames[:5] == [1, 26, 25, 74, 0]
    assert frames[5] > 0  # it played
    assert frames[6] == frames[5]  # and stopped


# Back to a pair whose sound is not decoded yet, then play and pause at once; then keys on a control of the page.
HASTE = """<script>
window.addEventListener("load", () => {
  const press = (key, at) => {
    const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
    at.dispatchEvent(event);
    return event.defaultPrevented ? "page" : "control";
  };
  const until = (true_, then) => (true_() ? then() : setTimeout(until, 20, true_, then));
  const shown = (id) => () => location.hash.startsWith(`#pair=${id}`);
  const listed = [...document.querySelectorAll("#list button")];
  const [first, second] = listed.map((button) => button.dataset.id.slice(0, 12));
  const body = document.body, loop = document.querySelector("#loop"), said = [];
  listed[0].click();
  until(shown(first), () => {
    press("ArrowDown", body);
    until(shown(second), () => {
      press("ArrowUp", body); press(" ", body); press(" ", body);
      setTimeout(() => {
        said.push(document.querySelector("#problem").textContent || "well");
        loop.focus();
        said.push(press(" ", loop), press("ArrowRight", loop), document.activeElement === loop ? "kept" : "lost");
        document.querySelector("#right .gl").getContext("webgl").getExtension("WEBGL_lose_context").loseContext();
        until(() => document.querySelector("#problem").textContent.includes("reload the page"), () => {
          console.log("frames: " + said.join(" ") + " .");
        });
      }, 500);
    });
  });
});
</script>"""


def test_hasty_keys_raise_no_alarm_controls_keep_theirs_and_a_lost_drawing_is_said(tmp_path: Path) -> None:
    pairs = [replace(make_pair(seed, frames=75), fitted=clip().fitted) for seed in (4, 6)]
    write_dataset(tmp_path / "set", pairs)
    assert main(["view", str(tmp_path / "set"), "--out", str(tmp_path / "page")]) == 0
    driven = tmp_path / "page" / "index.html"
    driven.write_text(driven.read_text() + HASTE)
    said = played(driven, "", tmp_path)
    assert len(said) == 1, said
    assert "frames: well control page kept ." in said[0]


FILTER = """<script>
window.addEventListener("load", () => {
  const until = (true_, then) => (true_() ? then() : setTimeout(until, 20, true_, then));
  until(() => document.documentElement.dataset.state === "ready", () => {
    const box = document.querySelector("#list input"), said = [];
    const left = () => [...document.querySelectorAll("#list button")].filter((button) => button.offsetHeight > 0);
    box.focus();
    box.value = "NOT selected";
    box.dispatchEvent(new Event("input"));
    said.push(left().length);
    for (const key of [" ", "ArrowDown"]) box.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    said.push(document.querySelector("#play").textContent === "\u25b6" ? "still" : "plays");
    const shown = left()[1].dataset.id;
    left()[0].click();
    until(() => document.querySelector("[aria-current]") === left()[0], () => {
      document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true }));
      until(() => location.hash.includes(shown.slice(0, 12)), () => {
        box.value = ""; box.dispatchEvent(new Event("input"));
        console.log("frames: " + [...said, left().length].join(" ") + " .");
      });
    });
  });
});
</script>"""


def test_a_long_list_can_be_filtered(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", make_pairs(11))  # every fifth is not selected
    assert main(["view", str(tmp_path / "set"), "--out", str(tmp_path / "page")]) == 0
    driven = tmp_path / "page" / "index.html"
    driven.write_text(driven.read_text() + FILTER)
    said = played(driven, "", tmp_path)
    assert len(said) == 1, said
    assert "frames: 2 still 11 ." in said[0]


def test_a_missing_head_model_is_said_for_as_long_as_its_pairs_are_shown(page: Path, tmp_path: Path) -> None:
    shutil.copytree(page.parent, tmp_path / "copy")
    (tmp_path / "copy" / "model.js").unlink()
    shot = visit(tmp_path / "copy" / "index.html", f"#pair={clip().pair_id}", tmp_path)
    assert re.search(r'<div id="note">model.js is missing beside this page', shot.dom)
    assert shot.coloured(FACE_A, "a") > 3000


def test_a_data_set_without_pairs_says_so(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", [])
    assert main(["view", str(tmp_path / "set")]) == 0
    shot = visit(tmp_path / "set" / "view" / "index.html", "", tmp_path)
    assert shot.console == []
    assert "This data set has no pairs." in shot.dom
    assert '<canvas id="timeline"' not in shot.dom


def test_imported_heads_without_gaze_are_not_said_to_have_their_eyes_shut(tmp_path: Path) -> None:
    pair = clip()
    nan = np.full((75, 3), np.nan, np.float32)
    heads = {who: replace(getattr(pair.fitted, who), gaze=nan, gaze_raw=nan, gaze_sd=nan[:, 0]) for who in ("a", "b")}
    write_dataset(tmp_path / "set", [replace(pair, fitted=replace(pair.fitted, **heads))])
    assert main(["view", str(tmp_path / "set")]) == 0
    dom = visit(tmp_path / "set" / "view" / "index.html", "", tmp_path).dom
    assert "a: gaze not measured · b: gaze not measured" in dom


def test_an_unknown_pair_and_a_missing_file_are_said(page: Path, tmp_path: Path) -> None:
    assert "The page has no pair ffff" in visit(page, "#pair=ffff", tmp_path).dom
    shutil.copytree(page.parent, tmp_path / "copy")
    for path in (tmp_path / "copy" / "pairs").iterdir():
        path.unlink()
    assert "is missing beside this page" in visit(tmp_path / "copy" / "index.html", "", tmp_path).dom


def test_the_report_draws_without_scripts(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    assert main(["report", str(tmp_path / "set")]) == 0
    page = tmp_path / "set" / "report.html"
    assert "<script" not in page.read_text()
    shot = visit(page, "", tmp_path)
    assert shot.console == []
    assert len(np.unique(shot.rgb.reshape(-1, 3), axis=0)) > 50
    assert re.search(r"<h1>set</h1>", shot.dom)
