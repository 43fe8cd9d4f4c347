# SPDX-License-Identifier: Apache-2.0
"""Mixtures of experts, generated text, self-checks on inputs, plans with owners."""
import os

import numpy as np

import tfuse
from common import A, B, DATA, IMAGES, Folder, arrays, same

LLAMA, OTHER = os.path.join(DATA, "llama-kjv-e"), os.path.join(DATA, "llama-kjv-f")


class Experts(Folder):
    def test_split_and_back(self):
        keys = {"moe.experts": 8, "moe.top_k": 8}
        self.assertEqual(tfuse.moe_dry_run(A, policy=keys)["problems"], [])
        _, report = tfuse.moe(A, out=self.path("split"), policy=keys)
        self.assertEqual(report["experts"], 8)
        made, _ = tfuse.moe(A, policy=keys)
        x = np.load(IMAGES)[:4]
        self.assertLess(np.abs(tfuse.run(made, x) - tfuse.run(A, x)).max(), 1e-4)
        tfuse.moe_dense(self.path("split"), self.path("dense"))
        self.assertTrue(same(arrays(A)[0], arrays(self.path("dense"))[0]))

    def test_generate(self):
        ids = tfuse.generate(LLAMA, OTHER, policy={"calib.generate": 3, "calib.length": 5})
        self.assertEqual(ids.shape, (3, 5))
        self.assertTrue(same({"ids": ids}, {"ids": tfuse.generate(LLAMA, OTHER, policy={"calib.generate": 3, "calib.length": 5})}))

    def test_owners_and_inputs(self):
        plan = tfuse.align(B, A)
        self.assertEqual(tfuse.selfcheck(plan, B, A, calib=IMAGES)["probe"], "calibration")
        with tfuse.Repair(plan, B, A, policy={"repair": "none"}) as repair:
            plan.save(self.path("p.tfp"), repair=repair)
        self.assertEqual(len(tfuse.Plan.load(self.path("p.tfp"))), len(plan))
