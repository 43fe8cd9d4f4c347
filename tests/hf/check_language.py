#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Language models against Hugging Face's transformers: for every architecture a tiny model of its own config class with random tensors. Its logits are
those of `tfuse run`, from float32, bf16 and f16 files; gauged, fused and repaired checkpoints load there without a missing or unexpected key and
give the logits that `tfuse run` gives; a model fused with its moved copy keeps its function. Arguments: the names of those to run."""
import sys
import tempfile

import numpy as np
import torch
import transformers as hf

from common import Tally, random_model, tfuse

DECODER = dict(vocab_size=40, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24,
               max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
NEOX = dict(vocab_size=40, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24, max_position_embeddings=64)
BERT = dict(vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=30, max_position_embeddings=32)
ROBERTA = {**BERT, "type_vocab_size": 1, "pad_token_id": 1}
DISTIL = dict(vocab_size=40, dim=24, n_layers=2, n_heads=3, hidden_dim=30, max_position_embeddings=32)


def rope(kind, **more):
    return dict(rope_type=kind, rope_theta=10000.0, **more)


def decoders():
    yield "llama", hf.LlamaForCausalLM, hf.LlamaConfig(**DECODER)
    yield "llama, biases, tied", hf.LlamaForCausalLM, hf.LlamaConfig(**{**DECODER, "num_key_value_heads": 4}, attention_bias=True, mlp_bias=True,
                                                                     tie_word_embeddings=True, head_dim=6)
    yield "llama, stretched by parts", hf.LlamaForCausalLM, hf.LlamaConfig(**DECODER, rope_parameters=rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16))
    yield "llama, stretched", hf.LlamaForCausalLM, hf.LlamaConfig(**DECODER, rope_parameters=rope("linear", factor=4.0))
    yield "llama, YaRN", hf.LlamaForCausalLM, hf.LlamaConfig(**DECODER, rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=16))
    yield "mistral", hf.MistralForCausalLM, hf.MistralConfig(**DECODER, sliding_window=5)
    yield "qwen2", hf.Qwen2ForCausalLM, hf.Qwen2Config(**DECODER)
    yield "qwen2, window", hf.Qwen2ForCausalLM, hf.Qwen2Config(**DECODER, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    yield "qwen3", hf.Qwen3ForCausalLM, hf.Qwen3Config(**DECODER, head_dim=8)
    yield "gemma", hf.GemmaForCausalLM, hf.GemmaConfig(**DECODER, head_dim=10)
    yield "gemma2", hf.Gemma2ForCausalLM, hf.Gemma2Config(**DECODER, head_dim=8, sliding_window=4, query_pre_attn_scalar=20)
    yield "gemma3", hf.Gemma3ForCausalLM, hf.Gemma3TextConfig(**{**DECODER, "num_hidden_layers": 7}, head_dim=8, sliding_window=4,
                                                              query_pre_attn_scalar=20)
    yield "phi3", hf.Phi3ForCausalLM, hf.Phi3Config(**DECODER)
    moe = dict(num_experts_per_tok=2)
    yield "mixtral", hf.MixtralForCausalLM, hf.MixtralConfig(**DECODER, **moe, num_local_experts=4)
    yield "qwen2-moe", hf.Qwen2MoeForCausalLM, hf.Qwen2MoeConfig(**DECODER, **moe, num_experts=4, moe_intermediate_size=12,
                                                               shared_expert_intermediate_size=20, mlp_only_layers=[1])
    yield "qwen3-moe", hf.Qwen3MoeForCausalLM, hf.Qwen3MoeConfig(**DECODER, **moe, num_experts=4, moe_intermediate_size=12, head_dim=8,
                                                               norm_topk_prob=True)
    yield "gpt2", hf.GPT2LMHeadModel, hf.GPT2Config(vocab_size=40, n_embd=32, n_layer=3, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)
    yield "gpt-neox", hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig(**NEOX)
    yield "gpt-neox, serial", hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig(**NEOX, use_parallel_residual=False, rotary_pct=1.0)
    wide = {**DECODER, "num_key_value_heads": 4}
    yield "gptj", hf.GPTJForCausalLM, hf.GPTJConfig(vocab_size=40, n_embd=32, n_layer=3, n_head=2, n_positions=64, rotary_dim=8, bos_token_id=1, eos_token_id=2)
    yield "phi", hf.PhiForCausalLM, hf.PhiConfig(**wide)
    yield "cohere", hf.CohereForCausalLM, hf.CohereConfig(**DECODER)
    yield "cohere2", hf.Cohere2ForCausalLM, hf.Cohere2Config(**{**DECODER, "num_hidden_layers": 5}, sliding_window=4)
    yield "glm", hf.GlmForCausalLM, hf.GlmConfig(**DECODER, head_dim=8)
    yield "glm4", hf.Glm4ForCausalLM, hf.Glm4Config(**DECODER, head_dim=8)
    yield "olmo2", hf.Olmo2ForCausalLM, hf.Olmo2Config(**DECODER)
    yield "granite", hf.GraniteForCausalLM, hf.GraniteConfig(**DECODER, embedding_multiplier=3.0, attention_multiplier=0.2, residual_multiplier=0.6,
                                                             logits_scaling=4.0)
    yield "smollm3", hf.SmolLM3ForCausalLM, hf.SmolLM3Config(**{**DECODER, "num_hidden_layers": 5})
    yield "smollm3, window", hf.SmolLM3ForCausalLM, hf.SmolLM3Config(**DECODER, use_sliding_window=True, sliding_window=4, no_rope_layers=[0, 1, 0])
    yield "stablelm", hf.StableLmForCausalLM, hf.StableLmConfig(**DECODER)
    yield "stablelm, parallel", hf.StableLmForCausalLM, hf.StableLmConfig(**wide, use_parallel_residual=True, use_qkv_bias=True)
    yield "starcoder2", hf.Starcoder2ForCausalLM, hf.Starcoder2Config(**DECODER, sliding_window=5)
    yield "starcoder2, no biases", hf.Starcoder2ForCausalLM, hf.Starcoder2Config(**DECODER, use_bias=False, tie_word_embeddings=False)


def encoders():
    v3 = dict(vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=30, max_position_embeddings=32,
              type_vocab_size=0, relative_attention=True, pos_att_type="p2c|c2p")
    bucketed = dict(**v3, position_buckets=6, max_relative_positions=-1, share_att_key=True, norm_rel_ebd="layer_norm", position_biased_input=False)
    for head in ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "Model"):
        yield f"deberta-v3 {head}", getattr(hf, "DebertaV2" + head), hf.DebertaV2Config(**bucketed)
        yield f"deberta {head}", getattr(hf, "Deberta" + head), hf.DebertaConfig(**{**v3, "pos_att_type": ["c2p", "p2c"]}, max_relative_positions=-1,
                                                                                   position_biased_input=False)
    yield "deberta-v2, convolution", hf.DebertaV2ForTokenClassification, hf.DebertaV2Config(**bucketed, conv_kernel_size=3, conv_act="gelu")
    yield "deberta-v2, own positions", hf.DebertaV2ForTokenClassification, hf.DebertaV2Config(
        **{**v3, "type_vocab_size": 2}, position_buckets=-1, max_relative_positions=9, share_att_key=False, position_biased_input=True)
    heads = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "Model")
    for prefix, config in (("Bert", BERT), ("Roberta", ROBERTA), ("DistilBert", DISTIL)):
        for head in heads + (("ForPreTraining",) if prefix == "Bert" else ()):
            labels = {"num_labels": 4} if head.endswith("Classification") else {}
            yield f"{prefix}{head}", getattr(hf, prefix + head), getattr(hf, prefix + "Config")(**config, **labels)


class Case:
    """One architecture: inputs, and where its models lie."""

    def __init__(self, tally, work, name, cls, config):
        self.tally, self.work, self.name, self.cls, self.config = tally, work, name, cls, config
        draw = np.random.default_rng(1)
        self.arrays = {"input_ids": draw.integers(3, 40, (6, 13))}
        if not hasattr(cls, "generate") or "Causal" not in cls.__name__ and "LMHead" not in cls.__name__:
            mask = np.ones((6, 13), np.int64)
            mask[1, 9:] = mask[2, 5:] = 0
            self.arrays["input_ids"][mask == 0] = 1
            self.arrays["attention_mask"] = mask
            if config.model_type == "bert":
                self.arrays["token_type_ids"] = np.tile(np.arange(13) > 6, (6, 1)).astype(np.int64)
        self.inputs = f"{work}/inputs.npz"

    def seen(self, logits):
        """Without the states of padding, which nobody reads."""
        mask = self.arrays.get("attention_mask")
        return logits if mask is None or logits.ndim != 3 else logits[mask == 1]

    def theirs(self, path):
        net, info = self.cls.from_pretrained(path, output_loading_info=True, dtype=torch.float32)
        net.eval()
        with torch.no_grad():
            out = net(**{k: torch.from_numpy(v) for k, v in self.arrays.items()})
        if hasattr(out, "start_logits"):
            logits = torch.stack([out.start_logits, out.end_logits], -1)
        else:
            logits = next(getattr(out, k) for k in ("prediction_logits", "logits", "last_hidden_state") if hasattr(out, k))
        return self.seen(logits.numpy()), list(info["missing_keys"]) + list(info["unexpected_keys"])

    def ours(self, path):
        tfuse("run", path, "--inputs", self.inputs, "-o", f"{self.work}/logits.npy", "--force", "--quiet")
        return self.seen(np.load(f"{self.work}/logits.npy"))

    def compare(self, what, path):
        theirs, odd = self.theirs(path)
        ours = self.ours(path)
        self.tally.check(f"{self.name}, {what}: keys", not odd, str(odd))
        self.tally.close(f"{self.name}, {what}: logits", ours, theirs)
        return ours

    def new(self, path, dtype=torch.float32, seed=7):
        random_model(self.cls, self.config, path, dtype, seed, offset_gains=self.config.model_type.startswith("gemma"))

    def run(self):
        a, b, moved, fused = (f"{self.work}/{x}" for x in ("a", "b", "moved", "fused"))
        np.savez(self.inputs, **self.arrays)
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            self.new(a, dtype)
            was = self.compare(str(dtype).rsplit(".", maxsplit=1)[-1], a)
        self.new(b, seed=8)
        for stream in ("orthogonal", "permutation", "none"):
            tfuse("gauge", a, "--seed", "5", "--set", f"gauge.stream={stream}", "-o", moved, "--force", "--quiet")
            now = self.compare(f"gauged, stream {stream}", moved)
            self.tally.close(f"{self.name}, gauged, stream {stream}: the same function", now, was)
            tfuse("fuse", a, moved, "--align", "matching", "-o", fused, "--force", "--quiet")
            self.tally.close(f"{self.name}, fused with its copy, stream {stream}", self.compare(f"with its copy, stream {stream}", fused), was, 1e-3)
        calib = ["--calib", self.inputs]
        for way in (["none"], ["otfusion"], ["otfusion", "--solver", "sinkhorn"], ["otfusion", *calib], ["matching"], ["matching", *calib]):
            tfuse("fuse", a, b, "-o", fused, "--force", "--quiet", "--align", *way)
            self.compare("fused, " + " ".join(w.rsplit("/", maxsplit=1)[-1] for w in way), fused)


def main(tally=None, wanted=()):
    hf.logging.set_verbosity_error()
    hf.logging.disable_progress_bar()
    tally = tally or Tally()
    for name, cls, config in (*decoders(), *encoders()):
        if wanted and not any(name.startswith(w) for w in wanted):
            continue
        with tempfile.TemporaryDirectory() as work:
            try:
                Case(tally, work, name, cls, config).run()
            except (RuntimeError, ValueError, OSError) as error:
                tally.check(name, False, error)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main(wanted=sys.argv[1:]))
