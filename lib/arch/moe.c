/* SPDX-License-Identifier: Apache-2.0
 *
 * moe.c: the mixture of experts of decoders: one wide gated layer with a part for each expert, and the router's weights between its two sides. In a
 * checkpoint experts are tensors apart, or stacked, gate and up in one.
 */
#include "arch/decoder.h"
#include <stdio.h>
#include <string.h>

/* ---- the model ---- */

static tfuse_status shared_expert(const tf_block *b, const tf_decoder *d)
{
    const long long ffn = d->moe.shared;
    TF_TRY(tf_block_addf(b, "linear", "~/shared_gate", "~/norm2", "out=shared:%lld bias=0", ffn));
    TF_TRY(tf_block_addf(b, "activation", "~/shared_activation", "~/shared_gate", "kind=%s", d->activation));
    TF_TRY(tf_block_addf(b, "linear", "~/shared_up", "~/norm2", "out=shared:%lld bias=0", ffn));
    TF_TRY(tf_block_addf(b, "multiply", "~/shared_gated", "~/shared_activation ~/shared_up", "%s", ""));
    TF_TRY(tf_block_addf(b, "linear", "~/shared_down", "~/shared_gated", "out=/stream:%lld bias=0", (long long)d->hidden));
    TF_TRY(tf_block_addf(b, "linear", "~/shared_share", "~/norm2", "out=!share:%d bias=0", 1));
    TF_TRY(tf_block_addf(b, "gate_tokens", "~/shared", "~/shared_down ~/shared_share", "%s", ""));
    return tf_block_addf(b, "add", "~/experts_sum", "~/down ~/shared", "residual=%s/down", b->scope);
}

tfuse_status tf_moe_nodes(const tf_block *b, const tf_decoder *d, const char **out)
{
    const long long experts = d->moe.experts, ffn = d->moe.ffn;
    TF_TRY(tf_block_addf(b, "linear", "~/router", "~/norm2", "out=experts:%lld bias=0", experts));
    TF_TRY(tf_block_addf(b, "linear", "~/gate", "~/norm2", "out=experts:%lld*ffn:%lld bias=0", experts, ffn));
    TF_TRY(tf_block_addf(b, "activation", "~/activation", "~/gate", "kind=%s", d->activation));
    TF_TRY(tf_block_addf(b, "linear", "~/up", "~/norm2", "out=experts:%lld*ffn:%lld bias=0", experts, ffn));
    TF_TRY(tf_block_addf(b, "multiply", "~/gated", "~/activation ~/up", "%s", ""));
    TF_TRY(tf_block_addf(b, "route", "~/routed", "~/gated ~/router", "top_k=%lld weights=%s", (long long)d->moe.top_k, d->moe.weights));
    TF_TRY(tf_block_addf(b, "linear", "~/down", "~/routed", "out=/stream:%lld bias=0", (long long)d->hidden));
    *out = d->moe.shared > 0 ? "~/experts_sum" : "~/down";
    return d->moe.shared > 0 ? shared_expert(b, d) : TFUSE_OK;
}

/* ---- names ---- */

/* "join(DIM,E0,E1,...)" over the experts, each written by `item`. */
typedef struct listing {
    tf_env *env;
    const tf_decoder *d;
    int64_t layer;
    const char *pattern; /* apart: the stored name, with %d for the expert */
    int half, halves;    /* stacked: which run of an expert's elements, of how many */
    tf_buf *text;
} listing;

static tfuse_status write_apart(const listing *l, int64_t expert)
{
    char name[96];
    return tf_buf_printf(l->env, l->text, "model.layers.%lld.%s", (long long)l->layer, tf_with_layer(l->pattern, expert, name, sizeof name));
}

static tfuse_status write_stacked(const listing *l, int64_t expert)
{
    const long long e = l->d->moe.experts, ffn = l->d->moe.ffn, width = l->d->hidden;
    return tf_buf_printf(l->env, l->text, "item(model.layers.%lld.mlp.experts.%s,%lld,%lld,%lld,%lld,%lld)", (long long)l->layer,
                         l->halves == 2 ? "gate_up_proj" : "down_proj", (long long)expert * l->halves + l->half, e * l->halves, e,
                         l->halves == 2 ? 2 * ffn : width, l->halves == 2 ? width : ffn);
}

static tfuse_status store(const listing *l, tf_graph *g, const char *role, int dim, bool stacked)
{
    char logical[64];
    snprintf(logical, sizeof logical, "layer.%lld/%s.weight", (long long)l->layer, role);
    tfuse_status status = tf_buf_printf(l->env, l->text, "join(%d", dim);
    for (int64_t e = 0; e < l->d->moe.experts && status == TFUSE_OK; e++) {
        status = tf_buf_printf(l->env, l->text, ",");
        if (status == TFUSE_OK)
            status = (stacked ? write_stacked : write_apart)(l, e);
    }
    if (status == TFUSE_OK)
        status = tf_buf_printf(l->env, l->text, ")");
    return status == TFUSE_OK ? tf_graph_store(l->env, g, logical, l->text->data) : status;
}

static tfuse_status store_experts(tf_env *env, tf_graph *g, const tf_decoder *d, int64_t layer, bool stacked)
{
    const struct {
        const char *role, *pattern;
        int dim, half, halves;
    } roles[] = {{"gate", d->moe.gate, 0, 0, 2}, {"up", d->moe.up, 0, 1, 2}, {"down", d->moe.down, 1, 0, 1}};
    for (size_t i = 0; i < TF_LEN(roles); i++) {
        tf_buf text;
        tf_buf_init(&text, &env->mem);
        const listing l = {env, d, layer, roles[i].pattern, roles[i].half, roles[i].halves, &text};
        const tfuse_status status = store(&l, g, roles[i].role, roles[i].dim, stacked);
        tf_buf_free(&text);
        TF_TRY(status);
    }
    return TFUSE_OK;
}

static tfuse_status store_one(tf_env *env, tf_graph *g, int64_t layer, const char *role, const char *stored)
{
    char logical[64], name[96];
    snprintf(logical, sizeof logical, "layer.%lld/%s.weight", (long long)layer, role);
    snprintf(name, sizeof name, "model.layers.%lld.%s", (long long)layer, stored);
    return tf_graph_store(env, g, logical, name);
}

tfuse_status tf_moe_names(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_decoder *d, int64_t layer)
{
    char name[96];
    snprintf(name, sizeof name, "model.layers.%lld.mlp.experts.gate_up_proj", (long long)layer);
    const bool stacked = tf_model_find(m, name) != NULL;
    TF_TRY(store_experts(env, g, d, layer, stacked));
    TF_TRY(store_one(env, g, layer, "router", stacked ? "mlp.gate.weight" : d->moe.router));
    if (d->moe.shared == 0)
        return TFUSE_OK;
    TF_TRY(store_one(env, g, layer, "shared_gate", "mlp.shared_expert.gate_proj.weight"));
    TF_TRY(store_one(env, g, layer, "shared_up", "mlp.shared_expert.up_proj.weight"));
    TF_TRY(store_one(env, g, layer, "shared_down", "mlp.shared_expert.down_proj.weight"));
    return store_one(env, g, layer, "shared_share", "mlp.shared_expert_gate.weight");
}
