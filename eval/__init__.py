"""Benchmark evaluation on top of timevlm's public names."""
