#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The README's code runs as printed, block after block, in a folder with two checkpoints and inputs."""
import os
import re
import sys
import tempfile
import traceback

import numpy as np
from common import A, B, IMAGES

import tfuse

if __name__ == "__main__":
    readme = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "README.md")
    with open(readme, encoding="utf-8") as f:
        text = f.read()
    space, bad = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, path in (("a", A), ("b", B), ("images.npy", IMAGES)):
            os.symlink(path, name)
        np.save("labels.npy", tfuse.run(B, IMAGES).argmax(1))
        for block in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S):
            line = text.count("\n", 0, block.start()) + 2
            try:
                exec(compile("\n" * (line - 1) + block.group(1), "README.md", "exec"), space)  # pylint: disable=exec-used
                print(f"ok python: README.md:{line}")
            except Exception:  # pylint: disable=broad-except
                bad = 1
                print(f"not ok python: README.md:{line}: {' | '.join(traceback.format_exc().splitlines()[-4:])}")
    sys.exit(bad)
