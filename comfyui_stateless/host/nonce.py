"""The input that makes a node of ours run each time."""

NONCE = "_stateless_nonce"
"""An input that no class declares: no cached result has it."""
