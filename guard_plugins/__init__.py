"""Adversarially robust dataset distillation."""
