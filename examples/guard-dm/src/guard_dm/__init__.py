"""Distribution Matching (Zhao & Bilen, WACV 2023, arXiv 2110.04181) as a plugin of guard-plugins."""

from guard_plugins import Method, hookimpl

guard_api = 1


@hookimpl
def register_methods() -> list[type[Method]]:
    """Register the method."""
    from guard_dm.method import DM

    return [DM]
