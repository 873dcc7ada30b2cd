"""The 65 published systems Locum grew out of: what stands in for what, what each claims, and what was measured here."""

from locum.catalogue._cite import cite, references
from locum.catalogue._papers import Claim, Measured, Paper, paper, papers
from locum.catalogue._readme import markdown_table

__all__ = ["papers", "paper", "Paper", "Claim", "Measured", "cite", "references", "markdown_table"]
