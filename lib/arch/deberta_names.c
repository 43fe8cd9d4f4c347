/* SPDX-License-Identifier: Apache-2.0
 *
 * deberta_names.c: DeBERTa's tensors as Hugging Face's classes and the checkpoints of pretraining name them.
 */
#include "arch/deberta.h"
#include <stdio.h>
#include <string.h>

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
static const tf_name_rule detector_names[] = { /* the norm stands before the linear here */
    {"detector/norm.gain", "mask_predictions.LayerNorm.weight"},
    {"detector/norm.bias", "mask_predictions.LayerNorm.bias"},
    {"detector.weight", "mask_predictions.dense.weight"},
    {"detector.bias", "mask_predictions.dense.bias"},
    {"replaced.weight", "mask_predictions.classifier.weight"},
    {"replaced.bias", "mask_predictions.classifier.bias"},
};
static const tf_name_rule sequence_names[] = {
    {"before.weight", "pooler.dense.weight"},
    {"before.bias", "pooler.dense.bias"},
    {"classifier.weight", "classifier.weight"},
    {"classifier.bias", "classifier.bias"},
};

typedef struct naming {
    tf_env *env;
    const tfuse_model *m;
    tf_graph *g;
    const tf_deberta *c;
} naming;

/* A stored name, or an expression with one, without `drop` and with the network's prefix. */
static void write_stored(const naming *n, const char *rule, int64_t layer, char *out, size_t size)
{
    char full[160];
    tf_with_layer(rule, layer, full, sizeof full);
    const char *open = strchr(full, '('), *name = open ? open + 1 : full;
    const size_t drop = strlen(n->c->drop);
    snprintf(out, size, "%.*s%s%s", (int)(name - full), full, n->c->stored, strncmp(name, n->c->drop, drop) == 0 ? name + drop : name);
}

static tfuse_status use(const naming *n, bool on, const tf_name_rule *rules, size_t count)
{
    char logical[128], scoped[128], stored[200];
    for (size_t r = 0; r < count && on; r++) {
        const int64_t times = strstr(rules[r].logical, "%d") ? n->c->e.layers : 1;
        snprintf(scoped, sizeof scoped, "%s%s", n->c->scope, rules[r].logical);
        for (int64_t i = 0; i < times; i++) {
            write_stored(n, rules[r].stored, i, stored, sizeof stored);
            TF_TRY(tf_graph_store(n->env, n->g, tf_with_layer(scoped, i, logical, sizeof logical), stored));
        }
    }
    return TFUSE_OK;
}

/* A tensor that may be stored a second time. */
static tfuse_status use_twice(const naming *n, const char *logical, const char *stored, const char *again)
{
    char full[128], first[160], second[160];
    snprintf(full, sizeof full, "%s%s", n->c->scope, logical);
    write_stored(n, stored, 0, first, sizeof first);
    write_stored(n, again, 0, second, sizeof second);
    return tf_store_tied(n->env, n->g, n->m, full, first, second);
}

static tfuse_status use_one(const naming *n, bool on, const char *logical, const char *stored)
{
    const tf_name_rule rule = {logical, stored};
    return use(n, on, &rule, 1);
}

static tfuse_status name_attention(const naming *n)
{
    static const char *const roles[] = {"query", "key", "value"};
    const tf_deberta *c = n->c;
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
    const bool legacy = !n->c->new_words;
    TF_TRY(use(n, legacy, word_names, TF_LEN(word_names)));
    TF_TRY(use(n, !legacy, new_word_names, TF_LEN(new_word_names)));
    if (legacy)
        TF_TRY(use_twice(n, "words.bias", "cls.predictions.bias", "cls.predictions.decoder.bias"));
    return use_one(n, !n->c->e.tied, "words.weight", "cls.predictions.decoder.weight");
}

static tfuse_status name_head(const naming *n)
{
    if (n->c->words_beside)
        TF_TRY(name_words(n));
    switch (n->c->e.head) {
    case TF_HEAD_NONE:
        return TFUSE_OK;
    case TF_HEAD_WORDS:
        return name_words(n);
    case TF_HEAD_REPLACED:
        return use(n, true, detector_names, TF_LEN(detector_names));
    case TF_HEAD_SEQUENCE:
        return use(n, true, sequence_names, TF_LEN(sequence_names));
    case TF_HEAD_TOKENS:
        return tf_encoder_name_classes(n->env, n->m, n->g);
    }
    return TFUSE_OK;
}

/* The table of words; a tied head's copy of it, and the generator's in a network that shares it, may be stored again. */
static tfuse_status name_table(const naming *n)
{
    static const char table[] = "deberta.embeddings.word_embeddings.weight";
    const tf_deberta *c = n->c;
    if (c->shares)
        return TFUSE_OK;
    if (c->only_delta)
        return use_one(n, true, "embeddings/delta.weight", "deberta.embeddings.word_embeddings._weight");
    TF_TRY(use_one(n, c->delta, "embeddings/delta.weight", "deberta.embeddings.word_embeddings._weight"));
    return c->e.head == TF_HEAD_WORDS && c->e.tied ? use_twice(n, "embeddings/tokens.weight", table, "cls.predictions.decoder.weight")
                                                   : use_one(n, true, "embeddings/tokens.weight", table);
}

tfuse_status tf_deberta_names(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_deberta *c)
{
    const naming own = {env, m, g, c}, *n = &own;
    TF_TRY(name_table(n));
    TF_TRY(use(n, true, layer_names, TF_LEN(layer_names)));
    TF_TRY(name_attention(n));
    TF_TRY(use_one(n, c->placed || c->side_placed, "embeddings/positions.weight", "deberta.embeddings.position_embeddings.weight"));
    TF_TRY(use_one(n, c->delta_positions, "embeddings/position_delta.weight", "deberta.embeddings.position_embeddings._weight"));
    TF_TRY(use_one(n, c->e.types > 0, "embeddings/types.weight", "deberta.embeddings.token_type_embeddings.weight"));
    TF_TRY(use_one(n, c->table != c->e.hidden, "embeddings/projected.weight", "deberta.embeddings.embed_proj.weight"));
    TF_TRY(use_one(n, true, c->norm_rel ? "relative/table.weight" : "relative.weight", "deberta.encoder.rel_embeddings.weight"));
    TF_TRY(use(n, c->norm_rel, norm_rel_names, TF_LEN(norm_rel_names)));
    TF_TRY(use(n, c->kernel > 0, conv_names, TF_LEN(conv_names)));
    TF_TRY(name_head(n));
    return *c->scope ? TFUSE_OK : tf_graph_buffer(env, g, "*embeddings.position_ids");
}
