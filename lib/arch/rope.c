/* SPDX-License-Identifier: Apache-2.0
 *
 * rope.c: rotary positions as configs describe them (Su et al. 2021), with the ways of stretching them: linear (Chen et al. 2023), by parts
 * (Llama 3.1), YaRN (Peng et al. 2023), LongRoPE (Ding et al. 2024). A graph states them as what each pair's frequency is divided by.
 */
#include "arch/decoder.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define PI 3.14159265358979323846

enum { MOST_PAIRS = 1 << 12 };

typedef struct rope {
    tf_env *env;
    const tfuse_model *m;
    const char *key; /* the object that describes the stretching */
    double theta, gain, factor[MOST_PAIRS];
    int64_t dims, most; /* most: tokens, 0 for no bound */
} rope;

static tfuse_status real(const rope *r, const char *name, double fallback, double *out)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", r->key, name);
    return tf_config_real_or(r->env, r->m, key, fallback, out);
}

/* What lengths are multiplied by. */
static tfuse_status read_factor(const rope *r, double fallback, double *out)
{
    TF_TRY(real(r, "factor", fallback, out));
    return *out > 0 ? TFUSE_OK
                    : tf_fail(r->env, TFUSE_EFORMAT, "%s: config.json: key '%s.factor' must be above 0", tf_model_label(r->m), r->key);
}

/* The length before stretching: in the object or beside it. */
static tfuse_status first_length(const rope *r, double *out)
{
    double outside = 0;
    TF_TRY(tf_config_real_or(r->env, r->m, "max_position_embeddings", 0, &outside));
    TF_TRY(tf_config_real_or(r->env, r->m, "original_max_position_embeddings", outside, &outside));
    TF_TRY(real(r, "original_max_position_embeddings", outside, out));
    return *out >= 1 && *out <= INT32_MAX
               ? TFUSE_OK
               : tf_fail(r->env, TFUSE_EFORMAT, "%s: config.json: %s needs original_max_position_embeddings, a number of tokens",
                         tf_model_label(r->m), r->key);
}

static double frequency(const rope *r, int64_t pair)
{
    return pow(r->theta, -2.0 * (double)pair / (double)r->dims);
}

static tfuse_status linear(rope *r)
{
    double factor = 0;
    TF_TRY(read_factor(r, 1, &factor));
    for (int64_t i = 0; i < r->dims / 2; i++)
        r->factor[i] = factor;
    return TFUSE_OK;
}

/* Long waves are divided by factor, short ones kept, those between mixed. */
static tfuse_status by_parts(rope *r)
{
    double factor = 0, low = 0, high = 0, length = 0;
    TF_TRY(read_factor(r, 8, &factor));
    TF_TRY(real(r, "low_freq_factor", 1, &low));
    TF_TRY(real(r, "high_freq_factor", 4, &high));
    TF_TRY(first_length(r, &length));
    for (int64_t i = 0; i < r->dims / 2; i++) {
        const double waves = length * frequency(r, i) / (2 * PI), mix = (waves - low) / (high - low);
        r->factor[i] = waves < low ? factor : waves > high ? 1 : 1 / ((1 - mix) / factor + mix);
    }
    return TFUSE_OK;
}

/* The pair, as a real number, whose wave turns `turns` times within the length. */
static double pair_of(const rope *r, double turns, double length)
{
    return (double)r->dims * log(length / (turns * 2 * PI)) / (2 * log(r->theta));
}

static tfuse_status yarn(rope *r)
{
    double factor = 0, fast = 0, slow = 0, length = 0, scale = 0, all = 0;
    TF_TRY(read_factor(r, 1, &factor));
    TF_TRY(real(r, "beta_fast", 32, &fast));
    TF_TRY(real(r, "beta_slow", 1, &slow));
    TF_TRY(real(r, "mscale", 0, &scale));
    TF_TRY(real(r, "mscale_all_dim", 0, &all));
    TF_TRY(first_length(r, &length));
    const double grown = factor > 1 ? log(factor) : 0, plain = 0.1 * grown + 1;
    TF_TRY(real(r, "attention_factor", scale > 0 && all > 0 ? (0.1 * scale * grown + 1) / (0.1 * all * grown + 1) : plain, &r->gain));
    const double low = fmax(floor(pair_of(r, fast, length)), 0), high = fmin(ceil(pair_of(r, slow, length)), (double)r->dims - 1);
    for (int64_t i = 0; i < r->dims / 2; i++) {
        const double ramp = fmin(fmax(((double)i - low) / (high > low ? high - low : 1e-3), 0), 1);
        r->factor[i] = 1 / (ramp / factor + 1 - ramp);
    }
    return TFUSE_OK;
}

static tfuse_status long_rope(rope *r)
{
    char key[96];
    size_t count = 0;
    double length = 0, all = 0, factor = 0;
    snprintf(key, sizeof key, "%s.short_factor", r->key);
    TF_TRY(tf_config_reals(r->env, r->m, key, r->factor, MOST_PAIRS, &count));
    if (count != (size_t)(r->dims / 2))
        return tf_fail(r->env, TFUSE_EFORMAT, "%s: config.json: %s has %zu numbers for %lld pairs", tf_model_label(r->m), key, count,
                       (long long)(r->dims / 2));
    TF_TRY(first_length(r, &length));
    TF_TRY(tf_config_real_or(r->env, r->m, "max_position_embeddings", length, &all));
    TF_TRY(read_factor(r, all / length, &factor));
    TF_TRY(real(r, "attention_factor", factor > 1 ? sqrt(1 + log(factor) / log(length)) : 1, &r->gain));
    r->most = (int64_t)length;
    return TFUSE_OK;
}

/* The same up to the length that the model was trained for. */
static tfuse_status dynamic(rope *r)
{
    double length = 0;
    TF_TRY(first_length(r, &length));
    r->most = (int64_t)length;
    return TFUSE_OK;
}

static tfuse_status stretch(rope *r, const char *type)
{
    static const struct {
        const char *name;
        tfuse_status (*apply)(rope *r);
    } kinds[] = {{"linear", linear}, {"llama3", by_parts}, {"yarn", yarn}, {"longrope", long_rope}, {"su", long_rope}, {"dynamic", dynamic}};
    char shown[64];
    if (!strcmp(type, "default"))
        return TFUSE_OK;
    for (size_t i = 0; i < TF_LEN(kinds); i++)
        if (!strcmp(kinds[i].name, type))
            return kinds[i].apply(r);
    return tf_fail(r->env, TFUSE_EUNSUPPORTED, "%s: config.json: %s: '%s' is not known; default, linear, llama3, yarn, longrope and dynamic are",
                   tf_model_label(r->m), r->key, tf_printable(shown, sizeof shown, type));
}

static tfuse_status write_text(const rope *r, tf_graph *g, const char **out)
{
    tf_buf text;
    tf_buf_init(&text, &r->env->mem);
    bool plain = true;
    for (int64_t i = 0; i < r->dims / 2; i++)
        plain = plain && r->factor[i] == 1;
    tfuse_status status = tf_buf_printf(r->env, &text, "rope=1 rope_theta=%s", tf_real(r->theta).text);
    for (int64_t i = 0; i < r->dims / 2 && !plain && status == TFUSE_OK; i++)
        status = tf_buf_printf(r->env, &text, "%s%s", i ? "," : " rope_factors=", tf_real(r->factor[i]).text);
    if (status == TFUSE_OK && r->gain != 1)
        status = tf_buf_printf(r->env, &text, " rope_gain=%s", tf_real(r->gain).text);
    if (status == TFUSE_OK && r->most > 0)
        status = tf_buf_printf(r->env, &text, " rope_most=%lld", (long long)r->most);
    if (status == TFUSE_OK && !(*out = tf_arena_strdup(r->env, &g->arena, text.data)))
        status = TFUSE_ENOMEM;
    tf_buf_free(&text);
    return status;
}

static tfuse_status read_type(rope *r, const char **type)
{
    char key[96];
    snprintf(key, sizeof key, "%s.type", r->key);
    TF_TRY(tf_config_text_or(r->env, r->m, key, "default", type));
    snprintf(key, sizeof key, "%s.rope_type", r->key);
    return tf_config_text_or(r->env, r->m, key, *type, type);
}

tfuse_status tf_rope_read(tf_env *env, const tfuse_model *m, tf_graph *g, const char *key, double theta, int64_t dims, const char **out)
{
    rope *r = tf_calloc(env, 1, sizeof *r);
    const char *type = NULL;
    tfuse_status status;
    if (!r)
        return TFUSE_ENOMEM;
    *r = (rope){.env = env, .m = m, .key = tf_config_has(m, key) ? key : "rope_scaling", .dims = dims, .gain = 1};
    for (int64_t i = 0; i < MOST_PAIRS; i++)
        r->factor[i] = 1;
    TF_TRY_OUT(real(r, "rope_theta", theta, &r->theta));
    if (!(r->theta > 0))
        TF_TRY_OUT(tf_fail(env, TFUSE_EFORMAT, "%s: config.json: key 'rope_theta' must be above 0", tf_model_label(m)));
    TF_TRY_OUT(read_type(r, &type));
    status = dims / 2 <= MOST_PAIRS ? stretch(r, type)
                                    : tf_fail(env, TFUSE_ERANGE, "%s: config.json: heads are too wide", tf_model_label(m));
    if (status == TFUSE_OK)
        status = write_text(r, g, out);
out:
    tf_free(&env->mem, r);
    return status;
}

tfuse_status tf_rope_dims(tf_env *env, const tfuse_model *m, const char *key, double fallback, int64_t inner, int64_t *out)
{
    char inside[96];
    double part = 0;
    snprintf(inside, sizeof inside, "%s.partial_rotary_factor", key);
    TF_TRY(tf_config_real_or(env, m, "partial_rotary_factor", fallback, &part));
    TF_TRY(tf_config_real_or(env, m, inside, part, &part));
    *out = part > 0 && part <= 1 ? (int64_t)((double)inner * part) : 0;
    return *out > 0 && *out <= inner && *out % 2 == 0
               ? TFUSE_OK
               : tf_fail(env, TFUSE_EFORMAT, "%s: config.json: partial_rotary_factor makes %lld of %lld units of a head turn; an even number must",
                         tf_model_label(m), (long long)*out, (long long)inner);
}
