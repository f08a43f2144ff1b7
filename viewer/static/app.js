"use strict";
// The page: which pair, what time, and drawing it. Pairs and the head model arrive as script files (file:// has no fetch).
const App = (() => {
  const RAY = 0.6; // metres of a drawn gaze ray
  const TINT = { a: [0.86, 0.47, 0.12], b: [0.16, 0.46, 0.86] };
  const COLOUR = Timeline.COLOURS, BACKGROUND = [0.933, 0.945, 0.957];
  const state = { facts: null, head: null, pairs: new Map(), pair: null, time: 0, playing: false, cones: true, zoom: "heads", noModel: "" };
  const $ = (selector) => document.querySelector(selector);
  const audio = new Audio();
  let board, views = null, clock = 0, wanted = null, run = 0;

  function element(tag, properties = {}, ...children) {
    const out = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) if (name in out) out[name] = value; else out.setAttribute(name, value);
    out.append(...children.filter((child) => child !== null));
    return out;
  }

  function problem(text) {
    const box = $("#problem");
    box.hidden = !text;
    box.textContent = text;
    if (text) document.documentElement.dataset.problem = text; else delete document.documentElement.dataset.problem;
  }

  // What the shown pair lacks; it stays for as long as the pair is shown.
  function note() {
    const box = $("#note");
    box.textContent = !state.pair ? "" : state.pair.a.neutral ? state.noModel : state.facts.model_note;
    box.hidden = !box.textContent;
  }

  function load(url, failed) {
    document.head.append(element("script", { src: url, onerror: failed }));
  }

  // ---- pairs ----

  function open(id, time) {
    const entry = state.facts.pairs.find((pair) => pair.id.startsWith(id));
    if (!entry) { problem(`The page has no pair ${id}.`); return; }
    wanted = { id: entry.id, time };
    for (const button of document.querySelectorAll("#list button")) {
      if (button.dataset.id === entry.id) { button.setAttribute("aria-current", "true"); button.scrollIntoView({ block: "nearest" }); } else button.removeAttribute("aria-current");
    }
    if (state.pairs.has(entry.id)) show(state.pairs.get(entry.id), time);
    else load(`pairs/${entry.id}.js`, () => problem(`pairs/${entry.id}.js is missing beside this page: keep its folder together.`));
  }

  // Called by pairs/ID.js.
  function pair(data) {
    const out = { ...data, a: Pose.person(data.a), b: Pose.person(data.b) };
    for (const name of ["mutual_gaze", "distance", "distance_sd"]) out[name] = Pose.unpack(data[name]);
    out.gain = 1;
    if (out.audio) {
      out.audio.peaks = Pose.unpack(data.audio.peaks);
      out.audio.top = 1;
      for (const value of out.audio.peaks) out.audio.top = Math.max(out.audio.top, Math.abs(value));
      out.gain = out.audio.top > 1 ? 120 / out.audio.top : 1; // the drawing fills its row; the sound stays as it is
    }
    if (state.pairs.size > 12) state.pairs.delete(state.pairs.keys().next().value);
    state.pairs.set(out.id, out);
    if (wanted && wanted.id === out.id) show(out, wanted.time);
  }

  // Called by model.js.
  function model(data) { state.head = Pose.model(data); redraw(); }

  function show(pair, time) {
    pause();
    problem("");
    state.pair = pair;
    note();
    if (audio.src) URL.revokeObjectURL(audio.src);
    audio.removeAttribute("src");
    if (pair.audio) audio.src = URL.createObjectURL(new Blob([Pose.bytes(pair.audio.data)], { type: pair.audio.mime }));
    frameView(pair);
    board.show(pair);
    Details.show($("#details"), pair, state.facts, element);
    seek(pair.start + (time || 0));
    document.documentElement.dataset.state = "ready";
  }

  // ---- time ----

  const length = (pair) => pair.frames / pair.fps;
  const { frameAt, timeOf } = Timeline;

  function seek(time) {
    const pair = state.pair;
    state.time = Math.max(pair.start, Math.min(time, pair.start + length(pair)));
    if (pair.audio) audio.currentTime = Math.min(state.time - pair.start, pair.audio.seconds);
    clock = performance.now();
    redraw();
    if (!state.playing) remember();
  }

  function remember() {
    const hash = `#pair=${state.pair.id.slice(0, 12)}&t=${(state.time - state.pair.start).toFixed(2)}`;
    if (location.hash !== hash) history.replaceState(null, "", hash);
  }

  function play() {
    const pair = state.pair;
    if (!pair) return;
    if (state.time >= timeOf(pair, pair.frames - 1) - 1e-6) seek(pair.start);
    const mine = ++run; // a loop of frames ends when a later one begins
    state.playing = true;
    clock = performance.now();
    $("#play").textContent = "❚❚";
    audio.playbackRate = Number($("#speed").value);
    if (pair.audio && !audio.ended) audio.play().catch((error) => {
      if (error.name === "AbortError") return; // paused, or another pair, before the sound began
      pause();
      problem(`The sound cannot be played: ${error.message}`);
    });
    requestAnimationFrame(() => tick(mine));
  }

  function pause() {
    if (state.playing) { advance(); redraw(); }
    state.playing = false;
    audio.pause();
    $("#play").textContent = "▶";
    if (state.pair) remember();
  }

  // The time of now while playing: the sound's own clock, or the page's where there is no sound (any more).
  function advance() {
    const pair = state.pair, now = performance.now();
    if (pair.audio && !audio.ended) { if (audio.readyState > 1) state.time = pair.start + audio.currentTime; }
    else state.time += (now - clock) / 1000 * Number($("#speed").value);
    clock = now;
    state.time = Math.min(state.time, pair.start + length(pair));
  }

  function tick(mine) {
    if (!state.playing || mine !== run) return;
    const pair = state.pair;
    advance();
    if (state.time >= pair.start + length(pair)) {
      if ($("#loop").checked) { seek(pair.start); play(); } else pause();
      return;
    }
    redraw();
    requestAnimationFrame(() => tick(mine));
  }

  // ---- drawing ----

  const orbits = { above: [0, 89.9], front: [0, 4], side: [90, 4] };

  function frameView(pair) {
    const points = [];
    for (const who of ["a", "b"]) for (let k = 0; k < pair.frames; k += 5) {
      if (pair[who].valid[k] && Pose.finite(pair[who].head_centre, 3 * k, 3)) points.push(Array.from(pair[who].head_centre.subarray(3 * k, 3 * k + 3)));
    }
    if (!points.length) points.push([0, 0, 1.5]);
    const low = [0, 1, 2].map((i) => Math.min(...points.map((p) => p[i]))), high = [0, 1, 2].map((i) => Math.max(...points.map((p) => p[i])));
    const size = Math.hypot(high[0] - low[0], high[2] - low[2]);
    pair.floor = high[1] + 0.28;
    pair.home = { target: low.map((v, i) => (v + high[i]) / 2), distance: (size / 2 + 0.33) / Math.tan(15 * Math.PI / 180) };
    state.orbit = { azimuth: orbits.above[0], elevation: orbits.above[1], ...pair.home };
    // The part of the image with both heads, with room for a gaze ray.
    const boxes = [Infinity, Infinity, -Infinity, -Infinity];
    for (const who of ["a", "b"]) for (let k = 0; k < pair.frames; k++) if (Pose.finite(pair[who].box, 4 * k, 4)) for (let i = 0; i < 4; i++) {
      boxes[i] = i < 2 ? Math.min(boxes[i], pair[who].box[4 * k + i]) : Math.max(boxes[i], pair[who].box[4 * k + i]);
    }
    const whole = [0, 0, pair.width, pair.height];
    const room = Number.isFinite(boxes[0]) ? 0.3 * (boxes[3] - boxes[1]) : 0;
    pair.windows = { image: whole, heads: Number.isFinite(boxes[0]) ? [boxes[0] - room, boxes[1] - 2.6 * room, boxes[2] + room, boxes[3] + 1.2 * room] : whole };
    pressed("orbit", "above");
    pressed("zoom", state.zoom);
  }

  function pressed(kind, value) {
    for (const button of document.querySelectorAll(`[data-${kind}]`)) button.setAttribute("aria-pressed", String(button.dataset[kind] === value));
  }

  function redraw() {
    const pair = state.pair;
    if (!pair) return;
    const k = frameAt(pair, state.time);
    const inside = Math.min(state.time - pair.start, length(pair));
    $("#clock").textContent = `${state.time.toFixed(2)} s  +${inside.toFixed(2)}  frame ${k}/${pair.frames}`;
    $("#now").textContent = absence(pair, k);
    board.draw(state.time, k);
    if (views) drawViews(pair, k);
  }

  function absence(pair, k) {
    const out = [];
    for (const who of ["a", "b"]) {
      if (who === "b" && pair.source.n_people === 1) continue;
      if (!Pose.known(pair[who], k)) out.push(`${who} not measured here`);
      else if (!Pose.finite(pair[who].gaze, 3 * k, 3)) out.push(`${who}: ${Ink.withoutGaze(pair[who])}`);
    }
    return out.join(" · ");
  }

  const vector = (array, k) => Array.from(array.subarray(3 * k, 3 * k + 3));

  function headAt(pair, who, k) {
    const person = pair[who];
    if (!Pose.known(person, k)) return null;
    if (person.neutral && state.head && state.head.sha256 === pair.model.sha256) {
      const head = state.head, points = Pose.vertices(head, person, k), count = points.length / 3;
      if (!person.look) {
        person.parts = new Float32Array(2 * count);
        person.look = new Float32Array(points.length);
        for (let v = 0; v < count; v++) {
          person.parts[2 * v] = head.parts[v] === 1 || head.parts[v] === 2 ? 1 : 0;
          person.parts[2 * v + 1] = head.parts[v] === 3 ? 1 : 0;
          const joint = head.parts[v] === 1 ? 3 : 4;
          for (let i = 0; i < 3; i++) person.look[3 * v + i] = person.neutral[3 * v + i] - person.joints[3 * joint + i];
        }
      }
      return { points, normals: Pose.normals(points, head.triangles), triangles: head.triangles, parts: person.parts, look: person.look };
    }
    const egg = state.egg || (state.egg = Scene.placeholder());
    const R = Pose.rotation(person.rotation, 3 * k), c = vector(person.head_centre, k);
    const points = new Float32Array(egg.points.length);
    for (let v = 0; v < points.length; v += 3) {
      const p = Pose.apply(R, [egg.points[v], -egg.points[v + 1], -egg.points[v + 2]]);
      for (let i = 0; i < 3; i++) points[v + i] = p[i] + c[i];
    }
    return { points, normals: Pose.normals(points, egg.triangles), triangles: egg.triangles,
      parts: new Float32Array(points.length / 3 * 2), look: new Float32Array(points.length) };
  }

  function drawViews(pair, k) {
    const heads = { a: headAt(pair, "a", k), b: headAt(pair, "b", k) };
    const iris = state.head ? Math.cos(Math.asin(Math.min(1, state.head.irisRadius / state.head.eyeballRadius))) : 0.87;
    for (const [side, view] of Object.entries(views)) {
      const box = view.figure.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
      const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
      for (const canvas of [view.gl.canvas, view.ink]) if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
      const aspect = box.width / box.height;
      const only = { face_a: "a", face_b: "b" }[side], people = (only ? [only] : ["a", "b"]).filter((who) => heads[who]);
      const camera = side === "right" ? Scene.orbit(state.orbit, aspect)
        : Scene.pinhole(pair, only ? closeUp(pair, only, k) : pair.windows[state.zoom], aspect);
      view.gl.begin(camera, BACKGROUND);
      if (side === "right") drawFloor(view.gl, pair);
      for (const who of people) view.gl.drawHead(heads[who], TINT[who], iris);
      if (!only) for (const who of people) drawGaze(view.gl, pair, who, k, side);
      const c = view.ink.getContext("2d");
      c.setTransform(ratio, 0, 0, ratio, 0, 0);
      c.clearRect(0, 0, box.width, box.height);
      Ink.draw(c, { pair, k, camera, heads, side, only, width: box.width, height: box.height, sd: state.cones });
    }
  }

  // The part of the image round one face, 0.27 m high at the head's distance: as the camera sees it, only larger.
  function closeUp(pair, who, k) {
    const known = Pose.finite(pair[who].head_centre, 3 * k, 3);
    const [x, y, z] = known ? vector(pair[who].head_centre, k) : [0, 0, 1];
    const half = 0.135 * pair.focal.px / z, u = pair.width / 2 + pair.focal.px * x / z, v = pair.height / 2 + pair.focal.px * (y + 0.012) / z;
    return [u - half, v - half, u + half, v + half];
  }

  function drawFloor(gl, pair) {
    const [x, , z] = pair.home.target, n = 8, step = 0.25, lines = [], strong = [];
    const x0 = Math.round(x / step) * step, z0 = Math.round(z / step) * step;
    for (let i = -n; i <= n; i++) {
      const gx = x0 + i * step, gz = z0 + i * step;
      (Math.abs(gx - Math.round(gx)) < 1e-6 ? strong : lines).push(gx, pair.floor, z0 - n * step, gx, pair.floor, z0 + n * step);
      (Math.abs(gz - Math.round(gz)) < 1e-6 ? strong : lines).push(x0 - n * step, pair.floor, gz, x0 + n * step, pair.floor, gz);
    }
    gl.drawLines(lines, [0.84, 0.865, 0.89, 1]);
    gl.drawLines(strong, [0.73, 0.765, 0.80, 1]);
    // The camera that took the video: a small frustum at the origin.
    const d = 0.25, w = pair.width / 2 / pair.focal.px * d, h = pair.height / 2 / pair.focal.px * d;
    const corners = [[-w, -h, d], [w, -h, d], [w, h, d], [-w, h, d]], frustum = [];
    corners.forEach((p, i) => frustum.push(0, 0, 0, ...p, ...p, ...corners[(i + 1) % 4]));
    gl.drawLines(frustum, [0.25, 0.3, 0.36, 1]);
  }

  function drawGaze(gl, pair, who, k, side) {
    const person = pair[who];
    if (!Pose.finite(person.gaze, 3 * k, 3) || !Pose.finite(person.head_centre, 3 * k, 3)) return;
    const start = vector(person.head_centre, k), along = Scene.unit(vector(person.gaze, k));
    let reach = RAY;
    if (side === "left" && along[2] < 0) reach = Math.min(RAY, 0.5 * start[2] / -along[2]); // not through the camera
    const colour = TINT[who];
    const from = Scene.sum(start, Scene.scaled(along, 0.03));
    gl.drawSolid("tube", from, along, reach - 0.03, 0.0032, [...colour, 1]);
    gl.drawSolid("tip", Scene.sum(start, Scene.scaled(along, reach)), along, 0.04, 0.012, [...colour, 1]);
    const sd = person.gaze_sd[k];
    if (state.cones && Number.isFinite(sd) && sd > 0) gl.drawSolid("spread", start, along, reach, reach * Math.tan(Math.min(sd, 1.2)), [...colour, 0.16]);
  }

  // ---- controls ----

  function wire() {
    $("#play").onclick = () => (state.playing ? pause() : play());
    const step = (seconds) => { pause(); seek(timeOf(state.pair, frameAt(state.pair, state.time)) + seconds); };
    $("#back").onclick = () => step(-1 / state.pair.fps);
    $("#forth").onclick = () => step(1 / state.pair.fps);
    $("#speed").onchange = () => { audio.playbackRate = Number($("#speed").value); };
    $("#cones").onchange = () => { state.cones = $("#cones").checked; redraw(); };
    document.addEventListener("keydown", (event) => {
      if (!state.pair || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest && event.target.closest("select, input[type=search]")) return;
      if (event.key === " " && event.target.closest && event.target.closest("button, input, summary")) return; // its own key
      const frame = 1 / state.pair.fps, big = event.shiftKey ? 1 : frame;
      const actions = {
        " ": () => (state.playing ? pause() : play()), ArrowLeft: () => step(-big), ArrowRight: () => step(big),
        Home: () => seek(state.pair.start), End: () => seek(timeOf(state.pair, state.pair.frames - 1)),
        ArrowUp: () => neighbour(-1), ArrowDown: () => neighbour(1),
      };
      if (!actions[event.key]) return;
      event.preventDefault();
      actions[event.key]();
    });
    // What was clicked with a pointer gives the keys back; what was reached with the tab key keeps them.
    document.addEventListener("click", (event) => {
      const at = document.activeElement;
      if (event.detail && at && at.matches("button, input, summary")) at.blur();
    });
    window.addEventListener("resize", () => { board.resize(); redraw(); });
    window.addEventListener("hashchange", fromHash);
    window.addEventListener("error", (event) => problem(`Error in this page: ${event.message}`));
    for (const button of document.querySelectorAll("[data-zoom]")) button.onclick = () => { state.zoom = button.dataset.zoom; pressed("zoom", state.zoom); redraw(); };
    for (const button of document.querySelectorAll("[data-orbit]")) button.onclick = () => turn(button.dataset.orbit);
    const ink = $("#right .ink");
    ink.addEventListener("pointerdown", (event) => { ink.setPointerCapture(event.pointerId); state.drag = [event.clientX, event.clientY]; });
    ink.addEventListener("pointermove", (event) => {
      if (!state.drag) return;
      state.orbit.azimuth -= (event.clientX - state.drag[0]) * 0.4;
      state.orbit.elevation = Math.max(-30, Math.min(89.9, state.orbit.elevation + (event.clientY - state.drag[1]) * 0.4));
      state.drag = [event.clientX, event.clientY];
      pressed("orbit", "");
      redraw();
    });
    for (const end of ["pointerup", "pointercancel"]) ink.addEventListener(end, () => { state.drag = null; });
    ink.addEventListener("wheel", (event) => {
      event.preventDefault();
      state.orbit.distance = Math.max(0.4, Math.min(30, state.orbit.distance * Math.exp(event.deltaY * 0.001)));
      redraw();
    }, { passive: false });
  }

  function turn(name) {
    const [azimuth, elevation] = orbits[name];
    state.orbit = { ...state.pair.home, azimuth, elevation };
    pressed("orbit", name);
    redraw();
  }

  // The next pair of those that the filter leaves, from the one that was asked for last.
  function neighbour(step) {
    const ids = [...document.querySelectorAll("#list button")].filter((button) => !button.hidden || button.dataset.id === wanted.id)
      .map((button) => button.dataset.id);
    const next = ids[ids.indexOf(wanted.id) + step];
    if (next) open(next, 0);
  }

  function fromHash() {
    const given = new URLSearchParams(location.hash.slice(1));
    const time = Number(given.get("t")) || 0, id = given.get("pair");
    if (given.get("zoom") in { heads: 1, image: 1 }) state.zoom = given.get("zoom");
    if (state.pair && (!id || state.pair.id.startsWith(id))) {
      if (Math.abs(state.time - state.pair.start - time) > 0.006) seek(state.pair.start + time);
    } else if (id || state.facts.pairs.length) open(id || state.facts.pairs[0].id, time);
  }

  const FILTERED = 10; // pairs from which on the list can be filtered

  function list() {
    const nav = $("#list");
    if (state.facts.pairs.length >= FILTERED) {
      const words = element("input", { type: "search", placeholder: "filter: file, verdict, id", "aria-label": "filter the pairs" });
      words.oninput = () => {
        const wanted = words.value.toLowerCase().split(/\s+/);
        for (const button of nav.querySelectorAll("button")) button.hidden = !wanted.every((word) => button.dataset.text.includes(word));
      };
      nav.append(words);
    }
    for (const entry of state.facts.pairs) {
      const seconds = (entry.end - entry.start).toFixed(1);
      const verdict = entry.selected === null ? "no selection" : entry.selected ? `selected · ${entry.split}` : `not selected: ${entry.reason}`;
      nav.append(element("button", { title: `${entry.uri}\n${entry.id}`, onclick: () => open(entry.id, 0), "data-id": entry.id,
        "data-text": `${entry.id} ${entry.uri} ${verdict}`.toLowerCase() },
        element("span", { className: "id" }, entry.id.slice(0, 12)),
        element("small", {}, `${entry.name}`),
        element("small", {}, `${entry.start.toFixed(2)} s, ${seconds} s long`),
        element("small", { style: `color: var(--${entry.selected === null ? "muted" : entry.selected ? "good" : "bad"})` }, verdict)));
    }
    if (state.facts.pairs.length < state.facts.total) nav.append(element("p", {}, `${state.facts.pairs.length} of ${state.facts.total} pairs are on this page.`));
  }

  // Nothing to show: no empty pictures, no buttons that do nothing.
  function empty() {
    $("main").replaceChildren(element("p", { className: "nothing" }, "This data set has no pairs."));
    document.documentElement.dataset.state = "ready";
  }

  function start(facts) {
    state.facts = facts;
    $("#dataset").textContent = facts.dataset;
    $("#count").textContent = facts.pairs.length === facts.total ? `${facts.total} pair${facts.total === 1 ? "" : "s"}` : `${facts.pairs.length} of ${facts.total} pairs`;
    list();
    if (!facts.pairs.length) { empty(); return; }
    board = new Timeline.Board($("#timeline"), (time) => seek(time));
    wire();
    try {
      views = {};
      for (const side of ["left", "face_a", "face_b", "right"]) {
        const figure = $(`#${side}`);
        views[side] = { figure, gl: new Scene.View(figure.querySelector(".gl")), ink: figure.querySelector(".ink") };
        views[side].gl.canvas.addEventListener("webglcontextlost", () => problem("The browser gave up its 3D drawing: reload the page."));
      }
    } catch (error) {
      views = null;
      $("#views").replaceChildren(element("p", { className: "note", style: "padding: 12px; background: #fff; grid-column: 1 / 3" }, error.message));
      console.warn(error.message);
    }
    if (facts.model) load("model.js", () => {
      state.noModel = "model.js is missing beside this page: heads are drawn as plain shapes. Keep its folder together.";
      note();
    });
    fromHash();
  }

  return { start, pair, model };
})();
