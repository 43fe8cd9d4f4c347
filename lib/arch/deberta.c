/* SPDX-License-Identifier: Apache-2.0
 *
 * deberta.c: DeBERTa, v2 and v3 (He et al. 2021; He et al. 2023), with the heads of Hugging Face's DebertaV2 classes, and the first DeBERTa, which packs
 * query, key and value inside each head and has no buckets. One table of relative positions serves all layers; with share_att_key it goes through
 * each layer's own query and key weights. v2-xlarge adds a convolution of the embeddings to the first layer.
 *
 * Checkpoints of pretraining list no architecture; what they hold says what they are: a detector of replaced tokens (mask_predictions), a head for masked
 * words (lm_predictions), before which the mask decoder stands where there is a table of positions that the input does not get. Where the detector is, the
 * head for words is carried, not run. v3's embeddings were trained as a difference to a generator's (gradient-disentangled embedding sharing): such
 * checkpoints may keep it (`_weight`) beside the sum, and it is carried in the same coordinates.
 */
#include "arch/deberta.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

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

static tfuse_status read_positions(tf_env *env, const tfuse_model *m, tf_deberta *c)
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

static bool has(const tfuse_model *m, const tf_deberta *c, const char *name)
{
    char full[160];
    const size_t drop = strlen(c->drop);
    snprintf(full, sizeof full, "%s%s", c->stored, strncmp(name, c->drop, drop) == 0 ? name + drop : name);
    return tf_model_find(m, full) != NULL;
}

void tf_deberta_find(const tfuse_model *m, tf_deberta *c)
{
    const bool sum = has(m, c, "deberta.embeddings.word_embeddings.weight"), delta = has(m, c, "deberta.embeddings.word_embeddings._weight");
    c->delta = delta && sum;
    c->only_delta = delta && !sum;
    c->side_placed = !c->placed && has(m, c, "deberta.embeddings.position_embeddings.weight");
    c->delta_positions = has(m, c, "deberta.embeddings.position_embeddings._weight");
    c->new_words = has(m, c, "lm_predictions.lm_head.dense.weight");
    c->words_beside = c->new_words && c->e.head != TF_HEAD_WORDS;
}

/* A config that lists no architecture. */
static tf_encoder_head head_of_pretraining(const tfuse_model *m, const tf_deberta *c)
{
    return has(m, c, "mask_predictions.dense.weight")          ? TF_HEAD_REPLACED
           : has(m, c, "lm_predictions.lm_head.dense.weight") ? TF_HEAD_WORDS
                                                                : TF_HEAD_NONE;
}

tfuse_status tf_deberta_read(tf_env *env, const tfuse_model *m, bool first, tf_deberta *c)
{
    *c = (tf_deberta){.first = first, .e = {.pad = -1, .between = "before", .detector_norm = true}, .scope = "", .stored = "", .drop = ""};
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
    return read_positions(env, m, c);
}

/* ---- the model ---- */

static tfuse_status norm(const tf_block *b, const tf_deberta *c, const char *name, const char *input)
{
    return tf_block_addf(b, "layernorm", name, input, "eps=%s", tf_real(c->e.eps).text);
}

/* Of the width of the tables. */
typedef struct tables {
    const char *axis;
    long long width;
} tables;

static tables tables_of(const tf_deberta *c)
{
    return (tables){c->table != c->e.hidden ? "words" : "stream", c->table};
}

/* A table that the network does not read: the sum binds its columns to the axis of words. */
static tfuse_status carry(const tf_block *b, const tf_deberta *c, const char *op, const char *name, const char *rows, int64_t count)
{
    char sum[64], terms[96];
    const tables t = tables_of(c);
    snprintf(sum, sizeof sum, "%s/apart", name);
    snprintf(terms, sizeof terms, "~embeddings/tokens %s", name);
    TF_TRY(tf_block_addf(b, op, name, "input_ids", "rows=%s:%lld of=/%s:%lld", rows, (long long)count, t.axis, t.width));
    return tf_block_addf(b, "add", sum, terms, "residual=%sembeddings/tokens", b->scope);
}

/* The table of words: one's own, or another network's and a difference to it. */
static tfuse_status words(const tf_block *b, const tf_deberta *c)
{
    const tables t = tables_of(c);
    if (!c->only_delta)
        return tf_block_addf(b, "embedding", "~embeddings/tokens", "input_ids", "rows=!/vocab:%lld of=/%s:%lld%s", (long long)c->e.vocab, t.axis,
                             t.width, c->shares ? " weight=@generator/embeddings/tokens.weight" : "");
    TF_TRY(tf_block_addf(b, "embedding", "~embeddings/delta", "input_ids", "rows=!/vocab:%lld of=/%s:%lld", (long long)c->e.vocab, t.axis, t.width));
    return tf_block_addf(b, "add", "~embeddings/tokens", "generator/embeddings/tokens ~embeddings/delta", "residual=%s", "generator/embeddings/tokens");
}

/* Adds to the sum of embeddings that *sum names. */
static tfuse_status also(const tf_block *b, const char *term, const char *name, char *sum, size_t size)
{
    char terms[160];
    snprintf(terms, sizeof terms, "%s %s", sum, term);
    TF_TRY(tf_block_addf(b, "add", name, terms, "residual=%s%s", b->scope, sum + 1));
    snprintf(sum, size, "%s", name);
    return TFUSE_OK;
}

static tfuse_status aside(const tf_block *b, const tf_deberta *c)
{
    const tables t = tables_of(c);
    if (c->delta)
        TF_TRY(carry(b, c, "embedding", "~embeddings/delta", "!/vocab", c->e.vocab));
    if (c->delta_positions)
        TF_TRY(carry(b, c, "positions", "~embeddings/position_delta", "!positions", c->e.positions));
    if (c->side_placed && !tf_deberta_decodes(c))
        return carry(b, c, "positions", "~embeddings/positions", "!positions", c->e.positions);
    return c->side_placed ? tf_block_addf(b, "positions", "~embeddings/positions", "input_ids", "rows=!positions:%lld of=/%s:%lld",
                                          (long long)c->e.positions, t.axis, t.width)
                          : TFUSE_OK;
}

static tfuse_status embeddings(const tf_block *b, const tf_deberta *c)
{
    char sum[48] = "~embeddings/tokens";
    const tables t = tables_of(c);
    TF_TRY(words(b, c));
    TF_TRY(aside(b, c));
    if (c->placed) {
        TF_TRY(tf_block_addf(b, "positions", "~embeddings/positions", "input_ids", "rows=!positions:%lld of=/%s:%lld", (long long)c->e.positions, t.axis,
                             t.width));
        TF_TRY(also(b, "~embeddings/positions", "~embeddings/placed", sum, sizeof sum));
    }
    if (c->e.types > 0) {
        TF_TRY(tf_block_addf(b, "embedding", "~embeddings/types", "token_type_ids", "rows=!types:%lld of=/%s:%lld", (long long)c->e.types, t.axis,
                             t.width));
        TF_TRY(also(b, "~embeddings/types", "~embeddings/typed", sum, sizeof sum));
    }
    if (c->table != c->e.hidden) {
        TF_TRY(tf_block_addf(b, "linear", "~embeddings/projected", sum, "out=/stream:%lld bias=0", (long long)c->e.hidden));
        snprintf(sum, sizeof sum, "~embeddings/projected");
    }
    TF_TRY(norm(b, c, "~embeddings/norm", sum));
    return tf_block_addf(b, "mask_tokens", "~embeddings", "~embeddings/norm attention_mask", "%s", "");
}

static tfuse_status relative(const tf_block *b, const tf_deberta *c)
{
    TF_TRY(tf_block_addf(b, "parameter", c->norm_rel ? "~relative/table" : "~relative", "", "rows=%lld of=/stream:%lld", (long long)(2 * c->span),
                         (long long)c->e.hidden));
    return c->norm_rel ? norm(b, c, "~relative", "~relative/table") : TFUSE_OK;
}

static tfuse_status attention(const tf_block *b, const tf_deberta *c)
{
    const long long heads = c->e.heads, inner = c->e.hidden / c->e.heads;
    const char *const own[] = {"~/query", "~/key", "~/value"};
    char relative[48], buckets[80] = "";
    snprintf(relative, sizeof relative, "%srelative", c->scope);
    for (int i = 0; i < 3; i++) /* the first DeBERTa's keys have no bias */
        TF_TRY(tf_block_addf(b, "linear", own[i], "^", "out=heads:%lld*%s:%lld bias=%d", heads, i < 2 ? "qk" : "vo", inner, !(c->first && i == 1)));
    if (c->shared) {
        TF_TRY(tf_block_addf(b, "linear", "~/position_key", relative, "out=heads:%lld*qk:%lld weight=@%s/key.weight bias=@%s/key.bias", heads,
                             inner, b->scope, b->scope));
        TF_TRY(tf_block_addf(b, "linear", "~/position_query", relative, "out=heads:%lld*qk:%lld weight=@%s/query.weight bias=@%s/query.bias", heads,
                             inner, b->scope, b->scope));
    } else {
        TF_TRY(tf_block_addf(b, "linear", "~/position_key", relative, "out=heads:%lld*qk:%lld bias=%d", heads, inner, !c->first));
        TF_TRY(tf_block_addf(b, "linear", "~/position_query", relative, "out=heads:%lld*qk:%lld", heads, inner));
    }
    if (c->buckets > 0)
        snprintf(buckets, sizeof buckets, " buckets=%lld max_distance=%lld", (long long)c->buckets, (long long)c->most);
    return tf_block_addf(b, "disentangled", "~/attention", "~/query ~/key ~/value ~/position_key ~/position_query attention_mask",
                         "span=%lld%s c2p=%d p2c=%d", (long long)c->span, buckets, c->c2p, c->p2c);
}

/* After the first layer: its output and a convolution of the embeddings. */
static tfuse_status convolution(const tf_block *b, const tf_deberta *c)
{
    TF_TRY(tf_block_addf(b, "conv_tokens", "~convolution", "~embeddings", "out=/stream:%lld kernel=%lld", (long long)c->e.hidden, (long long)c->kernel));
    TF_TRY(tf_block_addf(b, "mask_tokens", "~convolution/masked", "~convolution attention_mask", "%s", ""));
    TF_TRY(tf_block_addf(b, "activation", "~convolution/activation", "~convolution/masked", "kind=%s", c->conv_activation));
    TF_TRY(tf_block_addf(b, "add", "~convolution/sum", "^ ~convolution/activation", "residual=%s", b->from));
    TF_TRY(norm(b, c, "~convolution/norm", "~convolution/sum"));
    return tf_block_addf(b, "mask_tokens", "~convolution/out", "~convolution/norm attention_mask", "%s", "");
}

static tfuse_status inputs(tf_env *env, tf_graph *g, const tf_deberta *c)
{
    if (tf_graph_find_node(g, "input_ids") < 0) {
        TF_TRY(tf_graph_add(env, g, "input", "input_ids", "", "kind=tokens"));
        TF_TRY(tf_graph_add(env, g, "input", "attention_mask", "", "kind=tokens default=1"));
    }
    return c->e.types > 0 && tf_graph_find_node(g, "token_type_ids") < 0
               ? tf_graph_add(env, g, "input", "token_type_ids", "", "kind=tokens default=0")
               : TFUSE_OK;
}

/* The head for words, behind the mask decoder where there is one; run or carried. */
static tfuse_status heads(const tf_block *b, const tf_deberta *c, const char *before_last)
{
    char from[64];
    tf_block top = *b;
    if (tf_deberta_decodes(c)) {
        TF_TRY(tf_deberta_decoder_nodes(b, c, before_last, from, sizeof from));
        top.from = from;
    }
    if (c->words_beside)
        TF_TRY(tf_encoder_word_nodes(&top, &c->e));
    return tf_encoder_head_nodes(c->e.head == TF_HEAD_WORDS ? &top : b, &c->e);
}

tfuse_status tf_deberta_nodes(tf_env *env, tf_graph *g, const tf_deberta *c)
{
    char scope[48], from[64], before[64] = "";
    const tf_block top = {env, g, c->scope, from};
    snprintf(from, sizeof from, "%sembeddings", c->scope);
    TF_TRY(inputs(env, g, c));
    TF_TRY(embeddings(&top, c));
    TF_TRY(relative(&top, c));
    for (int64_t i = 0; i < c->e.layers; i++) {
        const tf_block b = {env, g, scope, from};
        snprintf(scope, sizeof scope, "%slayer.%lld", c->scope, (long long)i);
        snprintf(before, sizeof before, "%s", from);
        TF_TRY(attention(&b, c));
        TF_TRY(tf_deberta_layer_end(&b, c, NULL));
        snprintf(from, sizeof from, "%s/norm2", scope);
        if (i == 0 && c->kernel > 0) {
            TF_TRY(convolution(&top, c));
            snprintf(from, sizeof from, "%sconvolution/out", c->scope);
        }
    }
    return heads(&top, c, before);
}

/* ---- the architectures ---- */

static tfuse_status check(tf_env *env, const tfuse_model *m, const tf_deberta *c)
{
    if (c->only_delta)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: deberta.embeddings.word_embeddings._weight is a difference to a generator's table, which is not here: "
                       "give the pair of both, or the sum as word_embeddings.weight", tf_model_label(m));
    return tf_deberta_check(env, m, c);
}

static tfuse_status build_any(tf_env *env, const tfuse_model *m, tf_graph *g, bool first)
{
    tf_deberta c;
    TF_TRY(tf_deberta_read(env, m, first, &c));
    c.drop = tf_model_find(m, "embeddings.word_embeddings.weight") ? "deberta." : "";
    if (!tf_config_has(m, "architectures"))
        c.e.head = head_of_pretraining(m, &c);
    tf_deberta_find(m, &c);
    TF_TRY(check(env, m, &c));
    TF_TRY(tf_deberta_nodes(env, g, &c));
    return tf_deberta_names(env, m, g, &c);
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
