"""Stand-ins for the inside of a network: activations collected once, and dictionaries that give them back from few latents."""

from __future__ import annotations

from locum.inside._attribution import Attributions, Feature, Logits, Node, Prompt
from locum.inside._control import Comparison, Control, Counterfactual
from locum.inside._graph import AttributionGraph, attribution_graph
from locum.inside.attention_pairs import AttentionPairs, attention_pairs, parts_of
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
from locum.inside.cross_section import Answers, CrossSection, Location, PreparedInputs, TaskInputs
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
from locum.inside.filters import RowFilter, every_position, first_position, norm_above, positions_before, token_ids
from locum.inside.geometry import absorption_score, babel, babel_selected, effective_rank, matched, modality_score
from locum.inside.interchange import from_dictionary_learning, from_saelens, to_saelens
from locum.inside.interpretation import Interpretation, f1_scores, interpret, label_properties
from locum.inside.measures import cosine, dead_share, fvu, mean_l0, reconstruction_rivals
from locum.inside.mp_sae import MatchingPursuitSAE, PursuitPath
from locum.inside.replacement_model import ReplacementModel, Verification
from locum.inside.rows import ActivationRows, ArrayStore
from locum.inside.sae_evals import DictionaryEval
from locum.inside.snmf_hierarchy import HierarchicalSemiNMF
from locum.inside.snmf_mlp import Excerpt, SemiNMF
from locum.inside.splice import splice_fidelity
from locum.inside.steering import SteeringDirection
from locum.inside.store import ActivationStore, SiteRows, StoreError, StoreEstimate
from locum.inside.supervised_dictionary import PrincipalComponents, SupervisedDictionary
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
    "SupervisedDictionary",
    "PrincipalComponents",
    "CrossSection",
    "Location",
    "TaskInputs",
    "PreparedInputs",
    "Answers",
    "DictionaryEval",
    "Counterfactual",
    "Control",
    "Comparison",
    "interpret",
    "Interpretation",
    "f1_scores",
    "label_properties",
    "attention_pairs",
    "parts_of",
    "AttentionPairs",
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
]
