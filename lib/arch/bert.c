/* SPDX-License-Identifier: Apache-2.0
 *
 * bert.c: BERT (Devlin et al. 2019), with the heads of Hugging Face's BertModel, BertForMaskedLM, BertForPreTraining (whose second head, on
 * sentences, is carried but not run), BertForSequenceClassification, BertForTokenClassification and BertForQuestionAnswering.
 */
#include "arch/encoder.h"

static const tf_name_rule pooler_names[] = {
    {"pooler.weight", "bert.pooler.dense.weight"},
    {"pooler.bias", "bert.pooler.dense.bias"},
};
static const tf_name_rule next_names[] = {
    {"next_sentence.weight", "cls.seq_relationship.weight"},
    {"next_sentence.bias", "cls.seq_relationship.bias"},
};
static const tf_name_rule word_names[] = {
    {"transform.weight", "cls.predictions.transform.dense.weight"},
    {"transform.bias", "cls.predictions.transform.dense.bias"},
};
static const tf_name_rule norm_names[] = {
    {"transform/norm.gain", "cls.predictions.transform.LayerNorm.weight"},
    {"transform/norm.bias", "cls.predictions.transform.LayerNorm.bias"},
};
static const tf_name_rule old_norm_names[] = {
    {"transform/norm.gain", "cls.predictions.transform.LayerNorm.gamma"},
    {"transform/norm.bias", "cls.predictions.transform.LayerNorm.beta"},
};

static tfuse_status name_words(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_encoder *e)
{
    TF_TRY(tf_apply_names(env, g, word_names, TF_LEN(word_names), 0));
    if (tf_model_find(m, old_norm_names[0].stored))
        TF_TRY(tf_apply_names(env, g, old_norm_names, TF_LEN(old_norm_names), 0));
    else
        TF_TRY(tf_apply_names(env, g, norm_names, TF_LEN(norm_names), 0));
    TF_TRY(tf_store_tied(env, g, m, "words.bias", "cls.predictions.bias", "cls.predictions.decoder.bias"));
    return e->tied ? TFUSE_OK : tf_graph_store(env, g, "words.weight", "cls.predictions.decoder.weight");
}

static tfuse_status name_head(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_encoder *e, const char *drop)
{
    const char *table = *drop ? "embeddings.word_embeddings.weight" : "bert.embeddings.word_embeddings.weight";
    TF_TRY(tf_encoder_name_table(env, m, g, e, table, "cls.predictions.decoder.weight"));
    if (e->pooler)
        TF_TRY(tf_apply_names_without(env, g, pooler_names, TF_LEN(pooler_names), 0, drop));
    if (e->next_sentence)
        TF_TRY(tf_apply_names(env, g, next_names, TF_LEN(next_names), 0));
    if (e->head == TF_HEAD_WORDS)
        return name_words(env, m, g, e);
    return e->head == TF_HEAD_NONE ? TFUSE_OK : tf_encoder_name_classes(env, m, g);
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_encoder e = {.pad = -1, .between = NULL};
    const bool bare = tf_model_find(m, "embeddings.word_embeddings.weight") != NULL;
    TF_TRY(tf_encoder_read(env, m, &e));
    TF_TRY(tf_encoder_read_head(env, m, "Bert", &e));
    e.head_activation = e.activation;
    e.pooler = tf_model_find(m, bare ? "pooler.dense.weight" : "bert.pooler.dense.weight") || e.head == TF_HEAD_SEQUENCE;
    e.next_sentence = e.head == TF_HEAD_WORDS && e.pooler && tf_model_find(m, "cls.seq_relationship.weight");
    TF_TRY(tf_encoder_nodes(env, g, &e));
    TF_TRY(tf_encoder_names(env, m, g, &e, bare ? "" : "bert."));
    return name_head(env, m, g, &e, bare ? "bert." : "");
}

const tf_arch tf_arch_bert = {"bert", NULL, build, NULL};
