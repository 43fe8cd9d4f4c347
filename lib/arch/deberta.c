/* SPDX-License-Identifier: Apache-2.0
 *
 * deberta.c: DeBERTa, v2 and v3 (He et al. 2021; He et al. 2023), with the heads of Hugging Face's DebertaV2 classes, and the first DeBERTa, which packs
 * query, key and value inside each head and has no buckets. One table of relative positions serves all layers; with share_att_key it goes through
 * each layer's own query and key weights. v2-xlarge adds a convolution of the embeddings to the first layer. Checkpoints that were trained with embeddings as
 * differences to a generator's may keep these (`_weight`) beside the sums: they are carried along, in the same coordinates.
 */
#include "arch/encoder.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct config {
    tf_encoder e;      /* sizes, heads */
    int64_t table;     /* width of the table of words */
    int64_t span, buckets, most, kernel; /* kernel: of the convolution, 0 for none */
    bool first, c2p, p2c, shared, norm_rel, placed, delta;
    const char *conv_activation;
} config;

/* ---- config.json ---- */

/* "p2c|c2p", or a list. */
static bool attends(const tfuse_model *m, const char *kind)
{
    const json_t *types = json_object_get(m->config, "pos_att_type");
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *item = json_string_value(json_array_get(types, i));
        if (item && !strcmp(item, kind))
            return true;
    }
    return json_is_string(types) && strstr(json_string_value(types), kind);
}

static tfuse_status read_positions(tf_env *env, const tfuse_model *m, config *c)
{
    bool relative = false;
    int64_t most = 0;
    const char *norm = NULL;
    TF_TRY(tf_config_bool_or(env, m, "relative_attention", false, &relative));
    TF_TRY(tf_config_int_or(env, m, "max_relative_positions", INT32_MIN, INT32_MAX / 4, -1, &most));
    TF_TRY(tf_config_int_or(env, m, "position_buckets", INT32_MIN, INT32_MAX / 4, -1, &c->buckets));
    TF_TRY(tf_config_text_or(env, m, "norm_rel_ebd", "none", &norm));
    TF_TRY(tf_config_bool_or(env, m, "share_att_key", false, &c->shared));
    TF_TRY(tf_config_bool_or(env, m, "position_biased_input", true, &c->placed));
    c->most = most > 0 ? most : c->e.positions;
    c->buckets = c->first || c->buckets < 0 ? 0 : c->buckets;
    c->span = c->buckets > 0 ? c->buckets : c->most;
    c->c2p = attends(m, "c2p");
    c->p2c = attends(m, "p2c");
    c->norm_rel = !c->first && strstr(norm, "layer_norm");
    c->shared = c->shared && !c->first;
    return relative && (c->c2p || c->p2c)
               ? TFUSE_OK
               : tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: only models with relative_attention and pos_att_type c2p or p2c are known",
                         tf_model_label(m));
}

static tfuse_status read_config(tf_env *env, const tfuse_model *m, bool first, config *c)
{
    *c = (config){.first = first, .e = {.pad = -1, .between = "before"}};
    TF_TRY(tf_encoder_read(env, m, &c->e));
    TF_TRY(tf_config_int_or(env, m, "type_vocab_size", 0, 1 << 16, 0, &c->e.types));
    TF_TRY(tf_config_real_or(env, m, "layer_norm_eps", 1e-7, &c->e.eps));
    TF_TRY(tf_config_int_or(env, m, "embedding_size", 1, 1 << 20, c->e.hidden, &c->table));
    TF_TRY(tf_config_int_or(env, m, "conv_kernel_size", 0, 4095, 0, &c->kernel));
    TF_TRY(tf_read_activation(env, m, tf_config_has(m, "conv_act") ? "conv_act" : "hidden_act", "tanh", &c->conv_activation));
    TF_TRY(tf_encoder_read_head(env, m, first ? "Deberta" : "DebertaV2", &c->e));
    c->e.head_activation = c->e.activation;
    if (c->e.head == TF_HEAD_SEQUENCE)
        TF_TRY(tf_read_activation(env, m, "pooler_hidden_act", "gelu", &c->e.head_activation));
    c->e.words_width = c->table;
    c->kernel = first ? 0 : c->kernel;
    c->delta = tf_model_find(m, "deberta.embeddings.word_embeddings._weight") != NULL;
    return read_positions(env, m, c);
}

/* ---- the model ---- */

static tfuse_status norm(const tf_block *b, const config *c, const char *name, const char *input)
{
    return tf_block_addf(b, "layernorm", name, input, "eps=%s", tf_real(c->e.eps).text);
}

/* A difference to a generator's table, which nobody reads: the sum binds its columns to the table's axis. */
static tfuse_status delta(const tf_block *b, const config *c)
{
    TF_TRY(tf_block_addf(b, "embedding", "embeddings/delta", "input_ids", "rows=!/vocab:%lld of=/words:%lld", (long long)c->e.vocab, (long long)c->table));
    return tf_block_addf(b, "add", "embeddings/apart", "embeddings/tokens embeddings/delta", "residual=%s", "embeddings/tokens");
}

static tfuse_status embeddings(const tf_block *b, const config *c)
{
    const bool projected = c->table != c->e.hidden;
    const char *axis = projected ? "words" : "stream";
    char sum[48] = "embeddings/tokens";
    TF_TRY(tf_block_addf(b, "input", "input_ids", "", "kind=tokens"));
    TF_TRY(tf_block_addf(b, "input", "attention_mask", "", "kind=tokens default=1"));
    TF_TRY(tf_block_addf(b, "embedding", "embeddings/tokens", "input_ids", "rows=!/vocab:%lld of=/%s:%lld", (long long)c->e.vocab, axis,
                         (long long)c->table));
    if (c->delta)
        TF_TRY(delta(b, c));
    if (c->placed) {
        TF_TRY(tf_block_addf(b, "positions", "embeddings/positions", "input_ids", "rows=!positions:%lld of=/%s:%lld", (long long)c->e.positions, axis,
                             (long long)c->table));
        TF_TRY(tf_block_addf(b, "add", "embeddings/placed", "embeddings/tokens embeddings/positions", "residual=%s", sum));
        snprintf(sum, sizeof sum, "embeddings/placed");
    }
    if (c->e.types > 0) {
        TF_TRY(tf_block_addf(b, "input", "token_type_ids", "", "kind=tokens default=0"));
        TF_TRY(tf_block_addf(b, "embedding", "embeddings/types", "token_type_ids", "rows=!types:%lld of=/%s:%lld", (long long)c->e.types, axis,
                             (long long)c->table));
        char both[96];
        snprintf(both, sizeof both, "%s embeddings/types", sum);
        TF_TRY(tf_block_addf(b, "add", "embeddings/typed", both, "residual=%s", sum));
        snprintf(sum, sizeof sum, "embeddings/typed");
    }
    if (projected) {
        TF_TRY(tf_block_addf(b, "linear", "embeddings/projected", sum, "out=/stream:%lld bias=0", (long long)c->e.hidden));
        snprintf(sum, sizeof sum, "embeddings/projected");
    }
    TF_TRY(norm(b, c, "embeddings/norm", sum));
    return tf_block_addf(b, "mask_tokens", "embeddings", "embeddings/norm attention_mask", "%s", "");
}

static tfuse_status relative(const tf_block *b, const config *c)
{
    TF_TRY(tf_block_addf(b, "parameter", c->norm_rel ? "relative/table" : "relative", "", "rows=%lld of=/stream:%lld", (long long)(2 * c->span),
                         (long long)c->e.hidden));
    return c->norm_rel ? norm(b, c, "relative", "relative/table") : TFUSE_OK;
}

static tfuse_status attention(const tf_block *b, const config *c)
{
    const long long heads = c->e.heads, inner = c->e.hidden / c->e.heads;
    const char *const own[] = {"~/query", "~/key", "~/value"};
    for (int i = 0; i < 3; i++) /* the first DeBERTa's keys have no bias */
        TF_TRY(tf_block_addf(b, "linear", own[i], "^", "out=heads:%lld*%s:%lld bias=%d", heads, i < 2 ? "qk" : "vo", inner, !(c->first && i == 1)));
    if (c->shared) {
        TF_TRY(tf_block_addf(b, "linear", "~/position_key", "relative", "out=heads:%lld*qk:%lld weight=@%s/key.weight bias=@%s/key.bias", heads,
                             inner, b->scope, b->scope));
        TF_TRY(tf_block_addf(b, "linear", "~/position_query", "relative", "out=heads:%lld*qk:%lld weight=@%s/query.weight bias=@%s/query.bias", heads,
                             inner, b->scope, b->scope));
    } else {
        TF_TRY(tf_block_addf(b, "linear", "~/position_key", "relative", "out=heads:%lld*qk:%lld bias=%d", heads, inner, !c->first));
        TF_TRY(tf_block_addf(b, "linear", "~/position_query", "relative", "out=heads:%lld*qk:%lld", heads, inner));
    }
    char buckets[80] = "";
    if (c->buckets > 0)
        snprintf(buckets, sizeof buckets, " buckets=%lld max_distance=%lld", (long long)c->buckets, (long long)c->most);
    return tf_block_addf(b, "disentangled", "~/attention", "~/query ~/key ~/value ~/position_key ~/position_query attention_mask",
                         "span=%lld%s c2p=%d p2c=%d", (long long)c->span, buckets, c->c2p, c->p2c);
}

static tfuse_status block(const tf_block *b, const config *c)
{
    const long long width = c->e.hidden;
    TF_TRY(attention(b, c));
    TF_TRY(tf_block_addf(b, "linear", "~/output", "~/attention", "out=/stream:%lld", width));
    TF_TRY(tf_block_addf(b, "add", "~/residual1", "^ ~/output", "residual=%s", b->from));
    TF_TRY(norm(b, c, "~/norm1", "~/residual1"));
    TF_TRY(tf_block_addf(b, "linear", "~/fc1", "~/norm1", "out=ffn:%lld", (long long)c->e.ffn));
    TF_TRY(tf_block_addf(b, "activation", "~/activation", "~/fc1", "kind=%s", c->e.activation));
    TF_TRY(tf_block_addf(b, "linear", "~/fc2", "~/activation", "out=/stream:%lld", width));
    TF_TRY(tf_block_addf(b, "add", "~/residual2", "~/norm1 ~/fc2", "residual=%s/norm1", b->scope));
    return norm(b, c, "~/norm2", "~/residual2");
}

/* After the first layer: its output and a convolution of the embeddings. */
static tfuse_status convolution(const tf_block *b, const config *c)
{
    TF_TRY(tf_block_addf(b, "conv_tokens", "convolution", "embeddings", "out=/stream:%lld kernel=%lld", (long long)c->e.hidden, (long long)c->kernel));
    TF_TRY(tf_block_addf(b, "mask_tokens", "convolution/masked", "convolution attention_mask", "%s", ""));
    TF_TRY(tf_block_addf(b, "activation", "convolution/activation", "convolution/masked", "kind=%s", c->conv_activation));
    TF_TRY(tf_block_addf(b, "add", "convolution/sum", "^ convolution/activation", "residual=%s", b->from));
    TF_TRY(norm(b, c, "convolution/norm", "convolution/sum"));
    return tf_block_addf(b, "mask_tokens", "convolution/out", "convolution/norm attention_mask", "%s", "");
}

static tfuse_status nodes(tf_env *env, tf_graph *g, const config *c)
{
    char scope[32], from[48] = "embeddings";
    const tf_block top = {env, g, "", from};
    TF_TRY(embeddings(&top, c));
    TF_TRY(relative(&top, c));
    for (int64_t i = 0; i < c->e.layers; i++) {
        snprintf(scope, sizeof scope, "layer.%lld", (long long)i);
        TF_TRY(block(&(tf_block){env, g, scope, from}, c));
        snprintf(from, sizeof from, "%s/norm2", scope);
        if (i == 0 && c->kernel > 0) {
            TF_TRY(convolution(&top, c));
            snprintf(from, sizeof from, "convolution/out");
        }
    }
    return tf_encoder_head_nodes(&top, &c->e);
}

/* ---- names ---- */

static const tf_name_rule layer_names[] = {
    {"layer.%d/output.weight", "deberta.encoder.layer.%d.attention.output.dense.weight"},
    {"layer.%d/output.bias", "deberta.encoder.layer.%d.attention.output.dense.bias"},
    {"layer.%d/norm1.gain", "deberta.encoder.layer.%d.attention.output.LayerNorm.weight"},
    {"layer.%d/norm1.bias", "deberta.encoder.layer.%d.attention.output.LayerNorm.bias"},
    {"layer.%d/fc1.weight", "deberta.encoder.layer.%d.intermediate.dense.weight"},
    {"layer.%d/fc1.bias", "deberta.encoder.layer.%d.intermediate.dense.bias"},
    {"layer.%d/fc2.weight", "deberta.encoder.layer.%d.output.dense.weight"},
    {"layer.%d/fc2.bias", "deberta.encoder.layer.%d.output.dense.bias"},
    {"layer.%d/norm2.gain", "deberta.encoder.layer.%d.output.LayerNorm.weight"},
    {"layer.%d/norm2.bias", "deberta.encoder.layer.%d.output.LayerNorm.bias"},
    {"embeddings/norm.gain", "deberta.embeddings.LayerNorm.weight"},
    {"embeddings/norm.bias", "deberta.embeddings.LayerNorm.bias"},
};
static const tf_name_rule apart_names[] = {
    {"layer.%d/query.weight", "deberta.encoder.layer.%d.attention.self.query_proj.weight"},
    {"layer.%d/query.bias", "deberta.encoder.layer.%d.attention.self.query_proj.bias"},
    {"layer.%d/key.weight", "deberta.encoder.layer.%d.attention.self.key_proj.weight"},
    {"layer.%d/key.bias", "deberta.encoder.layer.%d.attention.self.key_proj.bias"},
    {"layer.%d/value.weight", "deberta.encoder.layer.%d.attention.self.value_proj.weight"},
    {"layer.%d/value.bias", "deberta.encoder.layer.%d.attention.self.value_proj.bias"},
};
static const tf_name_rule position_names[] = {
    {"layer.%d/position_key.weight", "deberta.encoder.layer.%d.attention.self.pos_key_proj.weight"},
    {"layer.%d/position_key.bias", "deberta.encoder.layer.%d.attention.self.pos_key_proj.bias"},
    {"layer.%d/position_query.weight", "deberta.encoder.layer.%d.attention.self.pos_query_proj.weight"},
    {"layer.%d/position_query.bias", "deberta.encoder.layer.%d.attention.self.pos_query_proj.bias"},
};
static const tf_name_rule first_names[] = {
    {"layer.%d/query.bias", "deberta.encoder.layer.%d.attention.self.q_bias"},
    {"layer.%d/value.bias", "deberta.encoder.layer.%d.attention.self.v_bias"},
    {"layer.%d/position_key.weight", "deberta.encoder.layer.%d.attention.self.pos_proj.weight"},
    {"layer.%d/position_query.weight", "deberta.encoder.layer.%d.attention.self.pos_q_proj.weight"},
    {"layer.%d/position_query.bias", "deberta.encoder.layer.%d.attention.self.pos_q_proj.bias"},
};
static const tf_name_rule norm_rel_names[] = {
    {"relative.gain", "deberta.encoder.LayerNorm.weight"},
    {"relative.bias", "deberta.encoder.LayerNorm.bias"},
};
static const tf_name_rule conv_names[] = {
    {"convolution.weight", "deberta.encoder.conv.conv.weight"},
    {"convolution.bias", "deberta.encoder.conv.conv.bias"},
    {"convolution/norm.gain", "deberta.encoder.conv.LayerNorm.weight"},
    {"convolution/norm.bias", "deberta.encoder.conv.LayerNorm.bias"},
};
static const tf_name_rule word_names[] = {
    {"transform.weight", "cls.predictions.transform.dense.weight"},
    {"transform.bias", "cls.predictions.transform.dense.bias"},
    {"transform/norm.gain", "cls.predictions.transform.LayerNorm.weight"},
    {"transform/norm.bias", "cls.predictions.transform.LayerNorm.bias"},
};
static const tf_name_rule new_word_names[] = { /* not legacy */
    {"transform.weight", "lm_predictions.lm_head.dense.weight"},
    {"transform.bias", "lm_predictions.lm_head.dense.bias"},
    {"transform/norm.gain", "lm_predictions.lm_head.LayerNorm.weight"},
    {"transform/norm.bias", "lm_predictions.lm_head.LayerNorm.bias"},
    {"words.bias", "lm_predictions.lm_head.bias"},
};
static const tf_name_rule sequence_names[] = {
    {"before.weight", "pooler.dense.weight"},
    {"before.bias", "pooler.dense.bias"},
    {"classifier.weight", "classifier.weight"},
    {"classifier.bias", "classifier.bias"},
};
static const tf_name_rule class_names[] = {
    {"classifier.weight", "classifier.weight"},
    {"classifier.bias", "classifier.bias"},
};
static const tf_name_rule answer_names[] = {
    {"classifier.weight", "qa_outputs.weight"},
    {"classifier.bias", "qa_outputs.bias"},
};

typedef struct naming {
    tf_env *env;
    const tfuse_model *m;
    tf_graph *g;
    const config *c;
    const char *drop; /* "deberta." where the encoder is saved alone */
} naming;

static tfuse_status use(const naming *n, bool on, const tf_name_rule *rules, size_t count)
{
    return on ? tf_apply_names_without(n->env, n->g, rules, count, n->c->e.layers, n->drop) : TFUSE_OK;
}

static tfuse_status use_one(const naming *n, bool on, const char *logical, const char *stored)
{
    const tf_name_rule rule = {logical, stored};
    return use(n, on, &rule, 1);
}

static tfuse_status name_attention(const naming *n)
{
    static const char *const roles[] = {"query", "key", "value"};
    const config *c = n->c;
    TF_TRY(use(n, !c->first, apart_names, TF_LEN(apart_names)));
    TF_TRY(use(n, !c->first && !c->shared, position_names, TF_LEN(position_names)));
    TF_TRY(use(n, c->first, first_names, TF_LEN(first_names)));
    for (int i = 0; i < 3 && c->first; i++) {
        char logical[64], stored[128];
        snprintf(logical, sizeof logical, "layer.%%d/%s.weight", roles[i]);
        snprintf(stored, sizeof stored, "within(deberta.encoder.layer.%%d.attention.self.in_proj.weight,%lld,%d,3)", (long long)c->e.heads, i);
        TF_TRY(use_one(n, true, logical, stored));
    }
    return TFUSE_OK;
}

static tfuse_status name_words(const naming *n)
{
    const bool legacy = !tf_model_find(n->m, "lm_predictions.lm_head.dense.weight");
    TF_TRY(use(n, legacy, word_names, TF_LEN(word_names)));
    TF_TRY(use(n, !legacy, new_word_names, TF_LEN(new_word_names)));
    if (legacy)
        TF_TRY(tf_store_tied(n->env, n->g, n->m, "words.bias", "cls.predictions.bias", "cls.predictions.decoder.bias"));
    return use_one(n, !n->c->e.tied, "words.weight", "cls.predictions.decoder.weight");
}

static tfuse_status name_head(const naming *n)
{
    const bool answers = tf_model_find(n->m, "qa_outputs.weight") != NULL;
    switch (n->c->e.head) {
    case TF_HEAD_NONE:
        return TFUSE_OK;
    case TF_HEAD_WORDS:
        return name_words(n);
    case TF_HEAD_SEQUENCE:
        return use(n, true, sequence_names, TF_LEN(sequence_names));
    case TF_HEAD_TOKENS:
        return answers ? use(n, true, answer_names, TF_LEN(answer_names)) : use(n, true, class_names, TF_LEN(class_names));
    }
    return TFUSE_OK;
}

static tfuse_status name_all(const naming *n)
{
    const config *c = n->c;
    const char *table = *n->drop ? "embeddings.word_embeddings.weight" : "deberta.embeddings.word_embeddings.weight";
    TF_TRY(c->e.head == TF_HEAD_WORDS && c->e.tied
               ? tf_store_tied(n->env, n->g, n->m, "embeddings/tokens.weight", table, "cls.predictions.decoder.weight")
               : tf_graph_store(n->env, n->g, "embeddings/tokens.weight", table));
    TF_TRY(use(n, true, layer_names, TF_LEN(layer_names)));
    TF_TRY(name_attention(n));
    TF_TRY(use_one(n, c->delta, "embeddings/delta.weight", "deberta.embeddings.word_embeddings._weight"));
    TF_TRY(use_one(n, c->placed, "embeddings/positions.weight", "deberta.embeddings.position_embeddings.weight"));
    TF_TRY(use_one(n, c->e.types > 0, "embeddings/types.weight", "deberta.embeddings.token_type_embeddings.weight"));
    TF_TRY(use_one(n, c->table != c->e.hidden, "embeddings/projected.weight", "deberta.embeddings.embed_proj.weight"));
    TF_TRY(use_one(n, true, c->norm_rel ? "relative/table.weight" : "relative.weight", "deberta.encoder.rel_embeddings.weight"));
    TF_TRY(use(n, c->norm_rel, norm_rel_names, TF_LEN(norm_rel_names)));
    TF_TRY(use(n, c->kernel > 0, conv_names, TF_LEN(conv_names)));
    TF_TRY(tf_graph_buffer(n->env, n->g, "*embeddings.position_ids"));
    return name_head(n);
}

static tfuse_status build_any(tf_env *env, const tfuse_model *m, tf_graph *g, bool first)
{
    config c;
    TF_TRY(read_config(env, m, first, &c));
    TF_TRY(nodes(env, g, &c));
    return name_all(&(naming){env, m, g, &c, tf_model_find(m, "embeddings.word_embeddings.weight") ? "deberta." : ""});
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    return build_any(env, m, g, false);
}

static tfuse_status build_first(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    return build_any(env, m, g, true);
}

const tf_arch tf_arch_deberta_v2 = {"deberta-v2", NULL, build, NULL};
const tf_arch tf_arch_deberta = {"deberta", NULL, build_first, NULL};
