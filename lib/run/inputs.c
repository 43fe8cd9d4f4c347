/* SPDX-License-Identifier: Apache-2.0
 *
 * inputs.c: what a caller gives as inputs, checked once against the graph and then filled in shard by shard.
 *
 * uint8 images are normalised as the image processors of Hugging Face transformers do it: raw * rescale_factor in float64, rounded to
 * float32, then (x - mean) / std in float32. Everything that could fail is found out in tf_inputs_make, so that
 * tf_inputs_fill can run inside parallel bodies.
 */
#include "run/run.h"
#include "io/io.h"
#include "ops/ops.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CHUNK = 1024 }; /* elements converted at a time while checking */

/* ---- integers of any type ------------------------------------------------------------------------------------ */

#define READ_AS(type)                                    \
    do {                                                 \
        for (size_t i = 0; i < count; i++) {             \
            type v;                                      \
            memcpy(&v, src + i * sizeof v, sizeof v);    \
            dst[i] = (int64_t)v;                         \
        }                                                \
    } while (0)

static void read_u64(const uint8_t *src, size_t count, int64_t *dst)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t v;
        memcpy(&v, src + i * sizeof v, sizeof v);
        dst[i] = v > INT64_MAX ? INT64_MAX : (int64_t)v;
    }
}

bool tf_array_integers(const tfuse_array *a, size_t first, size_t count, int64_t *dst)
{
    const uint8_t *src = (const uint8_t *)a->data + first * tf_dtype_size(a->dtype);
    switch (a->dtype) {
    case TFUSE_U8: READ_AS(uint8_t); return true;
    case TFUSE_I8: READ_AS(int8_t); return true;
    case TFUSE_U16: READ_AS(uint16_t); return true;
    case TFUSE_I16: READ_AS(int16_t); return true;
    case TFUSE_U32: READ_AS(uint32_t); return true;
    case TFUSE_I32: READ_AS(int32_t); return true;
    case TFUSE_I64: READ_AS(int64_t); return true;
    case TFUSE_U64: read_u64(src, count, dst); return true;
    default: return false;
    }
}

static const char *inputs_label(const tfuse_array *a)
{
    return tf_array_label(a, "the input array");
}

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

/* The array's extents from `skip` on are the value's from `from` on; an extent 0 of the value takes any but 0. */
static bool extents_fit(const tf_value *v, int from, const tfuse_array *a)
{
    if (a->rank != (size_t)(v->rank - from) + 1)
        return false;
    for (int d = from; d < v->rank; d++) {
        int64_t got = a->shape[d - from + 1];
        if (v->extent[d] ? got != v->extent[d] : got <= 0)
            return false;
    }
    return true;
}

static void wanted_text(const tf_value *v, int from, char *buffer, size_t size)
{
    size_t at = (size_t)snprintf(buffer, size, "[N");
    for (int d = from; d < v->rank && at < size; d++)
        at += (size_t)(v->extent[d] ? snprintf(buffer + at, size - at, ", %lld", (long long)v->extent[d])
                                    : snprintf(buffer + at, size - at, ", T"));
    if (at < size)
        snprintf(buffer + at, size - at, "]");
}

static bool single_channel(const tf_value *v)
{
    return !v->integer && v->rank == 3 && v->extent[0] == 1;
}

static tfuse_status match_shape(tf_env *env, const tf_value *v, const tfuse_model *m, const tfuse_array *a, tf_inputs *out)
{
    int from = single_channel(v) && extents_fit(v, 1, a) ? 1 : 0;
    if (!from && !extents_fit(v, 0, a)) {
        char got[160], want[160], flat[160] = "";
        tf_shape_text(got, sizeof got, a->rank, a->shape);
        wanted_text(v, 0, want, sizeof want);
        if (single_channel(v))
            wanted_text(v, 1, flat, sizeof flat);
        return tf_fail(env, TFUSE_ESHAPE, "%s has shape %s but model '%s' takes %s%s%s; inputs are never resized",
                       inputs_label(a), got, tf_model_label(m), want, *flat ? " or " : "", flat);
    }
    out->rank = v->rank;
    out->sample = 1;
    for (int d = 0; d < v->rank; d++) {
        out->extent[d] = d < from ? 1 : a->shape[d - from + 1];
        out->sample *= out->extent[d]; /* a factor of the array's count, so it fits */
    }
    out->total = a->shape[0];
    if (out->total == 0)
        return tf_fail(env, TFUSE_ESHAPE, "%s for model '%s' holds no samples", inputs_label(a), tf_model_label(m));
    return TFUSE_OK;
}

/* ---- the three kinds of input -------------------------------------------------------------------------------------- */

int64_t tf_inputs_vocabulary(const tf_graph *g, tf_id value)
{
    int64_t rows = INT32_MAX;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const tf_node *n = &g->nodes[i];
        for (int k = 0; k < n->n_inputs; k++) {
            if (n->inputs[k] != value || n->op != &tf_op_embedding)
                continue;
            const tf_param *p = &g->params[n->params[0]];
            if (p->rank == 2 && p->shape[0] < rows)
                rows = p->shape[0];
        }
    }
    return rows;
}

static tfuse_status check_ids(tf_env *env, const tf_graph *g, const tfuse_model *m, const tf_inputs *in)
{
    const size_t total = (size_t)(in->n * in->sample);
    const int64_t rows = tf_inputs_vocabulary(g, g->inputs[0]);
    int64_t ids[CHUNK];
    for (size_t at = 0; at < total; at += CHUNK) {
        size_t count = total - at < CHUNK ? total - at : CHUNK;
        if (!tf_array_integers(in->array, at, count, ids))
            return tf_fail(env, TFUSE_EDTYPE, "%s holds %s but model '%s' takes token ids: give integers", inputs_label(in->array),
                           tf_dtype_name(in->array->dtype), tf_model_label(m));
        for (size_t i = 0; i < count; i++)
            if (ids[i] < 0 || ids[i] >= rows)
                return tf_fail(env, TFUSE_ERANGE,
                               "%s holds token id %lld at element %zu of sample %zu; model '%s' knows 0 to %lld", inputs_label(in->array),
                               (long long)ids[i], (at + i) % (size_t)in->sample, (at + i) / (size_t)in->sample,
                               tf_model_label(m), (long long)rows - 1);
    }
    return TFUSE_OK;
}

static tfuse_status check_reals(tf_env *env, const tfuse_model *m, const tf_inputs *in)
{
    const tfuse_array *a = in->array;
    if (a->dtype != TFUSE_F32 && a->dtype != TFUSE_F64 && a->dtype != TFUSE_F16 && a->dtype != TFUSE_BF16)
        return tf_fail(env, TFUSE_EDTYPE, "%s holds %s but model '%s' takes uint8 images or floating-point values", inputs_label(a),
                       tf_dtype_name(a->dtype), tf_model_label(m));
    const size_t total = (size_t)(in->n * in->sample), size = tf_dtype_size(a->dtype);
    float x[CHUNK];
    for (size_t at = 0; at < total; at += CHUNK) {
        size_t count = total - at < CHUNK ? total - at : CHUNK;
        tf_to_f32(a->dtype, (const uint8_t *)a->data + at * size, x, count);
        int64_t bad = tf_find_nonfinite(x, count);
        if (bad >= 0) {
            size_t index = at + (size_t)bad;
            return tf_fail(env, TFUSE_ENUMERIC, "%s for model '%s' is NaN or infinite at element %zu of sample %zu", inputs_label(a),
                           tf_model_label(m), index % (size_t)in->sample, index / (size_t)in->sample);
        }
    }
    return TFUSE_OK;
}

static inline float normalised(const tf_inputs *in, int c, uint8_t raw)
{
    return ((float)(raw * in->rescale) - in->mean[c]) / in->std[c];
}

static tfuse_status make_images(tf_env *env, const tfuse_model *m, tf_inputs *in)
{
    tf_preprocess p;
    TF_TRY(tf_preprocess_read(env, m, &p));
    const int64_t channels = in->rank == 3 ? in->extent[0] : 1;
    if (p.channels != 1 && p.channels != channels)
        return tf_fail(env, TFUSE_ESHAPE,
                       "model '%s': preprocessor_config.json has %d values in image_mean and image_std for inputs of %lld channels",
                       tf_model_label(m), p.channels, (long long)channels);
    in->channels = p.channels;
    in->plane = in->sample / p.channels;
    in->rescale = p.rescale;
    in->unstated = !p.stated;
    for (int c = 0; c < p.channels; c++) {
        in->mean[c] = (float)p.mean[c];
        in->std[c] = (float)p.std[c];
        if (!isfinite(normalised(in, c, 0)) || !isfinite(normalised(in, c, 255)))
            return tf_fail(env, TFUSE_ENUMERIC, "model '%s': preprocessor_config.json makes pixels infinite: check its factors",
                           tf_model_label(m));
    }
    return TFUSE_OK;
}

/* ---- inputs beside the first ---------------------------------------------------------------------------------------- */

int tf_input_number(const tf_graph *g, const tf_node *n)
{
    for (size_t k = 0; k < g->n_inputs; k++)
        if (n->n_outputs > 0 && n->outputs[0] == g->inputs[k])
            return (int)k;
    return -1;
}

bool tf_graph_runs(const tf_graph *g)
{
    bool runs = g->output >= 0 && g->n_inputs >= 1 && g->n_inputs <= TF_MAX_INPUTS;
    for (size_t k = 1; runs && k < g->n_inputs; k++) {
        const tf_value *v = &g->values[g->inputs[k]];
        runs = v->integer && v->rank == 1 && g->values[g->inputs[0]].rank == 1 && tf_node_attr(&g->nodes[v->node], "default");
    }
    return runs;
}

static tfuse_status check_side(tf_env *env, const tf_graph *g, const tfuse_model *m, const tf_inputs *in, const tfuse_array *side, tf_id value)
{
    const char *name = g->values[value].name;
    const int64_t rows = tf_inputs_vocabulary(g, value);
    int64_t ids[CHUNK];
    if (side->rank != in->array->rank || memcmp(side->shape, in->array->shape, side->rank * sizeof *side->shape) != 0)
        return tf_fail(env, TFUSE_ESHAPE, "the array '%s' for model '%s' has not the shape of the token ids", name, tf_model_label(m));
    for (size_t at = 0; at < side->count; at += CHUNK) {
        const size_t count = side->count - at < CHUNK ? side->count - at : CHUNK;
        if (!tf_array_integers(side, at, count, ids))
            return tf_fail(env, TFUSE_EDTYPE, "the array '%s' for model '%s' holds %s; it takes integers", name, tf_model_label(m),
                           tf_dtype_name(side->dtype));
        for (size_t i = 0; i < count; i++)
            if (ids[i] < 0 || ids[i] >= rows)
                return tf_fail(env, TFUSE_ERANGE, "the array '%s' holds %lld at element %zu; model '%s' knows 0 to %lld", name, (long long)ids[i],
                               at + i, tf_model_label(m), (long long)rows - 1);
    }
    return TFUSE_OK;
}

static tfuse_status match_sides(tf_env *env, const tf_graph *g, const tfuse_model *m, tf_inputs *in)
{
    char shown[64];
    for (size_t k = 1; k < g->n_inputs; k++) {
        const tf_value *v = &g->values[g->inputs[k]];
        in->otherwise[k] = (int32_t)tf_node_int_at(&g->nodes[v->node], "default", 0);
        in->side[k] = tf_array_attached(in->array, v->name);
        if (in->side[k])
            TF_TRY(check_side(env, g, m, in, in->side[k], g->inputs[k]));
    }
    for (const tfuse_array *a = in->array->next; a; a = a->next) {
        const tf_id value = tf_graph_find_value(g, a->name);
        if (value < 0 || tf_input_number(g, &g->nodes[g->values[value].node]) < 1)
            return tf_fail(env, TFUSE_ENOTFOUND, "model '%s' has no input '%s' beside its first; leave that array out", tf_model_label(m),
                           tf_printable(shown, sizeof shown, a->name));
    }
    return TFUSE_OK;
}

tfuse_status tf_inputs_make(tf_env *env, const tf_graph *g, const tfuse_model *m, const tfuse_array *array, int64_t limit,
                            tf_inputs *out)
{
    memset(out, 0, sizeof *out);
    if (!tf_graph_runs(g))
        return tf_fail(env, TFUSE_EUNSUPPORTED, "model '%s' has %zu inputs; the evaluator runs models with one, and others that have defaults",
                       tf_model_label(m), g->n_inputs);
    const tf_value *v = &g->values[g->inputs[0]];
    TF_TRY(match_shape(env, v, m, array, out));
    out->array = array;
    out->integer = v->integer;
    out->n = limit > 0 && limit < out->total ? limit : out->total;
    TF_TRY(match_sides(env, g, m, out));
    if (v->integer)
        return check_ids(env, g, m, out);
    if (array->dtype == TFUSE_U8)
        return make_images(env, m, out);
    return check_reals(env, m, out);
}

void tf_inputs_warn(tf_env *env, const tfuse_model *m, const tf_inputs *in)
{
    if (in->unstated)
        tf_log(env, TFUSE_LOG_WARN, "%s has no preprocessor_config.json: the pixels of %s are divided by 255 and not normalised", tf_model_label(m),
               inputs_label(in->array));
}

/* ---- filling -------------------------------------------------------------------------------------------------------------- */

static void fill_ids(const tfuse_array *a, size_t first, size_t count, int32_t *dst)
{
    int64_t ids[CHUNK];
    for (size_t at = 0; at < count; at += CHUNK) {
        size_t n = count - at < CHUNK ? count - at : CHUNK;
        tf_array_integers(a, first + at, n, ids);
        for (size_t i = 0; i < n; i++)
            dst[at + i] = (int32_t)ids[i];
    }
}

static void fill_images(const tf_inputs *in, int64_t first, int64_t count, float *dst)
{
    const uint8_t *src = (const uint8_t *)in->array->data + first * in->sample;
    for (int64_t k = 0; k < count * in->channels; k++, src += in->plane, dst += in->plane)
        for (int64_t i = 0; i < in->plane; i++)
            dst[i] = normalised(in, (int)(k % in->channels), src[i]);
}

static void fill_side(const tf_inputs *in, int k, size_t first, size_t count, int32_t *dst)
{
    if (in->side[k]) {
        fill_ids(in->side[k], first, count, dst);
        return;
    }
    for (size_t i = 0; i < count; i++)
        dst[i] = in->otherwise[k];
}

void tf_inputs_fill(const tf_inputs *in, int k, int64_t first, int64_t count, float *dst)
{
    const size_t at = (size_t)(first * in->sample), n = (size_t)(count * in->sample);
    const tfuse_array *a = in->array;
    if (k > 0)
        fill_side(in, k, at, n, (int32_t *)(void *)dst);
    else if (in->integer)
        fill_ids(a, at, n, (int32_t *)(void *)dst);
    else if (a->dtype == TFUSE_U8)
        fill_images(in, first, count, dst);
    else
        tf_to_f32(a->dtype, (const uint8_t *)a->data + at * tf_dtype_size(a->dtype), dst, n);
}
