"use strict";
// The side panel: verdict, layout, scores against thresholds, provenance. What was not measured is said.
const Details = (() => {
  const percent = (sd) => `±${Math.round((Math.exp(sd) - 1) * 100)} %`;

  function format(value, unit) {
    if (unit === "share") return `${(100 * value).toFixed(value > 0 && value < 0.1 ? 1 : 0)} %`;
    const size = Math.abs(value);
    return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 || size === 0 ? 2 : size >= 0.001 ? 3 : size >= 1e-6 ? 6 : 0);
  }

  const suffix = (unit) => (unit && unit !== "share" ? ` ${unit}` : "");
  const symbol = { ">=": "≥", "<=": "≤", "abs<=": "|·| ≤" };

  function passes(limit, value) {
    if (value === null) return false;
    if (limit.side === ">=") return value >= limit.value - 1e-6;
    return (limit.side === "abs<=" ? Math.abs(value) : value) <= limit.value + 1e-6;
  }

  function show(root, pair, facts, e) {
    root.replaceChildren();
    root.scrollTop = 0;
    const heading = (text) => root.append(e("h2", {}, text));
    heading("selection");
    root.append(verdict(pair, e));
    heading("captions");
    if (!pair.captions.length) root.append(e("p", { className: "note" }, "none"));
    else root.append(e("div", {}, pair.captions[0]));
    if (pair.captions.length > 1) root.append(e("details", {}, e("summary", {}, `${pair.captions.length - 1} other wordings`), e("ol", {}, ...pair.captions.slice(1).map((text) => e("li", {}, text)))));
    heading("layout");
    root.append(e("div", { className: "codes" }, ...pair.codes.map((code) => {
      const [name, value] = code.split(":");
      return e("span", {}, e("i", {}, `${name} `), value || "");
    })));
    root.append(table(["", "value"], Object.entries(facts.layout).map(([name, about]) => [
      e("td", { title: about.meaning }, name.replaceAll("_", " ").replace(/ (m|deg)$/, "")), cell(pair.layout[name], about, null, e)]), e));
    heading("scores per person");
    const names = Object.keys(facts.scores), people = names.filter((n) => n.endsWith("_a") && names.includes(n.slice(0, -1) + "b"));
    // Rows without a bound of the yaw are judged by the yaw itself.
    const limitOf = (name) => {
      const [bound, plain] = [name.replace("yaw95", "yaw_bound"), name.replace("yaw_bound", "yaw95")];
      if (bound === plain) return facts.limits[name];
      return (pair.scores[bound] === null) === (name === plain) ? facts.limits[bound] : undefined;
    };
    root.append(table(["", "a", "b", "limit"], people.map((name) => {
      const stem = name.slice(0, -2), about = facts.scores[name], limit = limitOf(name);
      const bare = { ...about, unit: about.unit === "share" ? "share" : "" }; // the unit stands by the name
      return [e("td", { title: about.meaning }, stem.replaceAll("_", " "), e("span", { className: "unit" }, about.unit === "share" ? "" : suffix(about.unit))),
        cell(pair.scores[name], bare, limit, e), cell(pair.scores[`${stem}_b`], bare, limitOf(`${stem}_b`), e), limitCell(limit, about, e)];
    }), e));
    heading("scores of the clip");
    const rest = names.filter((n) => !people.includes(n) && !people.includes(n.slice(0, -1) + "a"));
    root.append(table(["", "value", "limit"], rest.map((name) => {
      const about = facts.scores[name], failing = pair.selection ? pair.selection.failing : [];
      const limit = facts.limits[name];
      // An offset or a noise level that cannot be told does not speak against a pair: the stored verdict knows.
      const fails = limit && pair.selection ? failing.includes(limit.name) : null;
      return [e("td", { title: about.meaning }, name.replace(/_(db|s)$/, "").replaceAll("_", " ")), cell(pair.scores[name], about, limit, e, fails), limitCell(limit, about, e)];
    }), e));
    root.append(e("p", { className: "note" }, "n/m: not measured. Hover a name for its meaning; red fails its limit."));
    heading("people");
    root.append(table(["", "a", "b"], [["track", "track_id"], ["voice", "voice_id"], ["person", "person_id"]].map(([text, name]) =>
      [e("td", {}, text), ...["a", "b"].map((who) => e("td", { className: pair[who][name] ? "" : "absent" }, pair[who][name] || "unknown"))]).concat([
      [e("td", { title: "standard deviation of head size, which landmarks leave open" }, "head size"), ...["a", "b"].map((who) =>
        e("td", {}, (pair[who].scale_log_sd === null ? "?" : percent(pair[who].scale_log_sd)) + (pair[who].child ? ", child" : "")))]]), e));
    heading("source");
    const source = pair.source, fov = 2 * Math.atan(pair.width / 2 / pair.focal.px) * 180 / Math.PI;
    root.append(facts_list([
      ["file", source.source_uri], ["clip", `${source.start_s.toFixed(3)} – ${source.end_s.toFixed(3)} s, shot ${source.shot_index}`],
      ["frames", `${pair.frames} at ${pair.fps} /s, ${pair.width} × ${pair.height}`],
      ["camera", `focal ${pair.focal.px.toFixed(0)} px ${percent(pair.focal.log_sd)} (${pair.focal.source}), ${fov.toFixed(0)}° wide`],
      ["origin", source.origin], ["source id", source.source_id || "not given"], ["licence", source.license || "not given"],
      ["attribution", source.attribution || "not given"], ["duplicate of", pair.duplicate_of || "none"],
      ["video id", source.video_id], ["pair id", pair.id],
    ], e));
    heading("measured with");
    root.append(facts_list([
      ["head model", `${pair.model.id} (${pair.model.tier})`], ...pair.provenance.backends.map((b) => [b.stage, `${b.name}${b.license ? `, ${b.license}` : ""}`]),
      ["version", pair.provenance.code_version], ["config", pair.provenance.config_hash],
    ], e));
    if (pair.a.neutral && pair.model.tier === "canonical") root.append(e("p", { className: "note" }, "The canonical head shows pose, place, gaze, blinks and mouth opening. Identity and lip detail need a statistical head model."));
  }

  function verdict(pair, e) {
    const s = pair.selection;
    if (!s) return e("div", { className: "verdict none" }, "No selection was made yet.");
    if (s.selected) return e("div", { className: "verdict" }, e("b", {}, "Selected"), `split: ${s.split}`);
    return e("div", { className: "verdict no" }, e("b", {}, "Not selected"), `fails ${s.failing.join(", ")} · would be in ${s.split}`);
  }

  function cell(value, about, limit, e, fails = null) {
    if (value === null || value === undefined) return e("td", { className: "absent", title: "not measured" }, "n/m");
    const bad = fails === null ? limit && !passes(limit, value) : fails;
    return e("td", { className: bad ? "fails" : "" }, format(value, about.unit), e("span", { className: "unit" }, suffix(about.unit)));
  }

  function limitCell(limit, about, e) {
    return limit ? e("td", { title: `threshold ${limit.name}` }, `${symbol[limit.side]} ${format(limit.value, about.unit)}`) : e("td", {}, "");
  }

  function table(names, rows, e) {
    return e("table", {}, e("thead", {}, e("tr", {}, ...names.map((name) => e("th", { className: name }, name)))),
      e("tbody", {}, ...rows.map((cells) => e("tr", {}, ...cells))));
  }

  const facts_list = (entries, e) => e("dl", {}, ...entries.flatMap(([name, value]) => [e("dt", {}, name), e("dd", {}, value)]));

  return { show };
})();
