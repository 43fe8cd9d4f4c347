# SPDX-License-Identifier: Apache-2.0
"""The study's Vision Transformer as a function of its parameters, which have the names and meaning of Hugging Face's ViTForImageClassification."""
import torch

from training import attend, layer_norm, linear, new_linear, new_norm, normal

CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
MEAN, STD = 0.286, 0.353
PREPROCESSOR = {"image_processor_type": "ViTImageProcessor", "do_resize": False, "size": {"height": 28, "width": 28}, "do_rescale": True,
                "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [MEAN], "image_std": [STD]}


def config_of(width=64, layers=4, heads=4, hidden=128):
    return {"architectures": ["ViTForImageClassification"], "model_type": "vit", "hidden_size": width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "intermediate_size": hidden, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "image_size": 28, "patch_size": 4,
            "num_channels": 1, "qkv_bias": True, "encoder_stride": 4, "torch_dtype": "float32",
            "id2label": {str(i): c for i, c in enumerate(CLASSES)}, "label2id": {c: i for i, c in enumerate(CLASSES)}}


def new(config, generator):
    d, m, patch = config["hidden_size"], config["intermediate_size"], config["patch_size"]
    p = {"vit.embeddings.cls_token": normal(generator, 1, 1, d),
         "vit.embeddings.position_embeddings": normal(generator, 1, 1 + (config["image_size"] // patch) ** 2, d),
         "vit.embeddings.patch_embeddings.projection.weight": normal(generator, d, config["num_channels"], patch, patch),
         "vit.embeddings.patch_embeddings.projection.bias": torch.zeros(d)}
    for i in range(config["num_hidden_layers"]):
        at = f"vit.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            new_linear(p, generator, f"{at}.attention.attention.{part}", d, d)
        new_linear(p, generator, f"{at}.attention.output.dense", d, d)
        new_linear(p, generator, f"{at}.intermediate.dense", m, d)
        new_linear(p, generator, f"{at}.output.dense", d, m)
        new_norm(p, f"{at}.layernorm_before", d)
        new_norm(p, f"{at}.layernorm_after", d)
    new_norm(p, "vit.layernorm", d)
    new_linear(p, generator, "classifier", len(config["id2label"]), d)
    return p


def attention(p, at, x, heads):
    n, t, d = x.shape
    q, k, v = (linear(p, f"{at}.attention.attention.{part}", x).view(n, t, heads, d // heads).transpose(1, 2) for part in ("query", "key", "value"))
    return linear(p, f"{at}.attention.output.dense", attend(q, k, v).transpose(1, 2).reshape(n, t, d))


def logits(p, config, images):
    """images: N x 28 x 28, normalised."""
    eps, name = config["layer_norm_eps"], "vit.embeddings.patch_embeddings.projection"
    x = torch.nn.functional.conv2d(images[:, None], p[f"{name}.weight"], p[f"{name}.bias"], stride=config["patch_size"]).flatten(2).transpose(1, 2)
    x = torch.cat([p["vit.embeddings.cls_token"].expand(len(x), -1, -1), x], 1) + p["vit.embeddings.position_embeddings"]
    for i in range(config["num_hidden_layers"]):
        at = f"vit.encoder.layer.{i}"
        x = x + attention(p, at, layer_norm(p, f"{at}.layernorm_before", x, eps), config["num_attention_heads"])
        hidden = linear(p, f"{at}.intermediate.dense", layer_norm(p, f"{at}.layernorm_after", x, eps))
        x = x + linear(p, f"{at}.output.dense", torch.nn.functional.gelu(hidden))
    return linear(p, "classifier", layer_norm(p, "vit.layernorm", x[:, 0], eps))


def normalised(images):
    return (images.float() / 255 - MEAN) / STD


@torch.no_grad()
def all_logits(p, config, images):
    return torch.cat([logits(p, config, normalised(part)) for part in images.split(500)])


def score(given, labels):
    """(accuracy in percent, mean loss in nats)"""
    return 100 * (given.argmax(1) == labels).float().mean().item(), torch.nn.functional.cross_entropy(given, labels).item()
