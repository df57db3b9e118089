"""Which torch functions are special to the record, by name."""

from __future__ import annotations

from typing import Any, Final

RANDOM: Final = frozenset(
    {
        "_standard_gamma", "alpha_dropout", "alpha_dropout_", "bernoulli", "bernoulli_", "binomial", "cauchy_",
        "dropout", "dropout1d", "dropout2d", "dropout3d", "dropout_", "exponential_", "feature_alpha_dropout",
        "feature_alpha_dropout_", "feature_dropout", "feature_dropout_", "fractional_max_pool2d",
        "fractional_max_pool3d", "geometric_", "gumbel_softmax", "log_normal_", "multi_head_attention_forward",
        "multinomial", "native_dropout", "normal", "normal_", "pca_lowrank", "poisson", "random_", "rrelu", "rrelu_",
        "scaled_dot_product_attention", "svd_lowrank", "uniform_"
    }
)  # fmt: skip
"""Functions that draw from a global random stream."""

SHAPE_ONLY: Final = frozenset(
    {
        "empty_like", "full_like", "new_empty", "new_empty_strided", "new_full", "new_ones", "new_tensor",
        "new_zeros", "ones_like", "rand_like", "randint_like", "randn_like", "zeros_like"
    }
)  # fmt: skip
"""Functions that take no more than the shape of a tensor."""

DRAWN: Final = frozenset(
    {
        "empty_like", "new_empty", "new_empty_strided", "rand_like", "randint_like", "randn_like"
    }
)  # fmt: skip
"""Those of them whose results are noise, which a replay must not draw again."""

CONSTANT: Final = frozenset({"eye", "full", "ones", "zeros"})
"""Functions that make a tensor from no other one, and that nobody makes data with."""

LOSSES: Final = frozenset(
    {
        "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cross_entropy",
        "gaussian_nll_loss", "huber_loss", "kl_div", "l1_loss", "mse_loss", "nll_loss", "poisson_nll_loss",
        "smooth_l1_loss", "soft_margin_loss"
    }
)  # fmt: skip
"""Functions that compare an answer with a target."""

ASKING: Final = frozenset(
    {
        "__bool__", "__contains__", "__float__", "__format__", "__index__", "__int__", "__len__", "__repr__",
        "data_ptr", "dim", "element_size", "get_device", "is_complex", "is_contiguous", "is_floating_point", "item",
        "numel", "numpy", "size", "storage_offset", "stride", "tolist"
    }
)  # fmt: skip
"""Functions that return no tensor."""

DETACHED: Final = frozenset({"__array__", "__deepcopy__", "detach", "detach_", "tensor"})
"""Functions whose results are data, whatever they were computed from."""

PROPERTIES: Final = frozenset({"H", "T", "imag", "mH", "mT", "real"})
"""Attributes of a tensor that are computed from it."""

STATISTICS: Final = frozenset({"batch_norm", "instance_norm"})
"""Functions that advance running statistics which they are given, and do not read them when they do."""

WATCHING: Final = frozenset({"register_hook", "register_post_accumulate_grad_hook", "retain_grad"})
"""Functions that look at, or change, a gradient on its way."""

WRITING: Final = frozenset(
    {
        "__iadd__", "__iand__", "__imul__", "__ior__", "__ipow__", "__isub__", "__itruediv__", "__setitem__"
    }
)  # fmt: skip
"""Functions that write into their first argument, beside those whose names end in an underscore."""


def may_write(name: str, kwargs: dict[str, Any]) -> bool:
    """Return whether a function of this name may write into its arguments."""
    named = name in WRITING or (name.endswith("_") and not name.endswith("__"))
    return named or kwargs.get("out") is not None or bool(kwargs.get("inplace"))
