"""Worlds that know their own truth: planted rules, trees and sums, and engineering formulas with their units."""

from __future__ import annotations

from locum.problems._formula import Formula
from locum.problems._planted import Planted
from locum.problems.borehole import borehole
from locum.problems.concept_tree import ConceptTree
from locum.problems.equalities import Algorithm, DistributiveLaw, HierarchicalEquality
from locum.problems.indirect_object import IndirectObject, IndirectObjectPrompts, TokenizedPrompts
from locum.problems.indirect_objects import IndirectObjects
from locum.problems.otl_circuit import otl_circuit
from locum.problems.piston import piston
from locum.problems.planted_additive import planted_additive
from locum.problems.planted_rules import planted_rules
from locum.problems.planted_series import PlantedSeries, SeriesSample, freq_shapes, low_var, seq_comb_mv, seq_comb_uv
from locum.problems.planted_sparse_linear import planted_sparse_linear
from locum.problems.planted_tree import planted_tree
from locum.problems.wing_weight import wing_weight

__all__ = [
    "Planted",
    "planted_rules",
    "planted_tree",
    "planted_additive",
    "planted_sparse_linear",
    "PlantedSeries",
    "SeriesSample",
    "freq_shapes",
    "seq_comb_uv",
    "seq_comb_mv",
    "low_var",
    "ConceptTree",
    "Algorithm",
    "HierarchicalEquality",
    "DistributiveLaw",
    "IndirectObjects",
    "IndirectObject",
    "IndirectObjectPrompts",
    "TokenizedPrompts",
    "Formula",
    "borehole",
    "otl_circuit",
    "piston",
    "wing_weight",
]
