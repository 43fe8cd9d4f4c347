#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pages of docs/ that say how to do something work as printed: every block of code of the pages below is run, in order, in a directory of its own with
two checkpoints and a data set, against an installed library. A block of C is saved under the name in its first line; one of sh is run, and every
line of it must succeed. Of a page on changing the library the blocks are for a copy of the source tree, and those of one file are added up. The reference is
complete, and no page links to what is not there."""
import glob
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
PAGES = ["fusing-two-checkpoints", "aligning-once", "feeding-activations", "describing-a-network", "adding-a-solver", "splitting-into-experts"]
MNIST = "/usr/share/datasets/fashion-mnist/"
OF_THE_TREE = ["adding-an-architecture"]
FILES = {"a": "tests/data/vit-fmnist-a", "b": "tests/data/vit-fmnist-b", "test-images.gz": MNIST + "t10k-images-idx3-ubyte.gz",
         "test-labels.gz": MNIST + "t10k-labels-idx1-ubyte.gz", "train-images.gz": MNIST + "train-images-idx3-ubyte.gz"}
failed = False


def say(good, name, why=""):
    global failed
    failed |= not good
    print(f"ok docs: {name}" if good else f"not ok docs: {name}: {' '.join(why.split())[-500:]}")


def blocks(text):
    """(language, code, line)"""
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        yield found.group(1), found.group(2), text.count("\n", 0, found.start()) + 2


def run_page(page, environment, work):
    with open(os.path.join(ROOT, "docs", page + ".md"), encoding="utf-8") as f:
        text = f.read()
    os.mkdir(work)
    for name, path in FILES.items():
        os.symlink(os.path.join(ROOT, path), os.path.join(work, name))
    count = 0
    for language, code, line in blocks(text):
        where = f"{page}.md:{line}"
        if language == "c":
            name = re.match(r"/\* (\w+\.c)\b", code)
            if not name:
                say(False, where, "a block of C says in its first line which file it is")
                continue
            with open(os.path.join(work, name.group(1)), "w", encoding="utf-8") as f:
                f.write(code)
            compiled = subprocess.run(f"cc -std=c11 -Wall -Wextra -Werror $(pkg-config --cflags libtfuse) -c {name.group(1)} -o /dev/null", shell=True,
                                      cwd=work, env=environment, capture_output=True, text=True, check=False)
            say(compiled.returncode == 0, f"{where} compiles", compiled.stderr)
        elif language == "sh":
            got = subprocess.run(["sh", "-eu", "-c", code], cwd=work, env=environment, capture_output=True, text=True, check=False)
            say(got.returncode == 0, f"{where} runs", got.stdout + got.stderr)
        else:
            say(False, where, f"a block of '{language}' is not run by anything")
        count += 1
    say(count > 1, f"{page}.md has code", "no block was found")


def run_page_of_the_tree(page, work):
    """In a copy of the sources and of what was built of them."""
    listed = subprocess.run(["git", "ls-files", "-z", "lib", "src", "include", "tools", "Makefile"], cwd=ROOT, capture_output=True, check=True).stdout
    os.mkdir(work)
    built = [p for p in ("lib", "src", "flags", "api.list") if os.path.exists(os.path.join(ROOT, "build", "release", p))]
    subprocess.run(["cp", "-a", "--parents", *listed.decode().split("\0")[:-1], *[os.path.join("build/release", p) for p in built], work], cwd=ROOT, check=True)
    with open(os.path.join(ROOT, "docs", page + ".md"), encoding="utf-8") as f:
        text = f.read()
    count = 0
    for language, code, line in blocks(text):
        count += 1
        where = f"{page}.md:{line}"
        if language == "c":
            name = re.match(r"/\* (lib/\w+/\w+\.c)\b", code)
            if not name:
                say(False, where, "a block of C says in its first line which file it is")
                continue
            with open(os.path.join(work, name.group(1)), "a", encoding="utf-8") as f:
                f.write(code + "\n")
            continue
        got = subprocess.run(["sh", "-eu", "-c", code], cwd=work, env=dict(os.environ, FLAVOUR="release"), capture_output=True, text=True, check=False)
        say(language == "sh" and got.returncode == 0, f"{where} runs", got.stdout + got.stderr)
    say(count > 1, f"{page}.md has code", "no block was found")


def links():
    """Every link between pages, and from the README, leads somewhere."""
    for path in glob.glob(os.path.join(ROOT, "docs", "*.md")) + [os.path.join(ROOT, "README.md")]:
        with open(path, encoding="utf-8") as f:
            targets = re.findall(r"\]\((?!https?:)([^)#]+)", f.read())
        lost = [t for t in targets if not os.path.exists(os.path.join(os.path.dirname(path), t))]
        say(not lost, f"links of {os.path.basename(path)}", " ".join(lost))


def main():
    with tempfile.TemporaryDirectory() as work:
        root = os.path.join(work, "root")
        made = subprocess.run(["make", "--no-print-directory", "-C", ROOT, "install", f"DESTDIR={root}", "PREFIX=/usr"], capture_output=True,
                              text=True, check=False)
        say(made.returncode == 0, "install", made.stderr)
        environment = dict(os.environ, PATH=f"{root}/usr/bin:{os.environ['PATH']}", PKG_CONFIG_PATH=f"{root}/usr/lib/pkgconfig",
                           PKG_CONFIG_SYSROOT_DIR=root, LD_LIBRARY_PATH=f"{root}/usr/lib")
        for page in PAGES:
            run_page(page, environment, os.path.join(work, page))
        for page in OF_THE_TREE:
            run_page_of_the_tree(page, os.path.join(work, page))
    links()
    page = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "reference.py"), "--check"], capture_output=True, text=True, check=False)
    sys.stdout.write(page.stdout)
    return 1 if failed or page.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
