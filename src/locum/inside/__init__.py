"""Stand-ins for the inside of a network: activations collected once, and dictionaries that give them back from few latents."""

from __future__ import annotations

from locum.inside._attribution import Attributions, Feature, Logits, Node, Prompt
from locum.inside._graph import AttributionGraph, attribution_graph
from locum.inside.absorption import ConceptAbsorption, WordRows, concept_absorption, first_letter_rows
from locum.inside.causal_effects import causal_effects
from locum.inside.concepts import (
    ConceptDetection,
    SharedNeurons,
    areas_under_curve,
    core_and_exclusive,
    detect_concepts,
    log_ratio,
    shared_neurons,
    text_scores,
)
from locum.inside.describing import CodedUnits, coded_text, describe_features, unembedding
from locum.inside.dictionary import Dictionary, SparseAutoencoder
from locum.inside.encoders import (
    AuxiliaryLoss,
    BatchTopK,
    EncoderSpec,
    Gated,
    JumpReLU,
    MatchingPursuit,
    Matryoshka,
    ReLU,
    Resampling,
    Revival,
    TopK,
)
from locum.inside.features import Example, FeatureEffect, FeaturePage, FeatureRecord, Histogram, Picture
from locum.inside.filters import RowFilter, every_position, first_position, norm_above, positions_before, token_ids
from locum.inside.geometry import absorption_score, babel, babel_selected, effective_rank, matched, modality_score
from locum.inside.interchange import from_dictionary_learning, from_saelens, to_saelens
from locum.inside.measures import cosine, dead_share, fvu, mean_l0, reconstruction_rivals
from locum.inside.mp_sae import MatchingPursuitSAE, PursuitPath
from locum.inside.prediction import activation_correlation, foretold_by_units, interpretability
from locum.inside.probing import SparseProbe, probe_rivals, sparse_probe
from locum.inside.replacement_model import ReplacementModel, Verification
from locum.inside.rows import ActivationRows, ArrayStore
from locum.inside.snmf_hierarchy import HierarchicalSemiNMF
from locum.inside.snmf_mlp import Excerpt, SemiNMF
from locum.inside.splice import splice_fidelity
from locum.inside.steering import SteeringDirection
from locum.inside.store import ActivationStore, SiteRows, StoreError, StoreEstimate
from locum.inside.tap import CalledTwice, Replacement, Site, Tap, attention_sites
from locum.inside.transcoders import Transcoder

__all__ = [
    "Tap",
    "Site",
    "attention_sites",
    "Replacement",
    "CalledTwice",
    "ActivationStore",
    "SiteRows",
    "StoreEstimate",
    "StoreError",
    "ActivationRows",
    "ArrayStore",
    "RowFilter",
    "every_position",
    "first_position",
    "positions_before",
    "token_ids",
    "norm_above",
    "Dictionary",
    "SparseAutoencoder",
    "MatchingPursuitSAE",
    "PursuitPath",
    "SemiNMF",
    "HierarchicalSemiNMF",
    "Excerpt",
    "SteeringDirection",
    "text_scores",
    "detect_concepts",
    "ConceptDetection",
    "areas_under_curve",
    "log_ratio",
    "shared_neurons",
    "core_and_exclusive",
    "SharedNeurons",
    "Transcoder",
    "ReplacementModel",
    "Prompt",
    "Feature",
    "Logits",
    "Node",
    "Attributions",
    "attribution_graph",
    "AttributionGraph",
    "Verification",
    "EncoderSpec",
    "ReLU",
    "Gated",
    "JumpReLU",
    "TopK",
    "BatchTopK",
    "Matryoshka",
    "MatchingPursuit",
    "AuxiliaryLoss",
    "Resampling",
    "Revival",
    "from_saelens",
    "to_saelens",
    "from_dictionary_learning",
    "fvu",
    "cosine",
    "mean_l0",
    "dead_share",
    "reconstruction_rivals",
    "splice_fidelity",
    "effective_rank",
    "babel",
    "babel_selected",
    "matched",
    "absorption_score",
    "modality_score",
    "sparse_probe",
    "probe_rivals",
    "SparseProbe",
    "concept_absorption",
    "ConceptAbsorption",
    "first_letter_rows",
    "WordRows",
    "activation_correlation",
    "foretold_by_units",
    "interpretability",
    "FeaturePage",
    "FeatureRecord",
    "Example",
    "Histogram",
    "FeatureEffect",
    "Picture",
    "CodedUnits",
    "coded_text",
    "describe_features",
    "unembedding",
    "causal_effects",
]
