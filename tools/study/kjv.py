#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The King James Bible as the token ids that the study's language models read: Debian's bible-kjv, verse by verse without references, cut into words and each word
into the 512 tokens of tests/data/kjv-tokens/bpe.json (byte-pair encoding; Sennrich et al. 2016).

    kjv.py OUT.npy [BPE.json]
"""
import json
import os
import re
import subprocess
import sys

import numpy as np

BPE = os.path.join(os.path.dirname(__file__), "../../tests/data/kjv-tokens/bpe.json")
WORD = re.compile(r" ?\w+|[^\w\s]+|\s+")


def text():
    try:
        printed = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as e:
        sys.exit(f"kjv.py: {e}: the text is Debian's package bible-kjv")
    return re.sub(r"^\S+ ", "", printed, flags=re.M)


class Encoder:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            about = json.load(f)
        self.id_of = {token: i for i, token in enumerate(about["tokens"])}
        self.rank = {tuple(pair): i for i, pair in enumerate(about["merges"])}
        self.words = {}

    def word(self, word):
        if word not in self.words:
            parts = list(word)
            while len(parts) > 1:
                rank, at = min((self.rank.get(pair, len(self.rank)), i) for i, pair in enumerate(zip(parts, parts[1:])))
                if rank == len(self.rank):
                    break
                parts[at: at + 2] = [parts[at] + parts[at + 1]]
            self.words[word] = [self.id_of[part] for part in parts]
        return self.words[word]

    def __call__(self, content):
        return np.fromiter((i for word in WORD.findall(content) for i in self.word(word)), np.int32)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    np.save(sys.argv[1], Encoder(*(sys.argv[2:] or [BPE]))(text()))


if __name__ == "__main__":
    main()
