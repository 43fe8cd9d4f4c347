# SPDX-License-Identifier: Apache-2.0
"""Builds a wheel that carries the library: that of TFUSE_LIBRARY, or the one that make builds from the source tree around this folder."""
import os
import re
import shutil
import subprocess

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def soname():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "tfuse", "_abi.py"), encoding="utf-8") as f:
        return "libtfuse.so." + re.search(r"^TFUSE_ABI = (\d+)$", f.read(), re.M).group(1)


def library():
    given = os.environ.get("TFUSE_LIBRARY")
    if given:
        return given
    if not os.path.exists(os.path.join(ROOT, "lib", "libtfuse.map")):
        raise SystemExit("tfuse: build inside the source tree of libtfuse, or set TFUSE_LIBRARY to the path of libtfuse.so")
    if subprocess.run(["make", "-C", ROOT, f"-j{os.cpu_count()}", "shared"], check=False).returncode:
        raise SystemExit(f"tfuse: libtfuse did not build: `make -C {ROOT} deps` says what it needs")
    return os.path.join(ROOT, "build", "release", soname())


class BuildWithLibrary(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            shutil.copyfile(os.path.realpath(library()), os.path.join(self.build_lib, "tfuse", soname()))


class AnyPython(bdist_wheel):
    """ctypes: one wheel for every Python 3 of a platform."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


class Binary(Distribution):
    def has_ext_modules(self):
        return True


setup(cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": AnyPython}, distclass=Binary)
