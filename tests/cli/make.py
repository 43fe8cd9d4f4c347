#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes and reads files for the tests of the command, with nothing but the standard library.

    make.py npy OUT TYPE SHAPE VALUES    an array; TYPE as in .npy ('<f4'), SHAPE '2,3', VALUES '1,2,...' or 'zero'
    make.py best LOGITS OUT [WRONG]      labels (int64): the largest of each row of a float32 .npy, the first WRONG of them shifted by one
    make.py loss LOGITS LABELS           mean cross-entropy
    make.py npz OUT KEY=FILE.npy...      an .npz
    make.py model KIND SRC DST           a copy of a checkpoint that is broken in the way of KIND
    make.py vit DIR SEED WIDTH LAYERS FF CLASSES [sparse|nan]  a Vision Transformer for 3x16x16 images, weights random, all holes, or NaN
    make.py llama70b DIR                 Llama-2-70B in bf16 in 15 shards, all of them holes: 138 GB that take no room
    make.py timm SRC DST [no-heads]      a ViT in timm's names, queries, keys and values in one tensor; without its number of heads
    make.py rss COMMAND ARGS...          runs a command, its output as it is, and prints the peak of its anonymous memory on standard error
    make.py rss-all COMMAND ARGS...      the same of all of its memory, pages of mapped files among it
    make.py get FILE.json KEY...         a value of a JSON object (from standard input when FILE is -)
    make.py same A B                     whether two checkpoints hold equal bytes
    make.py mean OUT A B                 the largest difference between OUT's tensors and the mean of A's and B's
    make.py gap A.npy B.npy [COUNT]      the largest difference between two float32 arrays, or between their first COUNT numbers
    make.py claim PLAN OUT               a copy of a plan that says of itself that it is exact, checksums and all
"""
# What takes long to import is imported where it is needed: most runs only read a value.
import array
import json
import math
import os
import struct
import sys

CODES = {"<f4": "f", "<f8": "d", "|u1": "B", "<i8": "q", "<i4": "i", "<i2": "h"}


def write_npy(path, kind, shape, values):
    header = "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }" % (kind, "".join("%d, " % n for n in shape))
    header += " " * (-(len(header) + 11) % 64) + "\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        f.write(struct.pack("<%d%s" % (len(values), CODES[kind]), *values))


def read_npy(path):
    with open(path, "rb") as f:
        data = f.read()
    size = struct.unpack("<H", data[8:10])[0]
    header = eval(data[10:10 + size].decode(), {"__builtins__": {}}, {"False": False, "True": True})
    body = data[10 + size:]
    code = CODES[header["descr"]]
    return header["shape"], struct.unpack("<%d%s" % (len(body) // struct.calcsize(code), code), body)


def read_tensors(path):
    with open(path, "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    body = data[8 + size:]
    return [(n, t["dtype"], t["shape"], body[t["data_offsets"][0]:t["data_offsets"][1]]) for n, t in header.items()]


def write_tensors(path, tensors, change=lambda header: None, text=None):
    header, at = {}, 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    change(header)
    blob = (text(header) if text else json.dumps(header)).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(blob)) + blob + b"".join(t[3] for t in tensors))


def move(header, name, begin, end):
    header[name]["data_offsets"] = [header[name]["data_offsets"][0] + begin, header[name]["data_offsets"][1] + end]


def floats(data):
    return struct.unpack("<%df" % (len(data) // 4), data)


def make_model(kind, src, dst):
    import shutil

    shutil.copytree(src, dst)
    weights, config = os.path.join(dst, "model.safetensors"), os.path.join(dst, "config.json")
    tensors = read_tensors(weights)
    names = [t[0] for t in tensors]
    last = names[-1]

    def put(**options):
        write_tensors(weights, tensors, **options)

    def set_config(**values):
        with open(config, encoding="utf-8") as f:
            text = json.load(f)
        text.update(values)
        with open(config, "w", encoding="utf-8") as f:
            json.dump(text, f)

    def replace(name, shape, data):
        tensors[names.index(name)] = (name, "F32", shape, data)

    if kind == "copy":
        pass
    elif kind == "truncated":
        with open(weights, "r+b") as f:
            f.truncate(os.path.getsize(weights) - 1000)
    elif kind == "overlap":
        put(change=lambda h: move(h, last, -4, -4))
    elif kind == "hole":
        tensors[-1] = tensors[-1][:3] + (tensors[-1][3] + b"\0\0\0\0",)
        put(change=lambda h: move(h, last, 4, 0))
    elif kind == "huge":
        put(change=lambda h: h[last].update(shape=[1 << 60, 1 << 60]))
    elif kind == "dtype":
        put(change=lambda h: h[last].update(dtype="F31"))
    elif kind == "twice":
        put(text=lambda h: json.dumps(h)[:-1] + ", " + json.dumps({last: h[last]})[1:])
    elif kind == "header":
        with open(weights, "r+b") as f:
            f.write(struct.pack("<Q", 1 << 60))
    elif kind == "config":
        set_config(hidden_size=32, num_attention_heads=4)
    elif kind == "kind":
        set_config(model_type="no-such-thing", architectures=["NoSuchThing"])
    elif kind == "names":
        set_config(architectures="ViTForImageClassification")
    elif kind == "eps":
        set_config(layer_norm_eps=1e-5)
    elif kind == "lfs":
        with open(weights, "w", encoding="utf-8") as f:
            f.write("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    elif kind == "empty-config":
        open(config, "w", encoding="utf-8").close()
    elif kind == "broken-json":
        with open(config, "w", encoding="utf-8") as f:
            f.write('{"model_type": ')
    elif kind == "missing":
        del tensors[names.index("classifier.bias")]
        put()
    elif kind == "extra":
        tensors.append(("some.extra", "F32", [2], b"\0" * 8))
        put()
    elif kind == "nan":
        name = "vit.layernorm.weight"
        old = tensors[names.index(name)]
        replace(name, old[2], struct.pack("<f", math.nan) + old[3][4:])
        put()
    elif kind == "enormous":
        at = names.index("classifier.weight")
        put_one = struct.pack("<%df" % (len(tensors[at][3]) // 4), *[3e38] * (len(tensors[at][3]) // 4))
        replace("classifier.weight", tensors[at][2], put_one)
        put()
    elif kind == "classes":
        replace("classifier.weight", [11, 64], b"\0" * (11 * 64 * 4))
        replace("classifier.bias", [11], b"\0" * 44)
        put()
        set_config(id2label={str(i): str(i) for i in range(11)}, label2id={str(i): i for i in range(11)})
    elif kind == "layers":
        tensors[:] = [t for t in tensors if ".layer.3." not in t[0]]
        put()
        set_config(num_hidden_layers=3)
    else:
        sys.exit("make.py: no kind " + kind)


TIMM = {"vit.embeddings.cls_token": "cls_token", "vit.embeddings.position_embeddings": "pos_embed",
        "vit.embeddings.patch_embeddings.projection": "patch_embed.proj", "vit.layernorm": "norm", "classifier": "head",
        "vit.encoder.layer": "blocks", "layernorm_before": "norm1", "layernorm_after": "norm2", "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2"}


def make_timm(src, out, without=""):
    tensors = {t[0]: t for t in read_tensors(os.path.join(src, "model.safetensors"))}
    with open(os.path.join(src, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    with open(os.path.join(src, "preprocessor_config.json"), encoding="utf-8") as f:
        pixels = json.load(f)
    rows = []
    for name, kind, shape, data in list(tensors.values()):
        parts = [".attention.attention.%s." % p for p in ("query", "key", "value")]
        if parts[1] in name or parts[2] in name:
            continue
        if parts[0] in name:
            data = b"".join(tensors[name.replace(parts[0], p)][3] for p in parts)
            name, shape = name.replace(parts[0], ".attn.qkv."), [3 * shape[0]] + shape[1:]
        for old, new in TIMM.items():
            name = name.replace(old, new)
        rows.append((name, kind, shape, data))
    side = config["image_size"]
    args = {"num_heads": config["num_attention_heads"]}
    os.mkdir(out)
    write_tensors(os.path.join(out, "model.safetensors"), rows)
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as f:
        json.dump({"architecture": "vit_pico_patch4_28", "num_classes": len(config["id2label"]), "global_pool": "token",
                   "pretrained_cfg": {"input_size": [1, side, side], "mean": pixels["image_mean"], "std": pixels["image_std"]},
                   **({} if without == "no-heads" else {"model_args": args})}, f)


def vit_shapes(width, layers, ff, classes):
    def linear(name, out, *inputs):
        return [(name + ".weight", [out, *inputs]), (name + ".bias", [out])]

    rows = [("vit.embeddings.cls_token", [1, 1, width]), ("vit.embeddings.position_embeddings", [1, 17, width])]
    rows += linear("vit.embeddings.patch_embeddings.projection", width, 3, 4, 4)
    for i in range(layers):
        at = "vit.encoder.layer.%d." % i
        for name in ("query", "key", "value"):
            rows += linear(at + "attention.attention." + name, width, width)
        rows += linear(at + "attention.output.dense", width, width) + linear(at + "intermediate.dense", ff, width)
        rows += linear(at + "output.dense", width, ff) + linear(at + "layernorm_before", width) + linear(at + "layernorm_after", width)
    return rows + linear("vit.layernorm", width) + linear("classifier", classes, width)


def make_vit(out, seed, width, layers, ff, classes, kind="random"):
    import random

    width, layers, ff, classes = int(width), int(layers), int(ff), int(classes)
    os.makedirs(out)
    source = random.Random(int(seed))
    header, at = {}, 0
    for name, shape in vit_shapes(width, layers, ff, classes):
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    blob = json.dumps(header).encode()
    blob += b" " * (-len(blob) % 8)
    with open(os.path.join(out, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(blob)) + blob)
        if kind == "sparse":
            f.truncate(8 + len(blob) + at)
        for row in header.values() if kind != "sparse" else ():
            count = (row["data_offsets"][1] - row["data_offsets"][0]) // 4
            bits = array.array("h", source.randbytes(2 * count))
            f.write(array.array("f", [math.nan if kind == "nan" else b / 200000 for b in bits]).tobytes())
    names = {str(i): str(i) for i in range(classes)}
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as f:
        json.dump({"architectures": ["ViTForImageClassification"], "model_type": "vit", "hidden_size": width, "num_hidden_layers": layers,
                   "num_attention_heads": width // 64, "intermediate_size": ff, "image_size": 16, "patch_size": 4, "num_channels": 3,
                   "hidden_act": "gelu", "layer_norm_eps": 1e-12, "qkv_bias": True, "id2label": names,
                   "label2id": {v: int(k) for k, v in names.items()}}, f)


def write_holes(path, rows):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in rows:
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    blob = json.dumps(header).encode()
    blob += b" " * (-len(blob) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(blob)) + blob)
        f.truncate(8 + len(blob) + at)


def make_llama70b(out):
    width, layers, ff, words, shards = 8192, 80, 28672, 32000, 15
    rows = [("model.embed_tokens.weight", [words, width]), ("lm_head.weight", [words, width]), ("model.norm.weight", [width])]
    for i in range(layers):
        at = "model.layers.%d." % i
        rows += [(at + "self_attn.%s_proj.weight" % p, [width // 8 if p in "kv" else width, width]) for p in "qkvo"]
        rows += [(at + "mlp.%s_proj.weight" % p, [width, ff] if p == "down" else [ff, width]) for p in ("gate", "up", "down")]
        rows += [(at + p + "_layernorm.weight", [width]) for p in ("input", "post_attention")]
    os.makedirs(out)
    where = {}
    for k in range(shards):
        name = "model-%05d-of-%05d.safetensors" % (k + 1, shards)
        part = rows[k * len(rows) // shards:(k + 1) * len(rows) // shards]
        write_holes(os.path.join(out, name), part)
        where.update((tensor, name) for tensor, _ in part)
    with open(os.path.join(out, "model.safetensors.index.json"), "w", encoding="utf-8") as f:
        json.dump({"metadata": {"total_size": sum(2 * math.prod(shape) for _, shape in rows)}, "weight_map": where}, f)
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as f:
        json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": width, "num_hidden_layers": layers,
                   "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": ff, "vocab_size": words, "hidden_act": "silu",
                   "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "torch_dtype": "bfloat16"}, f)


def anonymous(pid):
    try:
        with open("/proc/%d/status" % pid, encoding="utf-8") as f:
            return next((int(line.split()[1]) * 1024 for line in f if line.startswith("RssAnon")), 0)
    except OSError:
        return 0


def watch(args):
    import subprocess
    import time

    process, peak = subprocess.Popen(args), 0
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.001)
    print(peak, file=sys.stderr)
    sys.exit(process.returncode)


def watch_all(args):
    import resource
    import subprocess

    code = subprocess.call(args)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, file=sys.stderr)
    sys.exit(code)


def claim_exact(src, dst):
    """See docs/plan-format.md: 12 bytes, then chunks of name, flags, raw size, packed size, two CRCs, and a zlib stream."""
    import zlib

    data = open(src, "rb").read()
    out, at = data[:12], 12
    while at < len(data):
        name, flags, _, packed = struct.unpack_from("<4sIQQ", data, at)
        raw = zlib.decompress(data[at + 32:at + 32 + packed])
        at += 32 + packed
        if name == b"HEAD":
            head = json.loads(raw)
            assert head["exact"] is False
            raw = json.dumps(dict(head, exact=True)).encode()
        stream = zlib.compress(raw)
        fields = struct.pack("<4sIQQI", name, flags, len(raw), len(stream), zlib.crc32(raw))
        out += fields + struct.pack("<I", zlib.crc32(fields)) + stream
    with open(dst, "wb") as f:
        f.write(out)


def main(command, *args):
    if command == "npy":
        shape = [int(n) for n in args[2].split(",") if n]
        count = math.prod(shape)
        number = float if "f" in args[1] else int
        values = [0] * count if args[3] == "zero" else [number(v) for v in args[3].split(",")]
        write_npy(args[0], args[1], shape, values)
    elif command == "best":
        shape, x = read_npy(args[0])
        n, c = shape
        wrong = int(args[2]) if len(args) > 2 else 0
        best = [max(range(c), key=lambda j: (x[i * c + j], -j)) for i in range(n)]
        write_npy(args[1], "<i8", [n], [(b + (i < wrong)) % c for i, b in enumerate(best)])
    elif command == "loss":
        (n, c), x = read_npy(args[0])
        _, labels = read_npy(args[1])
        print(sum(math.log(sum(math.exp(v) for v in x[i * c:i * c + c])) - x[i * c + labels[i]] for i in range(n)) / n)
    elif command == "npz":
        import zipfile

        with zipfile.ZipFile(args[0], "w", zipfile.ZIP_DEFLATED) as z:
            for pair in args[1:]:
                key, path = pair.split("=", 1)
                z.write(path, key + ".npy")
    elif command == "model":
        make_model(*args)
    elif command == "vit":
        make_vit(*args)
    elif command == "llama70b":
        make_llama70b(*args)
    elif command == "timm":
        make_timm(*args)
    elif command == "rss":
        watch(args)
    elif command == "rss-all":
        watch_all(args)
    elif command == "get":
        with (sys.stdin if args[0] == "-" else open(args[0], encoding="utf-8")) as f:
            value = json.load(f)
        for key in args[1:]:
            value = value[int(key) if isinstance(value, list) else key]
        print("null" if value is None else len(value) if isinstance(value, (list, dict)) else value)
    elif command == "same":
        a, b = (read_tensors(os.path.join(d, "model.safetensors")) for d in args)
        print("yes" if sorted(a) == sorted(b) else "no")
    elif command == "mean":
        out, a, b = ({t[0]: floats(t[3]) for t in read_tensors(os.path.join(d, "model.safetensors"))} for d in args)
        print(max(abs(o - (x + y) / 2) for name in a for o, x, y in zip(out[name], a[name], b[name])))
    elif command == "gap":
        (sa, a), (sb, b) = read_npy(args[0]), read_npy(args[1])
        count = int(args[2]) if len(args) > 2 else None
        print(max(abs(x - y) for x, y in zip(a[:count], b[:count])) if count or sa == sb else math.inf)
    elif command == "claim":
        claim_exact(*args)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
