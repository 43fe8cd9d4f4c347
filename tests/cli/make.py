#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes and reads files for the tests of the command, with nothing but the standard library.

    make.py npy OUT TYPE SHAPE VALUES    an array; TYPE as in .npy ('<f4'), SHAPE '2,3', VALUES '1,2,...' or 'zero'
    make.py best LOGITS OUT [WRONG]      labels (int64): the largest of each row of a float32 .npy, the first WRONG of them shifted by one
    make.py loss LOGITS LABELS           mean cross-entropy
    make.py npz OUT KEY=FILE.npy...      an .npz
    make.py model KIND SRC DST           a copy of a checkpoint that is broken in the way of KIND
    make.py get FILE.json KEY...         a value of a JSON object (from standard input when FILE is -)
    make.py same A B                     whether two checkpoints hold equal bytes
    make.py mean OUT A B                 the largest difference between OUT's tensors and the mean of A's and B's
    make.py gap A.npy B.npy              the largest difference between two float32 arrays
"""
import json
import math
import os
import shutil
import struct
import sys
import zipfile

CODES = {"<f4": "f", "<f8": "d", "|u1": "B", "<i8": "q", "<i4": "i"}


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
        with zipfile.ZipFile(args[0], "w", zipfile.ZIP_DEFLATED) as z:
            for pair in args[1:]:
                key, path = pair.split("=", 1)
                z.write(path, key + ".npy")
    elif command == "model":
        make_model(*args)
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
        print(max(abs(x - y) for x, y in zip(a, b)) if sa == sb else math.inf)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
