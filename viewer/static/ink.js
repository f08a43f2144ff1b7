"use strict";
// What is written over the 3D views: names, who speaks, distance and its uncertainty, what is missing.
const Ink = (() => {
  const { project, sum, difference, scaled, unit } = Scene;
  const INK = "#1d2530", MUTED = "#697485";
  const vector = (array, k) => Array.from(array.subarray(3 * k, 3 * k + 3));

  function label(c, text, x, y, colour, filled) {
    c.font = "600 12px system-ui, sans-serif";
    const w = c.measureText(text).width + 10, h = 18;
    c.fillStyle = filled ? colour : "rgba(255,255,255,0.88)";
    c.strokeStyle = colour;
    c.lineWidth = 1;
    c.beginPath();
    c.roundRect(x - w / 2, y - h / 2, w, h, 4);
    c.fill();
    c.stroke();
    c.fillStyle = filled ? "#fff" : colour;
    c.textAlign = "center"; c.textBaseline = "middle";
    c.fillText(text, x, y + 0.5);
    c.textAlign = "left";
  }

  function line(c, p, q, colour, width, dash = []) {
    if (!p || !q) return;
    c.strokeStyle = colour; c.lineWidth = width; c.setLineDash(dash);
    c.beginPath(); c.moveTo(...p); c.lineTo(...q); c.stroke();
    c.setLineDash([]);
  }

  // Top of a drawn head in the picture.
  function crown(view, head) {
    let best = null;
    for (let v = 0; v < head.points.length; v += 9) {
      const p = project(view.camera, [head.points[v], head.points[v + 1], head.points[v + 2]], view.width, view.height);
      if (p && (!best || p[1] < best[1])) best = p;
    }
    return best;
  }

  // A close-up says what it shows, or why it shows nothing.
  function face(c, view) {
    const { pair, k, only, heads, width, height } = view, person = pair[only];
    c.font = "11px system-ui, sans-serif"; c.textBaseline = "middle"; c.fillStyle = MUTED;
    if (heads[only]) {
      const speaking = person.speaking[k], words = [];
      if (Number.isFinite(speaking)) words.push(`speaking ${speaking.toFixed(2)}`);
      if (width > 200 && Number.isFinite(person.residual[k])) words.push(`residual ${(100 * person.residual[k]).toFixed(1)} %`);
      c.fillText(words.join("   "), 24, 15);
      if (Number.isFinite(speaking) && speaking > 0.5) { c.fillStyle = Timeline.COLOURS[only]; c.fillRect(0, height - 3, width, 3); }
      return;
    }
    c.textAlign = "center"; c.textBaseline = "middle";
    c.fillText(only === "b" && pair.source.n_people === 1 ? "one person only" : "not measured at this frame", width / 2, height / 2);
    c.textAlign = "left";
  }

  // Why a measured head has no gaze: imported rows have none at all.
  function withoutGaze(person) {
    return person.gaze.some(Number.isFinite) ? "gaze unknown, eyes shut" : "gaze not measured";
  }

  function draw(c, view) {
    const { pair, k, camera, heads, side, width, height } = view;
    const at = (p) => project(camera, p, width, height);
    if (view.only) { face(c, view); return; }
    if (side === "left") {
      const corner = (x, y) => at([(x - pair.width / 2) / pair.focal.px, (y - pair.height / 2) / pair.focal.px, 1]);
      const [p, q] = [corner(0, 0), corner(pair.width, pair.height)];
      c.strokeStyle = "#aab3be"; c.lineWidth = 1;
      c.strokeRect(p[0], p[1], q[0] - p[0], q[1] - p[1]);
      for (const who of ["a", "b"]) if (Pose.finite(pair[who].box, 4 * k, 4)) {
        // Corners of the image are edges of pixels, boxes are in their centres: half a pixel apart.
        const box = pair[who].box.subarray(4 * k, 4 * k + 4).map((v) => v + 0.5), r = corner(box[0], box[1]), s = corner(box[2], box[3]);
        c.strokeStyle = Timeline.COLOURS[who]; c.globalAlpha = 0.6; c.setLineDash([4, 4]);
        c.strokeRect(r[0], r[1], s[0] - r[0], s[1] - r[1]);
        c.setLineDash([]); c.globalAlpha = 1;
      }
    }
    const centres = {};
    for (const who of ["a", "b"]) if (heads[who] && Pose.finite(pair[who].head_centre, 3 * k, 3)) centres[who] = vector(pair[who].head_centre, k);
    if (side === "right") spread(c, view, centres, at);
    if (centres.a && centres.b) {
      const p = at(centres.a), q = at(centres.b);
      if (side === "right") {
        line(c, p, q, "rgba(29,37,48,0.55)", 1.2, [2, 3]);
        const d = pair.distance[k], sd = pair.distance_sd[k];
        const text = Number.isFinite(d) ? `${d.toFixed(2)} ± ${Number.isFinite(sd) ? sd.toFixed(2) : "?"} m` : "distance unknown";
        if (p && q) label(c, text, (p[0] + q[0]) / 2, (p[1] + q[1]) / 2 - 22, INK, false);
      }
    }
    for (const who of ["a", "b"]) if (heads[who]) {
      const top = crown(view, heads[who]);
      if (!top) continue;
      const speaking = pair[who].speaking[k];
      const talks = Number.isFinite(speaking) && speaking > 0.5;
      label(c, talks ? `${who} speaks` : who, Math.max(30, Math.min(width - 30, top[0])), Math.max(36, top[1] - 14), Timeline.COLOURS[who], talks);
    }
    let y = side === "left" ? height - 10 : 48;
    c.textBaseline = "bottom";
    for (const who of ["b", "a"]) {
      if (who === "b" && pair.source.n_people === 1) continue;
      let text = null;
      if (!heads[who]) text = `${who} was not measured at this frame`;
      else if (!Pose.finite(pair[who].gaze, 3 * k, 3)) text = `${who}: ${withoutGaze(pair[who])}`;
      if (!text) continue;
      c.font = "600 12px system-ui, sans-serif"; c.fillStyle = Timeline.COLOURS[who];
      c.fillText(text, 10, y);
      y += side === "left" ? -17 : 17;
    }
    if (side === "right") scale(c, view, at);
  }

  // One standard deviation: of each head's depth from the camera (bar), of b's place relative to a (ring).
  function spread(c, view, centres, at) {
    const { pair, k } = view;
    if (!view.sd) return;
    for (const who of ["a", "b"]) if (centres[who]) {
      const sd = pair[who].translation_sd[k];
      if (!Number.isFinite(sd)) continue;
      const along = unit(centres[who]);
      const [p, q] = [at(sum(centres[who], scaled(along, -sd))), at(sum(centres[who], scaled(along, sd)))];
      c.globalAlpha = 0.55;
      line(c, p, q, Timeline.COLOURS[who], 1.5);
      for (const end of [p, q]) if (end) {
        const dx = q && p ? q[0] - p[0] : 0, dy = q && p ? q[1] - p[1] : 1, n = Math.hypot(dx, dy) || 1;
        line(c, [end[0] - 5 * dy / n, end[1] + 5 * dx / n], [end[0] + 5 * dy / n, end[1] - 5 * dx / n], Timeline.COLOURS[who], 1.5);
      }
      c.globalAlpha = 1;
    }
    const sd = pair.distance_sd[k];
    if (centres.a && centres.b && Number.isFinite(sd)) {
      c.strokeStyle = Timeline.COLOURS.b; c.lineWidth = 1.2; c.setLineDash([3, 3]); c.globalAlpha = 0.8;
      c.beginPath();
      for (let i = 0; i <= 64; i++) {
        const angle = 2 * Math.PI * i / 64;
        const p = at(sum(centres.b, [sd * Math.cos(angle), 0, sd * Math.sin(angle)]));
        if (!p) continue;
        if (i) c.lineTo(...p); else c.moveTo(...p);
      }
      c.stroke();
      c.setLineDash([]); c.globalAlpha = 1;
    }
  }

  function scale(c, view, at) {
    const { pair, width, height } = view;
    c.font = "11px system-ui, sans-serif"; c.fillStyle = MUTED; c.textAlign = "right"; c.textBaseline = "bottom";
    const lines = ["grid 0.25 m, camera below"];
    if (view.sd) lines.unshift("bar: depth ± sd", ...(pair.source.n_people === 1 ? [] : ["ring: b relative to a, 1 sd"]));
    lines.forEach((text, i) => c.fillText(text, width - 10, height - 8 - 15 * (lines.length - 1 - i)));
    c.textAlign = "left";
    const origin = at([0, 0, 0]);
    if (origin && origin[0] > 20 && origin[0] < width - 20 && origin[1] > 20 && origin[1] < height - 20) c.fillText("camera", origin[0] + 8, origin[1]);
  }

  return { draw, withoutGaze };
})();
