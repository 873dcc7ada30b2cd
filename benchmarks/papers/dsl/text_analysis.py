"""A real analysis from text to conclusion: bill titles labelled by a small language model, some by experts, and a page.

    LOCUM_DATA=... python benchmarks/papers/dsl/text_analysis.py [--quick] [--seed N] [--page FILE]

all-MiniLM-L6-v2, which has seen no label, gives each of the 4,449 titles of the 107th Congress the topic whose description is
nearest. The question is what experts would say of who writes bills on a topic: a logistic regression of the topic on the
chamber and the length of the title. Experts label 500 titles; all their labels are known here, so that the conclusions can be
judged.
Writes text_analysis.json beside itself, and the page of one analysis where --page says.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import over_seeds
from run import DATA, Z95, bills, fit_once, gold

from locum.core.bounds import binomial
from locum.nets.pretrained import minilm

# What each topic is said to be, for the model, written before any result was seen; codes of the Policy Agendas Project.
DESCRIBED = {
    3: "health care, medicine, hospitals, disease and drugs",
    16: "national defense, armed forces, military and veterans",
    12: "law, crime, courts, police and family issues",
    10: "transportation, highways, aviation, railroads and ships",
    21: "public lands, parks, water management and native people",
    7: "environment, pollution, waste and endangered species",
    5: "labor, employment, workers, pensions and immigration",
    6: "education, schools, universities and students",
    15: "banking, finance, commerce and consumer protection",
    18: "foreign trade, tariffs and duties on imports",
    20: "government operations, federal employees, post offices and elections",
    1: "taxation, budget and the economy",
}
SHOWN = {"health": 3, "defense": 16, "law": 12, "transport": 10, "lands": 21, "environment": 7}


def embedded(texts: list[str], batch: int = 64) -> np.ndarray:
    """Sentence embeddings of length 1: the mean of the last states over the tokens of each text."""
    model, tokenizer = minilm()
    order, out = np.argsort([len(text) for text in texts]), np.empty((len(texts), 384))
    for rows in np.array_split(order, -(-len(texts) // batch)):
        tokens = tokenizer([texts[i] for i in rows], padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.no_grad():
            states, there = model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
        mean = ((states * there).sum(dim=1) / there.sum(dim=1)).numpy()
        out[rows] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return out


def judged(frame: pd.DataFrame, draws: int, labels: int, seed: int) -> dict:
    """Coverage of what all experts' labels say, and widths, over draws of the labelled rows."""
    truth, naive = gold(frame)
    covered, alone, widths = [], [], []
    for r in range(draws):
        m = fit_once(frame, labels, int(np.random.default_rng([seed, r]).integers(2**31)))
        ends = m.conf_int().to_numpy()
        covered.append((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
        expert = m.compare().estimates["GSO"]
        alone.append(np.abs(expert.params - truth) <= Z95 * expert.bse)
        widths.append(m.bse_.to_numpy() / expert.bse)
    hits, experts, cheap = np.array(covered), frame["Y"], frame["q"]
    ends = binomial(int(hits.sum()), hits.size)
    return {
        "coverage": float(hits.mean()),
        "coverage interval, as if coefficients were independent": [ends.lower, ends.upper],
        "coverage by coefficient": hits.mean(axis=0).tolist(),
        "coverage of expert labels alone": float(np.mean(alone)),
        "cheap labels alone cover": naive.tolist(),
        "width against expert labels alone": list(over_seeds(np.mean(widths, axis=1))),
        "agreement of cheap and expert labels": float((cheap == experts).mean()),
        "share of the topic": float(experts.mean()),
        "share of the topic by the model": float(cheap.mean()),
    }


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--quick", action="store_true")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--page", type=Path, default=None)
    options = asked.parse_args()
    began = time.perf_counter()
    table = bills()
    if table is None:
        print(f"there is no text/USCongress.csv.gz in {DATA}; set LOCUM_DATA", file=sys.stderr)
        return 1
    codes = np.array(list(DESCRIBED))
    nearest = codes[(embedded(table["text"].tolist()) @ embedded(list(DESCRIBED.values())).T).argmax(axis=1)]
    spent, draws, labels = time.perf_counter() - began, 20 if options.quick else 200, 500
    found = {}
    for name, code in SHOWN.items():
        frame = table.assign(Y=(table["major"] == code) * 1.0, q=(nearest == code) * 1.0)[["senate", "loglen", "Y", "q"]]
        found[name] = judged(frame, draws, labels, options.seed)
        print(f"{name}: {found[name]}", file=sys.stderr)
        if name == "health" and options.page is not None:
            fit_once(frame, labels, options.seed).to_html(options.page)
    record = {
        "labels": labels,
        "draws": draws,
        "seconds to label": spent,
        "seconds": time.perf_counter() - began,
        "mean coverage": float(np.mean([one["coverage"] for one in found.values()])),
        "cheap labels alone cover": float(np.mean([one["cheap labels alone cover"] for one in found.values()])),
        "topics": found,
    }
    if not options.quick:
        (Path(__file__).parent / "text_analysis.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({key: value for key, value in record.items() if key != "topics"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
