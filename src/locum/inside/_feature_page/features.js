"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const STEP = 200, SHADES = 8;
  const known = new Map(data.records.map((record) => [record.latent, record]));
  const texts = new Map();
  let shown = STEP, matches = data.records, now = null;

  function node(kind, { class: name, text, title } = {}, ...inner) {
    const one = document.createElement(kind);
    if (name) one.className = name;
    if (text !== undefined) one.textContent = text;
    if (title) one.title = title;
    one.append(...inner);
    return one;
  }

  function shape(kind, attributes, text) {
    const one = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, String(value));
    if (text !== undefined) one.textContent = text;
    return one;
  }

  function figure(x, digits = 3) {
    const text = Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(digits - 1) : String(Number(x.toPrecision(digits)));
    return text.replace("-", "\u2212");
  }

  /* ---------------------------------------------------------------- finding */
  function told(record) {
    if (!texts.has(record)) {
      const at = [...record.examples, ...record.drawn].map(({ units, at: i }) => units[i] ?? "");
      const words = [record.latent, record.name, ...at, ...record.raised.map(([text]) => text)];
      texts.set(record, words.join("\n").toLowerCase());
    }
    return texts.get(record);
  }

  const effect = (record) => record.effects.find(({ kind }) => kind === "ablation")?.measures[0]?.[0].number ?? -1;
  const ORDERS = {
    latent: (a, b) => a.latent - b.latent,
    active: (a, b) => b.active.number - a.active.number,
    rare: (a, b) => a.active.number - b.active.number,
    largest: (a, b) => b.largest - a.largest,
    score: (a, b) => (b.score?.number ?? -1) - (a.score?.number ?? -1),
    effect: (a, b) => effect(b) - effect(a),
  };

  function label(record) {
    if (record.name) return record.name;
    const { units, at } = record.examples[0];
    return units[at] === undefined ? "" : `at \u201c${units[at].trim()}\u201d`;
  }

  function find() {
    const wanted = $("search").value.trim().toLowerCase(), number = /^#?(\d+)$/.exec(wanted);
    const exact = number && known.get(Number(number[1]));
    matches = data.records.filter((record) => record !== exact && told(record).includes(wanted));
    matches.sort((a, b) => ORDERS[$("order").value](a, b) || a.latent - b.latent);
    if (exact) matches.unshift(exact);
    shown = STEP;
    list();
  }

  function list() {
    $("found").textContent = matches.length === 1 ? "1 latent" : `${matches.length} latents`;
    $("list").replaceChildren(...matches.slice(0, shown).map((record) => {
      const one = node("button", {}, node("span", { class: "number", text: record.latent }), node("bdi", { class: "called", text: label(record) }));
      one.type = "button";
      one.dataset.latent = record.latent;
      one.addEventListener("click", () => go(record.latent));
      return node("li", {}, one);
    }));
    $("more").hidden = matches.length <= shown;
    mark();
  }

  function mark() {
    for (const one of $("list").querySelectorAll("button")) {
      if (Number(one.dataset.latent) === now) one.setAttribute("aria-current", "true");
      else one.removeAttribute("aria-current");
    }
  }

  /* ---------------------------------------------------------------- one latent */
  const shade = (value, top) => (value > 0 && top > 0 ? `s${Math.max(1, Math.min(SHADES, Math.ceil((SHADES * value) / top)))}` : "");

  function units(example, top) {
    const spans = example.units.map((text, i) => {
      const value = example.values[i], name = [shade(value, top), i === example.at ? "it" : ""].join(" ").trim();
      return node("span", { class: name, text, title: value > 0 ? figure(value) : "" });
    });
    return node("div", { class: data.kind === "items" ? "items" : "text" }, ...spans);
  }

  function drawing(example, top) {
    const { height, width, rgb, rows, columns } = example.picture, bytes = atob(rgb);
    const scale = Math.max(1, Math.floor(256 / Math.max(height, width)));
    const canvas = node("canvas", { title: example.source });
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d"), image = context.createImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = bytes.charCodeAt(3 * i + c);
      image.data[4 * i + 3] = 255;
    }
    const large = node("canvas", {});
    large.width = width * scale;
    large.height = height * scale;
    context.putImageData(image, 0, 0);
    const over = large.getContext("2d"), [across, down] = [large.width / columns, large.height / rows];
    over.imageSmoothingEnabled = false;
    over.drawImage(canvas, 0, 0, large.width, large.height);
    over.fillStyle = "#d55e00";
    over.strokeStyle = "#d55e00";
    example.values.forEach((value, i) => {
      const [x, y] = [across * (i % columns), down * Math.floor(i / columns)];
      over.globalAlpha = value > 0 ? (0.6 * value) / top : 0;
      over.fillRect(x, y, across, down);
      over.globalAlpha = 1;
      if (i === example.at) over.strokeRect(x, y, across, down);
    });
    large.setAttribute("role", "img");
    large.setAttribute("aria-label", `${example.source}; strongest at row ${Math.floor(example.at / columns) + 1}, column ${(example.at % columns) + 1} of ${rows} by ${columns} patches`);
    return large;
  }

  function passages(place, examples, top) {
    place.replaceChildren(...examples.map((example) => {
      const head = node("div", { class: "of" }, node("bdi", { text: example.source }), node("span", { text: figure(example.values[example.at]) }));
      return node("li", {}, head, example.picture ? drawing(example, top) : units(example, top));
    }));
  }

  function histogram({ top, counts, zeros }) {
    const place = $("histogram"), [left, bottom, width, height] = [8, 128, 304, 112], each = width / counts.length;
    const most = Math.log1p(Math.max(...counts));
    const parts = counts.map((count, i) => {
      const tall = (height * Math.log1p(count)) / most;
      const bar = shape("rect", { x: left + i * each, y: bottom - tall, width: each - 1, height: tall });
      bar.append(shape("title", {}, `${figure((i * top) / counts.length)} to ${figure(((i + 1) * top) / counts.length)}: ${count} rows`));
      return bar;
    });
    parts.push(shape("line", { x1: left, x2: left + width, y1: bottom, y2: bottom }));
    parts.push(shape("text", { x: left, y: bottom + 16 }, "0"));
    parts.push(shape("text", { x: left + width, y: bottom + 16, "text-anchor": "end" }, figure(top)));
    place.replaceChildren(...parts);
    const rows = counts.reduce((a, b) => a + b, 0);
    place.setAttribute("aria-label", `Histogram of ${rows} activations up to ${figure(top)}`);
    $("zeros").textContent = `${rows} rows where it is active, on a logarithmic scale; ${zeros} where it is not.`;
  }

  const quoted = (text) => (data.kind === "tokens" ? text.replace(/\n/g, "\u21b5") : text);

  function weighed(title, pairs) {
    const rows = pairs.map(([text, value]) =>
      node("tr", {}, node("td", {}, node("bdi", { text: quoted(text) })), node("td", { text: (value > 0 ? "+" : "") + figure(value) })));
    return node("table", {}, node("caption", { text: title }), node("tbody", {}, ...rows));
  }

  function fidelity({ value, span, n }) {
    return [`${value} ${span} `, node("small", { text: `n = ${n}` })];
  }

  function caused({ kind, said, measures, raised, lowered }) {
    const rows = measures.map(([found, control]) => node("tr", {}, node("th", { text: found.measure }),
      node("td", { text: `${found.value} ${found.span}` }), node("td", { text: control ? `${control.value} ${control.span}` : "not measured" })));
    const head = node("tr", {}, ...["", "this latent", "a random direction of the same length"].map((text) => node("th", { text })));
    const table = node("table", {}, node("thead", {}, head), node("tbody", {}, ...rows));
    const note = node("p", { class: "note", text: `${said[0].toUpperCase()}${said.slice(1)}; n = ${measures[0]?.[0].n ?? ""}.` });
    const pairs = node("div", { class: "pairs" }, weighed("More likely, log-probability", raised), weighed("Less likely, log-probability", lowered));
    return node("div", { class: "effect" }, node("h4", { text: kind === "ablation" ? "Ablation" : "Steering" }), note, table, pairs);
  }

  function near([latent, close]) {
    const record = known.get(latent), name = record ? `${latent} ${label(record)}` : `${latent} (not shown)`;
    const inner = record ? node("button", { text: name }) : node("span", { text: name });
    if (record) {
      inner.type = "button";
      inner.addEventListener("click", () => go(latent));
    }
    return node("li", {}, inner, node("span", { text: figure(close) }));
  }

  function show(record) {
    now = record.latent;
    $("which").replaceChildren(`Latent ${record.latent}`, ...(record.name ? [": ", node("bdi", { text: record.name })] : []));
    const facts = [["Active on", [...fidelity({ ...record.active, value: `${record.active.value} of rows` })]], ["Largest", [figure(record.largest)]]];
    if (record.score) facts.unshift([`Name's ${record.score.measure}`, fidelity(record.score)]);
    else if (record.name) facts.unshift(["Name's score", ["not measured"]]);
    $("facts").replaceChildren(...facts.flatMap(([name, said]) => [node("dt", {}, node("bdi", { text: name })), node("dd", {}, ...said)]));
    passages($("examples"), record.examples, record.largest);
    passages($("drawn"), record.drawn, record.largest);
    histogram(record.histogram);
    $("neighbours").replaceChildren(...record.neighbours.map(near));
    $("outputs").replaceChildren(weighed(`${data.outputs} raised`, record.raised), weighed(`${data.outputs} lowered`, record.lowered));
    $("effects").replaceChildren(...record.effects.map(caused));
    $("random-part").hidden = !record.drawn.length;
    $("near-part").hidden = !record.neighbours.length;
    $("writes-part").hidden = !record.raised.length && !record.lowered.length;
    $("causes-part").hidden = !record.effects.length;
    mark();
  }

  /* ---------------------------------------------------------------- going */
  const hashed = () => known.get(Number(/^#latent-(\d+)$/.exec(location.hash)?.[1] ?? NaN));

  function go(latent) {
    if (location.hash === `#latent-${latent}`) show(known.get(latent));
    else location.hash = `latent-${latent}`;
  }

  function move(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1 }, step = steps[event.key];
    if (!step) return;
    const buttons = [...$("list").querySelectorAll("button")], at = buttons.indexOf(document.activeElement);
    const next = buttons[at + step] ?? (at + step < 0 ? $("search") : null);
    if (!next) return;
    event.preventDefault();
    next.focus();
    if (next.dataset.latent) go(Number(next.dataset.latent));
  }

  $("search").addEventListener("input", find);
  $("order").addEventListener("change", find);
  $("search").addEventListener("keydown", move);
  $("list").addEventListener("keydown", move);
  $("more").addEventListener("click", () => { shown += STEP; list(); });
  addEventListener("hashchange", () => { const record = hashed(); if (record) show(record); });
  find();
  show(hashed() ?? matches[0]);
})();
