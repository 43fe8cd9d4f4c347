# SPDX-License-Identifier: Apache-2.0
"""Policies, graphs, arrays, solutions; what they say of themselves, and that they close."""
import doctest
import gc
import importlib
import os

import numpy as np
from common import A, B, DATA, IMAGES, Folder, arrays

import tfuse
from tfuse import _library


class Foreign:
    """An array of another framework: what it has is DLPack."""

    def __init__(self, array, versioned):
        self.array, self.versioned = array, versioned

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **more):
        if self.versioned:
            return self.array.__dlpack__(**more)
        if more:
            raise TypeError("__dlpack__ takes no arguments")
        return self.array.__dlpack__()


class Objects(Folder):
    def test_policy(self):
        policy = tfuse.Policy({"solver.reg": 0.25}, align_strategy="otfusion", combine_weights=(1, 0.5), io_force=True)
        self.assertEqual((policy["solver.reg"], policy["combine.weights"], policy["io.force"]), ("0.25", "1,0.5", "1"))
        self.assertTrue(policy.is_set("align.strategy") and not policy.is_set("run.seed") and "run.seed" in policy and "x.y" not in policy)
        self.assertEqual(policy.copy().settings, policy.settings)
        self.assertEqual(eval(repr(policy)).settings, policy.settings)  # pylint: disable=eval-used
        self.assertEqual(set(policy), set(tfuse.keys()))
        self.assertEqual(tfuse.keys()["align.strategy"].values, ("matching", "otfusion", "none"))
        with self.assertRaisesRegex(tfuse.PolicyError, "solver.name"):
            policy["solver.nme"] = "exact"
        for key, value, error in (("solver.reg", "much", ValueError), ("solver.reg", -1, ValueError), ("run.seed", object(), TypeError), ("a\0", 1, ValueError)):
            with self.assertRaises(error):
                policy[key] = value
        with self.assertRaises(tfuse.PolicyError):
            policy["no.such"]  # pylint: disable=pointless-statement

    def test_doctests(self):
        for name in ("_policy", "_graph"):
            module = importlib.import_module(f"tfuse.{name}")
            failed, tried = doctest.testmod(module, extraglobs={"Policy": tfuse.Policy, "GraphBuilder": tfuse.GraphBuilder})
            self.assertTrue(tried and not failed)

    def test_graph(self):
        graph = tfuse.Graph.infer(A)
        again = tfuse.Graph.from_json(graph.to_json())
        self.assertEqual(again.to_json(), graph.to_json())
        again.check(B)
        self.assertEqual(graph.describe()["parameters"], 139018)
        self.assertIn("layer", str(graph.describe(tfuse.Model(A))["axes"]))
        tensors, config = arrays(A)
        tensors["classifier.bias"] = np.zeros(3, np.float32)
        with self.assertRaisesRegex(tfuse.ShapeError, "classifier.bias"):
            graph.check(tensors, config)

    def test_a_network_of_ones_own(self):
        build = tfuse.GraphBuilder().add("input", "x", attrs="kind=features shape=6").add("linear", "fc1", "x", "out=hidden:5 bias=1")
        graph = build.add("activation", "act", "fc1", "kind=gelu").add("linear", "fc2", "act", "out=!class:3 bias=1").store("fc1.weight", "transpose(w1)")
        graph = graph.buffer("step*").output("fc2").finish()
        with self.assertRaises(tfuse.StateError):
            build.output("fc2")
        config = {"model_type": "mine", "tfuse_graph": graph.to_json()}
        random = np.random.default_rng(0)
        one = {"w1": random.standard_normal((6, 5)), "fc1.bias": random.standard_normal(5), "fc2.weight": random.standard_normal((3, 5)),
               "fc2.bias": random.standard_normal(3), "step": np.array([7])}
        order = random.permutation(5)
        other = {**one, "w1": one["w1"][:, order], "fc1.bias": one["fc1.bias"][order], "fc2.weight": one["fc2.weight"][:, order]}
        fused = tfuse.fuse(one, other, config=config)
        for name, value in one.items():
            self.assertTrue(np.allclose(fused[name], value, atol=1e-6), name)
        x = random.standard_normal((4, 6)).astype(np.float32)
        self.assertTrue(np.allclose(tfuse.run(fused, x, config=config), tfuse.run(one, x, config=config), atol=1e-5))

    def test_arrays(self):
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        for given in (x, x[:, ::-1], np.asfortranarray(x), x.tolist(), Foreign(x, True), Foreign(x, False)):
            array = tfuse.Array.of(given)
            self.assertTrue(np.array_equal(array, np.asarray(given.array if isinstance(given, Foreign) else given)))
        self.assertEqual(np.asarray(tfuse.Array.of(x)).__array_interface__["data"][0], x.ctypes.data)
        self.assertEqual((len(array), array.dtype, array.shape), (2, "F32", (2, 3)))
        array.save(self.path("x.npy"))
        self.assertTrue(np.array_equal(np.load(self.path("x.npy")), x))
        self.assertTrue(np.array_equal(tfuse.Array.open(self.path("x.npy")), x))
        with self.assertRaises(ValueError):
            array.numpy()[0, 0] = 1
        tensors, config = arrays(A)
        for versioned in (True, False):
            model = tfuse.Model({k: Foreign(v, versioned) for k, v in tensors.items()}, config)
            self.assertTrue(np.array_equal(model["classifier.weight"], tensors["classifier.weight"]))

    def test_language_models_take_mappings(self):
        model = tfuse.Model(os.path.join(DATA, "llama-kjv-e"))
        ids = np.arange(24, dtype=np.int32).reshape(2, 12)
        plain = tfuse.run(model, ids)
        masked = tfuse.run(model, {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": ids, "token_type_ids": None})
        self.assertTrue(np.array_equal(plain, masked))
        mask = np.ones_like(ids)
        mask[1, 6:] = 0
        with self.assertRaisesRegex(tfuse.NotFoundError, "attention_mask"):
            tfuse.run(model, {"input_ids": ids, "attention_mask": mask})
        with self.assertRaisesRegex(ValueError, "input_ids"):
            tfuse.run(model, {"ids": ids})

    def test_solve(self):
        random = np.random.default_rng(2)
        cost = random.random((20, 30))
        mu, nu = random.random(20), random.random(30)
        nu *= mu.sum() / nu.sum()
        one = tfuse.solve(cost, mu, nu)
        u, v = one.potentials
        self.assertLess(abs(one.coupling.sum(1) - mu / mu.sum()).max(), 1e-6)
        self.assertLess((u[:, None] + v - cost.astype(np.float32)).max(), 1e-6)
        self.assertLess(abs(one.gap), 1e-6)
        soft = tfuse.solve(cost, solver="sinkhorn", reg=0.05)
        self.assertGreater((soft.coupling > 0).sum(), 500)
        several = tfuse.solve_batch([cost, {"cost": cost, "mu": mu, "nu": nu, "u": u, "v": v}])
        self.assertEqual(len(several), 2)
        self.assertAlmostEqual(several[1].cost, one.cost, places=9)
        with self.assertRaisesRegex(ValueError, "task 0: unknown w"):
            tfuse.solve_batch([{"cost": cost, "w": mu}])
        with self.assertRaisesRegex(tfuse.ShapeError, "mu"):
            tfuse.solve(cost, nu)
        with self.assertRaises(tfuse.NumericError):
            tfuse.solve(np.full((2, 2), np.nan))

    def test_models(self):
        model = tfuse.Model(A)
        self.assertEqual(model.path, A)
        self.assertEqual(len(model), len(model.tensors))
        self.assertIn("classifier.bias", model)
        self.assertEqual(model.read("classifier.bias", np.float64).dtype, np.float64)
        with self.assertRaisesRegex(tfuse.NotFoundError, "no.such"):
            model["no.such"]  # pylint: disable=pointless-statement
        self.assertEqual(len(tfuse.Model(os.path.join(A, "config.json"), config_only=True)), 0)

    def test_they_say_what_they_are_and_close(self):
        plan = tfuse.align(A, B)
        things = [tfuse.Model(A), tfuse.Graph.infer(A), plan, tfuse.Policy(), tfuse.Array.open(IMAGES), tfuse.solve(np.eye(3)), tfuse.Context(1),
                  tfuse.Repair(plan, A, B, calib=IMAGES, policy={"repair": "head", "calib.samples": 8})]
        self.assertIn("64 × 64", repr(plan[0]))
        for thing in things:
            self.assertIn("tfuse.", repr(thing))
            with thing:
                pass
            thing.close()
            self.assertIn("closed", repr(thing))
        for use in (lambda: len(things[0]), lambda: tfuse.fuse(things[0], B), lambda: tfuse.solve(np.eye(2), ctx=things[6]), lambda: plan.report):
            with self.assertRaisesRegex(ValueError, "is closed"):
                use()

    def test_objects_and_their_context(self):
        ctx = tfuse.Context()
        statistics = tfuse.Statistics(A, B, align="otfusion", policy={"otfusion.cost": "activations"}, ctx=ctx)
        model, array = tfuse.Model(A, ctx=ctx), tfuse.Array.of(np.eye(3), ctx)
        ctx.close()
        self.assertTrue(statistics.closed and not model.closed)
        self.assertEqual((len(model), array.numpy()[0, 0]), (72, 1))
        before = _library.lent()
        for use in (lambda: tfuse.Array.of(np.eye(2), ctx), lambda: tfuse.Model({"x": np.eye(2)}, {}, ctx=ctx)):
            with self.assertRaisesRegex(ValueError, "Context is closed"):
                use()
        self.assertEqual(_library.lent(), before)
        ring = [tfuse.Context()]
        ring.append(tfuse.Statistics(A, B, align="otfusion", policy={"otfusion.cost": "activations"}, ctx=ring[0]))
        ring[1].ring = ring
        ring[0].ring = ring
        del ring
        gc.collect()

    def test_the_rest(self):
        self.assertEqual(tfuse.library_version(), tfuse.__version__)
        self.assertTrue(tfuse.has("lapack") and not tfuse.has("nothing"))
        self.assertEqual((tfuse.dtype_size("BF16"), tfuse.dtype_size("F64"), tfuse.dtype_size("?")), (2, 8, 0))
