# SPDX-License-Identifier: Apache-2.0
"""Runs `tfuse` for the study's pages and remembers what it measured, so an interrupted study goes on where it was: a fusion is known by the build, the models'
weights and the options; a score by the weights alone, since how a checkpoint is evaluated does not change from build to build."""
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def name_of(model):
    return os.path.basename(os.path.normpath(model))


def short(model):
    """a of vit-fmnist-a"""
    return name_of(model).rsplit("-", 1)[-1]


class Unmeasured(Exception):
    """The time is over and this was not measured before."""


class Tool:
    """tool: the command; work: a folder for scratch and for measured.json, what is known already; minutes: after them nothing more is measured. Failed commands end
    the study with their message."""

    def __init__(self, tool, work, minutes=float("inf")):
        self.end = time.monotonic() + 60 * minutes
        self.tool, self.work, self.file = tool, work, f"{work}/measured.json"
        self.build, self.models = sha256(tool)[:16], {}
        os.makedirs(work, exist_ok=True)
        self.known = self.read()

    def call(self, *args):
        done = subprocess.run([self.tool, *args], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"study: {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def identity(self, model):
        if model not in self.models:
            self.models[model] = f"{name_of(model)}:{sha256(f'{model}/model.safetensors')[:16]}"
        return self.models[model]

    def evaluated(self, model, *inputs):
        """[accuracy in percent, mean loss]"""
        def measure():
            result = json.loads(self.call("eval", model, *inputs, "--json", "--quiet"))
            return [100 * result["accuracy"], result["loss"]]

        return self.remembered(f"eval {sha256(f'{model}/model.safetensors')[:24]} {' '.join(map(name_of, inputs))}", measure, must=True)

    def remembered(self, key, measure, must=False):
        """must: whatever the time"""
        if key not in self.known:
            if time.monotonic() > self.end and not must:
                raise Unmeasured(key)
            found = measure()
            with open(f"{self.file}.lock", "w", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self.known = {**self.read(), key: found}
                with open(f"{self.file}.part", "w", encoding="utf-8") as f:
                    json.dump(self.known, f, indent=0)
                os.replace(f"{self.file}.part", self.file)
        return self.known[key]

    def read(self):
        if not os.path.exists(self.file):
            return {}
        with open(self.file, encoding="utf-8") as f:
            return json.load(f)

    def fuse(self, models, options, out):
        return json.loads(self.call("fuse", *models, *options, "-o", out, "--force", "--quiet", "--json"))

    def fused(self, models, options, score):
        """score(directory) of the models fused with these options; the directory is gone afterwards."""
        key = self.key(models, options)

        def measure():
            out = f"{self.work}/fused.{os.getpid()}"
            report = self.fuse(models, options, out)
            result = score(out)
            shutil.rmtree(out)
            self.remembered(f"{key} mix", lambda: (report.get("repair") or {}).get("mix"))
            return result

        return self.remembered(key, measure)

    def key(self, models, options):
        return f"{self.build} fuse {' '.join(self.identity(m) for m in models)} {' '.join(options)}"

    def mix(self, models, options):
        """the share of each model in what repair fitted to; None: there was none, or it is not known"""
        return self.known.get(f"{self.key(models, options)} mix")

    def logits(self, model, inputs):
        """float32 outputs of a model on an inputs file, kept beside the measurements"""
        out = f"{self.work}/logits.{self.identity(model).replace(':', '.')}.{name_of(inputs)}.npy"
        if not os.path.exists(out):
            self.call("run", model, "--inputs", inputs, "-o", out, "--force", "--quiet")
        return np.load(out)

    def gauged(self, model):
        """the same function in other coordinates"""
        out = f"{self.work}/gauged/{name_of(model)}"
        if not os.path.exists(out):
            os.makedirs(os.path.dirname(out), exist_ok=True)
            self.call("gauge", model, "--seed", "1", "-o", out, "--quiet")
        return out
