/* SPDX-License-Identifier: Apache-2.0
 *
 * distilbert.c: DistilBERT (Sanh et al. 2019): BERT without token types and pooler, under names of its own.
 */
#include "arch/encoder.h"

static tfuse_status read_config(tf_env *env, const tfuse_model *m, tf_encoder *e)
{
    TF_TRY(tf_config_int(env, m, "dim", 1, 1 << 20, &e->hidden));
    TF_TRY(tf_config_int(env, m, "n_layers", 1, 4096, &e->layers));
    TF_TRY(tf_config_int(env, m, "n_heads", 1, 1 << 16, &e->heads));
    TF_TRY(tf_config_int(env, m, "hidden_dim", 1, 1 << 22, &e->ffn));
    TF_TRY(tf_config_int(env, m, "vocab_size", 1, 1 << 24, &e->vocab));
    TF_TRY(tf_config_int(env, m, "max_position_embeddings", 1, 1 << 24, &e->positions));
    TF_TRY(tf_config_bool_or(env, m, "tie_word_embeddings", true, &e->tied));
    TF_TRY(tf_read_activation(env, m, "activation", "gelu", &e->activation));
    return e->hidden % e->heads == 0 ? TFUSE_OK
                                     : tf_fail(env, TFUSE_EFORMAT, "%s: config.json: dim %lld is not divisible by n_heads %lld", tf_model_label(m),
                                               (long long)e->hidden, (long long)e->heads);
}

static const tf_name_rule names[] = {
    {"embeddings/positions.weight", "distilbert.embeddings.position_embeddings.weight"},
    {"embeddings.gain", "distilbert.embeddings.LayerNorm.weight"},
    {"embeddings.bias", "distilbert.embeddings.LayerNorm.bias"},
    {"layer.%d/query.weight", "distilbert.transformer.layer.%d.attention.q_lin.weight"},
    {"layer.%d/query.bias", "distilbert.transformer.layer.%d.attention.q_lin.bias"},
    {"layer.%d/key.weight", "distilbert.transformer.layer.%d.attention.k_lin.weight"},
    {"layer.%d/key.bias", "distilbert.transformer.layer.%d.attention.k_lin.bias"},
    {"layer.%d/value.weight", "distilbert.transformer.layer.%d.attention.v_lin.weight"},
    {"layer.%d/value.bias", "distilbert.transformer.layer.%d.attention.v_lin.bias"},
    {"layer.%d/output.weight", "distilbert.transformer.layer.%d.attention.out_lin.weight"},
    {"layer.%d/output.bias", "distilbert.transformer.layer.%d.attention.out_lin.bias"},
    {"layer.%d/norm1.gain", "distilbert.transformer.layer.%d.sa_layer_norm.weight"},
    {"layer.%d/norm1.bias", "distilbert.transformer.layer.%d.sa_layer_norm.bias"},
    {"layer.%d/fc1.weight", "distilbert.transformer.layer.%d.ffn.lin1.weight"},
    {"layer.%d/fc1.bias", "distilbert.transformer.layer.%d.ffn.lin1.bias"},
    {"layer.%d/fc2.weight", "distilbert.transformer.layer.%d.ffn.lin2.weight"},
    {"layer.%d/fc2.bias", "distilbert.transformer.layer.%d.ffn.lin2.bias"},
    {"layer.%d/norm2.gain", "distilbert.transformer.layer.%d.output_layer_norm.weight"},
    {"layer.%d/norm2.bias", "distilbert.transformer.layer.%d.output_layer_norm.bias"},
};
static const tf_name_rule word_names[] = {
    {"transform.weight", "vocab_transform.weight"},
    {"transform.bias", "vocab_transform.bias"},
    {"transform/norm.gain", "vocab_layer_norm.weight"},
    {"transform/norm.bias", "vocab_layer_norm.bias"},
    {"words.bias", "vocab_projector.bias"},
};
static const tf_name_rule before_names[] = {
    {"before.weight", "pre_classifier.weight"},
    {"before.bias", "pre_classifier.bias"},
};

static tfuse_status name_head(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_encoder *e)
{
    if (e->head == TF_HEAD_NONE)
        return TFUSE_OK;
    if (e->head == TF_HEAD_WORDS) {
        TF_TRY(tf_apply_names(env, g, word_names, TF_LEN(word_names), 0));
        return e->tied ? TFUSE_OK : tf_graph_store(env, g, "words.weight", "vocab_projector.weight");
    }
    if (e->head == TF_HEAD_SEQUENCE)
        TF_TRY(tf_apply_names(env, g, before_names, TF_LEN(before_names), 0));
    return tf_encoder_name_classes(env, m, g);
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_encoder e = {.pad = -1, .between = "before", .eps = 1e-12};
    const bool bare = tf_model_find(m, "embeddings.word_embeddings.weight") != NULL;
    const char *table = bare ? "embeddings.word_embeddings.weight" : "distilbert.embeddings.word_embeddings.weight";
    TF_TRY(read_config(env, m, &e));
    TF_TRY(tf_encoder_read_head(env, m, "DistilBert", &e));
    e.head_activation = e.head == TF_HEAD_SEQUENCE ? "relu" : e.activation;
    TF_TRY(tf_encoder_nodes(env, g, &e));
    TF_TRY(tf_apply_names_without(env, g, names, TF_LEN(names), e.layers, bare ? "distilbert." : ""));
    TF_TRY(tf_encoder_name_table(env, m, g, &e, table, "vocab_projector.weight"));
    return name_head(env, m, g, &e);
}

const tf_arch tf_arch_distilbert = {"distilbert", NULL, build, NULL};
