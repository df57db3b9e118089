"""For the tests of method plugins: a contract every method keeps, and fixtures for tests of its own.

One line checks a method::

    def test_contract() -> None:
        check_method(Mine, settings={"mine": {"iterations": 4}})
"""

from guard_plugins.testing.augmentations import check_augmentation
from guard_plugins.testing.contract import check_installed, check_method
from guard_plugins.testing.promises import PROMISES, BrokenPromiseError
from guard_plugins.testing.tiny import tiny_task

__all__ = ["PROMISES", "BrokenPromiseError", "check_augmentation", "check_installed", "check_method", "tiny_task"]
