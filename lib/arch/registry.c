/* SPDX-License-Identifier: Apache-2.0
 *
 * registry.c: the table of architectures, and the way from a model to its graph.
 */
#include "arch/arch.h"
#include "arch/ffn.h"
#include "base/buf.h"
#include "graph/naming.h"
#include <stdlib.h>
#include <string.h>

static const tf_arch *const table[] = {
    &tf_arch_vit,
    &tf_arch_vit_timm,
    &tf_arch_llama,
    &tf_arch_mistral,
    &tf_arch_qwen2,
    &tf_arch_qwen3,
    &tf_arch_gemma,
    &tf_arch_gemma2,
    &tf_arch_gemma3,
    &tf_arch_phi3,
    &tf_arch_mixtral,
    &tf_arch_qwen2_moe,
    &tf_arch_qwen3_moe,
    &tf_arch_gpt2,
    &tf_arch_gpt_neox,
    &tf_arch_gptj,
    &tf_arch_phi,
    &tf_arch_cohere,
    &tf_arch_cohere2,
    &tf_arch_glm,
    &tf_arch_glm4,
    &tf_arch_olmo2,
    &tf_arch_granite,
    &tf_arch_smollm3,
    &tf_arch_stablelm,
    &tf_arch_starcoder2,
    &tf_arch_bert,
    &tf_arch_roberta,
    &tf_arch_distilbert,
    &tf_arch_deberta_v2,
    &tf_arch_deberta,
    &tf_arch_deberta_pair,
};

static tfuse_status check_list(tf_env *env, const tfuse_model *m)
{
    const json_t *list = json_object_get(m->config, "architectures");
    return !list || json_is_null(list) || json_is_array(list)
               ? TFUSE_OK
               : tf_fail(env, TFUSE_EFORMAT, "%s: config.json: key 'architectures' must be a list of names", tf_model_label(m));
}

/* The config lists the architecture, or lists none. */
static bool names_architecture(const tfuse_model *m, const char *architecture)
{
    const json_t *list = json_object_get(m->config, "architectures");
    if (!architecture || json_array_size(list) == 0)
        return true;
    bool found = false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        found = found || (name && strcmp(name, architecture) == 0);
    }
    return found;
}

static tfuse_status unknown(tf_env *env, const tfuse_model *m, const char *type)
{
    const json_t *list = json_object_get(m->config, "architectures");
    const char *architecture = json_string_value(json_array_get(list, 0));
    char shown[2][64];
    tf_buf known;
    tf_buf_init(&known, &env->mem);
    tfuse_status status = TFUSE_OK;
    for (size_t i = 0; status == TFUSE_OK && i < TF_LEN(table); i++)
        status = tf_buf_printf(env, &known, "%s%s%s%s", i ? ", " : "", table[i]->model_type,
                               table[i]->architecture ? " " : "", table[i]->architecture ? table[i]->architecture : "");
    if (status == TFUSE_OK)
        status = tf_fail(env, TFUSE_EUNSUPPORTED,
                         "%s: no architecture here for model_type '%s'%s%s; known: %s; docs/adding-an-architecture.md says how to add one",
                         tf_model_label(m), tf_printable(shown[0], sizeof shown[0], type), architecture ? " " : "",
                         architecture ? tf_printable(shown[1], sizeof shown[1], architecture) : "", known.data);
    tf_buf_free(&known);
    return status;
}

static tfuse_status find_arch(tf_env *env, const tfuse_model *m, const tf_arch **out)
{
    const char *type = NULL;
    for (size_t i = 0; i < TF_LEN(table) && !json_object_get(m->config, "model_type"); i++)
        if (table[i]->claims && table[i]->claims(m)) {
            *out = table[i];
            return TFUSE_OK;
        }
    TF_TRY(tf_config_text_or(env, m, "model_type", NULL, &type));
    TF_TRY(check_list(env, m));
    for (size_t i = 0; i < TF_LEN(table); i++)
        if (!table[i]->claims && strcmp(table[i]->model_type, type) == 0 && names_architecture(m, table[i]->architecture)) {
            *out = table[i];
            return TFUSE_OK;
        }
    return unknown(env, m, type);
}

/* A config may bring its graph along, in the form of docs/graph-format.md: a network of one's own needs no code here. */
static tfuse_status build_own(tf_env *env, const tfuse_model *m, const json_t *graph, tf_graph **out)
{
    tf_buf text;
    tf_buf_init(&text, &env->mem);
    tfuse_status status = tf_json_text(env, graph, JSON_COMPACT | JSON_ENCODE_ANY, &text);
    if (status == TFUSE_OK)
        status = tf_graph_from_json(env, tf_model_label(m), text.data, text.len, out);
    if (status != TFUSE_OK)
        status = tf_fail_in(env, status, "config.json: key 'tfuse_graph'");
    tf_buf_free(&text);
    return status;
}

static tfuse_status build_known(tf_env *env, const tfuse_model *m, tf_graph **out)
{
    const tf_arch *arch = NULL;
    TF_TRY(find_arch(env, m, &arch));
    TF_TRY(tf_graph_new(env, arch->model_type, out));
    TF_TRY(arch->build(env, m, *out));
    return tf_graph_finish(env, *out);
}

tfuse_status tf_graph_build_dense(tf_env *env, const tfuse_model *m, tf_graph **out)
{
    *out = NULL;
    tf_graph *g = NULL;
    tfuse_status status;
    const json_t *own = json_object_get(m->config, "tfuse_graph");
    TF_TRY_OUT(own ? build_own(env, m, own, &g) : build_known(env, m, &g));
    *out = g;
    return TFUSE_OK;
out:
    tf_graph_free(g);
    return status;
}

tfuse_status tf_graph_build_unchecked(tf_env *env, const tfuse_model *m, tf_graph **out)
{
    bool split = false;
    tf_emoe how;
    tf_graph *dense;
    TF_TRY(tf_graph_build_dense(env, m, out));
    dense = *out;
    tfuse_status status = tf_emoe_read(env, m, &split, &how);
    if (status == TFUSE_OK && !split)
        return TFUSE_OK;
    *out = NULL;
    if (status == TFUSE_OK)
        status = tf_emoe_graph(env, tf_model_label(m), dense, &how, out);
    tf_graph_free(dense);
    return status;
}

tfuse_status tf_graph_build(tf_env *env, const tfuse_model *m, bool extra_copy, tf_graph **out)
{
    TF_TRY(tf_graph_build_unchecked(env, m, out));
    tfuse_status status = m->count > 0 ? tf_graph_check_model(env, *out, m, extra_copy) : TFUSE_OK;
    if (status != TFUSE_OK) {
        tf_graph_free(*out);
        *out = NULL;
    }
    return status;
}
