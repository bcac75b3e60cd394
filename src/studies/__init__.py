"""Whole published questions in one call; no study imports another."""
