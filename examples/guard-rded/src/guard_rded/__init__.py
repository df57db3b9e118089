"""RDED (Sun, Shi, Yu & Lin, CVPR 2024, arXiv 2312.03526) as a plugin of guard-plugins."""

from guard_plugins import Method, hookimpl

guard_api = 1


@hookimpl
def register_methods() -> list[type[Method]]:
    """Register the method."""
    from guard_rded.method import RDED

    return [RDED]
