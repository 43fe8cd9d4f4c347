/* SPDX-License-Identifier: Apache-2.0
 *
 * encoder.c: see encoder.h.
 */
#include "arch/encoder.h"
#include "base/buf.h"
#include <stdio.h>
#include <string.h>

/* ---- config ---- */

static tfuse_status read_classes(tf_env *env, const tfuse_model *m, bool answers, tf_encoder *e)
{
    e->classes = 2;
    return answers || (e->head != TF_HEAD_SEQUENCE && e->head != TF_HEAD_TOKENS) ? TFUSE_OK : tf_read_classes(env, m, &e->classes);
}

tfuse_status tf_encoder_read_head(tf_env *env, const tfuse_model *m, const char *prefix, tf_encoder *e)
{
    static const struct {
        const char *name;
        tf_encoder_head head;
    } heads[] = {{"Model", TF_HEAD_NONE},
                 {"ForMaskedLM", TF_HEAD_WORDS},
                 {"ForPreTraining", TF_HEAD_WORDS},
                 {"ForSequenceClassification", TF_HEAD_SEQUENCE},
                 {"ForTokenClassification", TF_HEAD_TOKENS},
                 {"ForQuestionAnswering", TF_HEAD_TOKENS}};
    const char *name = tf_config_item(m, "architectures", 0);
    const size_t length = strlen(prefix);
    char shown[64];
    if (!name)
        name = "Model";
    else if (strncmp(name, prefix, length) == 0)
        name += length;
    for (size_t i = 0; i < TF_LEN(heads); i++)
        if (!strcmp(name, heads[i].name)) {
            e->head = heads[i].head;
            return read_classes(env, m, !strcmp(name, "ForQuestionAnswering"), e);
        }
    return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: no architecture here for %s; known: %sModel, and %sFor with MaskedLM, PreTraining, "
                   "SequenceClassification, TokenClassification, QuestionAnswering; docs/adding-an-architecture.md says how to add one",
                   tf_model_label(m), tf_printable(shown, sizeof shown, tf_config_item(m, "architectures", 0)), prefix, prefix);
}

static tfuse_status check(tf_env *env, const tfuse_model *m, const tf_encoder *e)
{
    const char *kind = NULL;
    bool decodes = false;
    TF_TRY(tf_config_text_or(env, m, "position_embedding_type", "absolute", &kind));
    TF_TRY(tf_config_bool_or(env, m, "is_decoder", false, &decodes));
    if (strcmp(kind, "absolute") || decodes)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: only encoders with absolute positions are known (position_embedding_type, "
                       "is_decoder)", tf_model_label(m));
    return e->hidden % e->heads == 0 ? TFUSE_OK
                                     : tf_fail(env, TFUSE_EFORMAT, "%s: config.json: hidden_size %lld is not divisible by num_attention_heads %lld",
                                               tf_model_label(m), (long long)e->hidden, (long long)e->heads);
}

tfuse_status tf_encoder_read(tf_env *env, const tfuse_model *m, tf_encoder *e)
{
    TF_TRY(tf_config_int(env, m, "hidden_size", 1, 1 << 20, &e->hidden));
    TF_TRY(tf_config_int(env, m, "num_hidden_layers", 1, 4096, &e->layers));
    TF_TRY(tf_config_int(env, m, "num_attention_heads", 1, 1 << 16, &e->heads));
    TF_TRY(tf_config_int(env, m, "intermediate_size", 1, 1 << 22, &e->ffn));
    TF_TRY(tf_config_int(env, m, "vocab_size", 1, 1 << 24, &e->vocab));
    TF_TRY(tf_config_int(env, m, "max_position_embeddings", 1, 1 << 24, &e->positions));
    TF_TRY(tf_config_int_or(env, m, "type_vocab_size", 0, 1 << 16, 2, &e->types));
    TF_TRY(tf_config_real_or(env, m, "layer_norm_eps", 1e-12, &e->eps));
    TF_TRY(tf_config_bool_or(env, m, "tie_word_embeddings", true, &e->tied));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "gelu", &e->activation));
    return check(env, m, e);
}

/* ---- the model ---- */

static tfuse_status norm(const tf_block *b, const tf_encoder *e, const char *name, const char *input)
{
    return tf_block_addf(b, "layernorm", name, input, "eps=%s", tf_real(e->eps).text);
}

static tfuse_status embeddings(const tf_block *b, const tf_encoder *e)
{
    const long long width = e->hidden;
    char pad[32] = "";
    if (e->pad >= 0)
        snprintf(pad, sizeof pad, " pad=%lld", (long long)e->pad);
    TF_TRY(tf_block_addf(b, "input", "input_ids", "", "kind=tokens"));
    TF_TRY(tf_block_addf(b, "input", "attention_mask", "", "kind=tokens default=1"));
    TF_TRY(tf_block_addf(b, "embedding", "embeddings/tokens", "input_ids", "rows=!/vocab:%lld of=/stream:%lld", (long long)e->vocab, width));
    TF_TRY(tf_block_addf(b, "positions", "embeddings/positions", "input_ids", "rows=!positions:%lld of=/stream:%lld%s", (long long)e->positions,
                         width, pad));
    TF_TRY(tf_block_addf(b, "add", "embeddings/placed", "embeddings/tokens embeddings/positions", "residual=embeddings/tokens"));
    if (e->types == 0)
        return norm(b, e, "embeddings", "embeddings/placed");
    TF_TRY(tf_block_addf(b, "input", "token_type_ids", "", "kind=tokens default=0"));
    TF_TRY(tf_block_addf(b, "embedding", "embeddings/types", "token_type_ids", "rows=!types:%lld of=/stream:%lld", (long long)e->types, width));
    TF_TRY(tf_block_addf(b, "add", "embeddings/sum", "embeddings/placed embeddings/types", "residual=embeddings/placed"));
    return norm(b, e, "embeddings", "embeddings/sum");
}

static tfuse_status block(const tf_block *b, const tf_encoder *e)
{
    const long long width = e->hidden, heads = e->heads, inner = e->hidden / e->heads;
    TF_TRY(tf_block_addf(b, "linear", "~/query", "^", "out=heads:%lld*qk:%lld", heads, inner));
    TF_TRY(tf_block_addf(b, "linear", "~/key", "^", "out=heads:%lld*qk:%lld", heads, inner));
    TF_TRY(tf_block_addf(b, "linear", "~/value", "^", "out=heads:%lld*vo:%lld", heads, inner));
    TF_TRY(tf_block_addf(b, "attention", "~/attention", "~/query ~/key ~/value attention_mask", "causal=0"));
    TF_TRY(tf_block_addf(b, "linear", "~/output", "~/attention", "out=/stream:%lld", width));
    TF_TRY(tf_block_addf(b, "add", "~/residual1", "^ ~/output", "residual=%s", b->from));
    TF_TRY(norm(b, e, "~/norm1", "~/residual1"));
    TF_TRY(tf_block_addf(b, "linear", "~/fc1", "~/norm1", "out=ffn:%lld", (long long)e->ffn));
    TF_TRY(tf_block_addf(b, "activation", "~/activation", "~/fc1", "kind=%s", e->activation));
    TF_TRY(tf_block_addf(b, "linear", "~/fc2", "~/activation", "out=/stream:%lld", width));
    TF_TRY(tf_block_addf(b, "add", "~/residual2", "~/norm1 ~/fc2", "residual=%s/norm1", b->scope));
    return norm(b, e, "~/norm2", "~/residual2");
}

static tfuse_status set_output(const tf_block *b, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", b->scope, name);
    return tf_graph_output(b->env, b->g, full);
}

/* The first token's state through a linear and a function. */
static tfuse_status first_token(const tf_block *b, const tf_encoder *e, const char *name, const char *kind)
{
    char token[64], linear[64], function[64];
    snprintf(token, sizeof token, "~%s/token", name);
    snprintf(linear, sizeof linear, "~%s", name);
    snprintf(function, sizeof function, "~%s/activation", name);
    TF_TRY(tf_block_addf(b, "token", token, "^", "index=0"));
    TF_TRY(tf_block_addf(b, "linear", linear, token, "out=/%s:%lld", name, (long long)e->hidden));
    return tf_block_addf(b, "activation", function, linear, "kind=%s", kind);
}

tfuse_status tf_encoder_word_nodes(const tf_block *b, const tf_encoder *e)
{
    TF_TRY(tf_block_addf(b, "linear", "~transform", "^", "out=/transform:%lld",
                         (long long)(e->words_width ? e->words_width : e->hidden)));
    TF_TRY(tf_block_addf(b, "activation", "~transform/activation", "~transform", "kind=%s", e->head_activation));
    TF_TRY(norm(b, e, "~transform/norm", "~transform/activation"));
    if (!e->tied)
        return tf_block_addf(b, "linear", "~words", "~transform/norm", "out=!/vocab:%lld", (long long)e->vocab);
    return tf_block_addf(b, "linear", "~words", "~transform/norm", "out=!/vocab:%lld weight=@%sembeddings/tokens.weight", (long long)e->vocab, b->scope);
}

static tfuse_status replaced(const tf_block *b, const tf_encoder *e)
{
    if (e->detector_norm) {
        TF_TRY(tf_block_addf(b, "plus_token", "~detector/sum", "^", "index=0"));
        TF_TRY(norm(b, e, "~detector/norm", "~detector/sum"));
    }
    TF_TRY(tf_block_addf(b, "linear", "~detector", e->detector_norm ? "~detector/norm" : "^", "out=/detector:%lld", (long long)e->hidden));
    TF_TRY(tf_block_addf(b, "activation", "~detector/activation", "~detector", "kind=%s", e->head_activation));
    TF_TRY(tf_block_addf(b, "linear", "~replaced", "~detector/activation", "out=!/replaced:%d", 1));
    return set_output(b, "replaced");
}

static tfuse_status classes(const tf_block *b, const tf_encoder *e)
{
    char from[64] = "^";
    if (e->head == TF_HEAD_SEQUENCE && e->between) {
        TF_TRY(first_token(b, e, e->between, e->head_activation));
        snprintf(from, sizeof from, "~%s/activation", e->between);
    } else if (e->head == TF_HEAD_SEQUENCE) {
        snprintf(from, sizeof from, "~pooler/activation");
    }
    TF_TRY(tf_block_addf(b, "linear", "~classifier", from, "out=!/classes:%lld", (long long)e->classes));
    return set_output(b, "classifier");
}

tfuse_status tf_encoder_head_nodes(const tf_block *b, const tf_encoder *e)
{
    if (e->pooler)
        TF_TRY(first_token(b, e, "pooler", "tanh"));
    if (e->next_sentence)
        TF_TRY(tf_block_addf(b, "linear", "~next_sentence", "~pooler/activation", "out=!/next:%d", 2));
    switch (e->head) {
    case TF_HEAD_NONE:
        return tf_graph_output(b->env, b->g, b->from);
    case TF_HEAD_WORDS:
        TF_TRY(tf_encoder_word_nodes(b, e));
        return set_output(b, "words");
    case TF_HEAD_REPLACED:
        return replaced(b, e);
    case TF_HEAD_SEQUENCE:
    case TF_HEAD_TOKENS:
        break;
    }
    return classes(b, e);
}

tfuse_status tf_encoder_nodes(tf_env *env, tf_graph *g, const tf_encoder *e)
{
    char scope[32], from[48] = "embeddings";
    TF_TRY(embeddings(&(tf_block){env, g, "", ""}, e));
    for (int64_t i = 0; i < e->layers; i++) {
        snprintf(scope, sizeof scope, "layer.%lld", (long long)i);
        TF_TRY(block(&(tf_block){env, g, scope, from}, e));
        snprintf(from, sizeof from, "%s/norm2", scope);
    }
    return tf_encoder_head_nodes(&(tf_block){env, g, "", from}, e);
}

/* ---- names ---- */

static const tf_name_rule embedding_names[] = {
    {"embeddings/positions.weight", "bert.embeddings.position_embeddings.weight"},
    {"embeddings.gain", "bert.embeddings.LayerNorm.weight"},
    {"embeddings.bias", "bert.embeddings.LayerNorm.bias"},
};
static const tf_name_rule type_names[] = {
    {"embeddings/types.weight", "bert.embeddings.token_type_embeddings.weight"},
};
static const tf_name_rule layer_names[] = {
    {"layer.%d/query.weight", "bert.encoder.layer.%d.attention.self.query.weight"},
    {"layer.%d/query.bias", "bert.encoder.layer.%d.attention.self.query.bias"},
    {"layer.%d/key.weight", "bert.encoder.layer.%d.attention.self.key.weight"},
    {"layer.%d/key.bias", "bert.encoder.layer.%d.attention.self.key.bias"},
    {"layer.%d/value.weight", "bert.encoder.layer.%d.attention.self.value.weight"},
    {"layer.%d/value.bias", "bert.encoder.layer.%d.attention.self.value.bias"},
    {"layer.%d/output.weight", "bert.encoder.layer.%d.attention.output.dense.weight"},
    {"layer.%d/output.bias", "bert.encoder.layer.%d.attention.output.dense.bias"},
    {"layer.%d/norm1.gain", "bert.encoder.layer.%d.attention.output.LayerNorm.weight"},
    {"layer.%d/norm1.bias", "bert.encoder.layer.%d.attention.output.LayerNorm.bias"},
    {"layer.%d/fc1.weight", "bert.encoder.layer.%d.intermediate.dense.weight"},
    {"layer.%d/fc1.bias", "bert.encoder.layer.%d.intermediate.dense.bias"},
    {"layer.%d/fc2.weight", "bert.encoder.layer.%d.output.dense.weight"},
    {"layer.%d/fc2.bias", "bert.encoder.layer.%d.output.dense.bias"},
    {"layer.%d/norm2.gain", "bert.encoder.layer.%d.output.LayerNorm.weight"},
    {"layer.%d/norm2.bias", "bert.encoder.layer.%d.output.LayerNorm.bias"},
};
static const tf_name_rule class_names[] = {
    {"classifier.weight", "classifier.weight"},
    {"classifier.bias", "classifier.bias"},
};
static const tf_name_rule answer_names[] = {
    {"classifier.weight", "qa_outputs.weight"},
    {"classifier.bias", "qa_outputs.bias"},
};

/* "bert." becomes the prefix, and a norm's weight and bias gamma and beta where the model has those. */
static tfuse_status store(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_name_rule *rule, int64_t layer, const char *prefix)
{
    char logical[96], stored[160], old[176];
    tf_with_layer(rule->logical, layer, logical, sizeof logical);
    snprintf(old, sizeof old, "%s%s", prefix, rule->stored + strlen("bert."));
    tf_with_layer(old, layer, stored, sizeof stored);
    char *norm_end = strstr(stored, "LayerNorm.");
    if (norm_end) {
        snprintf(old, sizeof old, "%.*sLayerNorm.%s", (int)(norm_end - stored), stored, strstr(norm_end, "weight") ? "gamma" : "beta");
        return tf_graph_store(env, g, logical, tf_model_find(m, old) ? old : stored);
    }
    return tf_graph_store(env, g, logical, stored);
}

tfuse_status tf_encoder_names(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_encoder *e, const char *prefix)
{
    char buffer[96];
    for (size_t i = 0; i < TF_LEN(embedding_names); i++)
        TF_TRY(store(env, m, g, &embedding_names[i], 0, prefix));
    for (size_t i = 0; i < TF_LEN(type_names) && e->types > 0; i++)
        TF_TRY(store(env, m, g, &type_names[i], 0, prefix));
    for (int64_t layer = 0; layer < e->layers; layer++)
        for (size_t i = 0; i < TF_LEN(layer_names); i++)
            TF_TRY(store(env, m, g, &layer_names[i], layer, prefix));
    snprintf(buffer, sizeof buffer, "%sembeddings.position_ids", prefix);
    TF_TRY(tf_graph_buffer(env, g, buffer));
    snprintf(buffer, sizeof buffer, "%sembeddings.token_type_ids", prefix);
    return tf_graph_buffer(env, g, buffer);
}

tfuse_status tf_encoder_name_table(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_encoder *e, const char *stored, const char *again)
{
    return e->head == TF_HEAD_WORDS && e->tied ? tf_store_tied(env, g, m, "embeddings/tokens.weight", stored, again)
                                               : tf_graph_store(env, g, "embeddings/tokens.weight", stored);
}

tfuse_status tf_encoder_name_classes(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    return tf_model_find(m, "qa_outputs.weight") ? tf_apply_names(env, g, answer_names, TF_LEN(answer_names), 0)
                                                 : tf_apply_names(env, g, class_names, TF_LEN(class_names), 0);
}
