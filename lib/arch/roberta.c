/* SPDX-License-Identifier: Apache-2.0
 *
 * roberta.c: RoBERTa (Liu et al. 2019): BERT whose positions are counted from after the padding's id, and whose heads have other names; a sentence is
 * classified from its first token through a linear and tanh.
 */
#include "arch/encoder.h"

static const tf_name_rule pooler_names[] = {
    {"pooler.weight", "roberta.pooler.dense.weight"},
    {"pooler.bias", "roberta.pooler.dense.bias"},
};
static const tf_name_rule word_names[] = {
    {"transform.weight", "lm_head.dense.weight"},
    {"transform.bias", "lm_head.dense.bias"},
    {"transform/norm.gain", "lm_head.layer_norm.weight"},
    {"transform/norm.bias", "lm_head.layer_norm.bias"},
};
static const tf_name_rule sequence_names[] = {
    {"before.weight", "classifier.dense.weight"},
    {"before.bias", "classifier.dense.bias"},
    {"classifier.weight", "classifier.out_proj.weight"},
    {"classifier.bias", "classifier.out_proj.bias"},
};

static tfuse_status name_words(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_encoder *e)
{
    TF_TRY(tf_apply_names(env, g, word_names, TF_LEN(word_names), 0));
    TF_TRY(tf_store_tied(env, g, m, "words.bias", "lm_head.bias", "lm_head.decoder.bias"));
    return e->tied ? TFUSE_OK : tf_graph_store(env, g, "words.weight", "lm_head.decoder.weight");
}

static tfuse_status name_head(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_encoder *e, const char *drop)
{
    const char *table = *drop ? "embeddings.word_embeddings.weight" : "roberta.embeddings.word_embeddings.weight";
    TF_TRY(tf_encoder_name_table(env, m, g, e, table, "lm_head.decoder.weight"));
    if (e->pooler)
        TF_TRY(tf_apply_names_without(env, g, pooler_names, TF_LEN(pooler_names), 0, drop));
    if (e->head == TF_HEAD_WORDS)
        return name_words(env, m, g, e);
    if (e->head == TF_HEAD_SEQUENCE)
        return tf_apply_names(env, g, sequence_names, TF_LEN(sequence_names), 0);
    return e->head == TF_HEAD_NONE ? TFUSE_OK : tf_encoder_name_classes(env, m, g);
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_encoder e = {.between = "before", .head_activation = "gelu"};
    const bool bare = tf_model_find(m, "embeddings.word_embeddings.weight") != NULL;
    TF_TRY(tf_encoder_read(env, m, &e));
    TF_TRY(tf_config_int_or(env, m, "pad_token_id", 0, INT32_MAX, 1, &e.pad));
    TF_TRY(tf_encoder_read_head(env, m, "Roberta", &e));
    if (e.head == TF_HEAD_SEQUENCE)
        e.head_activation = "tanh";
    e.pooler = tf_model_find(m, bare ? "pooler.dense.weight" : "roberta.pooler.dense.weight") != NULL;
    TF_TRY(tf_encoder_nodes(env, g, &e));
    TF_TRY(tf_encoder_names(env, m, g, &e, bare ? "" : "roberta."));
    return name_head(env, m, g, &e, bare ? "roberta." : "");
}

const tf_arch tf_arch_roberta = {"roberta", NULL, build, NULL};
