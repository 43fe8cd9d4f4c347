/* SPDX-License-Identifier: Apache-2.0
 *
 * phi3.c: Phi-3 (Abdin et al. 2024): Llama with queries, keys and values in one tensor, gate and up in another.
 */
#include "arch/decoder.h"
#include <stdio.h>

/* Rows first..first+count-1 of all `rows`. */
static tfuse_status store_rows(tf_env *env, tf_graph *g, int64_t layer, const char *logical, const char *stored, int64_t first, int64_t count,
                               int64_t rows)
{
    char name[64], text[160];
    snprintf(name, sizeof name, "layer.%lld/%s.weight", (long long)layer, logical);
    snprintf(text, sizeof text, "slice(model.layers.%lld.%s.weight,0,%lld,%lld,%lld)", (long long)layer, stored, (long long)first,
             (long long)count, (long long)rows);
    return tf_graph_store(env, g, name, text);
}

static tfuse_status store_fused(tf_env *env, tf_graph *g, const tf_decoder *d)
{
    const int64_t q = d->heads * d->inner, kv = d->kv * d->inner, rows = q + 2 * kv;
    for (int64_t i = 0; i < d->layers; i++) {
        TF_TRY(store_rows(env, g, i, "query", "self_attn.qkv_proj", 0, q, rows));
        TF_TRY(store_rows(env, g, i, "key", "self_attn.qkv_proj", q, kv, rows));
        TF_TRY(store_rows(env, g, i, "value", "self_attn.qkv_proj", q + kv, kv, rows));
        TF_TRY(store_rows(env, g, i, "gate", "mlp.gate_up_proj", 0, d->ffn, 2 * d->ffn));
        TF_TRY(store_rows(env, g, i, "up", "mlp.gate_up_proj", d->ffn, d->ffn, 2 * d->ffn));
    }
    return TFUSE_OK;
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {0};
    TF_TRY(tf_decoder_read(env, m, g, &d));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "silu", &d.activation));
    TF_TRY(tf_config_int_or(env, m, "sliding_window", 0, INT32_MAX, 0, &d.window));
    TF_TRY(tf_decoder_read_layers(env, m, g, 1, &d));
    TF_TRY(tf_decoder_nodes(env, g, &d));
    TF_TRY(tf_decoder_names(env, m, g, &d, true));
    return store_fused(env, g, &d);
}

const tf_arch tf_arch_phi3 = {"phi3", "Phi3ForCausalLM", build, NULL};
