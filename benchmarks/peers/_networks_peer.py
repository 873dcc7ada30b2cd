"""Heads and edges of one Llama by `auto-circuit`, in the environment of the network peers: one npz file in, one out.

In: ``folder``, with a Llama that transformers reads; ``clean`` and ``corrupt`` (prompts, length), tokens; ``right`` and
``wrong`` (prompts,), tokens; ``target``, layer and head; ``heads`` and ``edges`` (n, 2), layer and head of those to ablate and
of sources to patch. What is patched is replaced by its mean over the corrupt prompts, position by position, and all is told
of the logit of the right token less that of the wrong one. Out, with the seconds that each took:

- ``full`` (prompts,): the score of the model;
- ``ablated`` (heads, prompts): the score with one head at its mean, a pass for each;
- ``node`` (heads of all layers,): mask gradients of the same, mean over prompts;
- ``edge`` (heads before the target,): mask gradients of edges into the query, key and value of the target, summed;
- ``direct`` (edges, prompts): the score with the edge from a source to the logits patched, a pass for each.

The mask-gradient scores are those of edge attribution patching, as the package's documentation says.

    python _networks_peer.py IN OUT
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

import numpy as np
import torch
from auto_circuit.data import PromptDataLoader, PromptDataset
from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores
from auto_circuit.types import AblationType
from auto_circuit.utils.ablation_activations import src_ablations
from auto_circuit.utils.graph_utils import patch_mode, patchable_model
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_llama_weights
from transformers import AutoModelForCausalLM

MEAN = AblationType.TOKENWISE_MEAN_CORRUPT


def hooked(folder: str, length: int) -> HookedTransformer:
    """The same weights, in the layout that the package patches; keys and values as many as queries, so that heads are apart."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    c = model.config
    settings = HookedTransformerConfig(
        n_layers=c.num_hidden_layers, d_model=c.hidden_size, d_head=c.head_dim, n_heads=c.num_attention_heads,
        n_key_value_heads=c.num_key_value_heads, d_mlp=c.intermediate_size, d_vocab=c.vocab_size, n_ctx=length,
        act_fn="silu", normalization_type="RMS", eps=c.rms_norm_eps, final_rms=True, gated_mlp=True,
        positional_embedding_type="rotary", rotary_base=int(c.rope_parameters["rope_theta"]), rotary_dim=c.head_dim,
        rotary_adjacent_pairs=False, original_architecture="LlamaForCausalLM", default_prepend_bos=False, device="cpu",
        use_attn_result=True, use_hook_mlp_in=True, use_split_qkv_input=True, ungroup_grouped_query_attention=True,
    )  # fmt: skip
    out = HookedTransformer(settings)
    out.load_state_dict(convert_llama_weights(model, settings), strict=False)  # what is missing are its tables of positions
    return out.eval()


class Patched:
    """One graph of the model; the package changes a model that it makes patchable, so each graph has its own."""

    def __init__(self, data: Any, factorized: bool) -> None:
        clean, corrupt = (torch.as_tensor(data[name]) for name in ("clean", "corrupt"))
        self.clean, self.answers = clean, tuple(torch.as_tensor(data[name])[:, None] for name in ("right", "wrong"))
        model = hooked(str(data["folder"]), clean.shape[1])
        self.model = patchable_model(model, factorized=factorized, slice_output="last_seq", separate_qkv=True)
        pairs = PromptDataset(clean, corrupt, *self.answers)
        self.loader = PromptDataLoader(pairs, seq_len=clean.shape[1], diverge_idx=0, batch_size=len(clean))
        self.means = src_ablations(self.model, self.loader, MEAN)

    def score(self) -> np.ndarray:
        logits = self.model(self.clean)[self.model.out_slice]
        right, wrong = (torch.gather(logits, 1, answer)[:, 0] for answer in self.answers)
        return (right - wrong).numpy()

    def patched(self, edges: list[Any]) -> tuple[np.ndarray, float]:
        """The score with one edge patched at a time, shape (edges, prompts), and the seconds."""
        out, start = [], time.perf_counter()
        with torch.inference_mode():
            for edge in edges:
                with patch_mode(self.model, self.means.clone(), [edge]):
                    out.append(self.score())
        return np.array(out), time.perf_counter() - start

    def gradients(self) -> tuple[dict[str, Any], float]:
        start = time.perf_counter()
        found = mask_gradient_prune_scores(
            self.model, self.loader, None, grad_function="logit", answer_function="avg_diff", mask_val=0.0,
            ablation_type=MEAN, clean_corrupt=None,
        )  # fmt: skip
        return found, time.perf_counter() - start

    def edges(self, ends: str) -> dict[tuple[int, int], Any]:
        """Of the heads, by layer and head, those whose end is so named."""
        out = {}
        for edge in self.model.edges:
            if edge.src.name.startswith("A") and edge.dest.name.startswith(ends):
                layer, head = edge.src.name[1:].split(".")
                out[int(layer), int(head)] = edge
        return out


def nodes(data: Any) -> dict[str, Any]:
    graph = Patched(data, factorized=False)
    heads = graph.edges("Resid Mid")
    with torch.inference_mode():
        full = graph.score()
    ablated, slow = graph.patched([heads[tuple(map(int, one))] for one in data["heads"]])
    scores, fast = graph.gradients()
    node = [float(scores[edge.dest.module_name][edge.patch_idx]) for _, edge in sorted(heads.items())]
    return {"full": full, "ablated": ablated, "ablated_seconds": slow, "node": node, "node_seconds": fast}


def edges(data: Any) -> dict[str, Any]:
    graph, (layer, head) = Patched(data, factorized=True), data["target"]
    scores, fast = graph.gradients()
    edge = np.zeros((int(layer), graph.model.cfg.n_heads))
    for letter in "QKV":
        for (at, source), one in graph.edges(f"A{layer}.{head}.{letter}").items():
            edge[at, source] += float(scores[one.dest.module_name][one.patch_idx])
    last = graph.edges("Resid End")
    direct, slow = graph.patched([last[tuple(map(int, one))] for one in data["edges"]])
    return {"edge": edge.ravel(), "edge_seconds": fast, "direct": direct, "direct_seconds": slow}


def main(source: str, out: str) -> None:
    """Measure."""
    torch.set_num_threads(1)
    data = np.load(source, allow_pickle=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.savez(out, **nodes(data), **edges(data))


if __name__ == "__main__":
    main(*sys.argv[1:])
