#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""All checks against Hugging Face, counted together."""
import sys

import check_deberta
import check_experts
import check_hf
import check_language
import check_pretrained

if __name__ == "__main__":
    tally = check_hf.tally
    check_hf.run()
    check_pretrained.run(tally)
    check_experts.main(tally)
    check_deberta.run(tally)
    sys.exit(check_language.main(tally))
