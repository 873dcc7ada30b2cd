"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const HEADS = {
    learn: "Learn how the model answers", before: "Guess what the model answers",
    explain: "The same items again, with explanations", after: "Guess again what the model answers",
  };
  let taker = 0, steps = [], answers = [], sent = 0, sending = false, began = 0;

  const key = () => `locum-simulation-${data.digest}-${taker}`;
  const same = (row, step) => row.block === step[0] && row.item === step[1];
  const current = () => steps.find((step) => !answers.some((row) => same(row, step)));

  // What is saved is checked like anything else that was not written by this page just now.
  function recall() {
    try {
      const rows = JSON.parse(localStorage.getItem(key()) || "[]");
      return rows.filter((row) => row.block === "consent" || steps.some((step) => same(row, step)));
    } catch (error) {
      return [];
    }
  }

  function keep(block, item, answer, rating, seconds) {
    answers.push({ block, item, answer, rating, seconds });
    try {
      localStorage.setItem(key(), JSON.stringify(answers));
      $("state").textContent = "Saved in this browser.";
    } catch (error) {
      $("state").textContent = "This browser saves nothing: do not close the page before you have downloaded your answers.";
    }
    if (data.served) send();
  }

  async function send() {
    if (sending) return;
    sending = true;
    try {
      while (sent < answers.length) {
        const body = JSON.stringify({ taker, ...answers[sent] });
        const reply = await fetch("/answers", { method: "POST", headers: { "Content-Type": "application/json" }, body });
        if (!reply.ok) throw new Error(String(reply.status));
        sent += 1;
      }
      $("state").textContent = "Saved.";
    } catch (error) {
      $("state").textContent = "Saved in this browser; the study's file is tried again with the next answer.";
    }
    sending = false;
  }

  function choices(holder, name, values) {
    holder.replaceChildren(...values.map(([value, text]) => {
      const label = document.createElement("label"), input = document.createElement("input");
      input.type = "radio";
      input.name = name;
      input.value = String(value);
      input.addEventListener("change", ready);
      label.append(input, document.createTextNode(text));
      return label;
    }));
  }

  const chosen = (name) => {
    const found = document.querySelector(`input[name="${name}"]:checked`);
    return found ? Number(found.value) : null;
  };

  function ready() {
    const [, , guess, rate] = current();
    $("next").disabled = (guess && chosen("guess") === null) || (rate && chosen("rate") === null);
  }

  function show() {
    const step = current();
    $("sitting").hidden = !step;
    $("end").hidden = Boolean(step);
    if (!step) return;
    const [block, item, guess, rate] = step;
    const learning = block === "learn" || block === "explain";
    const changing = data.kind === "counterfactual";
    const one = (learning ? data.learn : data.test)[item];
    const text = block === "explain" || (changing && block === "after") ? data.texts[data.codes[taker]][item] : "";
    if ($("head").textContent !== HEADS[block]) {
      $("head").textContent = HEADS[block];
      $("head").focus();
    }
    const done = steps.indexOf(step);
    $("count").textContent = `${done + 1} of ${steps.length}`;
    $("progress").max = steps.length;
    $("progress").value = done;
    $("shown").textContent = one.shown;
    $("known").hidden = !(learning || changing);
    $("label").textContent = one.label || "";
    $("answer").textContent = one.answer || "";
    $("explained").hidden = !text;
    $("explanation").textContent = text;
    $("change").hidden = !(guess && changing);
    $("changed").textContent = (guess && one.changed) || "";
    $("rate").hidden = !rate;
    $("guess").hidden = !guess;
    choices($("ratings"), "rate", rate ? [1, 2, 3, 4, 5, 6, 7].map((n) => [n, String(n)]) : []);
    choices($("guesses"), "guess", guess ? data.labels.map((label, i) => [i, label]) : []);
    began = performance.now();
    ready();
  }

  function next() {
    const [block, item, guess, rate] = current();
    const seconds = Math.round((performance.now() - began) / 10) / 100;
    keep(block, item, guess ? chosen("guess") : null, rate ? chosen("rate") : null, seconds);
    window.scrollTo(0, 0);
    show();
  }

  function begin() {
    const number = Number($("taker").value);
    const known = Number.isInteger(number) && Object.hasOwn(data.steps, String(number));
    const problem = !known ? "Please give the number that you were given." : !$("agree").checked ? "Please tick the box if you agree." : "";
    $("refusal").textContent = problem;
    $("refusal").hidden = !problem;
    if (problem) return;
    taker = number;
    steps = data.steps[String(taker)];
    answers = recall();
    sent = 0;
    $("start").hidden = true;
    $("rating").textContent = data.rating;
    if (!answers.length) keep("consent", 0, null, null, 0);
    else if (data.served) send();
    show();
  }

  function download() {
    const cell = (value) => (value === null ? "" : String(value));
    const lines = answers.map((row) =>
      [data.digest, taker, data.codes[taker], row.block, row.item, row.answer, row.rating, row.seconds].map(cell).join(","));
    const text = ["test,taker,code,block,item,answer,rating,seconds", ...lines, ""].join("\n");
    const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    $("download").href = address;
    $("download").download = `answers_${taker}.csv`;
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  }

  $("begin").addEventListener("click", begin);
  $("next").addEventListener("click", next);
  $("download").addEventListener("click", download);
})();
