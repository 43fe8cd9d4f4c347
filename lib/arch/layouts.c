/* SPDX-License-Identifier: Apache-2.0
 *
 * layouts.c: the checkpoints that a dense model can be split into, as the config that each has. `emoe` is the authors' (emoe.c), for any model; the
 * others are mixtures of experts that Hugging Face's transformers has. There a chosen expert weighs its share of a softmax and not one, so what the weights
 * are must be made up for by who writes the tensors. What the config of another family says otherwise than the model's own, or leaves to other
 * defaults, is written out; whether the graphs then agree is for the caller to see.
 */
#include "arch/layouts.h"
#include "arch/decoder.h"
#include <string.h>

static tfuse_status out_of_memory(tf_env *env)
{
    return tf_fail(env, TFUSE_ENOMEM, "out of memory for a config");
}

/* From its text: jansson's own copies lose what there is no memory for. */
static tfuse_status copy_config(tf_env *env, const tfuse_model *m, json_t **out)
{
    const char *text = m->config_text ? m->config_text : "{}";
    return tf_json_object(env, tf_model_label(m), text, strlen(text), out);
}

static tfuse_status set(tf_env *env, json_t *config, const char *key, json_t *value)
{
    return value && json_object_set_new(config, key, value) == 0 ? TFUSE_OK : out_of_memory(env);
}

static tfuse_status set_int(tf_env *env, json_t *config, const char *key, int64_t value)
{
    return set(env, config, key, json_integer((json_int_t)value));
}

static tfuse_status set_family(tf_env *env, json_t *config, const char *type, const char *architecture)
{
    TF_TRY(set(env, config, "model_type", json_string(type)));
    return set(env, config, "architectures", json_pack("[s]", architecture));
}

/* What decoders have in common, from the model's own config, whatever the other family takes for what it does not say. */
static tfuse_status set_decoder(tf_env *env, const tfuse_model *m, json_t *config)
{
    tf_decoder d = {0};
    tf_graph *g = NULL;
    double theta = 0;
    int64_t positions = 0;
    TF_TRY(tf_graph_new(env, "", &g)); /* whose arena the attributes lie in */
    tfuse_status status = tf_decoder_read(env, m, g, &d);
    tf_graph_free(g);
    TF_TRY(status);
    TF_TRY(tf_config_real_or(env, m, "rope_theta", 10000.0, &theta));
    TF_TRY(tf_config_int_or(env, m, "max_position_embeddings", 1, INT64_C(1) << 40, 2048, &positions));
    TF_TRY(set_int(env, config, "num_key_value_heads", d.kv));
    TF_TRY(set_int(env, config, "head_dim", d.inner));
    TF_TRY(set_int(env, config, "max_position_embeddings", positions));
    TF_TRY(set(env, config, "rms_norm_eps", json_real(d.eps)));
    TF_TRY(set(env, config, "tie_word_embeddings", json_boolean(d.tied)));
    TF_TRY(set(env, config, "output_router_logits", json_false()));
    TF_TRY(set(env, config, "use_sliding_window", json_boolean(tf_config_has(m, "use_sliding_window") &&
                                                               json_is_true(json_object_get(m->config, "use_sliding_window")))));
    if (!tf_config_has(m, "sliding_window"))
        TF_TRY(set(env, config, "sliding_window", json_null()));
    if (!tf_config_has(m, "hidden_act"))
        TF_TRY(set(env, config, "hidden_act", json_string("silu")));
    return tf_config_has(m, "rope_parameters") ? TFUSE_OK : set(env, config, "rope_theta", json_real(theta));
}

/* ---- the layouts ---- */

static tfuse_status emoe(tf_env *env, const tfuse_model *m, const tf_emoe *how, json_t *config)
{
    (void)m;
    TF_TRY(set_int(env, config, "n_expert", how->experts));
    TF_TRY(set_int(env, config, "topk", how->top_k));
    TF_TRY(set_int(env, config, "split_start_layer", how->start));
    TF_TRY(set_int(env, config, "split_every_layer", how->every));
    TF_TRY(set(env, config, "select", json_string("gate")));
    return set(env, config, "mode", json_string("EMoE"));
}

static tfuse_status mixtral(tf_env *env, const tfuse_model *m, const tf_emoe *how, json_t *config)
{
    int64_t units;
    TF_TRY(tf_config_int(env, m, "intermediate_size", 1, 1 << 22, &units));
    TF_TRY(set_family(env, config, "mixtral", "MixtralForCausalLM"));
    TF_TRY(set_decoder(env, m, config));
    TF_TRY(set_int(env, config, "intermediate_size", units / how->experts));
    TF_TRY(set_int(env, config, "num_local_experts", how->experts));
    return set_int(env, config, "num_experts_per_tok", how->top_k);
}

static tfuse_status qwen_moe(tf_env *env, const tfuse_model *m, const tf_emoe *how, json_t *config)
{
    int64_t units;
    bool slides = false;
    TF_TRY(tf_config_int(env, m, "intermediate_size", 1, 1 << 22, &units));
    TF_TRY(tf_config_bool_or(env, m, "use_sliding_window", false, &slides));
    if (slides)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: use_sliding_window: the family takes other layers for its windows", tf_model_label(m));
    TF_TRY(set_decoder(env, m, config));
    TF_TRY(set_int(env, config, "moe_intermediate_size", units / how->experts));
    TF_TRY(set_int(env, config, "num_experts", how->experts));
    TF_TRY(set_int(env, config, "num_experts_per_tok", how->top_k));
    TF_TRY(set(env, config, "norm_topk_prob", json_false()));
    TF_TRY(set_int(env, config, "decoder_sparse_step", 1));
    return set(env, config, "mlp_only_layers", json_array());
}

/* One shared unit, as few as the family has, whose tensors are zero. */
static tfuse_status qwen2_moe(tf_env *env, const tfuse_model *m, const tf_emoe *how, json_t *config)
{
    bool bias = false;
    const char *type = NULL;
    TF_TRY(tf_config_text_or(env, m, "model_type", NULL, &type));
    TF_TRY(tf_config_bool_or(env, m, "attention_bias", false, &bias));
    TF_TRY(qwen_moe(env, m, how, config));
    TF_TRY(set_family(env, config, "qwen2_moe", "Qwen2MoeForCausalLM"));
    TF_TRY(set(env, config, "qkv_bias", json_boolean(bias || !strcmp(type, "qwen2"))));
    return set_int(env, config, "shared_expert_intermediate_size", 1);
}

static tfuse_status qwen3_moe(tf_env *env, const tfuse_model *m, const tf_emoe *how, json_t *config)
{
    TF_TRY(qwen_moe(env, m, how, config));
    return set_family(env, config, "qwen3_moe", "Qwen3MoeForCausalLM");
}

static const struct {
    const char *name;
    tfuse_status (*write)(tf_env *env, const tfuse_model *m, const tf_emoe *how, json_t *config);
} table[] = {{"emoe", emoe}, {"mixtral", mixtral}, {"qwen2_moe", qwen2_moe}, {"qwen3_moe", qwen3_moe}};

tfuse_status tf_layout_config(tf_env *env, const char *layout, const tfuse_model *m, const tf_emoe *how, json_t **out)
{
    size_t at = 0;
    *out = NULL;
    while (at < TF_LEN(table) && strcmp(table[at].name, layout))
        at++;
    if (at == TF_LEN(table))
        return tf_fail(env, TFUSE_EKEY, "moe.layout '%s' is none of emoe, mixtral, qwen2_moe, qwen3_moe", layout);
    json_t *config = NULL;
    TF_TRY(copy_config(env, m, &config));
    const tfuse_status status = table[at].write(env, m, how, config);
    if (status == TFUSE_OK)
        *out = config;
    else
        json_decref(config);
    return status == TFUSE_OK ? status
                              : tf_fail_in(env, status, "%s as %s, which is for models that are one but for their experts", tf_model_label(m), layout);
}

tfuse_status tf_layout_graph(tf_env *env, const char *layout, const tfuse_model *m, const tf_graph *dense, const tf_emoe *how, tf_graph **out)
{
    json_t *config = NULL;
    tfuse_model *described = NULL;
    tf_buf text;
    *out = NULL;
    if (!strcmp(layout, "emoe")) /* whose tensors beside the FFNs are the dense model's, and tell its names apart */
        return tf_emoe_graph(env, tf_model_label(m), dense, how, out);
    tf_buf_init(&text, &env->mem);
    tfuse_status status = tf_layout_config(env, layout, m, how, &config);
    if (status == TFUSE_OK)
        status = tf_json_text(env, config, JSON_COMPACT, &text);
    if (status == TFUSE_OK)
        status = tf_model_new(env, text.data, &described);
    if (status == TFUSE_OK)
        status = tf_graph_build_unchecked(env, described, out);
    tf_model_free(described);
    json_decref(config);
    tf_buf_free(&text);
    return status == TFUSE_OK ? status : tf_fail_in(env, status, "%s as %s", tf_model_label(m), layout);
}

tfuse_status tf_layout_dense_config(tf_env *env, const tfuse_model *m, json_t **out)
{
    static const char *const keys[] = {"n_expert", "topk", "split_start_layer", "split_every_layer", "select", "mode"};
    TF_TRY(copy_config(env, m, out));
    for (size_t i = 0; i < TF_LEN(keys); i++)
        json_object_del(*out, keys[i]);
    return TFUSE_OK;
}
