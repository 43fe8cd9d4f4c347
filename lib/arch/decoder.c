/* SPDX-License-Identifier: Apache-2.0
 *
 * decoder.c: see decoder.h.
 */
#include "arch/decoder.h"
#include <stdio.h>
#include <string.h>

enum { MOST_EXPERTS = 1 << 17 };

/* ---- config ---- */

static tfuse_status check_sizes(tf_env *env, const tfuse_model *m, const tf_decoder *d, bool states_inner)
{
    if (!states_inner && d->hidden % d->heads != 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: hidden_size %lld is not divisible by num_attention_heads %lld, and there is no head_dim",
                       tf_model_label(m), (long long)d->hidden, (long long)d->heads);
    if (d->heads % d->kv != 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: num_attention_heads %lld is not divisible by num_key_value_heads %lld",
                       tf_model_label(m), (long long)d->heads, (long long)d->kv);
    return TFUSE_OK;
}

tfuse_status tf_decoder_read(tf_env *env, const tfuse_model *m, tf_graph *g, tf_decoder *d)
{
    double theta = 0;
    TF_TRY(tf_config_int(env, m, "hidden_size", 1, 1 << 20, &d->hidden));
    TF_TRY(tf_config_int(env, m, "num_hidden_layers", 1, 4096, &d->layers));
    TF_TRY(tf_config_int(env, m, "num_attention_heads", 1, 1 << 16, &d->heads));
    TF_TRY(tf_config_int_or(env, m, "num_key_value_heads", 1, 1 << 16, d->heads, &d->kv));
    TF_TRY(tf_config_int_or(env, m, "head_dim", 1, 1 << 13, d->hidden / d->heads > 0 ? d->hidden / d->heads : 1, &d->inner));
    TF_TRY(tf_config_int(env, m, "intermediate_size", 1, 1 << 22, &d->ffn));
    TF_TRY(tf_config_int(env, m, "vocab_size", 1, 1 << 24, &d->vocab));
    TF_TRY(tf_config_real_or(env, m, "rms_norm_eps", 1e-6, &d->eps));
    TF_TRY(tf_config_real_or(env, m, "rope_theta", 10000.0, &theta));
    TF_TRY(tf_config_bool_or(env, m, "tie_word_embeddings", d->tied, &d->tied));
    TF_TRY(check_sizes(env, m, d, tf_config_has(m, "head_dim")));
    TF_TRY(tf_rope_dims(env, m, "rope_parameters", d->rope_part > 0 ? d->rope_part : 1, d->inner, &d->rope_dims));
    return tf_rope_read(env, m, g, "rope_parameters", theta, d->rope_dims, &d->rope[TF_FULL]);
}

tfuse_status tf_decoder_read_layers(tf_env *env, const tfuse_model *m, tf_graph *g, int64_t pattern, tf_decoder *d)
{
    char shown[64];
    bool *sliding = tf_arena_array(env, &g->arena, (size_t)d->layers, sizeof *sliding);
    if (!sliding)
        return TFUSE_ENOMEM;
    for (int64_t i = 0; i < d->layers && d->window > 0; i++) {
        const char *type = tf_config_item(m, "layer_types", i);
        if (!type && tf_config_has(m, "layer_types"))
            return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: layer_types says nothing of layer %lld", tf_model_label(m), (long long)i);
        sliding[i] = type ? !strcmp(type, "sliding_attention") : pattern == 1 || (pattern > 1 && (i + 1) % pattern != 0);
        if (type && !sliding[i] && strcmp(type, "full_attention"))
            return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: layer_types: '%s' is not known; full_attention and sliding_attention are",
                           tf_model_label(m), tf_printable(shown, sizeof shown, type));
    }
    d->sliding = sliding;
    if (!d->rope[TF_SLIDING])
        d->rope[TF_SLIDING] = d->rope[TF_FULL];
    return TFUSE_OK;
}

/* ---- the model ---- */

static tfuse_status norm(const tf_block *b, const tf_decoder *d, const char *name, const char *input)
{
    return d->layernorm ? tf_block_addf(b, "layernorm", name, input, "eps=%s bias=%d", tf_real(d->eps).text, d->norm_bias)
                        : tf_block_addf(b, "rmsnorm", name, input, "eps=%s offset=%d", tf_real(d->eps).text, d->gain_offset);
}

/* "qk:64", or "(rot:16|pass:48)" where a part of the units turns. */
static void write_inner(const tf_decoder *d, char *out, size_t size)
{
    if (d->rope_dims < d->inner)
        snprintf(out, size, "(rot:%lld|pass:%lld)", (long long)d->rope_dims, (long long)(d->inner - d->rope_dims));
    else
        snprintf(out, size, "qk:%lld", (long long)d->inner);
}

static tfuse_status qk_norms(const tf_block *b, const tf_decoder *d)
{
    const int per_head = d->qk_norm == TF_QK_NORM_HEAD;
    TF_TRY(tf_block_addf(b, "rmsnorm", "~/query_norm", "~/query", "per_head=%d eps=%s offset=%d", per_head, tf_real(d->eps).text, d->gain_offset));
    return tf_block_addf(b, "rmsnorm", "~/key_norm", "~/key", "per_head=%d eps=%s offset=%d", per_head, tf_real(d->eps).text, d->gain_offset);
}

static tfuse_status projections(const tf_block *b, const tf_decoder *d)
{
    char inner[64], query[64];
    write_inner(d, inner, sizeof inner);
    if (d->heads > d->kv)
        snprintf(query, sizeof query, "kv:%lld*group:%lld", (long long)d->kv, (long long)(d->heads / d->kv));
    else
        snprintf(query, sizeof query, "kv:%lld", (long long)d->kv);
    const char *input = d->norms == TF_NORMS_AFTER ? "^" : "~/norm1";
    TF_TRY(tf_block_addf(b, "linear", "~/query", input, "out=%s*%s bias=%d", query, inner, d->qkv_bias));
    TF_TRY(tf_block_addf(b, "linear", "~/key", input, "out=kv:%lld*%s bias=%d", (long long)d->kv, inner, d->qkv_bias));
    TF_TRY(tf_block_addf(b, "linear", "~/value", input, "out=kv:%lld*vo:%lld bias=%d", (long long)d->kv, (long long)d->inner, d->qkv_bias));
    return d->qk_norm ? qk_norms(b, d) : TFUSE_OK;
}

static tfuse_status attention(const tf_block *b, const tf_decoder *d, int64_t layer)
{
    char positions[48] = "", scale[64] = "", cap[64] = "", window[48] = "";
    const bool sliding = d->sliding && d->sliding[layer], placed = !d->unplaced || !d->unplaced[layer];
    if (placed && d->rope_dims < d->inner)
        snprintf(positions, sizeof positions, " rope_dims=%lld", (long long)d->rope_dims);
    if (d->score_scale > 0)
        snprintf(scale, sizeof scale, " scale=%s", tf_real(d->score_scale).text);
    if (d->score_cap > 0)
        snprintf(cap, sizeof cap, " softcap=%s", tf_real(d->score_cap).text);
    if (sliding)
        snprintf(window, sizeof window, " window=%lld", (long long)d->window);
    return tf_block_addf(b, "attention", "~/attention", d->qk_norm ? "~/query_norm ~/key_norm ~/value" : "~/query ~/key ~/value",
                         "causal=1 %s%s%s%s%s%s", placed ? d->rope[sliding ? TF_SLIDING : TF_FULL] : "rope=0", positions,
                         placed && d->interleaved ? " layout=interleaved" : "", scale, cap, window);
}

/* The FFN's input: the block's one norm, the second norm, or the stream itself. */
static tfuse_status ffn_input(const tf_block *b, const tf_decoder *d, const char **input)
{
    *input = d->parallel ? "~/norm1" : d->norms == TF_NORMS_AFTER ? "~/residual1" : "~/norm2";
    return d->parallel || d->norms == TF_NORMS_AFTER ? TFUSE_OK : norm(b, d, "~/norm2", "~/residual1");
}

static tfuse_status plain_ffn(const tf_block *b, const tf_decoder *d, const char *input)
{
    TF_TRY(tf_block_addf(b, "linear", "~/fc1", input, "out=ffn:%lld bias=%d", (long long)d->ffn, d->mlp_bias));
    TF_TRY(tf_block_addf(b, "activation", "~/activation", "~/fc1", "kind=%s", d->activation));
    return tf_block_addf(b, "linear", "~/fc2", "~/activation", "out=/stream:%lld bias=%d", (long long)d->hidden, d->mlp_bias);
}

static tfuse_status gated_ffn(const tf_block *b, const tf_decoder *d, const char *input)
{
    TF_TRY(tf_block_addf(b, "linear", "~/gate", input, "out=ffn:%lld bias=%d", (long long)d->ffn, d->mlp_bias));
    TF_TRY(tf_block_addf(b, "activation", "~/activation", "~/gate", "kind=%s", d->activation));
    TF_TRY(tf_block_addf(b, "linear", "~/up", input, "out=ffn:%lld bias=%d", (long long)d->ffn, d->mlp_bias));
    TF_TRY(tf_block_addf(b, "multiply", "~/gated", "~/activation ~/up", "%s", ""));
    return tf_block_addf(b, "linear", "~/down", "~/gated", "out=/stream:%lld bias=%d", (long long)d->hidden, d->mlp_bias);
}

/* What a branch gives to the stream: its output, normed and scaled where the architecture does so; the sum is named `sum`. */
static tfuse_status join(const tf_block *b, const tf_decoder *d, const char *stream, const char *branch, int which)
{
    char normed[32], scaled[32], sum[64], terms[96], residual[64];
    snprintf(normed, sizeof normed, "~/norm%d_after", which);
    snprintf(scaled, sizeof scaled, "~/scaled%d", which);
    snprintf(sum, sizeof sum, "~/residual%d", which);
    if (d->norms != TF_NORMS_BEFORE) {
        TF_TRY(norm(b, d, normed, branch));
        branch = normed;
    }
    if (d->branch_scale != 0) {
        TF_TRY(tf_block_addf(b, "scale", scaled, branch, "by=%s", tf_real(d->branch_scale).text));
        branch = scaled;
    }
    snprintf(terms, sizeof terms, "%s %s", stream, branch);
    snprintf(residual, sizeof residual, "%s%s", *stream == '^' ? b->from : b->scope, *stream == '^' ? "" : stream + 1);
    return tf_block_addf(b, "add", sum, terms, "residual=%s", residual);
}

static bool is_sparse(const tf_decoder *d, int64_t layer)
{
    return d->moe.sparse && d->moe.sparse[layer];
}

static tfuse_status block(const tf_block *b, const tf_decoder *d, int64_t layer)
{
    const char *out = d->plain ? "~/fc2" : "~/down", *input = NULL;
    if (d->norms != TF_NORMS_AFTER)
        TF_TRY(norm(b, d, "~/norm1", "^"));
    TF_TRY(projections(b, d));
    TF_TRY(attention(b, d, layer));
    TF_TRY(tf_block_addf(b, "linear", "~/output", "~/attention", "out=/stream:%lld bias=%d", (long long)d->hidden, d->out_bias));
    TF_TRY(join(b, d, "^", "~/output", 1));
    TF_TRY(ffn_input(b, d, &input));
    if (is_sparse(d, layer))
        TF_TRY(tf_moe_nodes(b, d, &out));
    else
        TF_TRY((d->plain ? plain_ffn : gated_ffn)(b, d, input));
    return join(b, d, "~/residual1", out, 2);
}

static tfuse_status head(const tf_block *b, const tf_decoder *d)
{
    const char *out = "head";
    TF_TRY(norm(b, d, "norm", "^"));
    TF_TRY(tf_block_addf(b, "linear", "head", "norm", "out=!/vocab:%lld bias=%d%s", (long long)d->vocab, d->head_bias,
                         d->tied ? " weight=@embeddings.weight" : ""));
    if (d->logit_scale != 0) {
        TF_TRY(tf_block_addf(b, "scale", "scaled", out, "by=%s", tf_real(d->logit_scale).text));
        out = "scaled";
    }
    if (d->logit_cap > 0) {
        TF_TRY(tf_block_addf(b, "softcap", "logits", out, "cap=%s", tf_real(d->logit_cap).text));
        out = "logits";
    }
    return tf_graph_output(b->env, b->g, out);
}

tfuse_status tf_decoder_nodes(tf_env *env, tf_graph *g, const tf_decoder *d)
{
    char scope[32], from[48] = "embeddings";
    TF_TRY(tf_graph_add(env, g, "input", "tokens", "", "kind=tokens"));
    TF_TRY(tf_addf(env, g, "embedding", "embeddings", "tokens", "rows=!/vocab:%lld of=/stream:%lld scale=%s", (long long)d->vocab,
                   (long long)d->hidden, tf_real(d->embed_scale > 0 ? d->embed_scale : 1).text));
    for (int64_t i = 0; i < d->layers; i++) {
        snprintf(scope, sizeof scope, "layer.%lld", (long long)i);
        const tf_block b = {env, g, scope, from};
        TF_TRY(block(&b, d, i));
        snprintf(from, sizeof from, "%s/residual2", scope);
    }
    return head(&(tf_block){env, g, "", from}, d);
}

/* Each expert of each layer is a tensor or three by name: what a config may ask for is bounded by more than any model has. */
static tfuse_status check_experts(tf_env *env, const tfuse_model *m, const tf_decoder *d)
{
    return !d->moe.sparse || d->moe.experts <= MOST_EXPERTS / d->layers
               ? TFUSE_OK
               : tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: %lld experts in each of %lld layers are more than the %d in all that are read",
                         tf_model_label(m), (long long)d->moe.experts, (long long)d->layers, MOST_EXPERTS);
}

tfuse_status tf_decoder_build(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_decoder *d)
{
    TF_TRY(check_experts(env, m, d));
    TF_TRY(tf_decoder_nodes(env, g, d));
    return tf_decoder_names(env, m, g, d);
}
