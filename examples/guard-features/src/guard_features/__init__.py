"""Images matched to real ones in the features of several robust networks, as a plugin of guard-plugins."""

from guard_plugins import Method, hookimpl

guard_api = 1


@hookimpl
def register_methods() -> list[type[Method]]:
    """Register the method."""
    from guard_features.method import Features

    return [Features]
