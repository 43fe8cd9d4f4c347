# SPDX-License-Identifier: Apache-2.0
"""What the tests share: real models and inputs, a folder of their own."""
import os
import shutil
import tempfile
import unittest

import numpy as np

import tfuse

DATA = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "tests", "data"))
A, B = os.path.join(DATA, "vit-fmnist-a"), os.path.join(DATA, "vit-fmnist-b")
IMAGES = os.path.join(DATA, "parity", "images_n40.npy")


def arrays(path):
    """(tensors of a checkpoint as arrays of their own, its config)."""
    with tfuse.Model(path) as model:
        return {name: model.read(name) for name in model}, model.config


def same(a, b):
    """Whether two mappings hold the same tensors, to the bit."""
    return sorted(a) == sorted(b) and all(np.array_equal(np.asarray(a[k]), np.asarray(b[k])) for k in a)


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)
