"""The digits network of the attacks' tests."""

from __future__ import annotations

from tests.attacks.conftest import digits, digits_net, robust_net

__all__ = ["digits", "digits_net", "robust_net"]
