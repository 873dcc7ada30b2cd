"""Stand-ins for the inside of a network: activations collected once, and dictionaries that give them back from few latents."""

from __future__ import annotations

from locum.inside._attribution import Attributions, Feature, Logits, Node, Prompt
from locum.inside._control import Comparison, Control, Counterfactual
from locum.inside._graph import AttributionGraph, attribution_graph
from locum.inside._pooling import pool_states
from locum.inside._probe_report import ProbeReport
from locum.inside._prompt_states import prompt_states
from locum.inside.absorption import ConceptAbsorption, WordRows, concept_absorption, first_letter_rows
from locum.inside.alignment_audit import AlignmentAudit, AuditLine, audit
from locum.inside.attention_pairs import AttentionPairs, attention_pairs, parts_of
from locum.inside.causal_effects import causal_effects
from locum.inside.causal_model import CausalModel, Interventions
from locum.inside.chat import ChatDetector, ChatEndpoint, ChatError, ChatNamer
from locum.inside.codebook import Codebook, Decoded, bundle_cosine, bundle_recovery
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
from locum.inside.cuts import Cut, LanguageModelCut, NetworkCut, States
from locum.inside.degeneracies import Degeneracy, LayerDegeneracy, degeneracy
from locum.inside.describing import CodedUnits, coded_text, describe_features, unembedding
from locum.inside.dictionary import Dictionary, SparseAutoencoder, TrainingEstimate
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
from locum.inside.filters import (
    RowFilter,
    every_position,
    first_position,
    norm_above,
    positions_before,
    token_block,
    token_ids,
    token_phrase,
)
from locum.inside.geometry import absorption_score, babel, babel_selected, effective_rank, matched, modality_score
from locum.inside.hyperdimensional_probe import HypervectorProbe
from locum.inside.interaction_basis import InteractionBasis
from locum.inside.interaction_graph import InteractionGraph, Modules
from locum.inside.interchange import from_dictionary_learning, from_saelens, to_saelens
from locum.inside.interpretation import Interpretation, f1_scores, interpret, label_properties
from locum.inside.item_concepts import ItemConcepts, KindDetection, NameConfidence, detect_kinds, title_coherence
from locum.inside.lexical_names import (
    EmbeddingMatch,
    LexicalNamer,
    LogisticDetector,
    SentenceEncoder,
    name_words,
    word_match,
)
from locum.inside.maira2_matryoshka import NamedDictionary
from locum.inside.measures import cosine, dead_share, fvu, mean_l0, reconstruction_rivals
from locum.inside.mp_sae import MatchingPursuitSAE, PursuitPath
from locum.inside.naming import (
    CalibratedDetector,
    Context,
    Detector,
    LatentExamples,
    Namer,
    NameScore,
    NameScores,
    latent_examples,
    score_names,
    token_contexts,
)
from locum.inside.nonlinear_dilemma import (
    Alignment,
    AlignmentMap,
    CodeLength,
    NeuronMap,
    OrthogonalMap,
    RevNetMap,
)
from locum.inside.prediction import activation_correlation, foretold_by_units, interpretability
from locum.inside.prefixes import by_frequency, prefix_curve
from locum.inside.probe_rivals import concept_rivals, pair_table, permuted_pairs
from locum.inside.probing import SparseProbe, probe_rivals, sparse_probe
from locum.inside.recsae import DoseResponse, RecommenderAudit, frozen_decoder
from locum.inside.replacement_model import ReplacementModel, Verification
from locum.inside.rows import ActivationRows, ArrayStore, balanced_rows
from locum.inside.sae_evals import DictionaryEval
from locum.inside.snmf_hierarchy import HierarchicalSemiNMF
from locum.inside.snmf_mlp import Excerpt, SemiNMF
from locum.inside.splice import splice_fidelity
from locum.inside.steered_concepts import SteeringEffect, steering_effects
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
    "balanced_rows",
    "RowFilter",
    "every_position",
    "first_position",
    "positions_before",
    "token_ids",
    "token_phrase",
    "token_block",
    "norm_above",
    "Dictionary",
    "SparseAutoencoder",
    "TrainingEstimate",
    "MatchingPursuitSAE",
    "PursuitPath",
    "SemiNMF",
    "HierarchicalSemiNMF",
    "Excerpt",
    "SteeringDirection",
    "steering_effects",
    "SteeringEffect",
    "NamedDictionary",
    "Context",
    "token_contexts",
    "LatentExamples",
    "latent_examples",
    "Namer",
    "LexicalNamer",
    "ChatNamer",
    "ChatEndpoint",
    "ChatError",
    "Detector",
    "CalibratedDetector",
    "LogisticDetector",
    "word_match",
    "name_words",
    "EmbeddingMatch",
    "SentenceEncoder",
    "ChatDetector",
    "score_names",
    "NameScores",
    "NameScore",
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
    "CausalModel",
    "Interventions",
    "Cut",
    "NetworkCut",
    "LanguageModelCut",
    "States",
    "Alignment",
    "AlignmentMap",
    "NeuronMap",
    "OrthogonalMap",
    "RevNetMap",
    "CodeLength",
    "audit",
    "AlignmentAudit",
    "AuditLine",
    "degeneracy",
    "Degeneracy",
    "LayerDegeneracy",
    "InteractionBasis",
    "InteractionGraph",
    "Modules",
    "RecommenderAudit",
    "DoseResponse",
    "frozen_decoder",
    "ItemConcepts",
    "NameConfidence",
    "detect_kinds",
    "KindDetection",
    "title_coherence",
    "Codebook",
    "Decoded",
    "HypervectorProbe",
    "ProbeReport",
    "prompt_states",
    "pool_states",
    "concept_rivals",
    "pair_table",
    "permuted_pairs",
    "bundle_cosine",
    "bundle_recovery",
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
    "prefix_curve",
    "by_frequency",
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
