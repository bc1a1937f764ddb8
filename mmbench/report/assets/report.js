// The interactive scatter of the report. Everything it shows comes from the JSON element #points; names are set as text,
// never as markup. Without this script the page still has a figure per metric.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("points").textContent);
  const $ = (id) => document.getElementById(id);
  const plot = $("plot"), readout = $("readout");
  const WIDTH = 420, HEIGHT = 320, LEFT = 46, RIGHT = 10, TOP = 10, BOTTOM = 42;
  const GREY = { colour: "#767676", edge: "#FFFFFF", hollow: false };
  const OUTLINES = { // of the markers, centred at 0
    circle: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    square: "M-3.5-3.5h7v7h-7z",
    triangle: "M0-4.6l4.4 7.8h-8.8z",
    diamond: "M0-4.9L4.9 0L0 4.9L-4.9 0z",
    down: "M0 4.6l4.4-7.8h-8.8z",
    plus: "M-1.5-4.4h3v2.9h2.9v3h-2.9v2.9h-3v-2.9h-2.9v-3h2.9z",
  };
  const hint = readout.textContent;
  const hiddenOperators = new Set();
  let points = [], current = null, toX, toY, overlay, front;

  // -- small helpers --------------------------------------------------------------------------------------------------

  const draw = (parent, tag, attributes = {}, text) => {
    const element = document.createElementNS(plot.namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const make = (parent, tag, text) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const minus = (text) => text.replaceAll("-", "\u2212");
  const number = (value, digits = 4) => minus(String(Number(value.toPrecision(digits))));
  const accuracy = (gain) => minus((100 * gain).toFixed(2)) + " points";
  const nameOf = (kind, place) => (place < 0 ? "" : data.names[kind][place]);
  const several = (runs) => (runs.length > 1 ? runs : []);
  const metric = () => data.metrics[Number($("metric").value)];

  // -- axes -----------------------------------------------------------------------------------------------------------

  const scaled = (chosen, score) => {
    if (chosen.scale === "log") return Math.log10(score);
    if (chosen.scale === "symlog") return Math.sign(score) * Math.log10(1 + Math.abs(score) / chosen.linear);
    return score;
  };
  const stretch = (values, from, to) => {
    const low = Math.min(...values), high = Math.max(...values);
    return (value) => {
      const share = high > low ? (value - low) / (high - low) : 0.5;
      return from + (0.04 + 0.92 * share) * (to - from);
    };
  };
  const niceTicks = (low, high, count) => {
    if (!(high > low)) return [low];
    const rough = (high - low) / count, size = 10 ** Math.floor(Math.log10(rough));
    const step = size * [1, 2, 5, 10].find((factor) => factor * size >= rough);
    const ticks = [];
    for (let k = Math.ceil(low / step); k * step <= high; k += 1) ticks.push(k * step);
    return ticks;
  };
  const powers = (low, high) => {
    const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
    const every = Math.max(1, Math.ceil((last - first + 1) / 5)), ticks = [];
    for (let k = first; k <= last; k += every) ticks.push(10 ** k);
    return ticks;
  };
  const scoreTicks = (chosen, low, high) => {
    if (chosen.scale === "linear") return niceTicks(low, high, 5);
    const ticks = chosen.scale === "log" ? powers(low, high) : [
      ...powers(chosen.linear, Math.max(-low, chosen.linear)).map((value) => -value).filter((value) => value >= low),
      0,
      ...powers(chosen.linear, Math.max(high, chosen.linear)).filter((value) => value <= high),
    ];
    return ticks.length > 1 ? ticks : [low, high];
  };
  const tickText = (value) => (Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3)
    ? minus(Number(value.toPrecision(3)).toExponential().replace("e+", "e")) : number(value));

  function drawAxes(chosen, scores, gains) {
    const bottom = HEIGHT - BOTTOM, right = WIDTH - RIGHT;
    for (const value of niceTicks(Math.min(0, ...gains), Math.max(0, ...gains), 6)) {
      const y = toY(value);
      draw(plot, "path", { class: Math.abs(value) < 1e-12 ? "zero" : "grid", d: `M${LEFT} ${y}H${right}` });
      draw(plot, "text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, number(100 * value));
    }
    for (const value of scoreTicks(chosen, Math.min(...scores), Math.max(...scores))) {
      const x = toX(scaled(chosen, value));
      draw(plot, "path", { class: "grid", d: `M${x} ${TOP}V${bottom}` });
      draw(plot, "text", { x, y: bottom + 15, "text-anchor": "middle" }, tickText(value));
    }
    draw(plot, "path", { class: "frame", d: `M${LEFT} ${TOP}V${bottom}H${right}` });
    draw(plot, "text", { x: (LEFT + right) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, `score (${chosen.theory})`);
    const y = (TOP + bottom) / 2;
    draw(plot, "text", { transform: `translate(11 ${y}) rotate(-90)`, "text-anchor": "middle" }, "gain, accuracy points");
  }

  // -- points ---------------------------------------------------------------------------------------------------------

  const glyph = (parent, look, shape, transform) => draw(parent, "path", {
    d: OUTLINES[shape],
    ...(transform && { transform }),
    fill: look.hollow ? "#FFFFFF" : look.colour,
    stroke: look.edge,
    "stroke-width": look.hollow ? 1.6 : 0.8,
  });
  const marker = (parent, configuration, x, y, size) => glyph(
    parent, data.looks[configuration[2]] ?? GREY, configuration[3] < 0 ? "circle" : data.shapes[configuration[3]],
    `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${size})`,
  );
  const drawRuns = (point, parent) => {
    const chosen = metric();
    for (const [, , score, gain] of several(point.runs)) {
      const x = toX(scaled(chosen, score)), y = toY(gain);
      draw(parent, "path", { class: "tie", d: `M${point.x.toFixed(1)} ${point.y.toFixed(1)}L${x.toFixed(1)} ${y.toFixed(1)}` });
      marker(parent, point.configuration, x, y, 0.6).classList.add("run");
    }
  };
  const visible = (configuration) =>
    [Number($("dataset").value), Number($("model").value)].every((wanted, place) => wanted < 0 || configuration[place] === wanted)
    && !hiddenOperators.has(configuration[2]);
  const title = (c) => {
    const budget = c[4] === null ? "" : `${number(c[4], 3)}\u00d7 parameters`;
    return [nameOf("operators", c[2]), nameOf("axes", c[3]), budget].filter(Boolean).join(", ");
  };

  function render() {
    const chosen = metric();
    plot.replaceChildren();
    const runs = $("all-runs").checked;
    const all = chosen.points.flatMap((point) => [[point[1], point[2]], ...several(point[4]).map((run) => [run[2], run[3]])]);
    const scores = all.map((pair) => pair[0]), gains = all.map((pair) => pair[1]);
    toX = stretch(scores.map((score) => scaled(chosen, score)), LEFT, WIDTH - RIGHT);
    toY = stretch([0, ...gains], HEIGHT - BOTTOM, TOP);
    drawAxes(chosen, scores, gains);
    overlay = draw(plot, "g", { "aria-hidden": "true" });
    points = chosen.points
      .map(([place, score, gain, n, members]) => ({ configuration: data.configurations[place], place, score, gain, n, runs: members,
        x: toX(scaled(chosen, score)), y: toY(gain) }))
      .filter((point) => visible(point.configuration))
      .sort((a, b) => a.x - b.x || a.y - b.y || a.place - b.place);
    if (runs) points.forEach((point) => drawRuns(point, overlay));
    const list = draw(plot, "g", { role: "list", "aria-label": "configurations, by score" });
    points.forEach((point, order) => {
      point.element = draw(list, "g", {
        class: "point", role: "listitem", tabindex: order ? -1 : 0,
        "data-configuration": point.configuration[6], "data-score": point.score, "data-gain": point.gain,
        "aria-label": `${title(point.configuration)}: score ${number(point.score)}, gain ${accuracy(point.gain)}`,
      });
      marker(point.element, point.configuration, point.x, point.y, 1.15);
      point.element.addEventListener("focus", () => show(point));
    });
    front = draw(plot, "g", { "aria-hidden": "true" });
    $("summary").textContent = `${chosen.summary}. ${points.length} of ${chosen.points.length} configurations shown.`;
    plot.setAttribute("aria-label", `Score against gain for ${chosen.name}: ${chosen.summary}`);
    current = null;
    readout.textContent = hint;
  }

  function show(point) {
    if (current === point) return;
    current = point;
    // A copy on top: moving the marker itself would take the keyboard's focus from it.
    front.replaceChildren();
    marker(front, point.configuration, point.x, point.y, 1.3).setAttribute("class", "current");
    if (!$("all-runs").checked) {
      overlay.replaceChildren();
      drawRuns(point, overlay);
    }
    const c = point.configuration;
    readout.replaceChildren();
    make(readout, "b", title(c));
    const list = make(readout, "dl");
    const rows = {
      "data set": nameOf("datasets", c[0]), model: nameOf("models", c[1]),
      parameters: c[5] === null ? "" : c[5].toLocaleString("en"), score: number(point.score), gain: accuracy(point.gain),
      configuration: c[6],
    };
    for (const [name, value] of Object.entries(rows)) {
      if (!value) continue;
      make(list, "dt", name);
      make(list, "dd", value);
    }
    make(readout, "p", point.n === 1 ? "one run" : `mean of ${point.n} runs`);
    const runs = make(readout, "ul");
    for (const [seed, id, score = point.score, gain = point.gain] of point.runs) {
      make(runs, "li", `seed ${seed ?? "?"}: ${number(score)}, ${accuracy(gain)}, run ${id}`);
    }
  }

  // -- choices --------------------------------------------------------------------------------------------------------

  const options = (id, names, first) => {
    const select = $(id);
    if (first) make(select, "option", first).value = -1;
    names.forEach((name, place) => { make(select, "option", name).value = place; });
    select.addEventListener("change", render);
    if (first && names.length < 2) select.closest("label").hidden = true;
  };

  function legend() {
    const entry = (parent, shape, look, name, note) => {
      glyph(draw(parent, "svg", { viewBox: "-7 -7 14 14", "aria-hidden": "true" }), look, shape);
      parent.append(` ${name} `);
      if (note) make(parent, "small", note);
    };
    data.names.operators.forEach((name, place) => {
      const button = make(make($("legend"), "li"), "button");
      button.type = "button";
      entry(button, "circle", data.looks[place], name, data.looks[place].hollow ? "control" : "");
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        const shown = hiddenOperators.delete(place) || !hiddenOperators.add(place);
        button.setAttribute("aria-pressed", String(shown));
        render();
      });
    });
    if (data.names.axes.length < 2) return;
    data.names.axes.forEach((name, place) => entry(make($("legend"), "li"), data.shapes[place], GREY, name, "axis"));
  }

  function nearest(event) {
    const matrix = plot.getScreenCTM();
    const x = (event.clientX - matrix.e) / matrix.a, y = (event.clientY - matrix.f) / matrix.d;
    let best = null, least = 22 ** 2;
    for (const point of points) {
      const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (distance < least) [best, least] = [point, distance];
    }
    return best;
  }

  function follow(event) {
    const point = nearest(event);
    if (point) show(point);
  }

  function walk(event) {
    const order = points.findIndex((point) => point.element === document.activeElement);
    const target = { ArrowRight: order + 1, ArrowDown: order + 1, ArrowLeft: order - 1, ArrowUp: order - 1,
      Home: 0, End: points.length - 1 }[event.key];
    if (order < 0 || target === undefined) return;
    event.preventDefault();
    const chosen = points[Math.max(0, Math.min(points.length - 1, target))];
    show(chosen);
    points.forEach((point) => point.element.setAttribute("tabindex", point === chosen ? 0 : -1));
    chosen.element.focus();
  }

  options("metric", data.metrics.map((entry) => (entry.role ? `${entry.name} (${entry.role})` : entry.name)));
  options("dataset", data.names.datasets, "all data sets");
  options("model", data.names.models, "all models");
  $("all-runs").addEventListener("change", render);
  plot.addEventListener("pointermove", follow);
  plot.addEventListener("click", follow);
  plot.addEventListener("keydown", walk);
  legend();
  $("viewer").hidden = false;
  const figures = $("figures");
  if (figures) { // in print they replace the viewer
    figures.open = false;
    addEventListener("beforeprint", () => { figures.open = true; });
    addEventListener("afterprint", () => { figures.open = false; });
  }
  render();
})();
