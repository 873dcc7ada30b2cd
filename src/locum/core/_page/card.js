"use strict";
// Runs the stand-in of a card. A row is a list with one entry a column: a number, the index of a category (-1: one never
// seen), or null where the value is missing.
(() => {
  const card = JSON.parse(document.getElementById("card").textContent);
  const missing = (x) => x === null || Number.isNaN(x);

  // ------------------------------------------------------------------ the program, as Program evaluates it in Python
  function holds(condition, row) {
    const x = row[condition.column];
    if (missing(x)) return condition.missing;
    if (condition.levels) return condition.levels.includes(x);
    return (condition.low === null || x > condition.low) && (condition.high === null || x <= condition.high);
  }

  const ruleHolds = (rule, row) => rule.if.every((condition) => holds(condition, row));

  function contribution(term, row) {
    if (term.kind === "rule") return ruleHolds(term, row) ? term.then : term.then.map(() => 0);
    const x = row[term.column];
    if (missing(x)) return term.missing;
    if (term.kind === "linear") return term.slope.map((slope) => slope * (x - term.center));
    if (term.kind === "levels") return x < 0 ? term.unknown : term.values[x];
    const piece = term.edges.findIndex((edge) => x <= edge);
    return term.values[piece < 0 ? term.edges.length : piece];
  }

  function link(kind, scores) {
    if (kind === "identity") return scores;
    const top = Math.max(...scores);
    const raised = scores.map((score) => (kind === "softmax" ? Math.exp(score - top) : Math.max(score, 0)));
    const total = raised.reduce((a, b) => a + b, 0);
    return raised.map((value) => (total > 0 ? value / total : 1 / raised.length));
  }

  function evaluate(program, row) {
    const body = program.body;
    let scores, fired = null, contributions = null;
    if (body.kind === "rules") {
      fired = body.rules.findIndex((rule) => ruleHolds(rule, row));
      if (fired < 0) fired = body.rules.length;
      scores = fired < body.rules.length ? body.rules[fired].then : body.otherwise;
    } else {
      contributions = body.terms.map((term) => contribution(term, row));
      scores = contributions.reduce((sum, added) => sum.map((s, k) => s + added[k]), body.intercept);
    }
    const values = link(program.output.link, scores);
    return { values, best: values.indexOf(Math.max(...values)), fired, contributions };
  }

  // ------------------------------------------------------------------ the region, as Region judges it in Python
  function reason(column, x) {
    if (missing(x)) return column.missing ? null : `${column.name} is missing`;
    if (column.kind === "categorical") {
      return x < 0 || (column.unseen ?? []).includes(x) ? `${column.name} is a category never seen` : null;
    }
    if (x < column.low) return `${column.name} = ${figure(x, 6)} is below ${figure(column.low, 6)}, the lowest seen`;
    return x > column.high ? `${column.name} = ${figure(x, 6)} is above ${figure(column.high, 6)}, the highest seen` : null;
  }

  function embed(region, row) {
    return region.columns.map((column, j) => {
      const x = row[j];
      if (column.kind === "numeric") return missing(x) ? null : (x - region.center[j]) / region.scale[j];
      return missing(x) ? column.levels.length : x < 0 ? column.levels.length + 1 : x;
    });
  }

  function distance(region, a, b) {
    let sum = 0;
    region.columns.forEach((column, j) => {
      if (column.kind === "categorical") {
        if (a[j] !== b[j]) sum = sum + 0.5 + 0.5; // in the order of Python's additions, so that ties stay ties
      } else {
        sum += Math.abs((a[j] ?? 0) - (b[j] ?? 0));
        if ((a[j] === null) !== (b[j] === null)) sum += 1;
      }
    });
    return sum;
  }

  function judge(region, row) {
    const reasons = region.columns.map((column, j) => reason(column, row[j])).filter(Boolean);
    const embedded = embed(region, row);
    const distances = region.reference.map((other) => distance(region, embedded, other)).sort((a, b) => a - b);
    const novelty = distances[region.nearest - 1];
    if (!reasons.length && region.threshold !== null && novelty > region.threshold) {
      reasons.push(`unlike the rows seen: distance ${figure(novelty, 3)} to them, threshold ${figure(region.threshold, 3)}`);
    }
    return { inside: !reasons.length, reasons, novelty };
  }

  // ------------------------------------------------------------------ what would have to change
  // Thresholds cut the range of a column into cells. Within a cell nothing changes, except along a straight line, so one
  // value a cell is worth trying: the readable one nearest to where the row is; and, for a line, the far end as well.
  const MOST_TRIED = 40000;
  const SHOWN = 3;

  function structure(program, columns) {
    const cuts = columns.map(() => []);
    const straight = columns.map(() => false);
    for (const part of program.body.rules ?? program.body.terms) {
      for (const { column, low, high } of part.if ?? []) cuts[column].push(low ?? null, high ?? null);
      if (part.edges) cuts[part.column].push(...part.edges);
      if (part.slope) straight[part.column] = true;
    }
    const within = (j) => (cut) => cut !== null && cut >= columns[j].low && cut < columns[j].high;
    return { cuts: cuts.map((list, j) => list.filter(within(j))), straight };
  }

  function cells(cuts, column) {
    const ends = [...new Set([...cuts, column.high])].sort((a, b) => a - b);
    return ends.map((high, i) => ({ low: i ? ends[i - 1] : column.low, high, closed: i === 0 }));
  }

  const contains = ({ low, high, closed }, x) => (closed ? x >= low : x > low) && x <= high;
  const DIGITS = 88; // so that a dozen more still fit toFixed

  function decimals(column) {
    const wanted = 2 - Math.floor(Math.log10(column.high - column.low || 1));
    return column.integer ? 0 : Math.min(DIGITS, Math.max(0, wanted));
  }

  // The number of fewest digits in a cell, just above its lower end or just below its upper one; null where there is none.
  function readable(cell, end, column) {
    if (end === "low" && cell.closed) return cell.low;
    const first = decimals(column);
    for (let digits = first; digits <= (column.integer ? 0 : first + 12); digits++) {
      const unit = 10 ** digits;
      const whole = end === "low" ? Math.floor(cell.low * unit) + 1 : Math.floor(cell.high * unit);
      const x = Number((whole / unit).toFixed(digits));
      if (contains(cell, x)) return x;
    }
    return column.integer || end === "low" ? null : cell.high;
  }

  // Values to try in column j as [near, far] pairs, seen from the row; the same twice where nothing changes in between.
  function trials(shape, region, row, j) {
    const column = region.columns[j], x = row[j];
    if (column.kind === "categorical") return column.levels.map((_, i) => [i, i]).filter(([i]) => i !== x);
    const line = shape.straight[j];
    const own = line && !missing(x) && x >= column.low && x < column.high ? [x] : []; // a line changes within the row's cell too
    return cells([...shape.cuts[j], ...own], column).flatMap((cell) => {
      const low = readable(cell, "low", column), high = readable(cell, "high", column);
      if (missing(x)) {
        const middle = readable({ ...cell, high: (cell.low + cell.high) / 2 }, "high", column) ?? high ?? low;
        return middle === null ? [] : (line ? [low ?? middle, high ?? middle] : [middle]).map((far) => [middle, far]);
      }
      if (!line && contains(cell, x)) return [];
      const ends = x >= cell.high ? [high, low] : [low, high];
      const [near, far] = [ends[0] ?? ends[1], line ? ends[1] ?? ends[0] : ends[0] ?? ends[1]];
      return near === null ? [] : [[near, far]];
    });
  }

  // Between two ends of a line, of which only the far one reaches the aim: the readable value nearest to the other.
  function crossing(near, far, reaches, column) {
    let [no, yes] = [near, far];
    for (let i = 0; i < 60; i++) {
      const middle = (no + yes) / 2;
      if (reaches(middle)) yes = middle;
      else no = middle;
    }
    const upwards = far > near;
    const cell = upwards ? { low: no, high: far, closed: false } : { low: far, high: yes, closed: true };
    const x = upwards ? readable(cell, "low", column) : readable(cell, "high", column);
    return x !== null && reaches(x) ? x : far;
  }

  const replaced = (row, changes) => {
    const out = row.slice();
    for (const { column, value } of changes) out[column] = value;
    return out;
  };

  function cost(region, row, { column, value }) {
    if (region.columns[column].kind === "categorical" || missing(row[column])) return 1;
    return Math.abs(value - row[column]) / region.scale[column];
  }

  // For each used column, the least change that reaches the aim alone.
  function singles(card, shape, row, aim) {
    const found = [];
    for (const j of card.used) {
      const reaches = (value) => aim(evaluate(card.program, replaced(row, [{ column: j, value }])));
      let best = null;
      for (const [near, far] of trials(shape, card.region, row, j)) {
        let value = null;
        if (reaches(near)) value = near;
        else if (far !== near && reaches(far)) value = crossing(near, far, reaches, card.region.columns[j]);
        if (value === null) continue;
        const change = { column: j, value };
        const size = cost(card.region, row, change);
        if (best === null || size < best.size) best = { changes: [change], size };
      }
      if (best) found.push(best);
    }
    return found.sort((a, b) => a.size - b.size);
  }

  // The least changes of two columns at once that reach the aim, cheapest first and only so many tried.
  function pairs(card, shape, row, aim) {
    const single = card.used.flatMap((j) => trials(shape, card.region, row, j).flatMap(([near, far]) =>
      [...new Set([near, far])].map((value) => ({ column: j, value, size: cost(card.region, row, { column: j, value }) }))));
    single.sort((a, b) => a.size - b.size);
    const found = new Map();
    let bound = Infinity, tried = 0;
    for (let a = 0; a < single.length && tried < MOST_TRIED; a++) {
      for (let b = 0; b < a && single[a].size + single[b].size < bound && tried < MOST_TRIED; b++) {
        if (single[a].column === single[b].column) continue;
        const changes = [single[b], single[a]];
        tried++;
        if (!aim(evaluate(card.program, replaced(row, changes)))) continue;
        const key = changes.map(({ column }) => column).sort().join();
        const size = single[a].size + single[b].size;
        if (size < (found.get(key)?.size ?? Infinity)) found.set(key, { changes, size });
        const sizes = [...found.values()].map((one) => one.size).sort((x, y) => x - y);
        if (sizes.length >= SHOWN) bound = sizes[SHOWN - 1];
      }
    }
    return [...found.values()].sort((a, b) => a.size - b.size);
  }

  // What the answer could be moved to: another class, or a value that is visibly higher or lower.
  function aims(card, shape, row) {
    const now = evaluate(card.program, row);
    if (card.labels) return [(result) => result.best !== now.best];
    const at = now.values[0];
    const within = card.used.flatMap((j) => trials(shape, card.region, row, j).flat().map((value) =>
      evaluate(card.program, replaced(row, [{ column: j, value }])).values[0]));
    const spread = Math.max(at, ...within) - Math.min(at, ...within);
    const step = card.program.body.kind === "rules" ? spread * 1e-6 : spread / 10;
    return step > 0 ? [(result) => result.values[0] >= at + step, (result) => result.values[0] <= at - step] : [];
  }

  function changes(card, row) {
    const shape = structure(card.program, card.region.columns);
    const wanted = aims(card, shape, row);
    return wanted.flatMap((aim) => {
      const alone = singles(card, shape, row, aim);
      const all = (alone.length ? alone : pairs(card, shape, row, aim)).map((found) => {
        const changed = replaced(row, found.changes);
        return { ...found, result: evaluate(card.program, changed), inside: judge(card.region, changed).inside };
      });
      // Rows like those seen first: the fidelity holds for them.
      return all.sort((a, b) => b.inside - a.inside || a.size - b.size).slice(0, wanted.length > 1 ? SHOWN - 1 : SHOWN);
    });
  }

  // ------------------------------------------------------------------ words
  const minus = (text) => text.replace("-", "\u2212");
  const spaced = (x, places) => minus(x.toLocaleString("en-US", { maximumFractionDigits: Math.min(places, 20) }));

  function figure(x, digits = 4) {
    if (Number.isInteger(x) && Math.abs(x) < 1e15) return spaced(x, 0);
    if (!(Math.abs(x) >= 1e-4 && Math.abs(x) < 1e15)) return minus(String(Number(x.toPrecision(digits))));
    return spaced(x, Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(x)))));
  }

  const exact = (x) => (x === 0 || (Math.abs(x) >= 1e-6 && Math.abs(x) < 1e15) ? spaced(x, 20) : minus(String(x)));
  const signed = (x) => (x > 0 ? "+" : "") + figure(x, 3);
  const share = (p) => `${p > 0.995 && p < 1 ? Math.floor(1000 * p) / 10 : (100 * p).toFixed(p > 0 && p < 0.0995 ? 1 : 0)}\u00a0%`;

  function shown(j, x) {
    const column = card.region.columns[j];
    if (missing(x)) return "missing";
    if (column.kind === "numeric") return exact(x);
    return x < 0 ? "one never seen" : control(j).select.options[x].text;
  }

  function answer(result) {
    return card.labels ? card.labels[result.best] : figure(result.values[0]);
  }

  // ------------------------------------------------------------------ small things of the page
  const one = (selector, root = document) => root.querySelector(selector);
  const every = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Data comes into the page as text only.
  function element(tag, className, ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  const named = (text) => element("bdi", "", text);

  function drawn(tag, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const percent = (x, low, high) => `${100 * Math.min(1, Math.max(0, (x - low) / (high - low || 1)))}%`;

  const controls = new Map(every(".control").map((root) => {
    const role = (name) => one(`[data-role=${name}]`, root);
    const parts = { slider: role("slider"), number: role("number"), select: role("select"), missing: role("missing") };
    return [Number(root.dataset.column), parts];
  }));
  const control = (j) => controls.get(j);

  // ------------------------------------------------------------------ the row, and its way into the inputs and the address
  let row = card ? card.start.slice() : null;
  const known = row ? row.slice() : null; // the last value of each column that was not missing

  function sync(j, source = null) {
    const { slider, number, select, missing: box } = control(j);
    const x = row[j];
    if (!missing(x)) known[j] = x;
    if (number && source !== number) {
      number.value = missing(x) ? "" : String(x);
      number.removeAttribute("aria-invalid");
    }
    if (slider && source !== slider) slider.value = missing(x) ? card.region.center[j] : x;
    if (select && source !== select) select.value = missing(x) ? "" : String(x);
    if (box && source !== box) box.checked = missing(x);
  }

  function setRow(next) {
    row = next.slice();
    row.forEach((_, j) => sync(j));
    update();
  }

  function fromSlider(j, text) {
    const column = card.region.columns[j];
    return Math.min(column.high, Math.max(column.low, Number(Number(text).toFixed(decimals(column)))));
  }

  function onInput(event) {
    const source = event.target, role = source.dataset.role;
    if (!role) return;
    const j = Number(source.closest(".control").dataset.column);
    if (role === "slider") row[j] = fromSlider(j, source.value);
    else if (role === "select") row[j] = Number(source.value);
    else if (role === "missing") row[j] = source.checked ? null : known[j] ?? (control(j).select ? 0 : card.region.center[j]);
    else {
      const unusable = source.validity.badInput || (source.value === "" && !control(j).missing) || !Number.isFinite(Number(source.value));
      source.toggleAttribute("aria-invalid", unusable);
      if (unusable) return;
      row[j] = source.value === "" ? null : Number(source.value);
    }
    sync(j, source);
    update();
  }

  const toHash = (values) => `#row=${values.map((x) => (missing(x) ? "" : String(x))).join(",")}`;

  function fromHash(hash) {
    const parts = hash.startsWith("#row=") ? hash.slice(5).replaceAll("%2C", ",").split(",") : []; // mailers like to escape commas
    const columns = card.region.columns;
    const found = parts.map((text) => (text.trim() === "" ? null : Number(text)));
    const usable = (x, { kind, levels }) => x === null || (Number.isFinite(x) && (kind === "numeric" || (Number.isInteger(x) && x >= -1 && x < levels.length)));
    return found.length === columns.length && found.every((x, j) => usable(x, columns[j])) ? found : null;
  }

  // ------------------------------------------------------------------ what is shown of a row
  function showAnswer(result) {
    one("#answer").dataset.values = JSON.stringify(result.values);
    one("#said").replaceChildren(named(answer(result)));
    for (const item of every(".classes li")) {
      const k = Number(item.dataset.class);
      item.classList.toggle("best", k === result.best);
      one(".fill", item).setAttribute("width", percent(result.values[k], 0, 1));
      one(".share", item).textContent = share(result.values[k]);
    }
  }

  function showWhere(verdict) {
    const where = one("#where");
    where.dataset.inside = verdict.inside;
    where.replaceChildren(
      element("b", "", verdict.inside ? "\u2713 Inside the region" : "\u25b2 Outside the region"),
      verdict.inside ? " where the fidelity was measured." : ". The fidelity does not hold here:",
      ...(verdict.inside ? [] : [element("ul", "", ...verdict.reasons.map((text) => element("li", "", named(text))))]),
    );
  }

  function showRule(fired) {
    for (const item of every(".rules > li.fired")) {
      item.classList.remove("fired");
      item.removeAttribute("aria-current");
      item.hidden = item.classList.contains("spare");
    }
    const item = one(`#rule-${fired}`);
    item.classList.add("fired");
    item.setAttribute("aria-current", "true");
    item.hidden = false;
    const list = item.parentElement;
    if (list.classList.contains("long")) list.scrollTop = item.offsetTop - list.offsetTop - list.clientHeight / 3;
    const words = one(".if", item).cloneNode(true);
    every("small", words).forEach((small) => small.remove());
    one("#why").replaceChildren(element("h3", "", `Because of rule ${fired + 1}`), element("p", "because", ...words.childNodes));
  }

  function showSum(result) {
    const { views, titles } = card.sum;
    const view = views[views.length > 1 ? result.best : 0];
    const towards = card.labels && views.length === 1 && result.best === 0 ? -1 : 1; // two classes share one view, of the second
    const look = (values) => values.reduce((sum, v, k) => sum + towards * v * view.weights[k], 0);
    const parts = result.contributions.map((added, i) => ({ name: titles[i], amount: look(added) }));
    parts.sort((a, b) => Math.abs(b.amount) - Math.abs(a.amount));
    const rest = parts.splice(parts.length > 9 ? 8 : 9);
    if (rest.length) parts.push({ name: `${rest.length} others`, amount: rest.reduce((sum, part) => sum + part.amount, 0) });
    const start = element("li", "", element("span", "label", "start"), element("span"), element("span", "amount", signed(look(card.program.body.intercept))));
    const ends = [Math.min(0, ...parts.map((part) => part.amount)), Math.max(0, ...parts.map((part) => part.amount))];
    const heading = card.labels ? element("h3", "", "What speaks for ", named(card.labels[result.best])) : element("h3", "", "What adds up to it");
    one("#why").replaceChildren(heading, element("ol", "parts-of", start, ...parts.map((part) => showPart(part, ends))));
    showOnShapes(result);
  }

  function showPart({ name, amount }, [low, high]) {
    const zero = percent(0, low, high);
    const [from, to] = [Math.min(0, amount), Math.max(0, amount)];
    const width = `${(100 * (to - from)) / (high - low || 1)}%`;
    const bar = drawn("svg", { width: "100%", height: 14, "aria-hidden": "true" },
      drawn("rect", { class: amount < 0 ? "down" : "up", x: percent(from, low, high), width, y: 2, height: 10, rx: 2 }),
      drawn("line", { class: "zero", x1: zero, x2: zero, y1: 0, y2: 14 }));
    return element("li", "", element("span", "label", named(name)), bar, element("span", "amount", signed(amount)));
  }

  function showOnShapes(result) {
    for (const figure of every(".term")) {
      const i = Number(figure.dataset.term);
      const term = card.program.body.terms[i];
      const column = card.region.columns[term.column];
      const { low, high } = figure.dataset;
      every(".now", figure).forEach((dot, k) => {
        const y = result.contributions[i].reduce((sum, v, c) => sum + v * card.sum.views[k].weights[c], 0);
        const x = row[term.column];
        dot.setAttribute("visibility", missing(x) ? "hidden" : "visible");
        dot.setAttribute("cx", percent(x, column.low, column.high));
        dot.setAttribute("cy", percent(Number(high) - y, 0, high - low));
      });
    }
  }

  function showChanges() {
    const found = changes(card, row);
    const items = found.map((change) => {
      const parts = change.changes.flatMap(({ column, value }, i) => [
        i ? " and " : "", named(card.region.columns[column].name), " ", element("span", "was", named(shown(column, row[column]))), " \u2192 ",
        element("b", "", named(shown(column, value)))]);
      const likely = card.labels ? ` (${share(change.result.values[change.result.best])})` : "";
      const gain = card.labels ? "" : ` (${signed(change.result.values[0] - evaluate(card.program, row).values[0])})`;
      const button = element("button", "change", element("span", "", ...parts),
        element("span", "gives", "gives ", element("strong", "", named(answer(change.result))), likely || gain,
          change.inside ? null : element("small", "", " outside the region")));
      button.type = "button";
      button.dataset.changes = JSON.stringify(change.changes.map(({ column, value }) => ({ column, value })));
      button.addEventListener("click", () => setRow(replaced(row, change.changes)));
      return element("li", "", button);
    });
    const none = element("li", "none", "No change of one or two inputs within their ranges does.");
    one("#changes ul").replaceChildren(...(items.length ? items : [none]));
    one("#changes").dataset.ready = toHash(row);
  }

  let waiting = null;

  function update() {
    const result = evaluate(card.program, row);
    showAnswer(result);
    showWhere(judge(card.region, row));
    if (card.sum) showSum(result);
    else showRule(result.fired);
    clearTimeout(waiting);
    waiting = setTimeout(settle, 120);
  }

  function settle() {
    showChanges();
    const hash = toHash(row);
    one("#link").href = hash;
    if (location.hash !== hash && (location.hash || hash !== toHash(card.start))) history.replaceState(null, "", hash);
  }

  function onStart(event) {
    const button = event.target.closest("[data-start]");
    if (!button) return;
    setRow(JSON.parse(button.dataset.start));
    if ("scroll" in button.dataset) one("#try").scrollIntoView();
  }

  function onPoint(event) {
    const point = event.target.closest(".point");
    if (point) one("#point").textContent = point.getAttribute("aria-label");
  }

  for (const kind of ["pointerover", "focusin"]) one(".frontier")?.addEventListener(kind, onPoint);
  if (card) {
    one(".inputs").addEventListener("input", onInput);
    one(".inputs").addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("click", onStart);
    window.addEventListener("hashchange", () => setRow(fromHash(location.hash) ?? card.start));
    setRow(fromHash(location.hash) ?? card.start);
  }

  window.locum = { card, evaluate, judge, changes, setRow, row: () => row.slice() };
})();
