/* SPDX-License-Identifier: Apache-2.0
 *
 * matching.c: the strategy `matching`: one map for every axis, a member of the group that both models' operations permit, found by coordinate
 * ascent on the mean correlation of the evidence (matching.h). A sweep matches blocks (heads) before what is inside of them, and the residual
 * stream last; the first one takes the stream before all else, from what touches nothing but it and the outside (embeddings, positions, the
 * head) and from activations. Sweeps end when the objective gains nothing any more, and the best maps are kept. Since every map is of the group,
 * each model carried alone computes what it did, so plans are exact; but where a model has more units than the anchor, what the others hold is lost.
 *
 * Sources: Ainsworth, Hayase, Srinivasa, "Git Re-Basin" (2023), for coordinate ascent over permutations; Theus et al., "Generalized Linear Mode
 * Connectivity for Transformers" (2025), for orthogonal maps of the residual stream; the rest follows from the objective.
 */
#include "align/matching.h"
#include "passes/passes.h"
#include <math.h>
#include <string.h>

/* A round that gains a smaller part of the objective than this is the last. */
#define LEAST_GAIN 2e-3

static tfuse_status make_maps(matching *mt)
{
    if (!(mt->maps = tf_calloc(mt->env, mt->g->n_classes + 1, sizeof *mt->maps)))
        return TFUSE_ENOMEM;
    for (size_t c = 0; c < mt->g->n_classes; c++) {
        const int64_t instances = tf_class_instances(mt->g, (tf_id)c);
        if (mt->classes[c].shape == MT_FIXED)
            continue;
        if (!(mt->maps[c].maps = tf_calloc(mt->env, (size_t)instances, sizeof *mt->maps[c].maps)))
            return TFUSE_ENOMEM;
        mt->maps[c].instances = instances;
        for (int64_t i = 0; i < instances; i++)
            TF_TRY(mt_first_map(mt, (tf_id)c, &mt->maps[c].maps[i]));
    }
    return TFUSE_OK;
}

/* ---- coordinate ascent --------------------------------------------------------------------------------------------- */

typedef enum phase { STREAMS, BLOCKS, UNITS, PHASES } phase;

static phase phase_of(const matching *mt, tf_id cls)
{
    return mt->classes[cls].outer ? BLOCKS : tf_class_is_stream(mt->g, cls) ? STREAMS : UNITS;
}

static tfuse_status run_phase(matching *mt, phase which)
{
    for (size_t c = 0; c < mt->g->n_classes; c++) {
        if (mt->classes[c].shape == MT_FIXED || phase_of(mt, (tf_id)c) != which)
            continue;
        TF_TRY(tf_progress(mt->env, "matching", c, mt->g->n_classes));
        if (which != BLOCKS)
            TF_TRY(mt_match_class(mt, (tf_id)c));
        else if (tf_class_parent(mt->g, (tf_id)c) < 0) /* blocks inside blocks come with those */
            TF_TRY(mt_match_outer(mt, (tf_id)c));
    }
    return TFUSE_OK;
}

static void know_all(matching *mt)
{
    for (size_t c = 0; c < mt->g->n_classes; c++)
        mt->classes[c].known = true;
}

static tfuse_status sweep(matching *mt, int64_t round)
{
    if (round == 0)
        TF_TRY(run_phase(mt, STREAMS));
    TF_TRY(run_phase(mt, BLOCKS));
    TF_TRY(run_phase(mt, UNITS));
    know_all(mt);
    mt->stream_sum = 0;
    return run_phase(mt, STREAMS);
}

tfuse_status mt_sweep(matching *mt)
{
    return sweep(mt, 1);
}

tfuse_status mt_objective(matching *mt, double *out)
{
    double sum = 0, count = 0;
    if (mt->use_weights)
        TF_TRY(mt_weights_objective(mt, &sum, &count));
    if (mt->use_activations)
        TF_TRY(mt_values_objective(mt, &sum, &count));
    *out = count > 0 ? sum / count : 0;
    return TFUSE_OK;
}

tfuse_status mt_clone_maps(matching *mt, tf_class_map **out)
{
    const tf_class_map *from = mt->maps;
    if (!(*out = tf_calloc(mt->env, mt->g->n_classes + 1, sizeof **out)))
        return TFUSE_ENOMEM;
    for (size_t c = 0; c < mt->g->n_classes; c++) {
        tf_class_map *to = &(*out)[c];
        *to = from[c];
        to->maps = from[c].instances ? tf_calloc(mt->env, (size_t)from[c].instances, sizeof *to->maps) : NULL;
        if (from[c].instances && !to->maps) {
            to->instances = 0;
            return TFUSE_ENOMEM;
        }
        for (int64_t i = 0; i < from[c].instances; i++)
            TF_TRY(tf_map_clone(mt->env, from[c].maps[i], &to->maps[i]));
    }
    return TFUSE_OK;
}

/* The best maps of all starts, and their objective. */
typedef struct best {
    tf_class_map *maps;
    double most;
} best;

static tfuse_status ascend(matching *mt, bool streams_known, tfuse_plan *plan, best *kept)
{
    const int64_t rounds = tf_policy_int(mt->job->policy, "matching.rounds");
    double most = -INFINITY;
    for (int64_t r = 0; r < rounds; r++) {
        double now = 0;
        TF_TRY(sweep(mt, streams_known ? 1 : r));
        TF_TRY(mt_objective(mt, &now));
        TF_TRY(tf_plan_add_round(mt->env, plan, (int32_t)mt->k, now));
        tf_log(mt->env, TFUSE_LOG_INFO, "matching %s, round %lld: mean correlation %.6f", tf_model_label(mt->job->models[mt->k]),
               (long long)r + 1, now);
        const bool gained = r == 0 || now > most + LEAST_GAIN * fabs(most);
        most = fmax(most, now);
        if (now > kept->most) {
            tf_class_maps_free(mt->env, mt->g, kept->maps);
            kept->maps = NULL;
            TF_TRY(mt_clone_maps(mt, &kept->maps));
            kept->most = now;
        }
        if (!gained)
            break;
    }
    return TFUSE_OK;
}

/* Streams are the identity, or random, and looked at as known; nothing else is. */
static tfuse_status begin_anew(matching *mt, int64_t start)
{
    tf_class_maps_free(mt->env, mt->g, mt->maps);
    mt->maps = NULL;
    TF_TRY(make_maps(mt));
    mt_forget_streams(mt);
    mt->stream_sum = 0;
    for (size_t c = 0; c < mt->g->n_classes; c++) {
        mt->classes[c].known = mt->classes[c].stream;
        if (mt->classes[c].stream && start > 1)
            TF_TRY(mt_random_map(mt, (tf_id)c, start));
    }
    return TFUSE_OK;
}

static tfuse_status ascend_all(matching *mt, tfuse_plan *plan)
{
    const int64_t starts = tf_policy_int(mt->job->policy, "matching.starts");
    best kept = {NULL, -INFINITY};
    tfuse_status status = TFUSE_OK;
    for (int64_t s = 0; s < starts && status == TFUSE_OK; s++) {
        if (s > 0)
            status = begin_anew(mt, s);
        if (status == TFUSE_OK)
            status = ascend(mt, s > 0, plan, &kept);
    }
    if (status == TFUSE_OK && kept.maps) {
        tf_class_maps_free(mt->env, mt->g, mt->maps);
        mt->maps = kept.maps;
        mt_forget_streams(mt);
    } else {
        tf_class_maps_free(mt->env, mt->g, kept.maps);
    }
    return status;
}

/* ---- the strategy ---------------------------------------------------------------------------------------------------- */

static bool uses(const tf_align_job *job, const char *what)
{
    const tfuse_policy *p = job->policy;
    if (!tf_policy_is(p, "matching.use", "auto"))
        return tf_policy_is(p, "matching.use", what) || tf_policy_is(p, "matching.use", "both");
    return !strcmp(what, "weights") || tf_align_calibrated(job);
}

static tfuse_status check_policy(tf_env *env, const tf_align_job *job)
{
    const tfuse_policy *p = job->policy;
    const char *solver = tf_policy_text(p, "solver.name");
    char names[256];
    if (uses(job, "activations") && !tf_align_calibrated(job))
        return tf_fail(env, TFUSE_EINVAL, "matching.use=%s needs calibration inputs: give --calib FILE", tf_policy_text(p, "matching.use"));
    if (!tf_solvers_has(job->solvers, solver)) {
        TF_TRY(tf_solvers_names(env, job->solvers, names, sizeof names));
        return tf_fail(env, TFUSE_EKEY, "solver.name=%s is not known; there are %s", solver, names);
    }
    if (!strncmp(solver, "sinkhorn", 8))
        return tf_fail(env, TFUSE_EINVAL, "solver.name=%s gives soft couplings, which keep no function; matching needs exact or a solver like it, "
                       "and matching.coupling=sinkhorn shares hidden units in the end", solver);
    if (tf_policy_is(p, "align.control", "uniform") || tf_policy_is(p, "align.control", "random"))
        return tf_fail(env, TFUSE_EINVAL, "align.control=%s replaces transport maps; use it with --align otfusion",
                       tf_policy_text(p, "align.control"));
    return TFUSE_OK;
}

static tfuse_status matching_needs(tf_env *env, const tf_align_job *job)
{
    TF_TRY(tf_align_note(env, job, check_policy(env, job)));
    for (size_t k = 1; k < job->n; k++) {
        TF_TRY(tf_pair_graphs(env, job, k));
        TF_TRY(mt_check_extents(env, job, k));
    }
    return TFUSE_OK;
}

static tfuse_status matching_wants(tf_env *env, const tf_align_job *job, size_t k, tf_stat_wants *out)
{
    *out = (tf_stat_wants){0};
    if (!uses(job, "activations"))
        return TFUSE_OK;
    return mt_values_wanted(env, job, 0, k, out);
}

static tfuse_status gather(matching *mt, const tf_view *const *views, const tf_stat_wants *wants)
{
    if (!wants->n)
        return TFUSE_OK;
    for (int s = 0; s < 2; s++) /* the evaluator holds both models' weights */
        mt_forget_held(mt, s);
    return mt->job->feed ? mt_values_fed(mt, wants) : mt_values_gather(mt, NULL, views, wants, &mt->values);
}

static tfuse_status match(matching *mt, const tf_view *const *views, const tf_stat_wants *wants, tfuse_plan *plan)
{
    for (int s = 0; s < 2; s++)
        TF_TRY(mt_balance(mt, s));
    if (!(mt->weight = tf_calloc(mt->env, mt->g->n_nodes + 1, sizeof *mt->weight)))
        return TFUSE_ENOMEM;
    TF_TRY(mt_node_weights(mt));
    TF_TRY(gather(mt, views, wants));
    return ascend_all(mt, plan);
}

static tfuse_status open_model(matching *mt, const tf_view *const *views, tfuse_plan *plan)
{
    tf_stat_wants wants;
    TF_TRY(matching_wants(mt->env, mt->job, mt->k, &wants));
    tfuse_status status = mt_classes_make(mt, views);
    if (status == TFUSE_OK)
        status = mt_models_make(mt, views);
    if (status == TFUSE_OK)
        status = make_maps(mt);
    if (status == TFUSE_OK && !mt->job->tally)
        status = match(mt, views, &wants, plan);
    tf_free(&mt->env->mem, wants.items);
    return status;
}

/* The plan's maps from those that were found; under a tally, hollow ones. */
static tfuse_status plan_model(matching *mt, tfuse_plan *plan)
{
    tf_env *env = mt->env;
    tf_stat_wants wants;
    tfuse_status merged = TFUSE_OK;
    TF_TRY(matching_wants(env, mt->job, mt->k, &wants));
    tf_class_map *maps = tf_calloc(env, mt->g->n_classes + 1, sizeof *maps);
    if (maps && !mt->job->tally)
        merged = mt_merge(mt);
    if (maps && !mt->job->tally && merged == TFUSE_OK)
        merged = mt_soften(mt);
    tfuse_status status = !maps ? TFUSE_ENOMEM : merged != TFUSE_OK ? merged : mt->job->tally ? mt_estimate(mt, &wants, maps) : mt_plan_maps(mt, maps);
    if (status == TFUSE_OK)
        status = tf_class_plan(env, plan, (int32_t)mt->k, mt->g, mt->side[MT_MODEL].g, maps);
    if (status == TFUSE_OK)
        plan->exact = plan->exact && mt_is_exact(mt);
    tf_class_maps_free(env, mt->g, maps);
    tf_free(&env->mem, wants.items);
    return status;
}

static void close_model(matching *mt)
{
    tf_class_maps_free(mt->env, mt->g, mt->maps);
    mt_values_free(mt);
    mt_models_free(mt);
    tf_free(&mt->env->mem, mt->peers);
    tf_free(&mt->env->mem, mt->classes);
    tf_free(&mt->env->mem, mt->weight);
    mt->k = 0;
}

static bool has_mean(const tf_align_job *job)
{
    return job->n > 2 && tf_policy_flag(job->policy, "matching.mean");
}

static tfuse_status to_mean(matching *all, const tf_align_job *job, const tf_view *const *views, tfuse_plan *plan)
{
    tf_stat_wants wants;
    TF_TRY(matching_wants(all->env, job, 1, &wants));
    tfuse_status status = mt_match_to_mean(all, job->n - 1, views, &wants, plan);
    for (size_t k = 1; k < job->n && status == TFUSE_OK; k++)
        status = plan_model(&all[k - 1], plan);
    tf_free(&all->env->mem, wants.items);
    return status;
}

/* After all models were opened, of which `open` bytes are held: they are matched to the mean, and closed. */
static void tally_mean(const matching *all, const tf_align_job *job, uint64_t open)
{
    uint64_t pairs = 0, rounds = 0, pair = 0, one = 0;
    for (size_t k = 1; k < job->n; k++) {
        const matching *mt = &all[k - 1];
        pairs += mt->pairs_bytes;
        rounds += mt->mean_bytes;
        pair = mt->pair_bytes > pair ? mt->pair_bytes : pair;
        one = mt->class_bytes > one ? mt->class_bytes : one;
    }
    tf_tally_drop(&job->tally->memory, open);
    tf_tally_spike(&job->tally->memory, pairs + pair);
    tf_tally_spike(&job->tally->memory, rounds + one);
}

static tfuse_status matching_align(tf_env *env, const tf_align_job *job, const tf_view *const *views, tfuse_plan *plan)
{
    const bool mean = has_mean(job) && !job->tally;
    uint64_t open = 0;
    matching *all = tf_calloc(env, job->n, sizeof *all);
    tfuse_status status = all ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t k = 1; k < job->n && status == TFUSE_OK; k++) {
        matching *mt = &all[k - 1];
        *mt = (matching){.env = env, .job = job, .k = k, .g = job->graphs[0], .use_weights = uses(job, "weights"),
                         .use_activations = uses(job, "activations"), .activation_weight = 3};
        status = open_model(mt, views, plan);
        if (status == TFUSE_OK && !mean) /* one at a time: what is held of it is given back */
            status = plan_model(mt, plan);
        if (status != TFUSE_OK)
            status = tf_fail_in(env, status, "aligning %s", tf_model_label(job->models[k]));
        if (has_mean(job) && job->tally) {
            tf_tally_take(&job->tally->memory, mt->first_bytes);
            open += mt->first_bytes;
        }
        if (!mean)
            close_model(mt);
    }
    if (open)
        tally_mean(all, job, open);
    if (status == TFUSE_OK && mean)
        status = to_mean(all, job, views, plan);
    for (size_t k = 1; all && k < job->n; k++)
        if (all[k - 1].k)
            close_model(&all[k - 1]);
    tf_free(&env->mem, all);
    return status;
}

static const char *const matching_passes[] = {"fold-norms.1", "drop-key-bias.1", "move-value-bias.1", "centre-writes.1", NULL};

const tf_strategy tf_strategy_matching = {"matching", true, matching_passes, matching_needs, matching_wants, matching_align};
