"""Evaluation of robustness: accuracy under attack, protocols, the release gate, metrics and measured curvature."""
