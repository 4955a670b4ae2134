"""Exists because Mercurial has it."""
