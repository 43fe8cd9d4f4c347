/* SPDX-License-Identifier: Apache-2.0
 *
 * emoe.c: emergent mixtures of experts (Qiu et al., Unlocking Emergent Modularity in Large Language Models, NAACL 2024): the FFNs of a dense model
 * split into experts whose routers are the means of their keys, each chosen expert weighing one. The graph is the dense one, node by node,
 * with a router in every FFN that is split; the config is the dense model's with n_expert and topk.
 *
 * Two layouts are the authors'. A gated FFN keeps its tensors, expert e being the e-th run of hidden units: the logits are
 * the means of its gate's outputs, so the checkpoint is that of the dense model. A plain FFN is stored as experts of Tutel:
 *     PREFIX.mlp.experts.batched_fc1_w (E, n/E, d)  .batched_fc1_bias (E, n/E)  .batched_fc2_w (E, n/E, d)  .batched_fc2_bias (E, d)
 *     PREFIX.mlp.gates.0.wg.weight (E, d)
 * with PREFIX the layer's. The second bias is each chosen expert's own: they sum to the dense one where each is a top_k-th of it. The dense tensors may
 * lie beside them, dead.
 */
#include "arch/arch.h"
#include "arch/ffn.h"
#include "base/buf.h"
#include "graph/naming.h"
#include "graph/op.h"
#include <stdio.h>
#include <string.h>

enum { MAX_NAME = 256 };

/* ---- config ---- */

static tfuse_status check_words(tf_env *env, const tfuse_model *m)
{
    const char *mode = NULL, *select = NULL;
    char shown[64];
    TF_TRY(tf_config_text_or(env, m, "mode", "EMoE", &mode));
    TF_TRY(tf_config_text_or(env, m, "select", "gate", &select));
    if (strcmp(mode, "EMoE"))
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: mode '%s' of a split into experts is not known; EMoE is", tf_model_label(m),
                       tf_printable(shown, sizeof shown, mode));
    if (strcmp(select, "gate"))
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: experts that are chosen by select '%s' are not known; gate is", tf_model_label(m),
                       tf_printable(shown, sizeof shown, select));
    return TFUSE_OK;
}

tfuse_status tf_emoe_read(tf_env *env, const tfuse_model *m, bool *is, tf_emoe *out)
{
    *is = tf_config_has(m, "n_expert") && tf_config_has(m, "topk");
    if (!*is)
        return TFUSE_OK;
    TF_TRY(tf_config_int(env, m, "n_expert", 1, 1 << 16, &out->experts));
    TF_TRY(tf_config_int(env, m, "topk", 1, out->experts, &out->top_k));
    TF_TRY(tf_config_int_or(env, m, "split_start_layer", 0, 4096, 0, &out->start));
    TF_TRY(tf_config_int_or(env, m, "split_every_layer", 1, 4096, 1, &out->every));
    return check_words(env, m);
}

/* ---- the graph ---- */

/* A split FFN and the names of the nodes that are new in it. */
typedef struct split {
    const tf_ffn *f;
    char router[MAX_NAME], routed[MAX_NAME], chosen[MAX_NAME], bias[MAX_NAME], sum[MAX_NAME];
} split;

typedef struct rewriting {
    tf_env *env;
    const tf_graph *from;
    tf_graph *to;
    const tf_emoe *how;
    split *splits;
    size_t n;
    const char **renamed; /* of each value of `from`, the value in its place; NULL: of the same name */
    tf_buf inputs, attrs;
} rewriting;

static const tf_node *node_of(const rewriting *w, tf_id node) { return &w->from->nodes[node]; }
static bool has_bias(const tf_node *n) { return n->n_params > 1 && n->params[1] >= 0; }
/* A plain FFN's second bias is stored by expert; a gated one keeps its own, which every token gets. */
static bool has_expert_biases(const rewriting *w, const tf_ffn *f) { return f->up < 0 && has_bias(node_of(w, f->down)); }
static const char *value_name(const rewriting *w, tf_id v) { return w->renamed[v] ? w->renamed[v] : w->from->values[v].name; }

/* The split FFN that a node belongs to; NULL: none. */
static split *split_of(const rewriting *w, tf_id node)
{
    for (size_t i = 0; i < w->n; i++) {
        const tf_ffn *f = w->splits[i].f;
        if (node == f->key || node == f->up || node == f->hidden || node == f->down)
            return &w->splits[i];
    }
    return NULL;
}

/* Names in the scope of the FFN, or beside its key's where the scope has one of them already. */
static void choose_names(rewriting *w, split *s)
{
    static const char *const words[] = {"router", "routed", "chosen", "expert_bias", "experts_sum"};
    char *const names[] = {s->router, s->routed, s->chosen, s->bias, s->sum};
    const tf_node *key = node_of(w, s->f->key);
    bool taken = false;
    for (const split *o = w->splits; o < s; o++)
        taken = taken || !strcmp(node_of(w, o->f->key)->scope, key->scope);
    for (size_t i = 0; i < TF_LEN(words); i++) {
        snprintf(names[i], MAX_NAME, "%s%s%s", key->scope, *key->scope ? "/" : "", words[i]);
        taken = taken || tf_graph_find_node(w->from, names[i]) >= 0;
    }
    for (size_t i = 0; i < TF_LEN(words) && taken; i++)
        snprintf(names[i], MAX_NAME, "%s_%s", key->name, words[i]);
}

/* "label=ffn:128" becomes "label=experts:8*ffn:16". */
static tfuse_status add_units(rewriting *w, const tf_ffn *f, const char *spec)
{
    const char *equals = strchr(spec, '='), *name = equals ? equals + 1 : spec, *colon = strrchr(name, ':');
    return tf_buf_printf(w->env, &w->attrs, "%.*sexperts:%lld*%.*s:%lld", (int)(name - spec), spec, (long long)w->how->experts,
                         (int)(colon ? colon - name : 0), name, (long long)(f->units / w->how->experts));
}

static tfuse_status write_attrs(rewriting *w, tf_id node, const split *s)
{
    const tf_node *n = node_of(w, node);
    const bool apart = s && node == s->f->down && has_expert_biases(w, s->f), cut = s && (node == s->f->key || node == s->f->up);
    w->attrs.len = 0;
    TF_TRY(tf_buf_add(w->env, &w->attrs, "", 0));
    for (int i = 0; i < n->n_attrs; i++) {
        const tf_attr *a = &n->attrs[i];
        const tf_id value = strcmp(a->key, "residual") ? -1 : tf_graph_find_value(w->from, a->value);
        if (apart && !strcmp(a->key, "bias"))
            continue;
        TF_TRY(tf_buf_printf(w->env, &w->attrs, "%s%s=", w->attrs.len ? " " : "", a->key));
        TF_TRY(cut && !strcmp(a->key, "out") ? add_units(w, s->f, a->value)
                                             : tf_buf_printf(w->env, &w->attrs, "%s", value >= 0 ? value_name(w, value) : a->value));
    }
    return apart ? tf_buf_printf(w->env, &w->attrs, " bias=0") : TFUSE_OK;
}

static tfuse_status copy_node(rewriting *w, tf_id node, const split *s)
{
    const tf_node *n = node_of(w, node);
    w->inputs.len = 0;
    TF_TRY(tf_buf_add(w->env, &w->inputs, "", 0));
    for (int i = 0; i < n->n_inputs; i++)
        TF_TRY(tf_buf_printf(w->env, &w->inputs, "%s%s", i ? " " : "", value_name(w, n->inputs[i])));
    TF_TRY(write_attrs(w, node, s));
    return tf_graph_add(w->env, w->to, n->op->name, n->name, w->inputs.data, w->attrs.data);
}

/* After the key: the logits. */
static tfuse_status add_router(rewriting *w, const split *s)
{
    const tf_node *key = node_of(w, s->f->key);
    if (s->f->up >= 0)
        return tf_graph_add(w->env, w->to, "expert_mean", s->router, key->name, "");
    return tf_addf(w->env, w->to, "linear", s->router, value_name(w, key->inputs[0]), "out=experts:%lld bias=0", (long long)w->how->experts);
}

/* After the hidden units: their product with the experts' weights. */
static tfuse_status add_route(rewriting *w, const split *s)
{
    char inputs[2 * MAX_NAME];
    const tf_node *hidden = node_of(w, s->f->hidden);
    snprintf(inputs, sizeof inputs, "%s %s", hidden->name, s->router);
    TF_TRY(tf_addf(w->env, w->to, "route", s->routed, inputs, "top_k=%lld weights=one", (long long)w->how->top_k));
    w->renamed[hidden->outputs[0]] = s->routed;
    return TFUSE_OK;
}

/* After the second linear: the chosen experts' biases, where each has its own. */
static tfuse_status add_biases(rewriting *w, const split *s)
{
    char inputs[2 * MAX_NAME];
    const tf_node *down = node_of(w, s->f->down);
    if (!has_expert_biases(w, s->f))
        return TFUSE_OK;
    TF_TRY(tf_addf(w->env, w->to, "route_weights", s->chosen, s->router, "top_k=%lld weights=one", (long long)w->how->top_k));
    TF_TRY(tf_addf(w->env, w->to, "linear", s->bias, s->chosen, "out=%s bias=0", tf_node_attr(down, "out")));
    snprintf(inputs, sizeof inputs, "%s %s", down->name, s->bias);
    TF_TRY(tf_addf(w->env, w->to, "add", s->sum, inputs, "residual=%s", down->name));
    w->renamed[down->outputs[0]] = s->sum;
    return TFUSE_OK;
}

static tfuse_status rewrite_node(rewriting *w, tf_id node)
{
    const split *s = split_of(w, node);
    TF_TRY(copy_node(w, node, s));
    if (!s)
        return TFUSE_OK;
    if (node == s->f->key)
        return add_router(w, s);
    if (node == s->f->hidden)
        return add_route(w, s);
    return node == s->f->down ? add_biases(w, s) : TFUSE_OK;
}

/* ---- names ---- */

/* Where a parameter is stored, or the first part of it; NULL: nowhere. */
static const char *stored_name(const tf_graph *g, tf_id param)
{
    const tf_source *s = param >= 0 ? g->params[param].source : NULL;
    while (s && s->n_parts > 0)
        s = s->parts[0];
    return s ? s->stored : NULL;
}

/* "bert.encoder.layer.3" of "bert.encoder.layer.3.intermediate.dense.weight": up to the last number, else to the last point. */
static int prefix_length(const char *stored)
{
    int end = 0, last = 0;
    for (const char *p = stored; *p;) {
        const size_t length = strcspn(p, "."), digits = strspn(p, "0123456789");
        if (length > 0 && digits == length)
            end = (int)(p - stored) + (int)length;
        if (p[length])
            last = (int)(p - stored) + (int)length;
        p += length + (p[length] == '.');
    }
    return end > 0 ? end : last;
}

typedef enum form { SHAPED, SHAPED_BIAS, ACROSS, PLAIN, FLAT_ACROSS } form;

/* node.slot is stored as PREFIX.mlp.name, in one of the forms above. */
static tfuse_status store(rewriting *w, const tf_ffn *f, const char *node, const char *slot, form how, const char *name)
{
    static const char *const open[] = {"shape(", "shape(", "transpose(shape(", "", "transpose("};
    char logical[MAX_NAME + 16];
    const long long experts = w->how->experts, each = f->units / w->how->experts;
    const char *key = stored_name(w->from, node_of(w, f->key)->params[0]);
    w->attrs.len = 0;
    TF_TRY(tf_buf_printf(w->env, &w->attrs, "%s%.*s.mlp.%s", open[how], prefix_length(key), key, name));
    if (how == SHAPED || how == ACROSS)
        TF_TRY(tf_buf_printf(w->env, &w->attrs, ",%lld,%lld,%lld)", experts, each, (long long)f->width));
    else if (how == SHAPED_BIAS)
        TF_TRY(tf_buf_printf(w->env, &w->attrs, ",%lld,%lld)", experts, each));
    if (how == ACROSS || how == FLAT_ACROSS)
        TF_TRY(tf_buf_printf(w->env, &w->attrs, ")"));
    snprintf(logical, sizeof logical, "%s.%s", node, slot);
    return tf_graph_store(w->env, w->to, logical, w->attrs.data);
}

/* What the dense form left, and what Tutel counts its experts in. */
static tfuse_status allow_dead(rewriting *w, const tf_ffn *f)
{
    const tf_node *ends[] = {node_of(w, f->key), node_of(w, f->down)};
    const char *key = stored_name(w->from, ends[0]->params[0]);
    for (int i = 0; i < 4; i++) {
        const tf_node *n = ends[i / 2];
        const char *stored = i % 2 < n->n_params ? stored_name(w->from, n->params[i % 2]) : NULL;
        if (stored)
            TF_TRY(tf_graph_buffer(w->env, w->to, stored));
    }
    w->attrs.len = 0;
    TF_TRY(tf_buf_printf(w->env, &w->attrs, "%.*s.mlp._num_global_experts", prefix_length(key), key));
    return tf_graph_buffer(w->env, w->to, w->attrs.data);
}

static tfuse_status store_plain(rewriting *w, const split *s)
{
    const tf_node *key = node_of(w, s->f->key), *down = node_of(w, s->f->down);
    TF_TRY(store(w, s->f, key->name, "weight", SHAPED, "experts.batched_fc1_w"));
    if (has_bias(key))
        TF_TRY(store(w, s->f, key->name, "bias", SHAPED_BIAS, "experts.batched_fc1_bias"));
    TF_TRY(store(w, s->f, down->name, "weight", ACROSS, "experts.batched_fc2_w"));
    if (has_bias(down))
        TF_TRY(store(w, s->f, s->bias, "weight", FLAT_ACROSS, "experts.batched_fc2_bias"));
    TF_TRY(store(w, s->f, s->router, "weight", PLAIN, "gates.0.wg.weight"));
    return allow_dead(w, s->f);
}

/* Whether a rule of the dense graph is of a tensor that is stored by experts instead. */
static bool is_replaced(const rewriting *w, const char *logical)
{
    const tf_id param = tf_graph_find_param(w->from, logical);
    const tf_id node = param >= 0 ? w->from->params[param].node : -1;
    const split *s = node >= 0 ? split_of(w, node) : NULL;
    return s && s->f->up < 0;
}

static tfuse_status store_all(rewriting *w)
{
    for (size_t i = 0; i < w->from->n_rules; i++)
        if (!is_replaced(w, w->from->rules[i].logical))
            TF_TRY(tf_graph_store(w->env, w->to, w->from->rules[i].logical, w->from->rules[i].expression));
    for (size_t i = 0; i < w->from->n_buffers; i++)
        TF_TRY(tf_graph_buffer(w->env, w->to, w->from->buffers[i]));
    for (size_t i = 0; i < w->n; i++)
        if (w->splits[i].f->up < 0)
            TF_TRY(store_plain(w, &w->splits[i]));
    return TFUSE_OK;
}

/* ---- all of it ---- */

static tfuse_status choose_splits(rewriting *w, const char *label, const tf_ffn *ffns, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if ((int64_t)i < w->how->start || ((int64_t)i - w->how->start) % w->how->every)
            continue;
        if (ffns[i].units % w->how->experts)
            return tf_fail(w->env, TFUSE_ESHAPE, "%s: the %lld hidden units of %s cannot be cut into %lld equal experts", label,
                           (long long)ffns[i].units, node_of(w, ffns[i].key)->name, (long long)w->how->experts);
        w->splits[w->n].f = &ffns[i];
        choose_names(w, &w->splits[w->n++]);
    }
    return w->n > 0 ? TFUSE_OK
                    : tf_fail(w->env, TFUSE_EUNSUPPORTED, "%s: there is no feed-forward network to split: none of its nodes is a linear, a function "
                              "and a linear back to the axis it came from", label);
}

static tfuse_status rewrite(rewriting *w, const char *label, const tf_ffn *ffns, size_t count)
{
    TF_TRY(choose_splits(w, label, ffns, count));
    for (size_t i = 0; i < w->from->n_nodes; i++)
        TF_TRY(rewrite_node(w, (tf_id)i));
    TF_TRY(store_all(w));
    if (w->from->output >= 0)
        TF_TRY(tf_graph_output(w->env, w->to, value_name(w, w->from->output)));
    return tf_graph_finish(w->env, w->to);
}

tfuse_status tf_emoe_graph(tf_env *env, const char *label, const tf_graph *dense, const tf_emoe *how, tf_graph **out)
{
    tf_ffn *ffns = NULL;
    size_t count = 0;
    rewriting w = {.env = env, .from = dense, .how = how};
    tf_buf_init(&w.inputs, &env->mem);
    tf_buf_init(&w.attrs, &env->mem);
    *out = NULL;
    tfuse_status status = tf_ffn_find(env, dense, &ffns, &count);
    w.splits = tf_calloc(env, count + 1, sizeof *w.splits);
    w.renamed = tf_calloc(env, dense->n_values + 1, sizeof *w.renamed);
    if (status == TFUSE_OK && (!w.splits || !w.renamed))
        status = TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = tf_graph_new(env, dense->arch, &w.to);
    if (status == TFUSE_OK)
        status = rewrite(&w, label, ffns, count);
    if (status != TFUSE_OK)
        tf_graph_free(w.to);
    else
        *out = w.to;
    tf_buf_free(&w.inputs);
    tf_buf_free(&w.attrs);
    tf_free(&env->mem, ffns);
    tf_free(&env->mem, w.splits);
    tf_free(&env->mem, w.renamed);
    return status;
}
