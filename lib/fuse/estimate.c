/* SPDX-License-Identifier: Apache-2.0
 *
 * estimate.c: the most memory that a run holds, from headers: what is there already (models, graphs), what aligning takes, then the maps
 * and what the largest tensor takes. It follows fusion.c and output.c array by array.
 */
#include "fuse/fuse.h"
#include "base/pool.h"
#include "fuse/dry.h"
#include "graph/naming.h"

static uint64_t floats(int64_t count)
{
    return tf_area(count, 1, sizeof(float));
}

/* Elements of a tensor of which `rows` of the first dimension are taken; 0: all. */
static int64_t elements(const tf_param *p, int64_t rows)
{
    return rows ? tf_param_count(p) / p->shape[0] * rows : tf_param_count(p);
}

/* Applying the maps of one dimension: the operator and both sides of the product, when one is dense. */
static tfuse_status dense_work(tf_env *env, const tf_fusion *f, const tf_fuse_job *job, size_t k, tf_id param, int dim, uint64_t sides,
                               uint64_t *out)
{
    tf_part *parts;
    int count;
    TF_TRY(tf_binding_parts(env, job->graphs[0], job->graphs[0]->params[param].dims[dim], &parts, &count));
    *out = 0;
    for (int i = 0; i < count; i++) {
        const tf_map *map = tf_fusion_map(f, k, param, dim, i);
        if (!map || map->kind == TF_MAP_IDENTITY || map->source)
            continue;
        const bool blocks = map->kind == TF_MAP_BLOCK; /* each is moved by itself */
        const int64_t n = blocks ? map->n / map->blocks_n : map->n, m = blocks ? map->m / map->blocks_m : map->m;
        const uint64_t sparse = tf_map_sparse_bytes(map, tf_threads(env));
        const uint64_t bytes = sparse ? sparse : tf_area(n, m, sizeof(float)) + (blocks ? sides / (uint64_t)map->blocks_m : sides);
        *out = bytes > *out ? bytes : *out;
    }
    tf_free(&env->mem, parts);
    return TFUSE_OK;
}

/* Reading a model's tensor and carrying it to the anchor; rows: of a tile, 0: the whole tensor. Leaves nothing in the tally. */
static tfuse_status tally_carry(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, size_t k, tf_id param, int64_t rows, tf_tally *t)
{
    const tf_param *pa = &job->graphs[0]->params[param];
    const tf_id other = tf_graph_find_param(job->graphs[k], pa->name);
    if (other < 0)
        return TFUSE_OK; /* listed elsewhere */
    const tf_param *pm = &job->graphs[k]->params[other];
    int64_t count = elements(pm, rows);
    tf_tally_take(t, floats(count));
    if (rows)
        tf_tally_spike(t, tf_area(pa->shape[0], 1, sizeof(int64_t)));
    for (int d = rows ? 1 : 0; d < pa->rank && k > 0; d++) {
        const int64_t moved = count / pm->shape[d] * pa->shape[d];
        uint64_t work;
        TF_TRY(dense_work(env, f, job, k, param, d, floats(count) + floats(moved), &work));
        tf_tally_take(t, floats(moved));
        tf_tally_spike(t, work);
        tf_tally_drop(t, floats(count));
        count = moved;
    }
    tf_tally_drop(t, floats(count));
    return TFUSE_OK;
}

static tfuse_status tally_param(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, tf_id param, int64_t rows, tf_tally *t)
{
    const int64_t count = elements(&job->graphs[0]->params[param], rows);
    tf_tally_take(t, floats(count) + 2 * floats(count)); /* the result, and the sum in float64 */
    for (size_t k = 0; k < job->n; k++)
        TF_TRY(tally_carry(env, job, f, k, param, rows, t));
    tf_tally_drop(t, 3 * floats(count));
    return TFUSE_OK;
}

tfuse_status tf_fuse_estimate(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, tf_tally *t)
{
    const tfuse_model *anchor = job->models[0];
    tf_tally_take(t, TF_WRITER_BYTES);
    for (size_t i = 0; i < anchor->count; i++) {
        tf_piece *pieces;
        int count;
        bool by_rows = false;
        TF_TRY(tf_stored_pieces(env, job->graphs[0], anchor->tensors[i].name, &pieces, &count));
        tfuse_status status = tf_fuse_is_tileable(env, job, f, pieces, count, &by_rows);
        const uint64_t stored = by_rows || count == 0 ? 0 : floats((int64_t)anchor->tensors[i].count);
        tf_tally_take(t, stored);
        for (int p = 0; p < count && status == TFUSE_OK; p++)
            status = tally_param(env, job, f, pieces[p].param, by_rows ? TF_TILE_ROWS : 0, t);
        tf_tally_drop(t, stored);
        tf_free(&env->mem, pieces);
        TF_TRY(status);
    }
    tf_tally_drop(t, TF_WRITER_BYTES);
    return TFUSE_OK;
}

/* The self-check holds the values of its probe and one node's weights, and makes these as fusing makes tensors. */
static tfuse_status tally_selfcheck(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, tf_tally *t)
{
    const tf_graph *g = job->graphs[0];
    int64_t input[TF_MAX_DIMS];
    uint64_t held = 0;
    if (g->output < 0)
        return TFUSE_OK;
    tf_selfcheck_extents(g, input);
    bool *rows = tf_calloc(env, g->n_params + 1, sizeof *rows);
    tfuse_status status = rows ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t p = 0; p < g->n_params && status == TFUSE_OK; p++)
        status = tf_fusion_has_rows(env, f, (tf_id)p, &rows[p]);
    if (status == TFUSE_OK)
        status = tf_run_lazily_bytes(env, g, rows, input, TF_SELFCHECK_SAMPLES, &held);
    tf_tally_take(t, held);
    for (size_t p = 0; p < g->n_params && status == TFUSE_OK; p++)
        status = tally_param(env, job, f, (tf_id)p, rows[p] && g->params[p].shape[0] > TF_TILE_ROWS ? TF_TILE_ROWS : 0, t);
    tf_tally_drop(t, held);
    tf_free(&env->mem, rows);
    return status;
}

static tfuse_status tally_fusion(tf_env *env, const tf_align_job *align, const tfuse_plan *plan, tf_tally *t)
{
    const tf_fuse_job job = {.policy = align->policy, .plan = plan, .models = align->models, .graphs = align->graphs, .n = align->n, .dry = true};
    tf_fusion *f;
    int stages = 0;
    if (align->calib || tf_policy_is(align->policy, "repair", "circuits") || tf_policy_is(align->policy, "repair", "auto"))
        TF_TRY(tf_repair_stages(env, align->policy, plan, align->calib != NULL, &stages)); /* else nothing is fitted, though weights that were may go in */
    TF_TRY(tf_fusion_new(env, &job, &f));
    tfuse_status status = stages ? tf_repair_estimate(env, &job, stages, align->calib, t) : TFUSE_OK;
    if (status == TFUSE_OK)
        status = tf_fuse_estimate(env, &job, f, t);
    if (status == TFUSE_OK && tf_policy_flag(align->policy, "fuse.selfcheck"))
        status = tally_selfcheck(env, &job, f, t);
    tf_fusion_free(f);
    return status;
}

tfuse_status tf_fuse_peak(tf_env *env, const tf_align_job *align, const tfuse_plan *plan, bool saved, uint64_t *peak, uint64_t *maps)
{
    tf_align_tally tally = {{0, 0}, plan ? tf_plan_map_bytes(plan) : 0};
    tf_align_job dry = *align;
    tfuse_plan *hollow = NULL;
    tfuse_status status = TFUSE_OK;
    dry.tally = &tally;
    if (!plan)
        status = tf_align(env, &dry, &hollow);
    if (status == TFUSE_OK)
        status = tally_fusion(env, align, plan ? plan : hollow, &tally.memory);
    const bool products = status == TFUSE_OK && ((plan ? plan : hollow)->n_maps > 0 || tf_policy_flag(align->policy, "fuse.selfcheck"));
    tf_plan_free(hollow);
    *maps = tally.maps;
    if (saved)
        tf_tally_spike(&tally.memory, plan ? 0 : tally.maps); /* its numbers are gathered beside the maps, which are live */
    *peak = tf_held_bytes(env, products) + tally.memory.peak;
    return status;
}

/* Changes that spare memory, the smallest first: where calibration inputs are looked at, second moments of the widest axes are held. */
static const struct {
    const char *strategy; /* NULL: any */
    const char *weights;  /* key whose value becomes `weights`; NULL: none */
    bool unrepaired;
} savings[] = {{"matching", "matching.use", false}, {"otfusion", "otfusion.cost", false}, {NULL, NULL, true}, {"matching", "matching.use", true}};

/* What a run takes with the changes of one row; UINT64_MAX where they change nothing or cannot be made. */
static tfuse_status try_saving(tf_env *env, const tf_align_job *align, const tfuse_plan *plan, bool saved, size_t row, uint64_t *peak)
{
    const char *key = savings[row].weights;
    const bool repairs = !tf_policy_is(align->policy, "repair", "none");
    tf_align_job job = *align;
    tfuse_policy *policy = NULL;
    uint64_t maps;
    *peak = UINT64_MAX;
    if ((savings[row].strategy && !tf_policy_is(align->policy, "align.strategy", savings[row].strategy)) || (savings[row].unrepaired && !repairs) ||
        (key && (plan || tf_policy_is(align->policy, key, "weights"))))
        return TFUSE_OK;
    tfuse_status status = tf_policy_copy(env, align->policy, &policy);
    if (status == TFUSE_OK && key)
        status = tf_policy_set(env, policy, key, "weights");
    if (status == TFUSE_OK && savings[row].unrepaired)
        status = tf_policy_set(env, policy, "repair", "none");
    job.policy = policy;
    if (status == TFUSE_OK)
        status = tf_fuse_peak(env, &job, plan, saved, peak, &maps);
    tf_policy_free(policy);
    if (status != TFUSE_OK)
        *peak = UINT64_MAX;
    return status == TFUSE_ENOMEM ? status : TFUSE_OK;
}

tfuse_status tf_fuse_advise(tf_env *env, const tf_align_job *align, const tfuse_plan *plan, bool saved, uint64_t peak, uint64_t beside, char *out)
{
    const uint64_t most = (uint64_t)tf_policy_int(align->policy, "run.memory");
    const bool wanted = most && peak > most && align->calib;
    *out = 0;
    for (size_t row = 0; row < TF_LEN(savings) && wanted && !*out; row++) {
        const char *key = savings[row].weights;
        uint64_t less;
        TF_TRY(try_saving(env, align, plan, saved, row, &less));
        if (less <= most && less + beside <= most)
            snprintf(out, TF_ADVICE, ", or %s%s%s%s, with which it takes %lluM", key ? "--set " : "", key ? key : "",
                     !key ? "--repair none" : "=weights", key && savings[row].unrepaired ? " --repair none" : "",
                     (unsigned long long)(((less + beside) >> 20) + 1));
    }
    return TFUSE_OK;
}

tfuse_status tf_fuse_check_memory(tf_env *env, const tf_align_job *align, const tfuse_plan *plan, bool in_memory)
{
    const tf_fuse_job job = {.policy = align->policy, .models = align->models, .graphs = align->graphs, .n = align->n, .dry = true};
    uint64_t held = 0, peak, maps;
    char otherwise[TF_ADVICE];
    if (!tf_policy_int(align->policy, "run.memory"))
        return TFUSE_OK;
    TF_TRY(tf_fuse_peak(env, align, plan, false, &peak, &maps));
    if (in_memory)
        TF_TRY(tf_fuse_output_bytes(env, &job, &held));
    TF_TRY(tf_fuse_advise(env, align, plan, false, peak + held, held, otherwise));
    return tf_memory_check(env, align->policy, peak + held, otherwise);
}
