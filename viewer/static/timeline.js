"use strict";
// Everything that changes over a clip, on one time axis: curves, turns, gaps, play-head.
const Timeline = (() => {
  const GUTTER = 178, RIGHT = 14, INK = "#1d2530", MUTED = "#697485", RULE = "#e3e7ec";
  const A = "#c85f00", B = "#1763c6", BOTH = "#1f8a5b";
  const LIGHT = { a: "#e2b07d", b: "#89acdf" };
  const COLOURS = { a: A, b: B, "": "#7a8391" };

  // rows: {key, label, height, people, draw(context, box, pair), value(frame) -> [[text, colour], ...]}
  function rowsOf(pair) {
    const number = (v, digits, suffix = "") => (Number.isFinite(v) ? v.toFixed(digits).replace(/^-(0\.?0*)$/, "$1") + suffix : "–");
    const alone = pair.source.n_people === 1, people = alone ? ["a"] : ["a", "b"]; // a single speaker has no partner
    const both = (name, digits, factor = 1, suffix = "", offset = 0, step = 1) => (k) => people.map((who) =>
      [`${who} ${number(pair[who][name][step * k + offset] * factor, digits, suffix)}`, COLOURS[who]]);
    const rows = [], measured = (k) => pair.a.valid[k] && pair.b.valid[k];
    if (pair.audio) rows.push({ label: "sound", height: 34, range: loudest(pair), draw: waveform, value: () => [] });
    const voices = pair.turns.some((turn) => !turn.face);
    rows.push({
      label: "turns", height: voices ? 42 : 30, draw: turns,
      value: (k) => [[speakers(pair, k), MUTED]], none: pair.audio ? null : "no audio: turns not measured",
    });
    rows.push({
      label: "speaking", height: 38, draw: mirrored("speaking", 1), value: both("speaking", 2),
      none: pair.audio ? null : "no audio: not measured",
    });
    const jaw = (who, k) => pair[who].jaw[3 * k] * 180 / Math.PI, [shut, open] = extent(pair, jaw);
    const low = shut < -0.5 ? Math.floor(shut / 5) * 5 : 0, high = Math.max(10, Math.ceil(open / 5) * 5);
    rows.push({
      label: "jaw open", height: 34, people: "ab", range: `${low} to ${high}°`, draw: curves(jaw, low, high),
      value: both("jaw", 1, 180 / Math.PI, "°", 0, 3),
    });
    const wide = extent(pair, (who, k) => pair[who].looking[k] * 180 / Math.PI)[1] > 90 ? 180 : 90;
    rows.push({
      label: "gaze off partner", height: 40, people: "ab", range: `0 to ${wide}°`,
      draw: curves((who, k) => pair[who].looking[k] * 180 / Math.PI, 0, wide, 10), value: both("looking", 0, 180 / Math.PI, "°"),
    });
    rows.push({ label: "mutual gaze", height: 30, people: "joint", range: "0 to 1", draw: area("mutual_gaze", BOTH, measured),
      value: (k) => [[measured(k) ? number(pair.mutual_gaze[k], 2) : "–", BOTH]] });
    rows.push({ label: "distance ± sd", height: 46, people: "joint", draw: distance,
      value: (k) => [[Number.isFinite(pair.distance[k]) ? `${number(pair.distance[k], 2)} ± ${number(pair.distance_sd[k], 2)} m` : "–", INK]] });
    rows.push({ label: "confidence", height: 30, people: "ab", range: "0 to 1",
      draw: curves((who, k) => (pair[who].valid[k] ? pair[who].confidence[k] : NaN), 0, 1),
      value: (k) => both("confidence", 2)(k).map(([text, colour], i) => [pair["ab"[i]].valid[k] ? text : `${"ab"[i]} –`, colour]) });
    rows.push({ label: "measured", height: 24, draw: validity, value: (k) => people.map(
      (who) => [`${who} ${pair[who].valid[k] ? "yes" : "no"}`, pair[who].valid[k] ? COLOURS[who] : "#b3261e"]) });
    return alone ? rows.filter((row) => row.people !== "joint" && row.label !== "gaze off partner") : rows;
  }

  // The waveform fills its row; how loud it is must be said.
  const loudest = (pair) => (pair.audio.top > 1 ? `peak ${Math.round(20 * Math.log10(pair.audio.top / 127))} dB` : "silent");

  function extent(pair, value) {
    let low = Infinity, high = -Infinity;
    for (const who of ["a", "b"]) for (let k = 0; k < pair.frames; k++) {
      const v = value(who, k);
      if (Number.isFinite(v)) { low = Math.min(low, v); high = Math.max(high, v); }
    }
    return [low, high];
  }

  function speakers(pair, k) {
    const t = timeOf(pair, k);
    const now = pair.turns.filter((turn) => turn.start_s <= t + 1e-6 && t + 1e-6 < turn.end_s);
    return now.length ? now.map((turn) => turn.face || `${turn.speaker} off screen`).join(" + ") : pair.turns.length ? "silence" : "";
  }

  const timeX = (box, pair, t) => box.x + (t - pair.start) / duration(pair) * box.w;
  // Frame k stands at its own time, k / fps; what is drawn of it reaches half way to its neighbours.
  const frameX = (box, pair, k) => box.x + k / pair.frames * box.w;
  const span = (box, pair, k) => [frameX(box, pair, Math.max(k - 0.5, 0)), frameX(box, pair, k + 1 < pair.frames ? k + 0.5 : pair.frames)];
  const timeOf = (pair, k) => pair.start + k / pair.fps;
  const frameAt = (pair, time) => Math.max(0, Math.min(pair.frames - 1, Math.round((time - pair.start) * pair.fps)));
  const halves = (x) => Math.round(x * 2) / 2;
  const duration = (pair) => pair.frames / pair.fps;

  function waveform(c, box, pair) {
    const peaks = pair.audio.peaks, bins = peaks.length / 2;
    const share = pair.audio.seconds / duration(pair), middle = box.y + box.h / 2;
    c.fillStyle = "#8b95a3";
    for (let x = 0; x < box.w; x++) {
      const first = Math.floor(x / box.w / share * bins), last = Math.floor((x + 1) / box.w / share * bins);
      let low = 0, high = 0;
      for (let i = first; i <= last && i < bins; i++) { low = Math.min(low, peaks[2 * i]); high = Math.max(high, peaks[2 * i + 1]); }
      const top = high / 127 * box.h / 2 * pair.gain, bottom = -low / 127 * box.h / 2 * pair.gain;
      c.fillRect(box.x + x, middle - Math.min(top, box.h / 2), 1, Math.max(0.6, Math.min(top, box.h / 2) + Math.min(bottom, box.h / 2)));
    }
  }

  function turns(c, box, pair) {
    const lanes = pair.turns.some((turn) => !turn.face) ? ["a", "b", ""] : ["a", "b"];
    const h = (box.h - 2 * (lanes.length - 1)) / lanes.length;
    c.font = "10px system-ui, sans-serif";
    for (const turn of pair.turns) {
      const y = box.y + lanes.indexOf(turn.face) * (h + 2);
      const x0 = Math.max(timeX(box, pair, turn.start_s), box.x), x1 = Math.min(timeX(box, pair, turn.end_s), box.x + box.w);
      if (x1 <= x0) continue;
      c.globalAlpha = turn.face ? 0.85 : 0.55;
      c.fillStyle = COLOURS[turn.face];
      c.fillRect(x0, y, Math.max(1, x1 - x0), h);
      c.globalAlpha = 1;
      const text = turn.face ? `${turn.face} · ${turn.speaker}` : `${turn.speaker} · no face`;
      if (x1 - x0 > c.measureText(text).width + 8) { c.fillStyle = "#fff"; c.textBaseline = "middle"; c.fillText(text, x0 + 4, y + h / 2 + 0.5); }
    }
  }

  // Steps of one value a frame, filled from the base line as one path (abutting bars would show seams).
  function steps(c, box, pair, value, base, scale) {
    c.beginPath();
    for (let k = 0; k < pair.frames; k++) {
      const v = value(k);
      if (!Number.isFinite(v) || v <= 0) continue;
      const [x0, x1] = span(box, pair, k).map(halves);
      c.rect(x0, Math.min(base, base - v * scale), x1 - x0, Math.abs(v * scale));
    }
    c.fill();
  }

  function mirrored(name, top) {
    return (c, box, pair) => {
      const middle = box.y + box.h / 2;
      for (const [who, sign] of [["a", -1], ["b", 1]]) {
        c.fillStyle = COLOURS[who];
        c.globalAlpha = 0.75;
        steps(c, box, pair, (k) => Math.min(pair[who][name][k] / top, 1), middle, -sign * (box.h / 2 - 1));
        c.globalAlpha = 1;
      }
      c.fillStyle = "#9aa4b1";
      c.fillRect(box.x, middle - 0.5, box.w, 1);
    };
  }

  // A polyline with holes where the value is not known; `good`: a faint band from the low end up to here.
  function polyline(c, box, pair, value, low, high) {
    c.beginPath();
    let open = false;
    for (let k = 0; k < pair.frames; k++) {
      const v = value(k);
      if (!Number.isFinite(v)) { open = false; continue; }
      const x = frameX(box, pair, k), y = box.y + box.h - Math.max(0, Math.min(1, (v - low) / (high - low))) * box.h;
      if (open) c.lineTo(x, y); else { c.moveTo(x - 0.6, y); c.lineTo(x, y); }
      open = true;
    }
    c.stroke();
  }

  function curves(value, low, high, good) {
    return (c, box, pair) => {
      if (good) { c.fillStyle = "#e6f3ec"; const h = box.h * good / (high - low); c.fillRect(box.x, box.y + box.h - h, box.w, h); }
      c.lineWidth = 1.4;
      for (const who of ["a", "b"]) { c.strokeStyle = COLOURS[who]; polyline(c, box, pair, (k) => value(who, k), low, high); }
    };
  }

  function area(name, colour, measured) {
    return (c, box, pair) => {
      c.fillStyle = colour;
      c.globalAlpha = 0.7;
      steps(c, box, pair, (k) => (measured(k) ? pair[name][k] : NaN), box.y + box.h, box.h);
      c.globalAlpha = 1;
      c.fillStyle = "#c8cfd8";
      c.fillRect(box.x, box.y + box.h - 0.5, box.w, 1);
    };
  }

  function distanceRange(pair) {
    let low = Infinity, high = -Infinity;
    for (let k = 0; k < pair.frames; k++) {
      const v = pair.distance[k], sd = Number.isFinite(pair.distance_sd[k]) ? pair.distance_sd[k] : 0;
      if (Number.isFinite(v)) { low = Math.min(low, v - sd); high = Math.max(high, v + sd); }
    }
    return low < high ? [Math.max(0, Math.floor((low - 0.02) * 10) / 10), Math.ceil((high + 0.02) * 10) / 10] : [0, 1];
  }

  function distance(c, box, pair) {
    const [low, high] = distanceRange(pair), y = (v) => box.y + box.h - Math.max(0, Math.min(1, (v - low) / (high - low))) * box.h;
    c.fillStyle = "#dfe4ea";
    c.beginPath();
    for (let k = 0; k < pair.frames; k++) {
      const v = pair.distance[k], sd = pair.distance_sd[k], [x0, x1] = span(box, pair, k).map(halves);
      if (Number.isFinite(v) && Number.isFinite(sd)) c.rect(x0, y(v + sd), x1 - x0, y(v - sd) - y(v + sd));
    }
    c.fill();
    c.lineWidth = 1.4;
    c.strokeStyle = INK;
    polyline(c, box, pair, (k) => pair.distance[k], low, high);
    c.fillStyle = MUTED; c.font = "9px system-ui, sans-serif"; c.textAlign = "right";
    c.textBaseline = "top"; c.fillText(high.toFixed(1) + " m", box.x - 4, box.y);
    c.textBaseline = "bottom"; c.fillText(low.toFixed(1) + " m", box.x - 4, box.y + box.h);
    c.textAlign = "left";
  }

  function validity(c, box, pair) {
    const people = pair.source.n_people === 1 ? ["a"] : ["a", "b"], h = (box.h - 2) / people.length;
    people.forEach((who, lane) => {
      const top = box.y + lane * (h + 2);
      c.fillStyle = "#f3c9c5";
      c.fillRect(box.x, top, box.w, h);
      c.fillStyle = LIGHT[who];
      steps(c, box, pair, (k) => pair[who].valid[k], top + h, h);
    });
  }

  function hatch(c) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 6;
    const t = tile.getContext("2d");
    t.strokeStyle = "#c9a6a3"; t.lineWidth = 1;
    t.beginPath(); t.moveTo(0, 6); t.lineTo(6, 0); t.moveTo(-1, 1); t.lineTo(1, -1); t.moveTo(5, 7); t.lineTo(7, 5); t.stroke();
    return c.createPattern(tile, "repeat");
  }

  class Board {
    constructor(canvas, seek) {
      this.canvas = canvas;
      this.back = document.createElement("canvas");
      const at = (event) => {
        const box = this.canvas.getBoundingClientRect(), width = box.width - GUTTER - RIGHT;
        seek(this.pair.start + Math.max(0, Math.min(1, (event.clientX - box.left - GUTTER) / width)) * duration(this.pair));
      };
      canvas.addEventListener("pointerdown", (event) => { if (this.pair) { canvas.setPointerCapture(event.pointerId); this.held = true; at(event); } });
      canvas.addEventListener("pointermove", (event) => { if (this.held) at(event); });
      for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { this.held = false; });
    }

    show(pair) {
      this.pair = pair;
      this.rows = rowsOf(pair);
      for (const row of this.rows) row.full = row.height;
      this.resize();
    }

    resize() {
      if (!this.pair) return;
      const ratio = window.devicePixelRatio || 1, tight = window.innerHeight < 840;
      this.gap = tight ? 4 : 7;
      for (const row of this.rows) row.height = tight && row.full > 30 ? Math.max(30, Math.round(row.full * 0.8)) : row.full;
      this.height = 24 + this.rows.reduce((total, row) => total + row.height + this.gap, 0);
      this.canvas.style.height = this.height + "px";
      this.width = this.canvas.clientWidth;
      for (const canvas of [this.canvas, this.back]) { canvas.width = Math.round(this.width * ratio); canvas.height = Math.round(this.height * ratio); }
      const c = this.back.getContext("2d");
      c.setTransform(ratio, 0, 0, ratio, 0, 0);
      c.fillStyle = "#fff";
      c.fillRect(0, 0, this.width, this.height);
      this.axis(c);
      const pattern = hatch(c);
      let y = 20;
      for (const row of this.rows) {
        const box = { x: GUTTER, y: y + 2, w: this.width - GUTTER - RIGHT, h: row.height };
        row.box = box;
        c.fillStyle = "#f8f9fb";
        c.fillRect(box.x, box.y, box.w, box.h);
        if (row.people) this.gaps(c, box, row.people, pattern);
        if (row.none) {
          c.fillStyle = MUTED; c.font = "italic 11px system-ui, sans-serif"; c.textBaseline = "middle";
          c.fillText(row.none, box.x + 8, box.y + box.h / 2);
        } else row.draw(c, box, this.pair);
        c.fillStyle = INK; c.font = "600 11px system-ui, sans-serif"; c.textBaseline = "top";
        c.fillText(row.label, 10, box.y + 2);
        if (row.range) {
          c.fillStyle = "#98a2af"; c.font = "9px system-ui, sans-serif"; c.textAlign = "right";
          c.fillText(row.range, box.x - 4, box.y + 2); c.textAlign = "left";
        }
        y += row.height + this.gap;
      }
      this.draw(this.time ?? this.pair.start, this.frame ?? 0);
    }

    gaps(c, box, people, pattern) {
      const { a, frames } = this.pair, b = this.pair.source.n_people === 1 ? a : this.pair.b;
      for (let k = 0; k < frames; k++) {
        const missing = people === "joint" ? !(a.valid[k] && b.valid[k]) : !a.valid[k] || !b.valid[k];
        if (!missing) continue;
        const [x0, x1] = span(box, this.pair, k);
        c.fillStyle = pattern;
        c.fillRect(x0, box.y, x1 - x0, box.h);
      }
    }

    axis(c) {
      const box = { x: GUTTER, w: this.width - GUTTER - RIGHT }, seconds = duration(this.pair);
      const step = [0.2, 0.5, 1, 2, 5, 10, 20, 60].find((s) => box.w * s / seconds > 54) || 120;
      c.font = "10px system-ui, sans-serif"; c.textBaseline = "top"; c.textAlign = "center";
      for (let t = Math.ceil(this.pair.start / step - 1e-9) * step; t <= this.pair.start + seconds + 1e-9; t += step) {
        const x = timeX(box, this.pair, t);
        c.fillStyle = RULE; c.fillRect(x, 17, 1, this.height - 20);
        c.fillStyle = MUTED;
        if (x > box.x + 4 && x < box.x + box.w - 4) c.fillText(t.toFixed(step < 1 ? 1 : 0), x, 4);
      }
      c.textAlign = "left";
      c.fillText("seconds of the video", 10, 4);
    }

    draw(time, frame) {
      this.time = time;
      this.frame = frame;
      const ratio = window.devicePixelRatio || 1, c = this.canvas.getContext("2d");
      c.setTransform(1, 0, 0, 1, 0, 0);
      c.drawImage(this.back, 0, 0);
      c.setTransform(ratio, 0, 0, ratio, 0, 0);
      for (const row of this.rows) {
        let x = 10;
        c.font = "11px ui-monospace, Menlo, Consolas, monospace"; c.textBaseline = "top";
        const tall = row.height > 29, y = row.box.y + (tall ? 16 : 2);
        if (!tall) x = 76;
        if (row.none) continue;
        for (const [text, colour] of row.value(frame)) { c.fillStyle = colour; c.fillText(text, x, y); x += c.measureText(text).width + 9; }
      }
      const box = this.rows[0].box, x = timeX(box, this.pair, Math.min(time, this.pair.start + duration(this.pair)));
      c.fillStyle = "#d0021b";
      c.fillRect(x - 0.75, 16, 1.5, this.height - 20);
      c.beginPath(); c.moveTo(x - 5, 12); c.lineTo(x + 5, 12); c.lineTo(x, 18); c.fill();
    }
  }

  return { Board, COLOURS, frameAt, span, speakers, timeOf };
})();
if (typeof module !== "undefined") module.exports = Timeline;
