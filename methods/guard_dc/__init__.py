"""DC (Zhao, Mopuri & Bilen, ICLR 2021, arXiv 2006.05929) and DSA as a plugin: matching gradients on real images."""

from guard_plugins import Method, hookimpl


@hookimpl
def register_methods() -> list[type[Method]]:
    """Register the method."""
    from guard_dc.method import DC

    return [DC]
