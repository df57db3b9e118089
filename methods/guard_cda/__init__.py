"""CDA (Yin & Shen, TMLR 2024, arXiv 2311.18838) as a plugin: SRe2L whose recovery follows a curriculum."""

from guard_plugins import Method, hookimpl


@hookimpl
def register_methods() -> list[type[Method]]:
    """Register the method."""
    from guard_cda.method import CDA

    return [CDA]
