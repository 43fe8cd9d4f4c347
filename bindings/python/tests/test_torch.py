# SPDX-License-Identifier: Apache-2.0
"""State dicts and modules of PyTorch, models of transformers; pictures by matplotlib."""
import gc
import json
import os
import weakref

import numpy as np
import torch
import transformers
from common import A, B, DATA, IMAGES, Folder, arrays, same

import tfuse
from tfuse import _library, _pytorch

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
LLAMAS = [os.path.join(DATA, f"llama-kjv-{c}") for c in "ef"]


def vit(path):
    return transformers.ViTForImageClassification.from_pretrained(path).eval()


def pixels():
    """The images as the models' preprocessors give them."""
    with open(os.path.join(A, "preprocessor_config.json"), encoding="utf-8") as f:
        p = json.load(f)
    return (torch.from_numpy(np.load(IMAGES)).float()[:, None] * p["rescale_factor"] - p["image_mean"][0]) / p["image_std"][0]


class Mlp(torch.nn.Module):
    """A network that the library does not know; its graph comes along in its config."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(6, 5), torch.nn.Linear(5, 3)
        graph = (tfuse.GraphBuilder().add("input", "x", attrs="kind=features shape=6").add("linear", "fc1", "x", "out=hidden:5 bias=1")
                 .add("activation", "act", "fc1", "kind=gelu").add("linear", "fc2", "act", "out=!class:3 bias=1").output("fc2").finish())
        self.config = {"model_type": "mine", "tfuse_graph": graph.to_json()}

    def forward(self, x):
        return self.fc2(torch.nn.functional.gelu(self.fc1(x)))


class Torch(Folder):
    def test_state_dicts_of_every_type(self):
        (_, config), states = arrays(A), [vit(p) for p in (B, A)]
        states = [_pytorch.tensors_of(m)[0] for m in states]
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            given = [{k: v.to(dtype) for k, v in s.items()} for s in states]
            fused = tfuse.fuse(*given, config=config)
            self.assertEqual({v.dtype for v in fused.values()}, {dtype})
            full = tfuse.fuse(*[{k: v.float() for k, v in s.items()} for s in given], config=config)
            self.assertTrue(all(torch.equal(fused[k], full[k].to(dtype)) for k in full))
            self.assertTrue(same(dict(tfuse.Model(given[0], config)), {k: v.to(torch.float32 if dtype == torch.bfloat16 else dtype).numpy() for k, v in given[0].items()}))
            self.assertTrue(all(torch.equal(v, given[0][k]) for k, v in tfuse.Model(given[0], config).state_dict().items()))
        self.assertTrue(same(tfuse.fuse(*states, config=config), dict(tfuse.fuse(B, A))))

    def test_no_copies_and_everything_is_given_back(self):
        tensors, config = {k: v.bfloat16() for k, v in _pytorch.tensors_of(vit(A))[0].items()}, arrays(A)[1]
        gone = weakref.ref(tensors["classifier.weight"].untyped_storage())
        with tfuse.Model(tensors, config) as model:
            for i, one in enumerate(model.tensors):
                self.assertEqual(model._info(i).data, tensors[one.name].data_ptr())
            with torch.no_grad():
                tensors["classifier.bias"].fill_(3)
            self.assertTrue((model["classifier.bias"] == 3).all())
            address = tensors["classifier.weight"].data_ptr()
            del tensors
            gc.collect()
            self.assertEqual(model._info(model._index("classifier.weight")).data, address)
        gc.collect()
        self.assertIsNone(gone())
        self.assertEqual(_library.lent(), 0)

    def test_strided_and_wrong_tensors(self):
        good, config = _pytorch.tensors_of(vit(A))[0], arrays(A)[1]
        strided = {k: v.t().contiguous().t() if v.ndim == 2 else v for k, v in good.items()}
        self.assertTrue(same(tfuse.fuse(strided, good, config=config, align="none"), {k: v.numpy() for k, v in good.items()}))
        grown = {k: v.requires_grad_() for k, v in good.items()}
        self.assertFalse(any(v.requires_grad for v in tfuse.fuse(grown, good, config=config).values()))
        for tensor, error in ((torch.zeros(10, device="meta"), TypeError), (torch.zeros(10, dtype=torch.complex64), tfuse.DtypeError),
                              (torch.zeros(10).to_sparse(), TypeError), (torch.zeros(9), tfuse.ShapeError)):
            with self.subTest(str(tensor.dtype)), self.assertRaisesRegex(error, "classifier.bias"):
                tfuse.fuse(good, {**good, "classifier.bias": tensor}, config=config)
        with self.assertRaisesRegex(TypeError, "calib"):
            tfuse.fuse(A, B, calib=torch.zeros(1, 1, 28, 28, device="meta"))

    def test_modules_of_transformers(self):
        a, b = vit(A), vit(B)
        before = {k: v.clone() for k, v in b.state_dict().items()}
        fused = tfuse.fuse(b, a, calib=pixels(), samples=40)
        self.assertIsInstance(fused, transformers.ViTForImageClassification)
        self.assertFalse(fused.training)
        self.assertTrue(all(torch.equal(v, before[k]) for k, v in b.state_dict().items()))
        with torch.no_grad():
            logits = fused(pixels()).logits.numpy()
        self.assertLess(abs(logits - tfuse.run(fused, pixels())).max(), 1e-4 * abs(logits).max())
        path = tfuse.fuse(b, a, calib=pixels(), samples=40, out=self.path("out"))
        with torch.no_grad():
            self.assertTrue(np.allclose(vit(path)(pixels()).logits.numpy(), logits, atol=1e-5))

    def test_language_models_of_transformers(self):
        e, f = (transformers.AutoModelForCausalLM.from_pretrained(p) for p in LLAMAS)
        fused = tfuse.fuse(e, f)
        ids = torch.arange(24).reshape(2, 12)
        with torch.no_grad():
            wanted = fused(input_ids=ids).logits.numpy()
        got = tfuse.run(tfuse.fuse(*LLAMAS), {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        self.assertLess(abs(wanted - got).max(), 1e-4 * abs(got).max())
        half = tfuse.fuse(e.to(torch.bfloat16), f.to(torch.bfloat16))
        self.assertEqual(next(half.parameters()).dtype, torch.bfloat16)
        tied = transformers.LlamaConfig(**{**e.config.to_dict(), "tie_word_embeddings": True})
        pair = [transformers.LlamaForCausalLM(tied) for _ in "ab"]
        fused = tfuse.fuse(*pair)
        self.assertEqual(fused.lm_head.weight.data_ptr(), fused.model.embed_tokens.weight.data_ptr())

    def test_a_module_of_ones_own(self):
        torch.manual_seed(0)
        one, x = Mlp(), torch.randn(4, 6)
        other, order = Mlp(), torch.randperm(5)
        state = one.state_dict()
        other.load_state_dict({"fc1.weight": state["fc1.weight"][order], "fc1.bias": state["fc1.bias"][order], "fc2.weight": state["fc2.weight"][:, order],
                               "fc2.bias": state["fc2.bias"]})
        fused = tfuse.fuse(one, other)
        self.assertIsInstance(fused, Mlp)
        self.assertTrue(torch.allclose(fused(x), one(x), atol=1e-5))

    def test_buffers_of_torch(self):
        plan, made = tfuse.align(B, A), {}

        def place(tensor):
            made[tensor.name] = torch.empty(tensor.shape, dtype=torch.bfloat16)
            return made[tensor.name]
        tfuse.fuse_into(place, plan, B, A, policy={"io.dtype": "BF16"})
        wanted = tfuse.fuse(B, A, plan=plan, repair="none")
        self.assertTrue(all(torch.equal(v, torch.from_numpy(np.array(wanted[k])).bfloat16()) for k, v in made.items()))
        with self.assertRaisesRegex(TypeError, "bfloat16"):
            tfuse.fuse(*[arrays(p)[0] for p in (A, B)], config=arrays(A)[1], dtype="BF16")

    def test_pictures(self):
        plan = tfuse.align(B, A)
        figure = plan.plot(self.path("maps.png"))
        self.assertEqual(len([ax for ax in figure.axes if ax.get_title()]), len(plan))
        self.assertGreater(os.path.getsize(self.path("maps.png")), 10000)
        import matplotlib
        matplotlib.use("Agg")
        self.assertEqual(plan["stream"].plot().get_ylabel(), "units of model 1")
