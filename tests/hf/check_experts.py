#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Dense models split into experts. Of every architecture: with every expert chosen our outputs are those of transformers on the dense model, and joined again
transformers loads it with the same logits; a gated one also loads split. Layouts that transformers has are loaded there as what they are, with no key missing
or left over, and have our logits with every expert chosen, with some and with one."""
import json
import sys
import tempfile

import check_language
import numpy as np
import torch
import transformers as hf
from common import Tally, tfuse

LAYOUTS = {"llama": ["mixtral", "qwen2_moe"], "mistral": ["mixtral"], "qwen2": ["qwen2_moe"], "qwen3": ["qwen3_moe"], "phi3": ["mixtral"]}
GATED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3")


def divisor(case, path):
    """A number of experts for the model's hidden units."""
    with open(f"{path}/config.json", encoding="utf-8") as f:
        config = json.load(f)
    units = next((config[k] for k in ("intermediate_size", "hidden_dim") if config.get(k)), 4 * config.get("n_embd", 0))
    return next(e for e in (4, 5, 6, 3, 2) if units % e == 0)


def check_emoe(case, a, was):
    split, back = f"{case.work}/split", f"{case.work}/back"
    experts = divisor(case, a)
    tfuse("moe", a, "--experts", str(experts), "--top-k", str(experts), "-o", split, "--force", "--quiet")
    case.tally.close(f"{case.name}: every expert of {experts}", case.ours(split), was)
    if case.config.model_type in GATED:
        logits, odd = case.theirs(split)
        case.tally.check(f"{case.name}: loads as the dense model", not odd, str(odd))
        case.tally.close(f"{case.name}: is the dense model", logits, was)
    tfuse("moe", a, "--experts", str(experts), "--top-k", "2", "-o", split, "--force", "--quiet")
    tfuse("moe", split, "--dense", "-o", back, "--force", "--quiet")
    logits, odd = case.theirs(back)
    case.tally.check(f"{case.name}: joined: keys", not odd, str(odd))
    case.tally.check(f"{case.name}: joined: the same logits", np.array_equal(logits, was), f"off by {abs(logits - was).max():.2e}")


def check_layout(case, a, was, layout, dtype):
    experts, split = divisor(case, a), f"{case.work}/{layout}"
    for top_k in (experts, 2, 1):
        tfuse("moe", a, "--experts", str(experts), "--top-k", str(top_k), "--layout", layout, "--dtype", dtype, "-o", split, "--force", "--quiet")
        net, info = hf.AutoModelForCausalLM.from_pretrained(split, output_loading_info=True, dtype=torch.float32, experts_implementation="eager")
        odd = list(info["missing_keys"]) + list(info["unexpected_keys"])
        name = f"{case.name} as {layout}, {dtype}, {top_k} of {experts}"
        with torch.no_grad():
            logits = net.eval()(**{k: torch.from_numpy(v) for k, v in case.arrays.items()}).logits.numpy()
        case.tally.check(f"{name}: keys", not odd, str(odd))
        case.tally.close(f"{name}: logits", case.ours(split), logits)
        if top_k == experts and dtype == "F32":
            case.tally.close(f"{name}: the dense model's", logits, was)


def check(case):
    a = f"{case.work}/a"
    np.savez(case.inputs, **case.arrays)
    case.new(a)
    was, _ = case.theirs(a)
    check_emoe(case, a, was)
    for layout in LAYOUTS.get(case.name.split(",", maxsplit=1)[0], []):
        if case.name.startswith(("llama, biases", "qwen2, window")):
            try:
                check_layout(case, a, was, layout, "F32")
                case.tally.check(f"{case.name} as {layout}: is refused", False, "it was not")
            except RuntimeError as error:
                case.tally.check(f"{case.name} as {layout}: is refused", "--layout" in str(error) or "window" in str(error), str(error))
            continue
        for dtype in ("F32", "BF16"):
            check_layout(case, a, was, layout, dtype)


def main(tally=None, wanted=()):
    hf.logging.set_verbosity_error()
    hf.logging.disable_progress_bar()
    tally = tally or Tally()
    for name, cls, config in (*check_language.decoders(), *check_language.encoders()):
        mixture = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
        if mixture or (wanted and not any(name.startswith(w) for w in wanted)):
            continue
        with tempfile.TemporaryDirectory() as work:
            try:
                check(check_language.Case(tally, work, name, cls, config))
            except (RuntimeError, ValueError, OSError) as error:
                tally.check(name, False, error)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main(wanted=sys.argv[1:]))
