"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const sliders = [...document.querySelectorAll("input[data-weight]")];
  const plane = $("plane");
  const BOX = { left: 76, right: 622, top: 18, bottom: 384 };
  const REACH = 1.645; // standard deviations on either side that hold 90 %
  const best = new Set(data.front);
  let axes = [0, 1], now = 0, scales = [];

  function figure(x) {
    const text = x !== 0 && (Math.abs(x) >= 1e6 || Math.abs(x) < 1e-3) ? x.toExponential(2) : String(Number(x.toPrecision(4)));
    return text.replace("-", "\u2212");
  }

  function shape(name, settings, text) {
    const one = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(settings)) one.setAttribute(key, value);
    if (text !== undefined) one.textContent = text;
    return one;
  }

  // The scale holds the learned and the evaluated front; evaluations far behind them would squeeze both.
  function scale(j, from, to) {
    const seen = [...data.mean.map((row) => row[j]), ...data.front.map((i) => data.evaluated[i][j])];
    const low = Math.min(...seen), high = Math.max(...seen), spare = 0.08 * (high - low) || Math.abs(high) || 1;
    const ends = [low - spare, high + spare];
    return { ends, at: (x) => from + ((to - from) * (x - ends[0])) / (ends[1] - ends[0]) };
  }

  function ticks([low, high]) {
    const rough = (high - low) / 5, unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * [1, 2, 5, 10].find((factor) => unit * factor >= rough);
    const out = [];
    for (let k = Math.ceil(low / step); k * step <= high; k += 1) out.push(k * step);
    return out;
  }

  const inside = (row) => axes.every((j, k) => row[j] >= scales[k].ends[0] && row[j] <= scales[k].ends[1]);
  const place = (row) => [scales[0].at(row[axes[0]]), scales[1].at(row[axes[1]])];

  function draw() {
    scales = [scale(axes[0], BOX.left, BOX.right), scale(axes[1], BOX.bottom, BOX.top)];
    const parts = [];
    for (const x of ticks(scales[0].ends)) {
      const at = scales[0].at(x);
      parts.push(shape("line", { class: "grid", x1: at, x2: at, y1: BOX.top, y2: BOX.bottom }));
      parts.push(shape("text", { x: at, y: BOX.bottom + 18, "text-anchor": "middle" }, figure(x)));
    }
    for (const y of ticks(scales[1].ends)) {
      const at = scales[1].at(y);
      parts.push(shape("line", { class: "grid", x1: BOX.left, x2: BOX.right, y1: at, y2: at }));
      parts.push(shape("text", { x: BOX.left - 8, y: at + 4, "text-anchor": "end" }, figure(y)));
    }
    parts.push(shape("line", { class: "frame", x1: BOX.left, x2: BOX.right, y1: BOX.bottom, y2: BOX.bottom }));
    parts.push(shape("line", { class: "frame", x1: BOX.left, x2: BOX.left, y1: BOX.top, y2: BOX.bottom }));
    const middle = (BOX.top + BOX.bottom) / 2;
    parts.push(shape("text", { x: (BOX.left + BOX.right) / 2, y: 428, "text-anchor": "middle" }, data.objectives[axes[0]]));
    parts.push(shape("text", { x: 16, y: middle, "text-anchor": "middle", transform: `rotate(-90 16 ${middle})` }, data.objectives[axes[1]]));
    const dot = (row, kind, r) => {
      const [cx, cy] = place(row);
      return shape("circle", { class: kind, cx, cy, r });
    };
    const drawn = data.evaluated.map((row, i) => [row, best.has(i)]).filter(([row]) => inside(row));
    for (const [row, front] of drawn) if (!front) parts.push(dot(row, "other", 4));
    for (const row of data.mean) parts.push(dot(row, "learned", 2.5));
    for (const [row, front] of drawn) if (front) parts.push(dot(row, "best", 4.5));
    parts.push(shape("g", { id: "here" }));
    plane.replaceChildren(...parts);
    const lost = data.evaluated.length - drawn.length;
    $("outside").textContent = lost ? `${lost} of ${data.evaluated.length} evaluated designs lie beyond the picture.` : "";
  }

  function cells(texts) {
    const row = document.createElement("tr");
    texts.forEach((text, k) => {
      const cell = document.createElement(k ? "td" : "th");
      if (!k) cell.scope = "row";
      if (text instanceof Node) cell.append(text);
      else cell.textContent = text;
      row.append(cell);
    });
    return row;
  }

  function track(value, low, high) {
    const one = shape("svg", { class: "place", viewBox: "0 0 96 14", "aria-hidden": "true" });
    one.append(shape("line", { class: "track", x1: 6, x2: 90, y1: 7, y2: 7 }));
    one.append(shape("circle", { cx: 6 + (84 * (value - low)) / (high - low), cy: 7, r: 4 }));
    return one;
  }

  function show() {
    const [mean, sd] = [data.mean[now], data.sd[now]];
    const span = (j) => [mean[j] - REACH * sd[j], mean[j] + REACH * sd[j]];
    $("expected").tBodies[0].replaceChildren(...data.objectives.map((name, j) =>
      cells([name, figure(mean[j]), span(j).map(figure).join(" to ")])));
    $("design").tBodies[0].replaceChildren(...data.parameters.map(({ name, low, high }, k) =>
      cells([name, figure(data.designs[now][k]), track(data.designs[now][k], low, high)])));
    const [x, y] = place(mean);
    const within = (value, k) => scales[k].at(Math.min(scales[k].ends[1], Math.max(scales[k].ends[0], value)));
    const [left, right] = span(axes[0]).map((value) => within(value, 0));
    const [low, high] = span(axes[1]).map((value) => within(value, 1));
    $("here").replaceChildren(
      shape("line", { class: "spread", x1: left, x2: right, y1: y, y2: y }),
      shape("line", { class: "spread", x1: x, x2: x, y1: low, y2: high }),
      shape("circle", { class: "now", cx: x, cy: y, r: 7 }));
    sliders.forEach((one, j) => {
      const text = `${(100 * data.preferences[now][j]).toFixed(1)} %`;
      one.nextElementSibling.textContent = text;
      one.setAttribute("aria-valuetext", text);
    });
  }

  function nearest(rows, wanted) {
    let found = 0, least = Infinity;
    rows.forEach((row, i) => {
      const away = row.reduce((sum, x, j) => sum + (x - wanted[j]) ** 2, 0);
      if (away < least) [found, least] = [i, away];
    });
    return found;
  }

  function weigh() {
    const weights = sliders.map((one) => Number(one.value)), whole = weights.reduce((a, b) => a + b, 0);
    now = nearest(data.preferences, weights.map((one) => (whole ? one / whole : 1 / weights.length)));
    show();
  }

  function point(event) {
    const spot = new DOMPoint(event.clientX, event.clientY).matrixTransform(plane.getScreenCTM().inverse());
    now = nearest(data.mean.map(place), [spot.x, spot.y]);
    sliders.forEach((one, j) => { one.value = String(Math.round(100 * data.preferences[now][j])); });
    show();
  }

  for (const [k, id] of [[0, "across"], [1, "up"]]) {
    if (!$(id)) continue;
    $(id).addEventListener("change", () => {
      axes[k] = Number($(id).value);
      draw();
      show();
    });
  }
  sliders.forEach((one) => one.addEventListener("input", weigh));
  plane.addEventListener("click", point);
  draw();
  weigh();
})();
