"""A small language model with weights drawn at random, and documents for it."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def language_model():
    """A Llama of three layers, four heads and two of keys and values, width 16."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from locum.nets import seeded

    shape = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(
        **shape, intermediate_size=24, max_position_embeddings=64, bos_token_id=0, eos_token_id=0, initializer_range=0.3
    )
    with seeded(0):
        return transformers.LlamaForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def documents():
    rng = np.random.default_rng(0)
    return [rng.integers(1, 50, size=rng.integers(5, 60)) for _ in range(40)]


@pytest.fixture(scope="session")
def planted():
    """Rows that are sums of few of 24 directions in 16 dimensions, and the directions."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(24, 16))
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    codes = (rng.random((4000, 24)) < 0.08) * rng.gamma(9, 1 / 9, size=(4000, 24))
    return (codes @ truth + 0.3).astype(np.float32), truth
