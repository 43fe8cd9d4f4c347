# SPDX-License-Identifier: Apache-2.0
"""Bad input gets an error that names the argument; nothing crashes, and memory that was lent comes back."""
import gc
import os
import shutil

import numpy as np
from common import A, B, IMAGES, Folder, arrays
from test_objects import Foreign

import tfuse
from tfuse import _library


class Elsewhere(Foreign):
    def __dlpack_device__(self):
        return (2, 0)


class BadInput(Folder):
    def test_arrays(self):
        x = np.load(IMAGES)
        wrong = (("swapped", x.astype(">f4"), TypeError, "byte order"), ("complex", x.astype(complex), TypeError, "complex128"),
                 ("texts", ["a"], TypeError, "calib"), ("objects", [object()], TypeError, "calib"), ("ranks", np.zeros((1,) * 9), ValueError, "9 dimensions"),
                 ("device", Elsewhere(x, True), TypeError, "calib lies on"), ("path", self.path("no.npy"), tfuse.NotFoundError, "no.npy"),
                 ("shape", np.zeros((3, 5, 5), np.uint8), tfuse.ShapeError, "5"), ("nan", np.full((8, 1, 28, 28), np.nan, np.float32), tfuse.NumericError, "NaN"))
        for name, given, error, what in wrong:
            with self.subTest(name), self.assertRaisesRegex(error, what):
                tfuse.align(B, A, calib=given)
        gc.collect()
        self.assertEqual(_library.lent(), 0)

    def test_tensors(self):
        good, config = arrays(A)
        odd = np.zeros(41, np.uint8)[1:].view(np.float32)
        wrong = ((good["classifier.bias"].astype(">f4"), TypeError, "byte order"), (good["classifier.bias"].astype(complex), TypeError, "complex"),
                 ([1.0] * 10, TypeError, "list"), (np.zeros(3, np.float32), tfuse.ShapeError, "classifier.bias"),
                 (np.full(10, np.inf, np.float32), tfuse.NumericError, "classifier.bias"), (Elsewhere(good["classifier.bias"], True), TypeError, "classifier.bias"))
        for tensor, error, what in wrong:
            with self.subTest(what), self.assertRaisesRegex(error, what):
                tfuse.fuse(good, {**good, "classifier.bias": tensor}, config=config)
        fused = tfuse.fuse(good, {**good, "classifier.bias": odd}, config=config, align="none")  # an address that is no multiple of four
        self.assertTrue(np.array_equal(fused["classifier.bias"], good["classifier.bias"] / 2))
        without = {k: v for k, v in good.items() if k != "classifier.bias"}
        with self.assertRaisesRegex(tfuse.NotFoundError, "classifier.bias"):
            tfuse.fuse(good, without, config=config)
        with self.assertRaisesRegex(tfuse.FormatError, "extra"):
            tfuse.fuse(good, {**good, "extra": odd}, config=config)
        gc.collect()
        self.assertEqual(_library.lent(), 0)

    def test_arguments(self):
        good, config = arrays(A)
        wrong = ((lambda: tfuse.fuse(), TypeError, "no models"), (lambda: tfuse.fuse(A), TypeError, "at least two"),
                 (lambda: tfuse.fuse(A, 7), TypeError, "model 1 is a int"), (lambda: tfuse.fuse(good, good), TypeError, "model 0 has no config"),
                 (lambda: tfuse.fuse(good, good, config=[config]), ValueError, "1 configs for 2"), (lambda: tfuse.fuse(good, good, config=3), TypeError, "config is a int"),
                 (lambda: tfuse.fuse(good, good, config="{}"), tfuse.Error, "model_type"), (lambda: tfuse.fuse(good, good, config="{"), tfuse.FormatError, "JSON"),
                 (lambda: tfuse.fuse(A, B, align="magic"), tfuse.PolicyError, "magic"), (lambda: tfuse.fuse(A, B, policy=7), TypeError, "policy is a int"),
                 (lambda: tfuse.fuse(A, B, weights=[1]), tfuse.InvalidArgumentError, "weights"), (lambda: tfuse.fuse(A, self.path("x")), tfuse.NotFoundError, "x"),
                 (lambda: tfuse.fuse(A, "a\0b"), ValueError, "NUL"), (lambda: tfuse.fuse(A, B, repair="refit"), tfuse.InvalidArgumentError, "calib"),
                 (lambda: tfuse.fuse(A, B, out=self.path("no/where")), tfuse.Error, "where"), (lambda: tfuse.Plan.load(A + "/config.json"), tfuse.FormatError, "config.json"),
                 (lambda: tfuse.evaluate(A, IMAGES, [99] * 40), tfuse.OutOfRangeError, "99"), (lambda: tfuse.evaluate(A, IMAGES, [1]), tfuse.ShapeError, "label"))
        for i, (use, error, what) in enumerate(wrong):
            with self.subTest(i), self.assertRaisesRegex(error, what):
                use()

    def test_truncated_files(self):
        shutil.copytree(A, self.path("cut"))
        file = os.path.join(self.path("cut"), "model.safetensors")
        for size in (0, 4, 100, os.path.getsize(file) - 1):
            os.truncate(file, size) if size < os.path.getsize(file) else None
            with self.assertRaisesRegex(tfuse.FormatError, "model.safetensors"):
                tfuse.fuse(B, self.path("cut"))
            shutil.copyfile(os.path.join(A, "model.safetensors"), file)

    def test_arrays_outlive_what_made_them(self):
        coupling = tfuse.solve(np.eye(50)).coupling
        weight = tfuse.Model(A)["classifier.weight"]
        logits = tfuse.run(A, IMAGES, ctx=tfuse.Context())
        gc.collect()
        self.assertEqual(coupling.shape, (50, 50))
        self.assertTrue(np.isfinite(weight).all() and np.isfinite(logits).all())
