# SPDX-License-Identifier: Apache-2.0
"""What the checks against Hugging Face share: running the command, random models, counting."""
import os
import shutil
import subprocess

import torch

TFUSE = os.environ.get("TFUSE", "build/release/tfuse")
TOLERANCE = 1e-4  # of the largest logit: float32 on both sides, sums in another order


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, good, why=""):
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
        print(f"ok {name}" if good else f"not ok {name}: {why}", flush=True)

    def close(self, name, a, b, tolerance=TOLERANCE):
        if a.shape != b.shape:
            self.check(name, False, f"shapes {a.shape} and {b.shape}")
            return
        error = abs(a - b).max() / abs(b).max()
        self.check(name, error <= tolerance, f"off by {error:.2e} of the largest")

    def finish(self):
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


def tfuse(*args):
    done = subprocess.run([TFUSE, *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"tfuse {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def random_model(cls, config, path, dtype=torch.float32, seed=7, offset_gains=False):
    """Every bias, norm and table gets values that are not the trivial ones of an initialisation."""
    torch.manual_seed(seed)
    net = cls(config)
    for name, p in net.named_parameters():
        gain = p.ndim == 1 and name.endswith("weight") and not offset_gains
        scale = 0.4 if p.ndim == 1 else 1.0 if "emb" in name or "wte" in name or "wpe" in name else 0.25
        with torch.no_grad():
            p.copy_(torch.randn_like(p) * scale + (1.0 if gain else 0.0))
    shutil.rmtree(path, ignore_errors=True)
    net.to(dtype).save_pretrained(path, safe_serialization=True)
