#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_corpus.py TFUSE: writes tests/fuzz/corpus/READER/: small valid files (ok-...) and nasty ones (bad-...). The plan comes from the command
TFUSE; everything else from the standard library. What libFuzzer found is kept beside them under names of its own (found-...)."""
import gzip
import io
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import zipfile

ROOT = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(ROOT))


DECODER = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 6, "vocab_size": 9}
ENCODER = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 6, "vocab_size": 9, "max_position_embeddings": 7}
RTD = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 6, "max_position_embeddings": 7, "relative_attention": True,
       "position_buckets": 4, "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": "p2c|c2p", "max_relative_positions": -1,
       "position_biased_input": False, "type_vocab_size": 0, "vocab_size": 9}
LANGUAGE = {
    "llama": {**DECODER, "model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 16}},
    "yarn": {**DECODER, "model_type": "qwen2", "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0},
             "max_position_embeddings": 32, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "longrope": {**DECODER, "model_type": "phi3", "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.1], "long_factor": [1, 2]},
                 "original_max_position_embeddings": 16, "max_position_embeddings": 64, "partial_rotary_factor": 1.0},
    "gemma3": {**DECODER, "model_type": "gemma3_text", "head_dim": 4, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"],
               "query_pre_attn_scalar": 16, "final_logit_softcapping": 30.0},
    "mixtral": {**DECODER, "model_type": "mixtral", "num_local_experts": 3, "num_experts_per_tok": 2},
    "qwen2-moe": {**DECODER, "model_type": "qwen2_moe", "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 4,
                  "shared_expert_intermediate_size": 5, "mlp_only_layers": [0]},
    "qwen3-moe": {**DECODER, "model_type": "qwen3_moe", "head_dim": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 4,
                  "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []},
    "emoe": {**DECODER, "model_type": "llama", "n_expert": 3, "topk": 2, "split_start_layer": 1, "split_every_layer": 1},
    "emoe-bert": {**ENCODER, "model_type": "bert", "architectures": ["BertForMaskedLM"], "n_expert": 2, "topk": 1, "mode": "EMoE",
                  "select": "gate"},
    "gpt2": {"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 7, "vocab_size": 9},
    "gpt-neox": {**DECODER, "model_type": "gpt_neox", "rotary_pct": 0.5},
    "qwen3": {**DECODER, "model_type": "qwen3", "head_dim": 4},
    "gemma2": {**DECODER, "model_type": "gemma2", "head_dim": 4, "sliding_window": 3, "query_pre_attn_scalar": 16},
    "gptj": {"model_type": "gptj", "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 7, "vocab_size": 9, "rotary_dim": 2},
    "phi": {**DECODER, "model_type": "phi", "num_key_value_heads": 2},
    "cohere": {**DECODER, "model_type": "cohere"},
    "cohere2": {**DECODER, "model_type": "cohere2", "sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"]},
    "glm": {**DECODER, "model_type": "glm", "head_dim": 4},
    "glm4": {**DECODER, "model_type": "glm4", "head_dim": 4},
    "olmo2": {**DECODER, "model_type": "olmo2"},
    "granite": {**DECODER, "model_type": "granite", "embedding_multiplier": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.6,
                "logits_scaling": 4.0},
    "smollm3": {**DECODER, "model_type": "smollm3", "no_rope_layers": [1, 0]},
    "stablelm": {**DECODER, "model_type": "stablelm", "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    "starcoder2": {**DECODER, "model_type": "starcoder2", "sliding_window": 3},
    "distilbert": {"model_type": "distilbert", "architectures": ["DistilBertForMaskedLM"], "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 6,
                   "vocab_size": 9, "max_position_embeddings": 7},
    "deberta-first": {**ENCODER, "model_type": "deberta", "architectures": ["DebertaForMaskedLM"], "relative_attention": True,
                      "pos_att_type": ["c2p", "p2c"], "position_biased_input": False, "type_vocab_size": 0},
    "deberta-pair": {"embedding_sharing": "gdes", "generator": {**RTD, "num_hidden_layers": 2}, "discriminator": {**RTD, "num_hidden_layers": 3}},
    "deberta-apart": {"embedding_sharing": "none", "generator": {**RTD, "num_hidden_layers": 2, "hidden_size": 4},
                      "discriminator": {**RTD, "num_hidden_layers": 2}},
    "deberta-shared": {"embedding_sharing": "es", "generator": {**RTD, "num_hidden_layers": 2}, "discriminator": {**RTD, "num_hidden_layers": 2}},
    "bert": {**ENCODER, "model_type": "bert", "architectures": ["BertForMaskedLM"]},
    "roberta": {**ENCODER, "model_type": "roberta", "architectures": ["RobertaForSequenceClassification"], "num_labels": 3, "pad_token_id": 1},
    "deberta": {**ENCODER, "model_type": "deberta-v2", "architectures": ["DebertaV2ForTokenClassification"], "relative_attention": True,
                "pos_att_type": "p2c|c2p", "position_buckets": 4, "share_att_key": True, "norm_rel_ebd": "layer_norm", "conv_kernel_size": 3},
}


def put(reader, name, data):
    os.makedirs(os.path.join(ROOT, "corpus", reader), exist_ok=True)
    with open(os.path.join(ROOT, "corpus", reader, name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def safetensors(header, data=b""):
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def npy(descr="<f4", shape="(2, 3)", data=bytes(24), order="False", version=1):
    header = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" % (descr, order, shape)
    header += " " * 8 + "\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(header)) + header.encode() + data


def npz(method, members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        for name, data in members:
            z.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return out.getvalue()


def zip64(archive):
    """One stored member, whose sizes and place stand in the fields for large archives."""
    at = archive.rindex(b"PK\x01\x02")
    end = archive.rindex(b"PK\x05\x06")
    name = struct.unpack("<H", archive[at + 28:at + 30])[0]
    size = struct.unpack("<I", archive[at + 24:at + 28])[0]
    extra = struct.pack("<HHQQQ", 1, 24, size, size, 0)
    entry = (archive[at:at + 20] + 2 * b"\xff\xff\xff\xff" + archive[at + 28:at + 30] + struct.pack("<H", len(extra)) + archive[at + 32:at + 42] +
             b"\xff\xff\xff\xff" + archive[at + 46:at + 46 + name] + extra)
    record = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, len(entry), at)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, at + len(entry), 1)
    return archive[:at] + entry + record + locator + archive[end:end + 8] + struct.pack("<HHII", 1, 1, 0xffffffff, 0xffffffff) + archive[end + 20:]


def write_safetensors():
    two = {"a": tensor([2, 2], 0, 16), "b": tensor([], 16, 18, "F16")}
    put("safetensors", "ok-two", safetensors(two, bytes(18)))
    put("safetensors", "ok-one.safetensors", safetensors({"__metadata__": {"format": "pt"}, "c": tensor([1], 0, 4)}, bytes(4)))
    put("safetensors", "bad-header-size", struct.pack("<Q", 1 << 62) + b"{}")
    put("safetensors", "bad-shape", safetensors({"a": tensor([1 << 60, 1 << 60], 0, 16)}, bytes(16)))
    put("safetensors", "bad-offsets", safetensors({"a": tensor([2, 2], 16, 0)}, bytes(16)))
    put("safetensors", "bad-overlap", safetensors({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12)))
    put("safetensors", "bad-twice", safetensors('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":1}'))
    put("safetensors", "bad-deep", safetensors("[" * 300))
    put("safetensors", "bad-empty", b"")
    put("index", "ok-index", json.dumps({"metadata": {"total_size": 4}, "weight_map": {"c": "ok-one.safetensors"}}))
    put("index", "bad-missing", json.dumps({"weight_map": {"c": "none.safetensors"}}))
    put("index", "bad-outside", json.dumps({"weight_map": {"c": "../safetensors/ok-one.safetensors"}}))
    put("index", "bad-tensor", json.dumps({"weight_map": {"d": "ok-one.safetensors"}}))
    put("index", "bad-type", json.dumps({"weight_map": {"c": ["ok-one.safetensors"]}}))


def write_arrays():
    put("npy", "ok-f4", npy())
    put("npy", "ok-fortran", npy("<f8", "(2, 1)", bytes(16), "True"))
    put("npy", "ok-v2", npy("|u1", "(3,)", bytes(3), version=2))
    put("npy", "ok-big-endian", npy(">i8", "()", bytes(8)))
    put("npy", "bad-object", npy("|O", "(1,)", bytes(8)))
    put("npy", "bad-shape", npy("<f4", "(4611686018427387904, 4)"))
    put("npy", "bad-negative", npy("<f4", "(-1, 3)"))
    put("npy", "bad-short", npy(data=bytes(23)))
    put("npz", "ok-stored", npz(zipfile.ZIP_STORED, [("x.npy", npy())]))
    put("npz", "ok-deflated", npz(zipfile.ZIP_DEFLATED, [("x.npy", npy())]))
    ids = npy("<i4", "(2, 3)", struct.pack("<6i", 4, 5, 0, 6, 0, 0))
    named = [("input_ids.npy", ids), ("attention_mask.npy", ids), ("labels.npy", ids)]
    put("npz", "ok-named", npz(zipfile.ZIP_STORED, named))
    put("npz", "ok-large", zip64(npz(zipfile.ZIP_STORED, [("x.npy", npy())])))
    put("npz", "bad-named-twice", npz(zipfile.ZIP_STORED, named[:2] + [("attention_mask", ids)]))
    put("npz", "bad-two", npz(zipfile.ZIP_STORED, [("x.npy", npy()), ("y.npy", npy())]))
    lying = bytearray(npz(zipfile.ZIP_DEFLATED, [("x.npy", npy())]))
    at = lying.rindex(b"PK\x01\x02")
    lying[at + 24:at + 28] = struct.pack("<I", 0xfffffff0)
    put("npz", "bad-size", bytes(lying))
    put("npz", "bad-cut", npz(zipfile.ZIP_STORED, [("x.npy", npy())])[:-9])
    idx = b"\0\0\x08\x03" + struct.pack(">III", 2, 2, 2) + bytes(8)
    put("idx", "ok-idx", idx)
    put("idx", "ok-gzip", gzip.compress(idx, mtime=0))
    put("idx", "ok-npy", npy())
    put("idx", "bad-shape", b"\0\0\x0d\x03" + struct.pack(">III", 0xffffffff, 0xffffffff, 0xffffffff))
    put("idx", "bad-crc", gzip.compress(idx, mtime=0)[:-8] + bytes(8))
    put("idx", "bad-gzip-short", gzip.compress(idx, mtime=0)[:-12])


VIT = {"model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
       "intermediate_size": 16, "image_size": 4, "patch_size": 2, "num_channels": 1, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
       "qkv_bias": True, "id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}


# Small graphs that have every operation and every way to name a stored tensor: (operation, name, inputs, attributes).
IDS, FEATURES = ("input", "x", "", "kind=tokens"), ("input", "x", "", "kind=features shape=4,3")
GRAPHS = {
    "decoder": ([IDS, ("embedding", "e", "x", "rows=!words:9 of=/stream:8 scale=2"), ("rmsnorm", "n", "e", "eps=1e-6 offset=1"),
                 ("linear", "q", "n", "out=kv:1*group:2*(rot:2|pass:2) bias=0"), ("linear", "k", "n", "out=kv:1*(rot:2|pass:2) bias=0"), ("linear", "v", "n", "out=kv:1*vo:4 bias=0"),
                 ("rmsnorm", "qn", "q", "per_head=1"), ("rmsnorm", "kn", "k", "per_head=1"),
                 ("attention", "a", "qn kn v", "causal=1 window=3 rope=1 rope_theta=100 rope_dims=2 rope_factors=2 rope_gain=1.1 softcap=50 scale=0.5"),
                 ("linear", "o", "a", "out=/stream:8 bias=0"), ("add", "r", "e o", "residual=e"), ("linear", "g", "r", "out=ffn:6"),
                 ("activation", "s", "g", "kind=silu"), ("linear", "u", "r", "out=ffn:6"), ("multiply", "m", "s u", ""),
                 ("linear", "d", "m", "out=/stream:8"), ("add", "r2", "r d", ""), ("linear", "h", "r2", "out=!words:9 bias=0"),
                 ("softcap", "y", "h", "cap=30")], {"e.weight": "wte", "g.weight": "transpose(g)", "h.weight": "alias(e.weight)", "k.weight": "part(kv,0,0,2)",
                "v.weight": "part(kv,0,1,2)", "q.weight": "item(qo,0,2,2,8,8)", "o.weight": "item(qo,1,2,2,8,8)"},
                ["*.masked_bias"]),
    "image": ([("input", "x", "", "kind=image shape=1,4,4"), ("patchify", "p", "x", "out=/stream:8 kernel=2,2 stride=2,2"),
               ("parameter", "c", "", "rows=1 of=/stream:8"), ("concat_tokens", "t", "c p", ""), ("parameter", "pos", "", "rows=5 of=/stream:8"),
               ("add", "e", "t pos", ""), ("layernorm", "n", "e", "eps=1e-6"), ("layerscale", "ls", "e", ""), ("token", "cls", "ls", "index=0"), ("mean_tokens", "mean", "ls", "first=1"), ("add", "z", "cls mean", ""),
               ("linear", "y", "z", "out=!classes:3")], {"c.weight": "shape(cls_token,1,1,8)", "pos.weight": "join(1,pos.left,transpose(pos.right))",
                "y.weight": "stack(y.0,y.1,y.2)", "y.bias": "sum(y.a,y.b)", "ls.gain": "copies(ls.0,ls.1)"}, ["running.*"]),
    "fused": ([FEATURES, ("linear", "qkv", "x", "out=heads:2*(q=qk:2|k=qk:2|v=vo:3)"), ("split", "q", "qkv", "label=q"),
               ("split", "k", "qkv", "label=k"), ("split", "v", "qkv", "label=v"), ("attention", "a", "q k v", "layout=interleaved rope=1"),
               ("linear", "y", "a", "out=!classes:2")], {"qkv.weight": "slice(w,0,0,14,14)", "y.weight": "within(v,2,0,1)"}, []),
    "masked": ([IDS, ("input", "m", "", "kind=tokens default=1"), ("embedding", "e", "x", "rows=!words:9 of=/s:8"),
                ("positions", "p", "x", "rows=!places:9 of=/s:8 pad=1"), ("add", "t", "e p", ""), ("linear", "q", "t", "out=heads:2*qk:4"),
                ("linear", "k", "t", "out=heads:2*qk:4"), ("linear", "v", "t", "out=heads:2*vo:4"), ("parameter", "rel", "", "rows=8 of=/s:8"),
                ("linear", "pk", "rel", "out=heads:2*qk:4 weight=@k.weight"), ("linear", "pq", "rel", "out=heads:2*qk:4 weight=@q.weight"),
                ("disentangled", "a", "q k v pk pq m", "span=4 buckets=4 max_distance=8 scale=0.2"), ("linear", "o", "a", "out=/s:8"),
                ("mask_tokens", "k0", "o m", ""), ("conv_tokens", "c", "k0", "out=/s:8 kernel=3"), ("plus_token", "pt", "c", "index=0"),
                ("scale", "y", "pt", "by=0.5")], {}, []),
    "experts": ([FEATURES, ("linear", "key", "x", "out=experts:3*hidden:2 bias=0"), ("expert_mean", "router", "key", ""), ("activation", "act", "key", "kind=gelu"),
                 ("route", "routed", "act router", "top_k=2 weights=one"), ("route_weights", "w", "router", "top_k=2 weights=chosen"),
                 ("linear", "b", "w", "out=!/classes:2 bias=0"), ("linear", "d", "routed", "out=!/classes:2 bias=0"), ("linear", "g", "x", "out=!one:1"),
                 ("gate_tokens", "gated", "d g", ""), ("add", "y", "gated b", "residual=gated")], {}, []),
}


def write_json(tfuse):
    put("config", "ok-vit", json.dumps(VIT))
    size = {"embed_dim": 8, "depth": 1, "num_heads": 2, "img_size": [4, 4], "patch_size": 2, "in_chans": 1, "mlp_ratio": 2.0}
    for name, change in {"timm": {}, "timm-average": {"global_pool": "avg"}}.items():
        put("config", "ok-" + name, json.dumps({"architecture": "vit_pico_patch2_4", "num_classes": 3, "global_pool": "token", "model_args": size, **change}))
    clip = {**size, "pre_norm": True, "init_values": 1.0, "qk_norm": True, "class_token": False}
    put("config", "ok-timm-clip", json.dumps({"architecture": "vit_pico_patch2_4", "num_classes": 3, "global_pool": "avg", "model_args": clip}))
    for name, change in {"heads": {"num_attention_heads": 3}, "layers": {"num_hidden_layers": 1 << 40}, "zero": {"patch_size": 0},
                         "type": {"hidden_size": "8"}, "kind": {"model_type": "x"}, "huge": {"image_size": 1 << 31, "patch_size": 1}}.items():
        put("config", "bad-" + name, json.dumps({**VIT, **change}))
    mean = {"do_rescale": True, "rescale_factor": 0.00392, "do_normalize": True, "image_mean": [0.5], "image_std": [0.5]}
    put("preprocess", "ok-one", json.dumps(mean))
    put("preprocess", "bad-zero", json.dumps({**mean, "image_std": [0]}))
    put("preprocess", "bad-many", json.dumps({**mean, "image_mean": [0.5] * 100, "image_std": [0.5] * 100}))
    graph = {"tfuse_graph": 1, "arch": "", "nodes": [
        {"op": "input", "name": "x", "inputs": "", "attrs": "kind=image shape=1,4,4"},
        {"op": "patchify", "name": "patch", "inputs": "x", "attrs": "out=/stream:8 kernel=2"}],
        "output": "patch", "tensors": {"patch.weight": "stored.weight"}, "buffers": ["extra.*"]}
    put("graph", "ok-patches", json.dumps(graph))
    for name, (nodes, tensors, buffers) in GRAPHS.items():
        listed = [dict(zip(("op", "name", "inputs", "attrs"), node)) for node in nodes]
        put("graph", "ok-" + name, json.dumps({"tfuse_graph": 1, "arch": "", "nodes": listed, "output": nodes[-1][1], "tensors": tensors,
                                               "buffers": buffers}))
        put("graph", "ok-lines-" + name, "\n".join(map(";".join, nodes + list(tensors.items()))))
    put("graph", "bad-empty", "{}")
    put("graph", "bad-nested", json.dumps({**graph, "tensors": {"patch.weight": "transpose(" * 300}}))
    put("graph", "bad-output", json.dumps({**graph, "output": "none"}))
    for name, attrs in {"extent": "out=/stream:9223372036854775807 kernel=2", "kernel": "out=/stream:8 kernel=0", "attrs": "out=((((", }.items():
        put("graph", "bad-" + name, json.dumps({**graph, "nodes": [graph["nodes"][0], {**graph["nodes"][1], "attrs": attrs}]}))
    for name, change in {"topk": {"topk": 4}, "experts": {"n_expert": 4}, "select": {"select": "up"}, "mode": {"mode": "random"},
                         "start": {"split_start_layer": -1}, "every": {"split_every_layer": 0}}.items():
        put("config", "bad-emoe-" + name, json.dumps({**LANGUAGE["emoe"], **change}))
    for name, change in {"chosen": {"num_experts_per_tok": 4}, "many": {"num_local_experts": 1 << 40}, "none": {"num_local_experts": 0}}.items():
        put("config", "bad-mixtral-" + name, json.dumps({**LANGUAGE["mixtral"], **change}))
    for name, config in LANGUAGE.items():
        put("config", "ok-" + name, json.dumps(config))
    put("config", "ok-graph", json.dumps({"model_type": "own", "tfuse_graph": {**graph, "tensors": {}, "buffers": []}}))
    with tempfile.TemporaryDirectory() as work:
        plan = os.path.join(work, "p.tfplan")
        data = os.path.join(REPOSITORY, "tests", "data")
        subprocess.run([tfuse, "align", data + "/vit-fmnist-b", data + "/vit-fmnist-a", "--align", "none", "-o", plan, "--quiet"], check=True,
                       capture_output=True)
        with open(plan, "rb") as f:
            blob = f.read()
        put("plan", "ok-none", blob)
        put("plan", "bad-cut", blob[:-1])
        put("plan", "bad-crc", blob[:40] + bytes([blob[40] ^ 1]) + blob[41:])
        put("plan", "bad-version", blob[:8] + b"\xff" + blob[9:])


def plan_head(maps, numbers, **change):
    """Head and numbers of a plan of two models, whose i-th map stands at parameter i."""
    rows = [{"name": f"map {i}", "axis": f"axis {i}", "model": 1, "solver": "exact", "cost": 0.5, "gap": None, "error": 0, "correlation": 0.9, "kept": 1,
             "iterations": 3, "converged": True, "map": one} for i, one in enumerate(maps)]
    model = ["name"] + 3 * ["0123456789abcdef"]
    head = {"tfuse_plan": 1, "strategy": "matching", "exact": True, "carries": True, "policy": {"matching.rounds": "1"}, "passes": ["canonical"],
            "models": [model, model], "objective": [[], [0.5, 0.25]], "owners": [{"axis": "axis 0", "model": [0, 1], "unit": [1, -1]}],
            "repair": {"linears": [{"name": "fc", "before": 0.5, "after": 0.25}]}, "maps": rows,
            "table": [[1, f"fc{i}.weight", 0, 0, i, True] for i in range(len(maps))], **change}
    return json.dumps(head).encode() + b"\0" + numbers


def write_plan_heads():
    def units(*x):
        return struct.pack(f"<{len(x)}q", *x)

    def reals(*x):
        return struct.pack(f"<{len(x)}f", *x)

    kinds = {"identity": ({"n": 3, "m": 3}, b""), "permutation": ({"n": 2, "m": 2}, units(1, 0)), "scaled": ({"n": 2, "m": 2}, units(1, 0) + reals(2, -3)),
             "selection": ({"n": 3, "m": 2, "scaled": True}, units(2, 0) + reals(1, 2)), "coupling": ({"n": 2, "m": 3}, reals(*6 * [0.25])),
             "raw": ({"n": 2, "m": 2}, reals(1, -2, 3, 4)), "orthogonal": ({"n": 2, "m": 2}, reals(0, 1, -1, 0)),
             "linear": ({"n": 2, "m": 2}, reals(2, 1, 0, 1)), "rectangular": ({"n": 2, "m": 1}, reals(1, 0, 1, 0)),
             "block": ({"n": 4, "m": 4, "blocks_n": 2, "inner": 2 * [{"kind": "permutation", "n": 2, "m": 2}]}, units(1, 0) + units(1, 0) + units(0, 1))}
    maps = {kind: {"kind": kind, **of} for kind, (of, _) in kinds.items()}
    for kind, (_, numbers) in kinds.items():
        put("plan_head", "ok-" + kind, plan_head([maps[kind]], numbers))
    put("plan_head", "ok-all", plan_head(list(maps.values()), b"".join(numbers for _, numbers in kinds.values())))
    copied = {**maps["block"], "m": 6, "copies": True, "inner": 3 * [{"kind": "identity", "n": 2, "m": 2}]}
    put("plan_head", "ok-copies", plan_head([copied], units(0, 1, 1)))
    put("plan_head", "bad-left-over", plan_head([maps["raw"]], bytes(20)))
    put("plan_head", "bad-short", plan_head([maps["linear"]], bytes(12)))
    put("plan_head", "bad-twice", plan_head([maps["permutation"]], units(1, 1)))
    put("plan_head", "bad-singular", plan_head([maps["linear"]], reals(1, 2, 2, 4)))
    put("plan_head", "bad-extent", plan_head([{**maps["raw"], "n": 1 << 24, "m": 1 << 24}], b""))
    put("plan_head", "bad-deep", plan_head([{**maps["block"], "inner": 2 * [maps["block"]]}], units(1, 0) * 5))
    put("plan_head", "bad-table", plan_head([maps["identity"]], b"", table=[[1, "fc.weight", 0, 0, 1, True]]))
    put("plan_head", "bad-owner", plan_head([], b"", owners=[{"axis": "a", "model": [2], "unit": [0]}]))
    put("plan_head", "bad-hex", plan_head([], b"", models=2 * [["name"] + 3 * ["0123456789ABCDEF"]]))
    put("plan_head", "bad-version", plan_head([], b"", tfuse_plan=2))


def write_problems():
    """Transport problems: n - 1, m - 1, kind of costs, kind of masses, reg, then numbers."""
    draw = random.Random(5)
    heads = [(11, 11, 0, 0, 200), (7, 11, 1, 1, 100), (4, 2, 2, 2, 255), (0, 0, 3, 5, 0), (11, 6, 1, 4, 30), (9, 9, 2, 0, 60),
             (5, 11, 3, 7, 120), (11, 3, 0, 8, 10), (8, 8, 1, 3, 255), (2, 9, 0, 1, 90), (39, 39, 4, 1, 200), (35, 33, 5, 5, 60),
             (39, 36, 6, 2, 100), (33, 39, 1, 5, 90), (38, 38, 0, 0, 40)]
    for i, head in enumerate(heads):
        put("solver", f"ok-{i:02d}", bytes(head) + bytes(draw.randrange(256) for _ in range(492 if i % 3 else 17)))
    put("solver", "bad-short", b"\x01\x02")


if __name__ == "__main__":
    write_problems()
    write_safetensors()
    write_arrays()
    write_plan_heads()
    write_json(os.path.abspath(sys.argv[1]))
