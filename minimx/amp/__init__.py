"""``mx.amp``: mixed precision. Which types operators run in: policy.py; the loss scale: scaler.py; nets: convert.py.

The essay is docs/amp.md; the casts themselves are inserted by csrc/runtime/invoke.cc.
"""

from .convert import convert_hybrid_block
from .policy import (
    autocast,
    disable,
    init,
    list_conditional_fp32_ops,
    list_fp32_ops,
    list_loss_output_functions,
    list_lp16_fp32_ops,
    list_lp16_ops,
    list_lp16_use_fp32_params,
    list_widest_type_cast,
)
from .scaler import LossScaler, init_trainer, scale_loss, unscale

__all__ = [
    "LossScaler",
    "autocast",
    "convert_hybrid_block",
    "disable",
    "init",
    "init_trainer",
    "list_conditional_fp32_ops",
    "list_fp32_ops",
    "list_loss_output_functions",
    "list_lp16_fp32_ops",
    "list_lp16_ops",
    "list_lp16_use_fp32_params",
    "list_widest_type_cast",
    "scale_loss",
    "unscale",
]
