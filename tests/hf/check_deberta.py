#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""DeBERTaV3's checkpoints of pretraining, which no class of transformers reads whole: transformers' encoder and layers, with the detector of replaced tokens,
the mask decoder and the head for words written here from their definition (He et al. 2021, 2023). A detector alone, its generator alone, and both in one
checkpoint, the detector's words as the generator's table and a difference."""
import json
import os
import sys
import tempfile

import numpy as np
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from common import Tally, tfuse

SIZES = dict(vocab_size=40, hidden_size=24, num_attention_heads=3, intermediate_size=30, max_position_embeddings=32, type_vocab_size=0,
             relative_attention=True, pos_att_type="p2c|c2p", position_buckets=6, max_relative_positions=-1, share_att_key=True,
             norm_rel_ebd="layer_norm", position_biased_input=False, hidden_act="gelu", layer_norm_eps=1e-7)


class Words(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense = torch.nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = torch.nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.bias = torch.nn.Parameter(torch.zeros(config.vocab_size))


class Network(torch.nn.Module):
    """An encoder, a table of positions beside it, and the heads that are wanted, under the names of the checkpoints."""

    def __init__(self, layers, words, detector):
        super().__init__()
        self.config = hf.DebertaV2Config(**SIZES, num_hidden_layers=layers)
        self.deberta = hf.DebertaV2Model(self.config)
        width = self.config.hidden_size
        if words:
            del self.deberta.embeddings.position_embeddings
            self.deberta.embeddings.add_module("position_embeddings", torch.nn.Embedding(self.config.max_position_embeddings, width))
            self.lm_predictions = torch.nn.ModuleDict({"lm_head": Words(self.config)})
        if detector:
            self.mask_predictions = torch.nn.ModuleDict({"LayerNorm": torch.nn.LayerNorm(width, self.config.layer_norm_eps),
                                                         "dense": torch.nn.Linear(width, width), "classifier": torch.nn.Linear(width, 1)})

    def states(self, ids, mask):
        return self.deberta(ids, mask, output_hidden_states=True).hidden_states

    def replaced(self, ids, mask):
        x = self.states(ids, mask)[-1]
        head = self.mask_predictions
        return head["classifier"](torch.nn.functional.gelu(head["dense"](head["LayerNorm"](x[:, :1] + x))))

    def words(self, ids, mask):
        """The last layer twice more, on states and positions as queries."""
        x, encoder, head = self.states(ids, mask)[-2], self.deberta.encoder, self.lm_predictions["lm_head"]
        query = x + self.deberta.embeddings.position_embeddings.weight[: ids.shape[1]]
        for _ in range(2):
            query = encoder.layer[-1](x, encoder.get_attention_mask(mask), query_states=query, relative_pos=encoder.get_rel_pos(x),
                                      rel_embeddings=encoder.get_rel_embedding())[0]
        x = head.LayerNorm(torch.nn.functional.gelu(head.dense(query)))
        return x @ self.deberta.embeddings.word_embeddings.weight.T + head.bias


def random_network(*args):
    net = Network(*args)
    with torch.no_grad():
        for name, p in net.named_parameters():
            gain = p.ndim == 1 and "LayerNorm.weight" in name
            p.copy_(torch.randn_like(p) * (0.4 if p.ndim == 1 else 1.0 if "embeddings" in name else 0.25) + gain)
    return net.eval()


def save(path, tensors, config):
    os.makedirs(path, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{path}/model.safetensors", {"format": "pt"})
    with open(f"{path}/config.json", "w", encoding="utf-8") as f:
        json.dump(config, f)


class Case:
    def __init__(self, tally, work):
        draw = np.random.default_rng(1)
        self.ids, self.mask = draw.integers(3, 40, (6, 13)), np.ones((6, 13), np.int64)
        self.mask[1, 9:] = self.mask[2, 5:] = 0
        self.tally, self.work, self.inputs = tally, work, f"{work}/inputs.npz"
        np.savez(self.inputs, input_ids=self.ids, attention_mask=self.mask)

    def theirs(self, function):
        with torch.no_grad():
            return function(torch.from_numpy(self.ids), torch.from_numpy(self.mask)).numpy()[self.mask == 1]

    def ours(self, path):
        tfuse("run", path, "--inputs", self.inputs, "-o", f"{self.work}/logits.npy", "--force", "--quiet")
        return np.load(f"{self.work}/logits.npy")[self.mask == 1]

    def moved(self, name, path, functions, load):
        """functions(nets): what must stay; load(tensors): the networks from a checkpoint's tensors."""
        before, moved, fused = functions(load(load_file(f"{path}/model.safetensors"))), f"{self.work}/moved", f"{self.work}/fused"
        for stream in ("orthogonal", "permutation", "none"):
            tfuse("gauge", path, "--seed", "5", "--set", f"gauge.stream={stream}", "-o", moved, "--force", "--quiet")
            tfuse("fuse", path, moved, "--align", "matching", "-o", fused, "--force", "--quiet")
            for what, out, tolerance in (("gauged", moved, 1e-4), ("with its copy", fused, 1e-3)):
                for (head, was), (_, now) in zip(before, functions(load(load_file(f"{out}/model.safetensors")))):
                    self.tally.close(f"{name}, {what}, stream {stream}: {head}", now, was, tolerance)
        for way in (["otfusion"], ["otfusion", "--calib", self.inputs], ["matching", "--calib", self.inputs]):
            tfuse("fuse", path, moved, "--align", *way, "-o", fused, "--force", "--quiet")
            self.tally.close(f"{name}, fused by {way[0]}: the head that runs", self.ours(fused), functions(load(load_file(f"{fused}/model.safetensors")))[0][1])

    def alone(self, name, words, detector):
        net = random_network(3, words, detector)
        path = f"{self.work}/{name.replace(' ', '-')}"
        save(path, net.state_dict(), {**SIZES, "num_hidden_layers": 3, "model_type": "deberta-v2"})

        def load(tensors):
            other = Network(3, words, detector).eval()
            other.load_state_dict(tensors)
            return other

        def functions(n):
            found = [("replaced", n.replaced)] * detector + [("words", n.words)] * words
            return [(head, self.theirs(f)) for head, f in found]

        self.tally.close(f"{name}: logits", self.ours(path), functions(net)[0][1])
        self.moved(name, path, functions, load)

    def pair(self, sharing):
        gen, dis = random_network(2, True, False), random_network(3, False, True)
        table = "deberta.embeddings.word_embeddings"
        tensors = {"generator." + k: v for k, v in gen.state_dict().items()}
        tensors.update({"discriminator." + k: v for k, v in dis.state_dict().items()})
        if sharing == "gdes":
            tensors[f"discriminator.{table}._weight"] = tensors.pop(f"discriminator.{table}.weight")
            tensors["discriminator.deberta.embeddings.position_embeddings._weight"] = torch.randn(32, 24)
        path = f"{self.work}/pair-{sharing}"
        save(path, tensors, {"embedding_sharing": sharing, "generator": {**SIZES, "num_hidden_layers": 2}, "discriminator": {**SIZES, "num_hidden_layers": 3}})

        def load(t):
            g, d = Network(2, True, False).eval(), Network(3, False, True).eval()
            g.load_state_dict({k[10:]: v for k, v in t.items() if k.startswith("generator.")})
            own = {k[14:]: v for k, v in t.items() if k.startswith("discriminator.") and "position_embeddings" not in k}
            if sharing == "gdes":
                own[f"{table}.weight"] = own.pop(f"{table}._weight") + t[f"generator.{table}.weight"]
            d.load_state_dict(own)
            return g, d

        def functions(nets):
            return [("replaced", self.theirs(nets[1].replaced)), ("words", self.theirs(nets[0].words))]

        self.tally.close(f"pair, {sharing}: logits", self.ours(path), functions(load(tensors))[0][1])
        self.moved(f"pair, {sharing}", path, functions, load)

    def folded(self):
        """The sum and the difference in one checkpoint move alike."""
        net = random_network(3, True, True)
        tensors, name = net.state_dict(), "deberta.embeddings.word_embeddings"
        tensors[name + "._weight"] = torch.randn(40, 24)
        path, moved = f"{self.work}/folded", f"{self.work}/moved"
        save(path, tensors, {**SIZES, "num_hidden_layers": 3, "model_type": "deberta-v2"})
        self.tally.close("folded: logits", self.ours(path), self.theirs(net.replaced))
        tfuse("gauge", path, "--seed", "2", "-o", moved, "--force", "--quiet")
        a, b = load_file(f"{path}/model.safetensors"), load_file(f"{moved}/model.safetensors")
        order = [int(((a[name + ".weight"][:, i, None] - b[name + ".weight"]).abs().sum(0)).argmin()) for i in range(24)]
        self.tally.close("folded: sum and difference are permuted alike", b[name + "._weight"][:, order].numpy(), a[name + "._weight"].numpy(), 1e-6)
        self.tally.check("folded: they are permuted", order != list(range(24)))


def run(tally):
    torch.manual_seed(3)
    with tempfile.TemporaryDirectory() as work:
        case = Case(tally, work)
        case.alone("detector and words", True, True)
        case.alone("detector", False, True)
        case.alone("generator", True, False)
        case.pair("gdes")
        case.pair("none")
        case.folded()


if __name__ == "__main__":
    hf.logging.set_verbosity_error()
    checks = Tally()
    run(checks)
    sys.exit(checks.finish())
