"""Robustness evaluation: accuracy under attack, protocols, the release gate, metrics and measured curvature."""
