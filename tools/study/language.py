# SPDX-License-Identifier: Apache-2.0
"""The study's language models as functions of their parameters: a Llama (LlamaForCausalLM) and a BERT (BertForMaskedLM), names and meaning as in Hugging Face's
transformers. ids: N x T integers; the result is N x T x vocabulary logits."""
import torch

from training import attend, layer_norm, linear, new_linear, new_norm, normal

VOCABULARY = 512
MASK = 3  # a token of the vocabulary that the text has not


def heads_of(x, count):
    return x.view(len(x), x.shape[1], count, -1).transpose(1, 2)


class Llama:
    @staticmethod
    def config(width=96, layers=4, heads=4, kv_heads=2, hidden=256):
        return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": width, "num_hidden_layers": layers,
                "num_attention_heads": heads, "num_key_value_heads": kv_heads, "intermediate_size": hidden, "vocab_size": VOCABULARY,
                "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "max_position_embeddings": 512, "tie_word_embeddings": False,
                "attention_bias": False, "mlp_bias": False, "torch_dtype": "float32", "bos_token_id": 2, "pad_token_id": 0}

    @staticmethod
    def new(config, generator):
        d, m = config["hidden_size"], config["intermediate_size"]
        kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
        p = {"model.embed_tokens.weight": normal(generator, config["vocab_size"], d)}
        for i in range(config["num_hidden_layers"]):
            at = f"model.layers.{i}"
            for name, out, inside in (("self_attn.q_proj", d, d), ("self_attn.k_proj", kv, d), ("self_attn.v_proj", kv, d), ("self_attn.o_proj", d, d),
                                      ("mlp.gate_proj", m, d), ("mlp.up_proj", m, d), ("mlp.down_proj", d, m)):
                new_linear(p, generator, f"{at}.{name}", out, inside, bias=False)
            p[f"{at}.input_layernorm.weight"], p[f"{at}.post_attention_layernorm.weight"] = torch.ones(d), torch.ones(d)
        p["model.norm.weight"] = torch.ones(d)
        new_linear(p, generator, "lm_head", config["vocab_size"], d, bias=False)
        return p

    @staticmethod
    def rms_norm(p, name, x, eps):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * p[f"{name}.weight"]

    @staticmethod
    def rotated(x, cos, sin):
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    @classmethod
    def attention(cls, p, at, x, config, turn):
        heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
        q = cls.rotated(heads_of(linear(p, f"{at}.q_proj", x), heads), *turn)
        k = cls.rotated(heads_of(linear(p, f"{at}.k_proj", x), kv), *turn).repeat_interleave(heads // kv, 1)
        v = heads_of(linear(p, f"{at}.v_proj", x), kv).repeat_interleave(heads // kv, 1)
        return linear(p, f"{at}.o_proj", attend(q, k, v, causal=True).transpose(1, 2).reshape(x.shape))

    @classmethod
    def logits(cls, p, config, ids):
        length, width, eps = ids.shape[1], config["hidden_size"] // config["num_attention_heads"], config["rms_norm_eps"]
        angles = torch.outer(torch.arange(length).float(), config["rope_theta"] ** (-torch.arange(0, width, 2).float() / width)).repeat(1, 2)
        turn = angles.cos(), angles.sin()
        x = p["model.embed_tokens.weight"][ids]
        for i in range(config["num_hidden_layers"]):
            at = f"model.layers.{i}"
            x = x + cls.attention(p, f"{at}.self_attn", cls.rms_norm(p, f"{at}.input_layernorm", x, eps), config, turn)
            y = cls.rms_norm(p, f"{at}.post_attention_layernorm", x, eps)
            gate = torch.nn.functional.silu(linear(p, f"{at}.mlp.gate_proj", y))
            x = x + linear(p, f"{at}.mlp.down_proj", gate * linear(p, f"{at}.mlp.up_proj", y))
        return linear(p, "lm_head", cls.rms_norm(p, "model.norm", x, eps))


class Bert:
    @staticmethod
    def config(width=96, layers=4, heads=4, hidden=384):
        return {"architectures": ["BertForMaskedLM"], "model_type": "bert", "hidden_size": width, "num_hidden_layers": layers,
                "num_attention_heads": heads, "intermediate_size": hidden, "vocab_size": VOCABULARY, "max_position_embeddings": 64,
                "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02, "pad_token_id": 0, "position_embedding_type": "absolute",
                "tie_word_embeddings": True, "torch_dtype": "float32"}

    @staticmethod
    def look_at_neighbours(p, heads, speeds, basis, generator):
        """Queries and keys of the first layer: a head's keys are the fastest waves, its queries the same ones a token before or behind, in a random order of the heads."""
        width, half = len(basis) // heads, len(speeds)
        fast = width // 2
        keys = torch.cat([basis[:fast], basis[half: half + fast]])
        query, key = (p[f"bert.encoder.layer.0.attention.self.{part}.weight"] for part in ("query", "key"))
        for head in range(heads):
            turn = speeds[:fast, None] * (-1) ** int(torch.randint(2, (), generator=generator))
            sin, cos = keys[:fast], keys[fast:]
            rows = slice(head * width, (head + 1) * width)
            key[rows] += keys
            query[rows] += torch.cat([sin * turn.cos() + cos * turn.sin(), cos * turn.cos() - sin * turn.sin()])

    @classmethod
    def new(cls, config, generator):
        """Linears begin with outputs of half their inputs' size, words and positions larger than usual, the positions as waves in a random basis, and the heads of the
        first layer look at neighbours. From the usual start, 0.02 everywhere, so narrow a BERT takes thousands of steps before it looks at anything but the
        frequencies of the words around."""
        d, m = config["hidden_size"], config["intermediate_size"]
        p = {f"bert.embeddings.{name}.weight": normal(generator, config[size], d, std=0.1) for name, size in (
            ("word_embeddings", "vocab_size"), ("position_embeddings", "max_position_embeddings"), ("token_type_embeddings", "type_vocab_size"))}
        speeds, basis = 1000 ** -torch.linspace(0, 1, d // 2), torch.linalg.qr(torch.randn(d, d, generator=generator))[0]
        angles = torch.outer(torch.arange(config["max_position_embeddings"]).float(), speeds)
        p["bert.embeddings.position_embeddings.weight"] = 0.3 * torch.cat([angles.sin(), angles.cos()], 1) @ basis
        new_norm(p, "bert.embeddings.LayerNorm", d)
        for i in range(config["num_hidden_layers"]):
            at = f"bert.encoder.layer.{i}"
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                new_linear(p, generator, f"{at}.attention.{part}", d, d, std=0.5 * d ** -0.5)
            new_norm(p, f"{at}.attention.output.LayerNorm", d)
            new_linear(p, generator, f"{at}.intermediate.dense", m, d, std=0.5 * d ** -0.5)
            new_linear(p, generator, f"{at}.output.dense", d, m, std=0.5 * m ** -0.5)
            new_norm(p, f"{at}.output.LayerNorm", d)
        cls.look_at_neighbours(p, config["num_attention_heads"], speeds, basis, generator)
        new_linear(p, generator, "cls.predictions.transform.dense", d, d, std=0.5 * d ** -0.5)
        new_norm(p, "cls.predictions.transform.LayerNorm", d)
        p["cls.predictions.bias"] = torch.zeros(config["vocab_size"])
        return p

    @staticmethod
    def attention(p, at, x, heads):
        q, k, v = (heads_of(linear(p, f"{at}.self.{part}", x), heads) for part in ("query", "key", "value"))
        return linear(p, f"{at}.output.dense", attend(q, k, v).transpose(1, 2).reshape(x.shape))

    @classmethod
    def logits(cls, p, config, ids, first=0):
        """first: the position of the first token"""
        eps, words = config["layer_norm_eps"], p["bert.embeddings.word_embeddings.weight"]
        x = words[ids] + p["bert.embeddings.position_embeddings.weight"][first: first + ids.shape[1]] + p["bert.embeddings.token_type_embeddings.weight"][0]
        x = layer_norm(p, "bert.embeddings.LayerNorm", x, eps)
        for i in range(config["num_hidden_layers"]):
            at = f"bert.encoder.layer.{i}"
            x = layer_norm(p, f"{at}.attention.output.LayerNorm", x + cls.attention(p, f"{at}.attention", x, config["num_attention_heads"]), eps)
            hidden = torch.nn.functional.gelu(linear(p, f"{at}.intermediate.dense", x))
            x = layer_norm(p, f"{at}.output.LayerNorm", x + linear(p, f"{at}.output.dense", hidden), eps)
        x = torch.nn.functional.gelu(linear(p, "cls.predictions.transform.dense", x))
        return torch.nn.functional.linear(layer_norm(p, "cls.predictions.transform.LayerNorm", x, eps), words, p["cls.predictions.bias"])


KINDS = {"llama": Llama, "bert": Bert}


def next_tokens(windows):
    """(inputs, labels) of windows of T+1 tokens"""
    return windows[:, :-1], windows[:, 1:]


def masked(windows, generator, rate=0.15):
    """(inputs, labels): a share of the tokens is to be told, of which 8 in 10 are masked, 1 in 10 is another token and 1 in 10 is left; the labels of the others
    are -100 (Devlin et al. 2019)."""
    asked, how = torch.rand(windows.shape, generator=generator) < rate, torch.rand(windows.shape, generator=generator)
    other = torch.randint(4, VOCABULARY, windows.shape, generator=generator)
    inputs = torch.where(asked & (how < 0.8), torch.full_like(windows, MASK), torch.where(asked & (how > 0.9), other, windows))
    return inputs, torch.where(asked, windows, torch.full_like(windows, -100))


def loss_of(logits, labels):
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten().long(), ignore_index=-100)
