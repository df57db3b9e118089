"""The one check every architecture makes of the images it is asked to take."""

from __future__ import annotations

from guard_plugins.errors import ConfigError


def require_side(name: str, image_shape: tuple[int, int, int], at_least: int) -> None:
    """Raise unless both sides of the images reach ``at_least`` pixels.

    Args:
        name: Architecture named in the message.
        image_shape: (C, H, W) of the input.
        at_least: Smallest side the depth of the architecture can take.

    Raises:
        ConfigError: If the images are smaller.
    """
    _, height, width = image_shape
    if min(height, width) < at_least:
        raise ConfigError(
            f"The images are too small for the network {name}.",
            seen=f"images of {height}x{width} pixels; {name} halves them until less than one pixel is left "
            f"and needs at least {at_least}x{at_least}",
            do=f"Choose a shallower network (small-resnet takes 4x4), or ask for larger images with "
            f"--data.image-size {at_least}.",
        )
