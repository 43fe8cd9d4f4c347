# SPDX-License-Identifier: Apache-2.0
"""Modules of PyTorch and models of `transformers`: their tensors under the names of their checkpoints, and back. Neither is imported unless the caller
has done so."""
from __future__ import annotations

import copy
import json
import sys
from collections.abc import Mapping
from typing import Any


def torch() -> Any:
    """PyTorch, for what gives its tensors."""
    try:
        import torch as module
    except ImportError:
        raise ImportError("this gives tensors of PyTorch: pip install torch") from None
    return module


def is_module(x: Any) -> bool:
    """Whether it is a torch.nn.Module."""
    loaded = sys.modules.get("torch")
    return loaded is not None and isinstance(x, loaded.nn.Module)


def is_transformers(x: Any) -> bool:
    """Whether it is a model of `transformers`."""
    loaded = sys.modules.get("transformers")
    return loaded is not None and isinstance(x, loaded.PreTrainedModel)


def tensors_of(module: Any) -> tuple[Mapping[str, Any], Any]:
    """(tensors under the names of a checkpoint, config or None)."""
    state = module.state_dict()
    if not is_transformers(module):
        config = getattr(module, "config", None)
        return state, config if isinstance(config, Mapping) or hasattr(config, "to_dict") else None
    state = _as_saved(module, state)
    config = json.loads(module.config.to_json_string())
    config["architectures"] = [type(module).__name__]
    return state, config


def _as_saved(module: Any, state: dict[str, Any]) -> dict[str, Any]:
    """As save_pretrained writes them: of tied tensors one, and the names that the checkpoint had, where loading changed them."""
    tied = getattr(module, "all_tied_weights_keys", None)  # since transformers 5: {tensor: the one that it is}
    if isinstance(tied, Mapping):
        state = {k: v for k, v in state.items() if not (k in tied and tied[k] in state)}
    elif module.config.tie_word_embeddings:
        state = {k: v for k, v in state.items() if k not in (getattr(module, "_tied_weights_keys", None) or ())}
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:
        return state
    return dict(revert_weight_conversion(module, state))


def like(module: Any, state: dict[str, Any]) -> Any:
    """Another module of the same kind with the tensors of a checkpoint; the given one stays as it is."""
    if is_transformers(module):
        made = type(module).from_pretrained(None, config=copy.deepcopy(module.config), state_dict=state)
        made.to(next(iter(state.values())).dtype)
        made.train(module.training)
        return made
    made = copy.deepcopy(module)
    made.load_state_dict(state)
    return made
