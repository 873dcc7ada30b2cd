"""The shared nouns: target, ledger, domain, fidelity, stand-in, card."""
