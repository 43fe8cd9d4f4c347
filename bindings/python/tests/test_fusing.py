# SPDX-License-Identifier: Apache-2.0
"""The whole way: paths, mappings, plans, repair, buffers; what goes in comes out."""
import gc
import json
import os
import pathlib
import shutil

import numpy as np
from common import A, B, IMAGES, Folder, arrays, same

import tfuse
from tfuse import _library


class Fusing(Folder):
    def test_paths_give_a_model_and_a_checkpoint(self):
        calib = np.load(IMAGES)
        fusion = tfuse.fusion(B, A, calib=calib, repair="refit,head", samples=40)
        self.assertEqual(fusion.report["strategy"], "matching")
        self.assertEqual(fusion.report["repair"]["stages"], ["refit", "head"])
        out = tfuse.fuse(B, A, calib=IMAGES, repair="refit,head", samples=40, out=self.path("out"))
        self.assertIsInstance(out, pathlib.Path)
        self.assertTrue(same(dict(tfuse.Model(out)), dict(fusion.model)))
        with self.assertRaises(tfuse.ExistsError):
            tfuse.fuse(B, A, out=out)
        tfuse.fuse(B, A, out=out, force=True)
        self.assertFalse(same(dict(tfuse.Model(out)), dict(fusion.model)))

    def test_a_parent_is_not_replaced(self):
        own = self.path("own")
        shutil.copytree(B, own)
        with self.assertRaisesRegex(tfuse.ExistsError, "which this run reads"):
            tfuse.fuse(own, A, align="none", out=own, force=True)
        self.assertTrue(same(dict(tfuse.Model(own)), dict(tfuse.Model(B))))

    def test_fused_by_repair_is_near_its_parents(self):
        calib = np.load(IMAGES)
        fused = tfuse.fuse(B, A, calib=calib)
        parent, plain = tfuse.run(B, calib), tfuse.run(tfuse.fuse(B, A, align="none"), calib)
        agree = [(np.argmax(x, 1) == np.argmax(parent, 1)).mean() for x in (tfuse.run(fused, calib), plain)]
        self.assertGreater(agree[0], 0.8)
        self.assertGreater(agree[0], agree[1])

    def test_a_mapping_gives_a_mapping(self):
        (a, config), (b, _) = arrays(A), arrays(B)
        for order in ("C", "F"):
            given = [{k: np.asarray(v, order=order) for k, v in m.items()} for m in (b, a)]
            fused = tfuse.fuse(*given, config=config)
            self.assertEqual(list(fused), list(b))
            self.assertTrue(same(fused, dict(tfuse.fuse(B, A))))
        half = tfuse.fuse(b, a, config=[config, json.dumps(config)], dtype="F16", weights=[0.75, 0.25])
        self.assertEqual({v.dtype.name for v in half.values()}, {"float16"})
        tfuse.fuse([b, a], config=os.path.join(A, "config.json"), out=self.path("out"))
        self.assertTrue(same(fused, dict(tfuse.Model(self.path("out")))))

    def test_weights_are_read_where_they_lie(self):
        (a, config), (b, _) = arrays(A), arrays(B)
        with tfuse.Model(b, config) as model:
            name = "classifier.bias"
            self.assertEqual(model[name].__array_interface__["data"][0], b[name].ctypes.data)
            b[name][0] = 42
            self.assertEqual(model[name][0], 42)
            self.assertGreater(_library.lent(), 0)
        frozen = {k: v.copy() for k, v in a.items()}
        for v in frozen.values():
            v.flags.writeable = False
        view = tfuse.Model(frozen, config)["classifier.weight"]  # lives on without the model
        gc.collect()
        self.assertTrue(np.array_equal(view, a["classifier.weight"]))
        del view
        gc.collect()
        self.assertEqual(_library.lent(), 0)

    def test_a_plan_is_made_once_and_applied_again(self):
        plan = tfuse.align(B, A, calib=IMAGES, samples=40)
        plan.save(self.path("ab.plan"))
        with self.assertRaises(tfuse.ExistsError):
            plan.save(self.path("ab.plan"))
        loaded = tfuse.Plan.load(self.path("ab.plan"))
        self.assertEqual(loaded.report, plan.report)
        self.assertTrue(same(dict(tfuse.fuse(B, A, plan=self.path("ab.plan"))), dict(tfuse.fuse(B, A, plan=plan))))
        self.assertEqual(tfuse.selfcheck(loaded, B, A)["result"], "passed")
        for one in loaded:
            self.assertEqual(one.numpy().shape, (one.n, one.m))
        self.assertTrue(np.allclose(np.asarray(loaded[0]).T @ np.asarray(loaded["stream"]), np.eye(64), atol=1e-4))
        with self.assertRaises(KeyError):
            loaded["nowhere"]  # pylint: disable=pointless-statement
        with self.assertRaises(IndexError):
            loaded[len(loaded)]  # pylint: disable=pointless-statement

    def test_into_own_buffers(self):
        plan = tfuse.align(B, A)
        made = {}

        def place(tensor):
            made[tensor.name] = np.empty(tensor.shape, np.float32)
            return made[tensor.name]

        tfuse.fuse_into(place, plan, B, A)
        self.assertTrue(same(made, dict(tfuse.fuse(B, A, plan=plan, repair="none"))))
        tfuse.fuse(B, A, plan=plan, repair="none", out=self.path("plain"))
        self.assertTrue(same(made, arrays(self.path("plain"))[0]))
        fixed = np.empty(4, np.float32)
        fixed.flags.writeable = False
        for wrong, error, what in ((lambda t: np.empty(1, np.uint8), ValueError, "1 bytes"), (lambda t: fixed, ValueError, "read-only"),
                                   (lambda t: np.empty((4, 4))[:, 0], ValueError, "not contiguous"), (lambda t: None, TypeError, "NoneType"),
                                   (lambda t: 1 / 0, ZeroDivisionError, "division")):
            with self.assertRaisesRegex(error, what):
                tfuse.fuse_into(wrong, plan, B, A)

    def test_gauge_moves_weights_and_not_the_function(self):
        plan = tfuse.gauge(A, seed=3)
        moved = tfuse.fuse(A, A, plan=plan, weights=(0, 1))
        x = np.load(IMAGES)
        self.assertFalse(same(dict(moved), dict(tfuse.Model(A))))
        self.assertLess(abs(tfuse.run(moved, x) - tfuse.run(A, x)).max(), 1e-3)

    def test_score_and_dry_run(self):
        x = np.load(IMAGES)
        labels = tfuse.run(A, x).argmax(1)
        labels[0] = -100
        score = tfuse.evaluate(A, x, labels)
        self.assertEqual((score.n, score.scored, score.accuracy), (40, 39, 1.0))
        self.assertTrue(np.isnan(tfuse.evaluate(A, IMAGES, limit=5).accuracy))
        report = tfuse.dry_run(A, B, out=self.path("out"), calib=IMAGES)
        self.assertEqual(report["problems"], [])
        self.assertTrue(tfuse.dry_run(A, self.path("missing"))["problems"])

    def test_statistics_that_a_loop_feeds(self):
        policy = tfuse.Policy({"align.strategy": "otfusion", "otfusion.cost": "activations", "otfusion.compat": 1, "otfusion.residual": "scalar"})
        with tfuse.Statistics(A, B, policy=policy) as statistics:
            self.assertGreater(len(statistics.wants), 4)
            self.assertEqual(statistics.sweeps, 2)
            random = np.random.default_rng(1)
            batch = {w: random.standard_normal((8, w.tokens or 5, w.units)).astype(np.float32) for w in statistics.wants}
            for sweep in range(2):
                for want, x in batch.items():
                    statistics.feed(want.model, want.value, x)
                statistics.step()
                if sweep == 0:
                    statistics.rewind()
            self.assertGreater(len(statistics.align()), 0)
            with self.assertRaises(tfuse.StateError):
                statistics.step()
            self.assertIn("2 models", repr(statistics))
