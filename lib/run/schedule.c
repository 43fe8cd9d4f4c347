/* SPDX-License-Identifier: Apache-2.0
 *
 * schedule.c: plans one pass through a graph: extents of all values, the number of samples in a shard, and one slab of memory in which
 * values lie only as long as a later node reads them.
 *
 * The shard is the largest power of two of samples whose values, at the widest node, stay within what a core's cache holds. It
 * depends on the graph and the extents of the input alone, never on the machine or the number of threads, because it decides how
 * matrix products are cut and so the last bits of results.
 */
#include "run/run.h"
#include "run/schedule.h"
#include <string.h>

enum {
    MAX_SHARD = 16,
    SHARD_BYTES = 3 << 19, /* 1.5 MiB: what one node reads and writes */
    ALIGN = 16             /* floats: 64 bytes */
};

/* ---- placing ------------------------------------------------------------------------------------------------------ */

/* Lowest gap of `size` among `active` (indices into lives, by offset); *at: where to insert. */
static int64_t lowest_gap(const tf_life *lives, const size_t *active, size_t n_active, int64_t size, size_t *at)
{
    int64_t end = 0;
    size_t i = 0;
    for (; i < n_active; i++) {
        const tf_life *other = &lives[active[i]];
        if (other->offset - end >= size)
            break;
        end = other->offset + other->size;
    }
    *at = i;
    return end;
}

static size_t drop_dead(const tf_life *lives, size_t *active, size_t n_active, int64_t now)
{
    size_t kept = 0;
    for (size_t i = 0; i < n_active; i++)
        if (lives[active[i]].last >= now)
            active[kept++] = active[i];
    return kept;
}

tfuse_status tf_life_place(tf_env *env, tf_life *lives, size_t n, int64_t *total)
{
    *total = 0;
    size_t *active = tf_alloc_array(env, n, sizeof *active);
    if (!active)
        return TFUSE_ENOMEM;
    size_t n_active = 0;
    for (size_t i = 0; i < n; i++) {
        tf_life *life = &lives[i];
        size_t at;
        life->size = (life->size + ALIGN - 1) / ALIGN * ALIGN;
        n_active = drop_dead(lives, active, n_active, life->first);
        life->offset = lowest_gap(lives, active, n_active, life->size, &at);
        memmove(active + at + 1, active + at, (n_active - at) * sizeof *active);
        active[at] = i;
        n_active++;
        if (life->offset + life->size > *total)
            *total = life->offset + life->size;
    }
    tf_free(&env->mem, active);
    return TFUSE_OK;
}

/* ---- which nodes ------------------------------------------------------------------------------------------------------ */

tfuse_status tf_schedule_nodes(tf_env *env, const tf_graph *g, const tf_id *wanted, size_t n, tf_id **out, size_t *count)
{
    *out = NULL;
    *count = 0;
    bool *live = tf_calloc(env, g->n_values, sizeof *live);
    tf_id *nodes = tf_alloc_array(env, g->n_nodes, sizeof *nodes);
    if (!live || !nodes) {
        tf_free(&env->mem, live);
        tf_free(&env->mem, nodes);
        return TFUSE_ENOMEM;
    }
    for (size_t i = 0; i < n; i++)
        live[wanted[i]] = true;
    size_t at = g->n_nodes; /* filled from the end */
    for (size_t i = g->n_nodes; i-- > 0;) {
        const tf_node *node = &g->nodes[i];
        bool needed = false;
        for (int k = 0; k < node->n_outputs; k++)
            needed |= live[node->outputs[k]];
        if (!needed)
            continue;
        nodes[--at] = (tf_id)i;
        for (int k = 0; k < node->n_inputs; k++)
            live[node->inputs[k]] = true;
    }
    *count = g->n_nodes - at;
    memmove(nodes, nodes + at, *count * sizeof *nodes);
    tf_free(&env->mem, live);
    *out = nodes;
    return TFUSE_OK;
}

/* ---- extents ------------------------------------------------------------------------------------------------------------ */

typedef struct plan {
    tf_env *env;
    const tf_graph *g;
    const tf_id *nodes;
    size_t n;
    tf_schedule *s;
} plan;

static void batches_of(tf_schedule *s, const tf_node *n, const tf_batch **in, tf_batch **out)
{
    for (int k = 0; k < n->n_inputs; k++)
        in[k] = &s->batch[n->inputs[k]];
    for (int k = 0; k < n->n_outputs; k++)
        out[k] = &s->batch[n->outputs[k]];
}

/* A value's floats must be countable for a whole shard, with room for sums over values. */
static tfuse_status check_batch(const plan *p, const tf_node *n, const tf_batch *b)
{
    int64_t size = MAX_SHARD;
    for (int d = 0; d < b->rank; d++) {
        if (b->extent[d] <= 0)
            return tf_fail(p->env, TFUSE_ESHAPE, "node '%s' gives a value whose dimension %d is empty", n->name, d);
        if (__builtin_mul_overflow(size, b->extent[d], &size) || size > INT64_MAX >> 16)
            return tf_fail(p->env, TFUSE_ERANGE, "node '%s' gives a value too large to count", n->name);
    }
    return TFUSE_OK;
}

static tfuse_status extents_of(const plan *p, const tf_node *n, const int64_t *input)
{
    const tf_batch *in[TF_MAX_NODE_IO] = {0};
    tf_batch *out[TF_MAX_NODE_IO] = {0};
    batches_of(p->s, n, in, out);
    const bool is_input = tf_input_number(p->g, n) >= 0; /* further inputs are as long as the first */
    for (int k = 0; k < n->n_outputs; k++) {
        const tf_value *v = &p->g->values[n->outputs[k]];
        out[k]->n = 1;
        out[k]->rank = v->rank;
        memcpy(out[k]->extent, is_input ? input : v->extent, (size_t)v->rank * sizeof *input);
    }
    if (n->op->extents && !is_input)
        TF_TRY(n->op->extents(p->env, p->g, n, in, out));
    for (int k = 0; k < n->n_outputs; k++)
        TF_TRY(check_batch(p, n, out[k]));
    return TFUSE_OK;
}

static int64_t scratch_of(const plan *p, const tf_node *n)
{
    const tf_batch *in[TF_MAX_NODE_IO] = {0};
    tf_batch *out[TF_MAX_NODE_IO] = {0};
    if (!n->op->scratch_size)
        return 0;
    batches_of(p->s, n, in, out);
    return n->op->scratch_size(p->g, n, in);
}

/* Largest number of floats that one node reads, writes and scratches for one sample. */
static int64_t widest(const plan *p)
{
    int64_t most = 1;
    for (size_t i = 0; i < p->n; i++) {
        const tf_node *n = &p->g->nodes[p->nodes[i]];
        int64_t sum = scratch_of(p, n);
        for (int k = 0; k < n->n_inputs; k++)
            sum += tf_batch_stride(&p->s->batch[n->inputs[k]]);
        for (int k = 0; k < n->n_outputs; k++)
            sum += tf_batch_stride(&p->s->batch[n->outputs[k]]);
        if (sum > most)
            most = sum;
    }
    return most;
}

/* ---- lives ---------------------------------------------------------------------------------------------------------------- */

/* Step that reads a value last; the one that makes it where none does. */
static void last_uses(const plan *p, int64_t *last)
{
    for (size_t i = 0; i < p->n; i++) {
        const tf_node *n = &p->g->nodes[p->nodes[i]];
        for (int k = 0; k < n->n_outputs; k++)
            last[n->outputs[k]] = (int64_t)i;
        for (int k = 0; k < n->n_inputs; k++)
            last[n->inputs[k]] = (int64_t)i;
    }
}

/* For each step its outputs, then its scratch: so they come in the order of their first step. */
static size_t list_lives(const plan *p, const int64_t *last, tf_life *lives)
{
    size_t count = 0;
    for (size_t i = 0; i < p->n; i++) {
        const tf_node *n = &p->g->nodes[p->nodes[i]];
        const int64_t now = (int64_t)i;
        for (int k = 0; k < n->n_outputs; k++) {
            const tf_batch *b = &p->s->batch[n->outputs[k]];
            lives[count++] = (tf_life){b->n * tf_batch_stride(b), now, last[n->outputs[k]], 0};
        }
        lives[count++] = (tf_life){scratch_of(p, n), now, now, 0};
    }
    return count;
}

static void take_offsets(const plan *p, const tf_life *lives)
{
    size_t at = 0;
    for (size_t i = 0; i < p->n; i++) {
        const tf_node *n = &p->g->nodes[p->nodes[i]];
        for (int k = 0; k < n->n_outputs; k++)
            p->s->offset[n->outputs[k]] = lives[at++].offset;
        p->s->scratch[i] = lives[at++].offset;
    }
}

static tfuse_status place(const plan *p)
{
    tfuse_status status = TFUSE_ENOMEM;
    int64_t *last = tf_calloc(p->env, p->g->n_values, sizeof *last);
    tf_life *lives = tf_alloc_array(p->env, p->g->n_values + p->n, sizeof *lives);
    if (last && lives) {
        last_uses(p, last);
        size_t count = list_lives(p, last, lives);
        status = tf_life_place(p->env, lives, count, &p->s->slab);
        if (status == TFUSE_OK)
            take_offsets(p, lives);
    }
    tf_free(&p->env->mem, last);
    tf_free(&p->env->mem, lives);
    return status;
}

static void choose_shard(const plan *p, int64_t given)
{
    const int64_t sample = widest(p) * (int64_t)sizeof(float);
    tf_schedule *s = p->s;
    s->shard = given > 0 ? given : 1;
    while (!given && s->shard < MAX_SHARD && 2 * s->shard * sample <= SHARD_BYTES)
        s->shard *= 2;
    for (size_t v = 0; v < p->g->n_values; v++)
        s->batch[v].n = s->shard;
}

tfuse_status tf_schedule_make_of(tf_env *env, const tf_graph *g, const tf_id *nodes, size_t n, const int64_t *input, int64_t shard,
                                 tf_schedule *out)
{
    memset(out, 0, sizeof *out);
    out->mem = env->mem;
    const plan p = {env, g, nodes, n, out};
    tfuse_status status = TFUSE_ENOMEM;
    out->batch = tf_calloc(env, g->n_values, sizeof *out->batch);
    out->offset = tf_alloc_array(env, g->n_values, sizeof *out->offset);
    out->scratch = tf_alloc_array(env, n, sizeof *out->scratch);
    if (!out->batch || !out->offset || !out->scratch)
        goto out;
    for (size_t v = 0; v < g->n_values; v++)
        out->offset[v] = -1;
    for (size_t i = 0; i < n; i++)
        TF_TRY_OUT(extents_of(&p, &g->nodes[nodes[i]], input));
    choose_shard(&p, shard);
    status = place(&p);
out:
    if (status != TFUSE_OK)
        tf_schedule_free(out);
    return status;
}

tfuse_status tf_schedule_make(tf_env *env, const tf_graph *g, const tf_id *nodes, size_t n, const int64_t *input,
                              tf_schedule *out)
{
    return tf_schedule_make_of(env, g, nodes, n, input, 0, out);
}

void tf_schedule_free(tf_schedule *s)
{
    tf_free(&s->mem, s->batch);
    tf_free(&s->mem, s->offset);
    tf_free(&s->mem, s->scratch);
    memset(s, 0, sizeof *s);
}
