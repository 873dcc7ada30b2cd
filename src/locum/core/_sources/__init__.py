"""Translations of a program: one file a language, each with one function that `locum.core.export` offers."""
