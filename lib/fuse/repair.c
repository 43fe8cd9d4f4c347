/* SPDX-License-Identifier: Apache-2.0
 *
 * repair.c: the walk, and what it is told and tells.
 */
#include "fuse/repair.h"
#include "num/num.h"
#include "ops/common.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    int stage;
} names[] = {{"mix", RP_MIX}, {"circuits", RP_CIRCUITS}, {"select", RP_SELECT},
             {"regmean", RP_REGMEAN}, {"refit", RP_REFIT}, {"statistics", RP_STATISTICS}, {"head", RP_HEAD}};

/* ---- what is asked for -------------------------------------------------------------------------------------------------------- */

static tfuse_status parse_one(tf_env *env, const char *text, size_t size, int *stages)
{
    for (size_t i = 0; i < TF_LEN(names); i++)
        if (strlen(names[i].name) == size && !strncmp(names[i].name, text, size)) {
            *stages |= names[i].stage;
            return TFUSE_OK;
        }
    return tf_fail(env, TFUSE_EKEY, "repair: '%.*s' does not go with other stages", (int)size, text);
}

tfuse_status tf_repair_stages(tf_env *env, const tfuse_policy *policy, const tfuse_plan *plan, bool calibrated, int *stages)
{
    const char *text = tf_policy_text(policy, "repair");
    *stages = 0;
    if (!strcmp(text, "none"))
        return TFUSE_OK;
    if (!strcmp(text, "auto")) {
        const tf_fuse_job job = {.plan = plan};
        const bool can = plan->carries && !tf_fuse_is_half_anchor(&job) && plan->n_maps > 0 && tf_policy_is(policy, "align.control", "none");
        const int alone = tf_lapack_check(NULL, text) == TFUSE_OK ? RP_CIRCUITS | RP_UNASKED : 0; /* the report says which stages ran */
        *stages = !can ? 0 : calibrated ? RP_MIX | RP_SELECT | RP_REFIT | RP_HEAD : alone;
        return TFUSE_OK;
    }
    for (const char *at = text; ; at++) {
        const size_t size = strcspn(at, ",");
        TF_TRY(parse_one(env, at, size, stages));
        at += size;
        if (!*at)
            break;
    }
    if (!calibrated && *stages != RP_CIRCUITS)
        return tf_fail(env, TFUSE_EINVAL, "repair=%s fits to calibration inputs: give --calib FILE", text);
    if (!plan->carries)
        return tf_fail(env, TFUSE_EINVAL, "repair=%s compares the models' values, for which the plan must have one map an axis; plans of "
                       "align.strategy=%s have not: use matching", text, plan->strategy);
    if (!tf_policy_is(policy, "align.control", "none"))
        return tf_fail(env, TFUSE_EINVAL, "repair=%s and align.control=%s do not go together", text, tf_policy_text(policy, "align.control"));
    return TFUSE_OK;
}

/* ---- the walk --------------------------------------------------------------------------------------------------------------------- */

static tfuse_status walk(repair *r)
{
    for (size_t s = 0; s < r->n_nodes; s++) {
        TF_TRY(tf_progress(r->env, "repairing", s, r->n_nodes));
        r->step = s;
        if (r->stages & RP_CIRCUITS)
            TF_TRY(rp_merge_circuits(r, s));
        if (r->stages & RP_SELECT)
            TF_TRY(rp_select(r, s));
        if (r->g->nodes[r->nodes[s]].op == &tf_op_linear)
            TF_TRY(rp_fit_linear(r, s));
        for (size_t k = 0; k <= r->n; k++)
            TF_TRY(rp_advance(r, k, s));
        rp_release(r, s);
    }
    return tf_progress(r->env, "repairing", r->n_nodes, r->n_nodes);
}

/* From the weights alone: what the circuits give is the result. */
static tfuse_status walk_weights(repair *r)
{
    for (size_t s = 0; s < r->n_nodes; s++) {
        TF_TRY(tf_progress(r->env, "repairing", s, r->n_nodes));
        TF_TRY(rp_merge_circuits(r, s));
    }
    for (size_t p = 0; p < r->g->n_params; p++) {
        r->fitted[p] = r->base[p];
        r->base[p] = NULL;
    }
    return tf_progress(r->env, "repairing", r->n_nodes, r->n_nodes);
}

/* ---- what came of it ------------------------------------------------------------------------------------------------------------------ */

/* Mean KL divergence of a lane's softmax from that of the parents' mean logits, over all samples or those held out, but for padding. work: 2 × channels. */
static double divergence(const repair *r, size_t lane, bool held, double *work)
{
    const tf_batch *b = rp_value(r, lane, r->g->output);
    const int64_t n = tf_batch_channels(b), rows = tf_batch_rows(b);
    double *x = work, sum = 0, count = 0;
    const uint8_t *seen = rp_seen(r, r->g->output);
    for (int64_t row = 0; row < rows; row++) {
        if ((held && !rp_is_held(r->samples, row / (rows / b->n))) || (seen && !seen[row]))
            continue;
        count++;
        for (int64_t i = 0; i < n; i++)
            x[i] = (double)b->data[row * n + i];
        sum += rp_divergence(r, row, x, n, x + n);
    }
    return count > 0 ? sum / count : NAN;
}

static json_t *stage_names(const repair *r)
{
    json_t *list = json_array();
    const int stages = (r->stages & RP_UNASKED) && !json_array_size(r->merged) ? 0 : r->stages;
    for (size_t i = 0; list && i < TF_LEN(names); i++)
        if (stages & names[i].stage)
            list = tf_json_append(list, json_string(names[i].name));
    return list;
}

static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *numbers(const double *x, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++)
        list = tf_json_append(list, json_real(x[i]));
    return list;
}

/* By more than the four digits that are printed: two networks of one function differ by rounding. */
static bool is_worse(double fused, double anchor)
{
    return fused > anchor + 1e-4;
}

static tfuse_status pack_report(repair *r, double fused, double anchor, json_t **out)
{
    *out = json_pack("{s:o, s:I, s:o, s:O, s:o, s:o, s:o, s:b, s:O, s:O, s:O, s:O}", "stages", stage_names(r), "samples", (json_int_t)r->samples, "mix",
                     numbers(r->mix, r->n), "mixes", r->mixes, "kl_refit", number(r->kl_refit), "kl_fused", number(fused), "kl_anchor", number(anchor),
                     "worse", is_worse(fused, anchor), "circuits", r->merged, "linears", r->report, "selected", r->selected, "owners", r->owners);
    return *out ? TFUSE_OK : tf_fail(r->env, TFUSE_ENOMEM, "out of memory for the report of repair");
}

static tfuse_status make_report(repair *r, json_t **out)
{
    if (!r->samples)
        return pack_report(r, NAN, NAN, out);
    double *work = tf_alloc_array(r->env, (size_t)(2 * tf_batch_channels(rp_value(r, 0, r->g->output))), sizeof *work);
    if (!work)
        return TFUSE_ENOMEM;
    const double fused = divergence(r, r->n, !r->all, work), anchor = divergence(r, 0, !r->all, work);
    tf_free(&r->env->mem, work);
    if (!isfinite(fused) && r->all)
        return tf_fail(r->env, TFUSE_ENUMERIC, "repair: the fused network's outputs become NaN or infinite on the calibration inputs");
    if (is_worse(fused, anchor) && r->all)
        tf_log(r->env, TFUSE_LOG_WARN, "the fused network is farther from the ensemble (%.4f nats) than the anchor alone (%.4f)", fused, anchor);
    return pack_report(r, fused, anchor, out);
}

static tfuse_status make_seen(repair *r, const tfuse_array *calib)
{
    const tf_inputs *in = &r->lanes[0].inputs;
    const int64_t count = in->n * in->sample;
    bool any = false;
    TF_TRY(tf_value_follows_tokens(r->env, r->g, &r->follows));
    if (!calib || !tf_inputs_are_masked(r->g, in))
        return TFUSE_OK;
    if (!(r->seen = tf_alloc_array(r->env, (size_t)count, sizeof *r->seen)))
        return TFUSE_ENOMEM;
    tf_inputs_seen(r->g, in, 0, in->n, r->seen);
    for (int64_t i = 0; i < count; i++)
        any = any || r->seen[i];
    return any ? TFUSE_OK : tf_fail(r->env, TFUSE_ERANGE, "the mask of %s hides all tokens", tf_array_label(calib, "the calibration inputs"));
}

static tfuse_status prepare(repair *r, const tfuse_array *calib)
{
    tf_env *env = r->env;
    const tfuse_policy *p = r->job->policy;
    r->samples = tf_policy_int(p, "calib.samples");
    r->token_weight = tf_policy_real(p, "repair.class_tokens");
    r->ridge = tf_policy_real(p, "repair.ridge");
    r->spill = tf_policy_int(p, "run.memory") > 0;
    r->fitted = tf_calloc(env, r->g->n_params + 1, sizeof *r->fitted);
    r->report = json_array();
    r->selected = json_array();
    r->owners = json_array();
    r->merged = json_array();
    if (!r->fitted || !r->report || !r->selected || !r->owners || !r->merged)
        return TFUSE_ENOMEM;
    TF_TRY(tf_value_class_only(env, r->g, &r->class_only));
    TF_TRY(rp_lanes_make(r, calib));
    TF_TRY(make_seen(r, calib));
    if (r->stages & RP_CIRCUITS)
        TF_TRY(rp_circuits_make(r));
    return r->stages & RP_SELECT ? rp_blocks_make(r) : TFUSE_OK;
}

void tf_fitted_free(tf_env *env, const tf_graph *g, float **fitted)
{
    for (size_t p = 0; fitted && p < g->n_params; p++)
        tf_free(&env->mem, fitted[p]);
    tf_free(&env->mem, fitted);
}

/* What no linear is, tables of embeddings and positions among them, goes by the mix like the rest: their outputs are what the first fits start from. */
static tfuse_status keep_mixed(repair *r)
{
    for (size_t s = 0; s < r->n_nodes; s++) {
        const tf_node *n = &r->g->nodes[r->nodes[s]];
        for (int k = 0; k < n->n_params; k++) {
            const float *x;
            if (n->params[k] >= 0 && !r->fitted[n->params[k]])
                TF_TRY(rp_param(r, r->n, n->params[k], &x, &r->fitted[n->params[k]]));
        }
    }
    return TFUSE_OK;
}

/* A parent that leads alone is what the fits before the last linear would be made to, unless its maps lose something. */
static int stages_left(const repair *r)
{
    for (size_t k = 0; k < r->n; k++)
        if ((r->stages & RP_MIX) && r->mix[k] >= 1 && tf_plan_is_lossless(r->job->plan, k))
            return r->stages & ~(RP_SELECT | RP_REGMEAN | RP_REFIT);
    return r->stages;
}

/* One walk from the input to the output; *fitted may be NULL: only the report is wanted. */
static tfuse_status run(const repair *with, const tfuse_array *calib, float ***fitted, json_t **report)
{
    repair r = *with;
    r.stages = stages_left(with);
    tfuse_status status = prepare(&r, calib);
    if (status == TFUSE_OK)
        status = r.samples > 0 ? walk(&r) : walk_weights(&r);
    if (status == TFUSE_OK)
        status = make_report(&r, report);
    if (status == TFUSE_OK && fitted && r.samples > 0 && (r.stages & RP_MIX))
        status = keep_mixed(&r);
    for (int set = 0; set < 2; set++)
        tf_free(&r.env->mem, r.shared.xx[set]);
    rp_blocks_free(&r);
    rp_circuits_free(&r);
    rp_lanes_free(&r);
    tf_free(&r.env->mem, r.class_only);
    tf_free(&r.env->mem, r.follows);
    tf_free(&r.env->mem, r.seen);
    json_decref(r.report);
    json_decref(r.selected);
    json_decref(r.owners);
    json_decref(r.merged);
    if (status == TFUSE_OK && fitted)
        *fitted = r.fitted;
    else
        tf_fitted_free(r.env, r.g, r.fitted);
    return status;
}

/* ---- the mix ------------------------------------------------------------------------------------------------------------------------ */

static tfuse_status normalise_weights(repair *r)
{
    double sum = 0;
    TF_TRY(tf_fuse_weights(r->env, r->job, r->weights));
    for (size_t k = 0; k < r->n; k++)
        sum += r->weights[k];
    if (!(fabs(sum) > 1e-12))
        return tf_fail(r->env, TFUSE_EINVAL, "combine.weights sum to nothing: repair needs a mean of the models");
    for (size_t k = 0; k < r->n; k++)
        r->mix[k] = r->weights[k] /= sum;
    return TFUSE_OK;
}

/* Candidate 0 is the weights themselves; in candidate k + 1 parent k leads: it has the share `lead` of all that is fitted to before the last linear, and
 * the others share the rest. */
static void set_mix(repair *r, size_t candidate, double lead)
{
    double others = 0;
    for (size_t k = 0; k < r->n && candidate; k++)
        others += k + 1 == candidate ? 0 : r->weights[k];
    for (size_t k = 0; k < r->n; k++)
        r->mix[k] = !candidate ? r->weights[k] : k + 1 == candidate ? lead : (1 - lead) * r->weights[k] / others;
}

/* How far the network of a candidate is from the ensemble on held-out samples; infinite where its outputs are no numbers. */
static tfuse_status try_mix(repair *r, const tfuse_array *calib, size_t candidate, double lead, double *kl)
{
    json_t *report = NULL;
    set_mix(r, candidate, lead);
    TF_TRY(run(r, calib, NULL, &report));
    const json_t *found = json_object_get(report, "kl_fused");
    *kl = json_is_number(found) ? json_number_value(found) : INFINITY;
    json_decref(report);
    json_t *row = json_pack("{s:o, s:o, s:o}", "lead", candidate ? json_integer((json_int_t)candidate - 1) : json_null(), "share",
                            candidate ? json_real(lead) : json_null(), "kl", number(*kl));
    if (json_array_append_new(r->mixes, row))
        return tf_fail(r->env, TFUSE_ENOMEM, "out of memory for the report of repair");
    if (candidate)
        tf_log(r->env, TFUSE_LOG_INFO, "repair: %s with a share of %.2f is %.5f nats from the ensemble on held-out samples",
               tf_model_label(r->job->models[candidate - 1]), lead, *kl);
    else
        tf_log(r->env, TFUSE_LOG_INFO, "repair: the mean of all is %.5f nats from the ensemble on held-out samples", *kl);
    return TFUSE_OK;
}

/* The nearest candidate so far. */
typedef struct choice {
    size_t candidate;
    double lead, kl;
} choice;

static tfuse_status try_choice(repair *r, const tfuse_array *calib, size_t candidate, double lead, choice *best)
{
    double kl;
    TF_TRY(try_mix(r, calib, candidate, lead, &kl));
    if (kl < best->kl)
        *best = (choice){candidate, lead, kl};
    return TFUSE_OK;
}

static bool may_lead(const repair *r, size_t k)
{
    return r->weights[k] > 0 && r->weights[k] < 1;
}

/* Two networks of equal use share few features, and the mean of their streams is the stream of neither: often one that leads, with what the other
 * adds, comes nearer to the ensemble. Whether so, which, and by the given share or half of the way on from there to all, is found on samples that the fits
 * leave out. Where the models share too little, nearest is one of them alone with its last linear fitted to the ensemble. */
static tfuse_status choose_mix(repair *r, const tfuse_array *calib)
{
    const double lead = tf_policy_real(r->job->policy, "repair.lead");
    const bool alone = lead < 1 && (r->stages & RP_HEAD) && tf_policy_flag(r->job->policy, "repair.alone"); /* no head: nothing of the others would be left */
    choice best = {0, lead, INFINITY};
    r->all = false;
    TF_TRY(try_choice(r, calib, 0, lead, &best));
    for (size_t k = 0; k < r->n; k++)
        if (may_lead(r, k))
            TF_TRY(try_choice(r, calib, k + 1, lead, &best));
    if (best.candidate && lead < 1)
        TF_TRY(try_choice(r, calib, best.candidate, (1 + lead) / 2, &best));
    for (size_t k = 0; k < r->n && alone; k++)
        if (may_lead(r, k))
            TF_TRY(try_choice(r, calib, k + 1, 1, &best));
    set_mix(r, best.candidate, best.lead);
    return TFUSE_OK;
}

static bool are_alike(const tfuse_array *a, int64_t n)
{
    const size_t sample = a->count / (size_t)a->shape[0] * tf_dtype_size(a->dtype);
    for (int64_t i = 1; i < n; i++)
        if (memcmp(a->data, (const uint8_t *)a->data + (size_t)i * sample, sample) != 0)
            return false;
    return true;
}

/* Samples that leave nothing to test by: ridges, mixes and the last step are then chosen by what they were fitted to, where the most flexible always
 * wins. */
static void warn_of_inputs(tf_env *env, const tf_fuse_job *job, const tfuse_array *calib)
{
    const int64_t most = tf_policy_int(job->policy, "calib.samples"), n = calib->rank && calib->shape[0] < most ? calib->shape[0] : most;
    if (n >= RP_FOLD && are_alike(calib, n))
        tf_log(env, TFUSE_LOG_WARN, "repair: the %lld calibration inputs are all the same, so nothing tests what is fitted to them, which is likely worse than "
               "the models themselves; give inputs that differ, or --repair none", (long long)n);
    if (n < RP_FOLD)
        tf_log(env, TFUSE_LOG_WARN, "repair: of %lld calibration input%s none is left out to test what is fitted to the rest, which is likely worse than "
               "the models themselves; give at least %d, better hundreds, or --repair none", (long long)n, n == 1 ? "" : "s", (int)RP_FOLD);
}

tfuse_status tf_repair(tf_env *env, const tf_fuse_job *job, int stages, const tfuse_array *calib, float ***fitted, json_t **report)
{
    repair r = {.env = env, .job = job, .g = job->graphs[0], .stages = stages, .n = job->n, .kl_refit = NAN};
    *fitted = NULL;
    *report = NULL;
    if (calib ? !tf_graph_runs(r.g) : r.g->output < 0)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "repair runs the models, and %s has %s", tf_model_label(job->models[0]),
                       r.g->output < 0 ? "no output" : "several inputs");
    if (calib)
        warn_of_inputs(env, job, calib);
    r.weights = tf_calloc(env, 2 * r.n, sizeof *r.weights);
    r.mix = r.weights ? r.weights + r.n : NULL;
    r.mixes = json_array();
    tfuse_status status = r.weights && r.mixes ? normalise_weights(&r) : TFUSE_ENOMEM;
    if (status == TFUSE_OK && (stages & RP_MIX))
        status = choose_mix(&r, calib);
    r.all = true;
    if (status == TFUSE_OK)
        status = run(&r, calib, fitted, report);
    tf_free(&env->mem, r.weights);
    json_decref(r.mixes);
    return status;
}
