"""The authors' own test sheets: their items and explanations, read into screens that machine students can sit.

The spreadsheets of github.com/peterbhase/InterpretableNLP-ACL2020 (MIT licence) lie under ``simulatability/sheets/tabular`` and
``.../text`` of the data folder. Each explanation is read by the patterns of its own words and rendered again as Locum would.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from locum.explain._simulation_screens import additive_text, case_text, rule_text
from locum.explain.simulatability import Response, Screen, SimulationRun

METHODS = {
    "LIME": "lime", "Anchor": "anchor", "decision_boundary": "boundary", "prototype": "prototype", "omission": "omission",
    "composite": "composite",
}  # fmt: skip
# What people did, in points with 95 % intervals, as far as it was read: those that the paper calls significant.
PUBLISHED = {("tabular", "all", "lime"): 11.25, ("both", "counterfactual", "prototype"): 9.53}
WEIGHT = re.compile(r"^(.*\S)\s*\|\s*([+-]?\d+\.\d+)\s*$")
NUMBERED = re.compile(r"^\d+\. (.*\S)\s*$")
EDIT = re.compile(r"^(.+?) : (.+) --> (.+?)\s*$")
STARTS = re.compile(r"(?m)^(?=Features:|Conditions for|Edits for|Original evidence|Most activated|Evidence margin: .*\n\nInf)")
PROTOTYPE = re.compile(r"Most activated prototype \(label: (.+?)\)")


def rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a sheet."""
    from openpyxl import load_workbook

    head, *lines = load_workbook(path, read_only=True).active.iter_rows(values_only=True)
    return [dict(zip(head, line, strict=True)) for line in lines]


def item_of(context: str) -> str:
    """An item as it is shown: its lines, or its words."""
    return "\n".join(line.strip() for line in context.strip().splitlines())


def changed(item: str, perturbation: str) -> str:
    """The item after the changes that a sheet names, or the changed sentence that it holds."""
    edits = {found[1]: found[3] for line in perturbation.splitlines() if (found := EDIT.match(line.strip()))}
    if not edits:
        return perturbation.replace("**", "").strip()
    lines = [line.partition(" = ") for line in item.splitlines()]
    return "\n".join(f"{name} = {edits.get(name, value)}" for name, _, value in lines)


def rendered(item: str, text: str, answer: str, labels: tuple[str, str]) -> str:
    """An explanation of a sheet in Locum's blocks."""
    facts = item.splitlines()
    names = {line: line for line in facts} | {line.partition(" = ")[2]: line for line in facts if " = " in line}
    blocks = []
    for part in STARTS.split(text):
        lines = [line.strip() for line in part.strip().splitlines()]
        weights = [(names.get(found[1], found[1].lower()), float(found[2])) for line in lines if (found := WEIGHT.match(line))]
        if part.startswith("Features:"):
            baseline = float(re.search(r"Baseline(?: evidence)?: (-?[\d.]+)", part)[1])
            blocks.append(additive_text(labels[1], weights, threshold=0.5, baseline=baseline))
        elif part.startswith("Conditions"):
            held = [found[1] for line in lines if (found := NUMBERED.match(line))]
            blocks.append(rule_text(answer, list(dict.fromkeys(names.get(fact, fact.lower()) for fact in held))))
        elif part.startswith("Most activated"):
            blocks += _prototype(part, lines, item)
            blocks.append(additive_text(labels[1], weights, threshold=0.0, kind="from this case"))
        elif "Edits for" in part or "Step" in part:
            blocks += _end(part, item, answer, labels)
        elif weights:
            blocks.append(additive_text(labels[1], weights, threshold=0.0, kind="lost without each"))
    return "\n\n".join(blocks)


def _prototype(part: str, lines: list[str], item: str) -> list[str]:
    label = PROTOTYPE.search(part)[1]
    cells = [re.match(r"^(.+?)\s+\|\s+(.+?)\s+---\s+", line) for line in lines]
    table = {found[1]: found[2] for found in cells if found and found[1] != "Variable"}
    if table:
        case = "\n".join(f"{name} = {value}" for name, value in table.items())
    else:
        case = next(line for line in lines[1:] if line and line != "----")
    return [case_text(label, case)]


def _end(part: str, item: str, answer: str, labels: tuple[str, str]) -> list[str]:
    """The changed item at the end of the path: the last step of those shown."""
    last = re.split(r"Step \d+\.", part)[-1]
    other = labels[0] if answer == labels[1] else labels[1]
    if " --> " in last:
        return [case_text(other, changed(item, last))]
    lines = [line.strip() for line in last.splitlines() if "**" in line]
    return [case_text(other, lines[-1].replace("**", ""))] if lines else []


# ---------------------------------------------------------------------- sitting them
def sat(place: Path, kind: str, students: Any) -> SimulationRun:
    """Machine students on one set of sheets, before and after each method."""
    learn = rows(place / "learning-blackbox.xlsx")
    master = rows(place / f"master-{kind}.xlsx")
    labels = tuple(sorted({row["model"] for row in learn}, key=lambda label: label in ("pos", "above $50K")))
    contexts = {row["id"]: item_of(row["context"]) for row in (*learn, *master)}
    quadrant = {row["id"]: f"{row['label']} {row['model']}" for row in master}
    wanted = [row["model"] if kind == "forward" else row["perturbation_model"] for row in master]
    plain = [Screen(contexts[row["id"]], row["label"], row["model"]) for row in learn]
    asked = [
        Screen(contexts[row["id"]], "", "")
        if kind == "forward"
        else Screen(contexts[row["id"]], row["label"], row["model"], "", changed(contexts[row["id"]], row["perturbation"]))
        for row in master
    ]
    responses, words = [], {}
    for name, method in METHODS.items():
        path = place / (f"learning-{name}.xlsx" if kind == "forward" else f"counterfactual-post-{name}.xlsx")
        texts = {}
        for row in rows(path):
            shown = "\n----\n".join(str(row[key]) for key in ("explanation", "explanation_a", "explanation_b") if row.get(key))
            texts[row["id"]] = rendered(contexts[row["id"]], shown, row["model"], labels)
        words[method] = sum(len(text.split()) for text in texts.values()) / len(texts)
        for student in students:
            before = student.answer(plain, asked, labels, 0)
            if kind == "forward":
                learned = [one._replace(explanation=texts[row["id"]]) for one, row in zip(plain, learn, strict=True)]
                after = student.answer(learned, asked, labels, 0)
            else:
                told = [one._replace(explanation=texts[row["id"]]) for one, row in zip(asked, master, strict=True)]
                after = student.answer(plain, told, labels, 0)
            for row, pre, post, want in zip(master, before, after, wanted, strict=True):
                responses.append(
                    Response(method, type(student).__name__, "0", str(row["id"]), quadrant[row["id"]], float(pre == want),
                             float(post == want))
                )  # fmt: skip
    return SimulationRun(tuple(responses), False, kind, (), words)
