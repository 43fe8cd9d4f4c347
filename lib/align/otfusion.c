/* SPDX-License-Identifier: Apache-2.0
 *
 * otfusion.c: Transformer Fusion with Optimal Transport (Imfeld, Graldi, Giordano, Hofmann, Anagnostidis, Singh, ICLR 2024), generalised from
 * a Vision Transformer to any graph.
 *
 * The walk goes once from inputs to outputs. Each operation's `flow` says how maps pass it; this file implements what flow calls: a linear
 * node consumes the map of its input and has its output units matched with the anchor's by optimal transport; a norm carries the map of its
 * input; a residual add combines two maps by policy. A map may be of any kind and any widths: where a coupling is produced its columns are
 * normalised, where it is consumed its rows, so that unequal widths keep their scale.
 *
 * otfusion.compat=1 computes what the published code computes, for two models of equal weights: one matrix T = n P on both sides,
 * the plain scaling iteration for Sinkhorn, and weights of the residual policies from standardised activations.
 */
#include "align/class_plan.h"
#include "align/otfusion.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

tfuse_status otf_parts(otf *o, const tf_graph *g, tf_id value, tf_part **out, int *n)
{
    const tf_value *v = &g->values[value];
    return tf_binding_parts(o->env, g, v->dims[v->rank - 1], out, n);
}

const tf_node *otf_model_node(const otf *o, const tf_node *n)
{
    return &o->model->nodes[tf_graph_find_node(o->model, n->name)];
}

/* ---- what operations call -------------------------------------------------------------------- */

static tfuse_status add_entry(otf *o, tf_id param, int dim, int part, int32_t map)
{
    const tf_param *p = &o->anchor->params[param];
    tf_plan_entry e = {(int32_t)o->k, p->name, dim, part, map, p->use[dim] != TF_USE_CONSUMED};
    return tf_plan_add_entry(o->env, o->plan, &e);
}

static tfuse_status flow_move(tf_flow *f, const tf_node *n, int slot, int dim, tf_id value)
{
    otf *o = (otf *)f;
    const otf_value *v = &o->values[value];
    tf_id param = slot < n->n_params ? n->params[slot] : -1;
    if (param < 0)
        return TFUSE_OK;
    if (&o->anchor->nodes[o->anchor->params[param].node] != n)
        return TFUSE_OK; /* a tied weight moves as where it was first used */
    if (!v->map)
        return tf_fail(o->env, TFUSE_EINTERNAL, "%s: no map has reached its input %s", n->name, o->anchor->values[value].name);
    for (int part = 0; part < v->n; part++)
        if (v->map[part] >= 0)
            TF_TRY(add_entry(o, param, dim, part, v->map[part]));
    return TFUSE_OK;
}

static bool same_part(const tf_part *a, const tf_part *b)
{
    if (a->n_factors != b->n_factors)
        return false;
    for (int i = 0; i < a->n_factors; i++)
        if (a->port[i] != b->port[i] || a->extent[i] != b->extent[i])
            return false;
    return true;
}

/* The produced sides of the node's own tensors (rows of the weight, the bias) move by the maps of its output. */
static tfuse_status move_produced(otf *o, const tf_node *n, const tf_part *out_parts, const otf_value *v)
{
    for (int slot = 0; slot < n->n_params; slot++) {
        const tf_param *p = n->params[slot] < 0 ? NULL : &o->anchor->params[n->params[slot]];
        for (int dim = 0; p && dim < p->rank; dim++) {
            if (p->use[dim] == TF_USE_CONSUMED)
                continue;
            tf_part *parts;
            int count;
            TF_TRY(tf_binding_parts(o->env, o->anchor, p->dims[dim], &parts, &count));
            tfuse_status status = TFUSE_OK;
            for (int i = 0; i < count && i < v->n && status == TFUSE_OK; i++)
                if (v->map[i] >= 0 && same_part(&parts[i], &out_parts[i]))
                    status = add_entry(o, n->params[slot], dim, i, v->map[i]);
            tf_free(&o->env->mem, parts);
            TF_TRY(status);
        }
    }
    return TFUSE_OK;
}

/* ---- solving one node -------------------------------------------------------------------------- */

static void axis_text(const otf *o, const tf_part *part, char *out, size_t size)
{
    size_t len = 0;
    for (int i = 0; i < part->n_factors && len < size; i++) {
        const char *name = part->port[i] < 0 ? "fixed" : o->anchor->class_name[tf_class_of(o->anchor, part->port[i])];
        len += (size_t)snprintf(out + len, size - len, "%s%s", i ? "*" : "", name);
    }
}

static tf_id last_port(const tf_part *part)
{
    return part->port[part->n_factors - 1];
}

tfuse_status otf_units_of_port(otf *o, tf_id port, otf_units *out)
{
    tf_id node = tf_port_producer(o->anchor, port);
    out->node = NULL;
    if (node < 0)
        return TFUSE_OK;
    tf_part *parts;
    int count;
    TF_TRY(otf_parts(o, o->anchor, o->anchor->nodes[node].outputs[0], &parts, &count));
    for (int i = 0; i < count; i++)
        for (int k = 0; k < parts[i].n_factors; k++)
            if (parts[i].port[k] == port)
                *out = (otf_units){&o->anchor->nodes[node], i};
    tf_free(&o->env->mem, parts);
    return TFUSE_OK;
}

/* Units that must move together under otfusion.qk=common: those that produced the same axis with one in dual relation to
 * another (queries and keys). The given units alone if they have no such partner. */
static tfuse_status common_units(otf *o, const tf_part *part, otf_units *sets, int cap, int *count)
{
    const tf_graph *g = o->anchor;
    otf_units own = sets[0];
    tf_id cls = tf_class_of(g, last_port(part));
    bool mixed = false;
    *count = 0;
    for (size_t i = 0; i < g->n_ports && *count < cap; i++) {
        if (g->class_of[i] != cls)
            continue;
        TF_TRY(otf_units_of_port(o, (tf_id)i, &sets[*count]));
        *count += sets[*count].node != NULL;
        mixed |= g->class_dual[i] != g->class_dual[last_port(part)];
    }
    if (mixed && *count == cap)
        return tf_fail(o->env, TFUSE_EUNSUPPORTED, "%s: too many sets of units share one map under otfusion.qk=common", own.node->name);
    if (!mixed || !*count) {
        sets[0] = own;
        *count = 1;
    }
    return TFUSE_OK;
}

bool otf_is_control(const otf *o)
{
    return o->opt.control == OTF_UNIFORM || o->opt.control == OTF_RANDOM;
}

static bool has_heads(const tf_part *part)
{
    return part->n_factors == 2 && part->n_ports == 2;
}

/* A router sends tokens to experts as wholes: its logits go where the experts go, and experts are matched as heads are. */
static tfuse_status match_router(otf *o, const tf_part *model_part, const tf_part *part, tf_plan_map *row, int32_t *map)
{
    const otf_heads *experts;
    TF_TRY(otf_assign_heads(o, model_part, part, &experts));
    row->cost = row->error = (double)NAN;
    row->converged = true;
    TF_TRY(experts->source ? tf_map_permutation(o->env, experts->m, experts->source, &row->map)
                           : tf_map_dense(o->env, TF_MAP_COUPLING, experts->n, experts->m, experts->mass, &row->map));
    return tf_plan_add_map(o->env, o->plan, row, map);
}

static tfuse_status solve_part(otf *o, const tf_node *n, int index, const tf_part *part, const tf_part *model_part, int32_t *map)
{
    otf_units sets[TF_MAX_NODE_IO] = {{n, index}};
    int n_sets = 1;
    tf_id cls = tf_class_of(o->anchor, last_port(part));
    if (o->opt.common_qk) {
        TF_TRY(common_units(o, part, sets, TF_MAX_NODE_IO, &n_sets));
        if (n_sets > 1 && o->common[cls] >= 0) {
            *map = o->common[cls];
            return TFUSE_OK;
        }
    }
    char axis[256], stream[320];
    snprintf(stream, sizeof stream, "%s:%d", n->name, index);
    tf_plan_map row = {.name = n->name, .axis = axis, .model = (int32_t)o->k, .solver = "", .gap = (double)NAN, .correlation = (double)NAN};
    axis_text(o, part, axis, sizeof axis);
    const otf_heads *heads = NULL;
    const bool routed = part->port[0] >= 0 && tf_class_is_routed(o->anchor, tf_class_of(o->anchor, part->port[0]));
    if (routed && part->n_factors == 1 && !o->job->tally)
        return match_router(o, model_part, part, &row, map);
    if ((o->opt.within_heads || routed) && has_heads(part))
        TF_TRY(otf_assign_heads(o, model_part, part, &heads));
    if (has_heads(part)) {
        row.heads_n = model_part->extent[0];
        row.heads_m = part->extent[0];
    }
    otf_ground ground = {.n = model_part->size, .m = part->size};
    if (!otf_is_control(o) && !o->job->tally)
        TF_TRY(otf_cost(o, sets, n_sets, &ground));
    tfuse_status status;
    if (o->job->tally)
        status = otf_estimate_part(o, sets, n_sets, model_part, part, heads != NULL, &row);
    else if (heads)
        status = otf_match_heads(o, stream, heads, ground.n, ground.m, ground.cost, &row);
    else
        status = otf_match(o, stream, ground.n, ground.m, ground.cost, &row);
    if (status == TFUSE_OK)
        row.correlation = otf_correlation(o, &ground, row.map);
    otf_ground_free(o, &ground);
    TF_TRY(status);
    TF_TRY(tf_plan_add_map(o->env, o->plan, &row, map));
    if (n_sets > 1)
        o->common[cls] = *map;
    return TFUSE_OK;
}

tfuse_status otf_new_value(otf *o, tf_id value, int n)
{
    otf_value *v = &o->values[value];
    v->n = n;
    v->map = tf_arena_array(o->env, &o->arena, (size_t)n, sizeof *v->map);
    for (int i = 0; v->map && i < n; i++)
        v->map[i] = -1;
    return v->map ? TFUSE_OK : TFUSE_ENOMEM;
}

static tfuse_status flow_solve(tf_flow *f, const tf_node *n)
{
    otf *o = (otf *)f;
    tf_part *parts = NULL, *model_parts = NULL;
    int count = 0, model_count = 0;
    tfuse_status status = otf_parts(o, o->anchor, n->outputs[0], &parts, &count);
    if (status == TFUSE_OK)
        status = otf_parts(o, o->model, otf_model_node(o, n)->outputs[0], &model_parts, &model_count);
    if (status == TFUSE_OK)
        status = otf_new_value(o, n->outputs[0], count);
    otf_value *v = &o->values[n->outputs[0]];
    for (int i = 0; i < count && i < model_count && status == TFUSE_OK; i++)
        if (parts[i].n_ports > 0)
            status = solve_part(o, n, i, &parts[i], &model_parts[i], &v->map[i]);
    if (status == TFUSE_OK)
        status = move_produced(o, n, parts, v);
    tf_free(&o->env->mem, parts);
    tf_free(&o->env->mem, model_parts);
    return status;
}

static tfuse_status flow_pass(tf_flow *f, tf_id in, tf_id out)
{
    otf *o = (otf *)f;
    tf_part *from = NULL, *to = NULL;
    int n_from = 0, n_to = 0;
    tfuse_status status = otf_parts(o, o->anchor, in, &from, &n_from);
    if (status == TFUSE_OK)
        status = otf_parts(o, o->anchor, out, &to, &n_to);
    if (status == TFUSE_OK)
        status = otf_new_value(o, out, n_to);
    for (int i = 0; i < n_to && status == TFUSE_OK; i++) {
        int match = -1;
        for (int j = 0; j < n_from && match < 0; j++)
            if (same_part(&to[i], &from[j]))
                match = j;
        if (match < 0 && n_to == n_from && to[i].size == from[i].size)
            match = i;
        if (match < 0 && to[i].n_ports > 0)
            status = tf_fail(o->env, TFUSE_EUNSUPPORTED, "%s: the map of %s cannot be carried to it under align.strategy=otfusion",
                             o->anchor->values[out].name, o->anchor->values[in].name);
        else if (match >= 0)
            o->values[out].map[i] = o->values[in].map ? o->values[in].map[match] : -1;
    }
    tf_free(&o->env->mem, from);
    tf_free(&o->env->mem, to);
    return status;
}

static tfuse_status flow_follow(tf_flow *f, const tf_node *n, tf_id v)
{
    otf *o = (otf *)f;
    tf_part *parts = NULL;
    int count = 0;
    tfuse_status status = otf_parts(o, o->anchor, n->outputs[0], &parts, &count);
    if (status == TFUSE_OK && (!o->values[v].map || o->values[v].n != count))
        status = tf_fail(o->env, TFUSE_EUNSUPPORTED, "%s: it is laid out differently from %s, whose maps it should take", n->name,
                         o->anchor->values[v].name);
    for (int i = 0; i < count && status == TFUSE_OK; i++)
        for (int slot = 0; slot < n->n_params && status == TFUSE_OK && o->values[v].map[i] >= 0; slot++)
            if (n->params[slot] >= 0)
                status = add_entry(o, n->params[slot], 0, i, o->values[v].map[i]);
    tf_free(&o->env->mem, parts);
    return status;
}

static const tf_flow_ops flow_ops = {flow_move, flow_solve, flow_pass, otf_spread, flow_follow, otf_join};

/* ---- the strategy --------------------------------------------------------------------------------- */

static tfuse_status read_options(tf_env *env, const tf_align_job *job, otf_options *o)
{
    const tfuse_policy *p = job->policy;
    memset(o, 0, sizeof *o);
    o->activations = tf_policy_is(p, "otfusion.cost", "activations") || (tf_policy_is(p, "otfusion.cost", "auto") && tf_align_calibrated(job));
    o->common_qk = tf_policy_is(p, "otfusion.qk", "common");
    o->within_heads = tf_policy_is(p, "otfusion.heads", "within");
    o->compat = tf_policy_flag(p, "otfusion.compat");
    o->metric = (tf_metric)tf_policy_choice(p, "otfusion.metric");
    o->normalise = (tf_cost_norm)tf_policy_choice(p, "otfusion.normalise");
    o->standardise = (otf_standardise)tf_policy_choice(p, "otfusion.standardise");
    o->residual = (otf_residual)tf_policy_choice(p, "otfusion.residual");
    o->control = (otf_control)tf_policy_choice(p, "align.control");
    o->solver = tf_policy_text(p, "solver.name");
    if (o->compat && !strcmp(o->solver, "sinkhorn"))
        o->solver = "sinkhorn-scaling";
    o->ot.reg = tf_policy_real(p, "solver.reg");
    o->ot.max_iterations = tf_policy_int(p, "solver.max_iterations");
    o->ot.tolerance = tf_policy_real(p, "solver.tolerance");
    o->ot.strict = tf_policy_flag(p, "solver.strict");
    o->samples = tf_policy_int(p, "calib.samples");
    o->seed = (uint64_t)tf_policy_int(p, "run.seed");
    return tf_token_filter_parse(env, tf_policy_text(p, "otfusion.tokens"), &o->tokens);
}

/* The published code mixes each pair half and half in its blocks whatever was asked for, so only that case means one thing. */
static tfuse_status check_compat(tf_env *env, const tf_align_job *job)
{
    double w[3];
    size_t n = tf_policy_reals(job->policy, "combine.weights", w, 3);
    if (job->n != 2 || (n == 2 && w[0] != w[1]))
        return tf_fail(env, TFUSE_EINVAL, "otfusion.compat=1 is for two models with equal weights; leave it out for others");
    return TFUSE_OK;
}

static tfuse_status check_solver(tf_env *env, const tf_align_job *job, const otf_options *o)
{
    char names[256];
    if (tf_solvers_has(job->solvers, o->solver))
        return TFUSE_OK;
    TF_TRY(tf_solvers_names(env, job->solvers, names, sizeof names));
    return tf_fail(env, TFUSE_EKEY, "solver.name=%s is not known; there are %s", o->solver, names);
}

static tfuse_status check_calibration(tf_env *env, const tf_align_job *job, const otf_options *o)
{
    if (tf_align_calibrated(job))
        return TFUSE_OK;
    if (o->activations)
        return tf_fail(env, TFUSE_EINVAL, "otfusion.cost=activations needs calibration inputs: give --calib FILE");
    if (o->residual == OTF_SCALAR || o->residual == OTF_MATRIX)
        return tf_fail(env, TFUSE_EINVAL, "otfusion.residual=%s weighs by activations and needs calibration inputs: give --calib FILE",
                       tf_policy_text(job->policy, "otfusion.residual"));
    return TFUSE_OK;
}

static tfuse_status otfusion_needs(tf_env *env, const tf_align_job *job)
{
    otf_options o;
    TF_TRY(tf_align_note(env, job, read_options(env, job, &o)));
    TF_TRY(tf_align_note(env, job, check_solver(env, job, &o)));
    TF_TRY(tf_align_note(env, job, check_calibration(env, job, &o)));
    if (o.compat)
        TF_TRY(tf_align_note(env, job, check_compat(env, job)));
    for (size_t k = 1; k < job->n; k++)
        TF_TRY(tf_pair_graphs(env, job, k));
    return TFUSE_OK;
}

static tfuse_status prepare(otf *o)
{
    const tf_graph *g = o->anchor;
    tf_arena_init(&o->arena, &o->env->mem);
    o->values = tf_arena_array(o->env, &o->arena, g->n_values, sizeof *o->values);
    o->common = tf_arena_array(o->env, &o->arena, g->n_classes, sizeof *o->common);
    o->heads = tf_arena_array(o->env, &o->arena, g->n_classes, sizeof *o->heads);
    if (!o->values || !o->common || !o->heads)
        return TFUSE_ENOMEM;
    for (size_t c = 0; c < g->n_classes; c++)
        o->common[c] = -1;
    TF_TRY(otf_collect(o));
    if (!o->requests.n || !tf_align_calibrated(o->job))
        return TFUSE_OK;
    if (o->job->tally)
        return otf_estimate_statistics(o);
    if (o->job->feed)
        return tf_feed_stats(o->env, o->job->feed, o->k, &(tf_stat_wants){o->requests.items, o->requests.n, o->opt.tokens}, &o->stats);
    return tf_stats_gather(o->env, o->anchor_view, o->model_view, o->job->calib, o->opt.samples, &o->opt.tokens,
                           o->requests.items, o->requests.n, &o->stats);
}

static tfuse_status walk(otf *o)
{
    const tf_graph *g = o->anchor;
    for (size_t i = 0; i < g->n_nodes; i++) {
        TF_TRY(tf_progress(o->env, "aligning", i, g->n_nodes));
        tfuse_status status = g->nodes[i].op->flow(&o->flow, g, &g->nodes[i]);
        if (status != TFUSE_OK)
            return tf_fail_in(o->env, status, "aligning %s at %s", tf_model_label(o->job->models[o->k]), g->nodes[i].name);
    }
    return tf_progress(o->env, "aligning", g->n_nodes, g->n_nodes);
}

static tfuse_status otfusion_align(tf_env *env, const tf_align_job *job, const tf_view *const *views, tfuse_plan *plan)
{
    for (size_t k = 1; k < job->n; k++) {
        otf o = {.flow = {&flow_ops}, .env = env, .job = job, .k = k, .anchor = job->graphs[0], .model = job->graphs[k],
                 .anchor_view = views[0], .model_view = views[k], .plan = plan};
        TF_TRY(read_options(env, job, &o.opt));
        tfuse_status status = prepare(&o);
        if (status == TFUSE_OK)
            status = walk(&o);
        tf_stats_free(&o.stats);
        if (job->tally)
            tf_tally_drop(&job->tally->memory, o.stats_bytes);
        tf_free(&env->mem, o.requests.items);
        tf_arena_free(&o.arena);
        TF_TRY(status);
    }
    return TFUSE_OK;
}

static tfuse_status otfusion_wants(tf_env *env, const tf_align_job *job, size_t k, tf_stat_wants *out)
{
    otf o = {.env = env, .job = job, .k = k, .anchor = job->graphs[0], .model = job->graphs[k]};
    TF_TRY(read_options(env, job, &o.opt));
    tf_arena_init(&o.arena, &env->mem);
    tfuse_status status = otf_collect(&o);
    tf_arena_free(&o.arena);
    if (status == TFUSE_OK)
        *out = (tf_stat_wants){o.requests.items, o.requests.n, o.opt.tokens};
    else
        tf_free(&env->mem, o.requests.items);
    return status;
}

static const char *const otfusion_passes[] = {NULL};

const tf_strategy tf_strategy_otfusion = {"otfusion", false, otfusion_passes, otfusion_needs, otfusion_wants, otfusion_align};
