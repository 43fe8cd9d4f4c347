/* SPDX-License-Identifier: Apache-2.0
 *
 * feed.c: a program that trains two networks itself hands their activations over while it trains, and has them fused without a
 * file and without running anything twice.
 *
 *     feed IMAGES LABELS
 *
 * The networks are multilayer perceptrons of a kind that the library does not know: their graph travels in the config. The last LAST
 * steps of training feed the statistics; then the second network is aligned with the first and averaged with it. Prints the accuracy of
 * both, of their plain average and of the fused one on the images that training has not seen.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tfuse/tfuse.h>

enum { PIXELS = 784, HIDDEN = 48, CLASSES = 10, BATCH = 50, STEPS = 600, LAST = 40, HELD = 2000 };

static const char config[] =
    "{\"model_type\": \"perceptron\", \"tfuse_graph\": {\"tfuse_graph\": 1, \"arch\": \"perceptron\", \"output\": \"logits\","
    " \"nodes\": [{\"op\": \"input\", \"name\": \"x\", \"inputs\": \"\", \"attrs\": \"kind=features shape=784\"},"
    " {\"op\": \"linear\", \"name\": \"first\", \"inputs\": \"x\", \"attrs\": \"out=hidden:48 bias=1\"},"
    " {\"op\": \"activation\", \"name\": \"relu\", \"inputs\": \"first\", \"attrs\": \"kind=relu\"},"
    " {\"op\": \"linear\", \"name\": \"logits\", \"inputs\": \"relu\", \"attrs\": \"out=!classes:10 bias=1\"}],"
    " \"tensors\": {}, \"buffers\": []}}";

/* One network, its activations on the batch under way, and the view that the library has of it. */
typedef struct net {
    float w1[HIDDEN * PIXELS], b1[HIDDEN], w2[CLASSES * HIDDEN], b2[CLASSES];
    float first[BATCH * HIDDEN], relu[BATCH * HIDDEN], logits[BATCH * CLASSES];
    tfuse_model *model;
} net;

static void die(const tfuse_ctx *ctx)
{
    fprintf(stderr, "feed: %s\n", tfuse_ctx_error(ctx));
    exit(1);
}

static void check(const tfuse_ctx *ctx, tfuse_status status)
{
    if (status)
        die(ctx);
}

/* ---- a host's own training ------------------------------------------------------------------------------ */

static float uniform(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / 8388608.0f - 1;
}

static void start(net *n, unsigned seed)
{
    for (int i = 0; i < HIDDEN * PIXELS; i++)
        n->w1[i] = uniform(&seed) * 0.06f;
    for (int i = 0; i < CLASSES * HIDDEN; i++)
        n->w2[i] = uniform(&seed) * 0.2f;
}

/* y = x W' + b, rows of x and y being samples. */
static void layer(const float *x, const float *w, const float *b, float *y, int in, int out)
{
    for (int r = 0; r < BATCH; r++)
        for (int o = 0; o < out; o++) {
            float sum = b[o];
            for (int i = 0; i < in; i++)
                sum += w[o * in + i] * x[r * in + i];
            y[r * out + o] = sum;
        }
}

/* w and b go down the gradient of a layer whose outputs have gradient g. */
static void descend(float *w, float *b, const float *g, const float *x, int in, int out, float rate)
{
    for (int r = 0; r < BATCH; r++)
        for (int o = 0; o < out; o++) {
            b[o] -= rate * g[r * out + o];
            for (int i = 0; i < in; i++)
                w[o * in + i] -= rate * g[r * out + o] * x[r * in + i];
        }
}

static void forward(net *n, const float *x)
{
    layer(x, n->w1, n->b1, n->first, PIXELS, HIDDEN);
    for (int i = 0; i < BATCH * HIDDEN; i++)
        n->relu[i] = n->first[i] > 0 ? n->first[i] : 0;
    layer(n->relu, n->w2, n->b2, n->logits, HIDDEN, CLASSES);
}

/* Gradients of the mean cross-entropy. */
static void learn(net *n, const float *x, const unsigned char *label)
{
    float out[BATCH * CLASSES], hidden[BATCH * HIDDEN] = {0};
    for (int r = 0; r < BATCH; r++) {
        float sum = 0;
        for (int c = 0; c < CLASSES; c++)
            sum += out[r * CLASSES + c] = expf(n->logits[r * CLASSES + c]);
        for (int c = 0; c < CLASSES; c++)
            out[r * CLASSES + c] = (out[r * CLASSES + c] / sum - (label[r] == c)) / BATCH;
        for (int h = 0; h < HIDDEN; h++)
            for (int c = 0; c < CLASSES && n->first[r * HIDDEN + h] > 0; c++)
                hidden[r * HIDDEN + h] += out[r * CLASSES + c] * n->w2[c * HIDDEN + h];
    }
    descend(n->w2, n->b2, out, n->relu, HIDDEN, CLASSES, 0.2f);
    descend(n->w1, n->b1, hidden, x, PIXELS, HIDDEN, 0.2f);
}

/* ---- the library's part -------------------------------------------------------------------------------------- */

/* The library looks at the host's own memory. */
static void share(tfuse_ctx *ctx, net *n)
{
    const int64_t w1[] = {HIDDEN, PIXELS}, w2[] = {CLASSES, HIDDEN};
    check(ctx, tfuse_model_new(ctx, config, NULL, NULL, &n->model));
    check(ctx, tfuse_model_add(ctx, n->model, "first.weight", TFUSE_F32, 2, w1, n->w1));
    check(ctx, tfuse_model_add(ctx, n->model, "first.bias", TFUSE_F32, 1, w1, n->b1));
    check(ctx, tfuse_model_add(ctx, n->model, "logits.weight", TFUSE_F32, 2, w2, n->w2));
    check(ctx, tfuse_model_add(ctx, n->model, "logits.bias", TFUSE_F32, 1, w2, n->b2));
    check(ctx, tfuse_model_seal(ctx, n->model));
}

static const float *value_of(const net *n, const char *name)
{
    return !strcmp(name, "first") ? n->first : !strcmp(name, "relu") ? n->relu : n->logits;
}

static void feed(tfuse_ctx *ctx, tfuse_stats *stats, net *const *nets)
{
    for (size_t i = 0; i < tfuse_stats_count(stats); i++) {
        tfuse_stat_want want = {sizeof want, 0, NULL, 0, 0};
        tfuse_array *batch = NULL;
        check(ctx, tfuse_stats_want(stats, i, &want));
        const int64_t shape[] = {BATCH, want.units};
        check(ctx, tfuse_array_wrap(ctx, TFUSE_F32, 2, shape, value_of(nets[want.model], want.value), NULL, NULL, &batch));
        check(ctx, tfuse_stats_feed(ctx, stats, want.model, want.value, batch));
        tfuse_array_free(batch);
    }
    check(ctx, tfuse_stats_step(ctx, stats));
}

static void report(tfuse_ctx *ctx, const char *name, const tfuse_model *model, const tfuse_array *images, const tfuse_array *labels)
{
    tfuse_score score = {sizeof score, 0, 0, 0, 0};
    check(ctx, tfuse_eval(ctx, model, NULL, images, labels, 0, &score));
    printf("%-16s %.2f %%\n", name, 100.0 * (double)score.correct / (double)score.scored);
}

static tfuse_model *fuse(tfuse_ctx *ctx, tfuse_policy *policy, const tfuse_plan *plan, net *const *nets)
{
    const tfuse_model *models[] = {nets[0]->model, nets[1]->model};
    tfuse_model *fused = NULL;
    check(ctx, tfuse_fuse_model(ctx, policy, plan, models, 2, &fused));
    return fused;
}

/* Bytes, `rank` extents, of which those behind the first make `size`? */
static int is_of(const tfuse_array *a, size_t rank, int64_t size)
{
    int64_t product = 1;
    for (size_t d = 1; d < tfuse_array_rank(a); d++)
        product *= tfuse_array_shape(a)[d];
    return tfuse_array_dtype(a) == TFUSE_U8 && tfuse_array_rank(a) == rank && product == size;
}

int main(int argc, char **argv)
{
    tfuse_ctx *ctx = NULL;
    tfuse_array *raw = NULL, *answers = NULL, *images = NULL, *labels = NULL;
    tfuse_policy *policy = NULL, *none = NULL;
    tfuse_plan *plan = NULL, *plain = NULL;
    tfuse_stats *stats = NULL;
    if (argc != 3) {
        fprintf(stderr, "usage: feed IMAGES LABELS\n");
        return 2;
    }
    if (tfuse_ctx_new(NULL, &ctx))
        return 1;
    check(ctx, tfuse_array_open(ctx, argv[1], &raw));
    check(ctx, tfuse_array_open(ctx, argv[2], &answers));
    if (!is_of(raw, 3, PIXELS) || !is_of(answers, 1, 1) || tfuse_array_shape(raw)[0] != tfuse_array_shape(answers)[0]) {
        fprintf(stderr, "feed: IMAGES is N x 28 x 28 bytes and LABELS one byte for each\n");
        return 1;
    }
    const int64_t n = tfuse_array_shape(raw)[0];
    const unsigned char *pixel = tfuse_array_data(raw), *label = tfuse_array_data(answers);
    net *nets[2] = {calloc(1, sizeof(net)), calloc(1, sizeof(net))};
    float *x = malloc((size_t)n * PIXELS * sizeof *x);
    if (n < HELD + BATCH || !nets[0] || !nets[1] || !x)
        return 1;
    for (int64_t i = 0; i < n * PIXELS; i++)
        x[i] = (float)pixel[i] / 255 - 0.3f;

    for (int k = 0; k < 2; k++) {
        start(nets[k], 1 + (unsigned)k);
        share(ctx, nets[k]);
    }
    const tfuse_model *models[] = {nets[0]->model, nets[1]->model};
    check(ctx, tfuse_policy_new(ctx, &policy));
    check(ctx, tfuse_policy_set(ctx, policy, "align.strategy", "otfusion"));
    check(ctx, tfuse_stats_new(ctx, policy, models, 2, &stats));
    for (int step = 0; step < STEPS; step++) {
        const int64_t at = HELD + (int64_t)step * BATCH % ((n - HELD) / BATCH * BATCH);
        for (int k = 0; k < 2; k++)
            forward(nets[k], x + at * PIXELS);
        if (step >= STEPS - LAST)
            feed(ctx, stats, nets);
        for (int k = 0; k < 2; k++)
            learn(nets[k], x + at * PIXELS, label + at);
    }
    check(ctx, tfuse_align_stats(ctx, policy, stats, &plan));

    const int64_t shape[] = {HELD, PIXELS}, count[] = {HELD};
    check(ctx, tfuse_array_wrap(ctx, TFUSE_F32, 2, shape, x, NULL, NULL, &images));
    check(ctx, tfuse_array_wrap(ctx, TFUSE_U8, 1, count, label, NULL, NULL, &labels));
    check(ctx, tfuse_policy_new(ctx, &none));
    check(ctx, tfuse_policy_set(ctx, none, "align.strategy", "none"));
    check(ctx, tfuse_align(ctx, none, models, 2, NULL, &plain));
    tfuse_model *average = fuse(ctx, none, plain, nets), *fused = fuse(ctx, policy, plan, nets);
    report(ctx, "first", nets[0]->model, images, labels);
    report(ctx, "second", nets[1]->model, images, labels);
    report(ctx, "plain average", average, images, labels);
    report(ctx, "fused", fused, images, labels);

    tfuse_model_free(average);
    tfuse_model_free(fused);
    tfuse_plan_free(plain);
    tfuse_plan_free(plan);
    tfuse_stats_free(stats);
    tfuse_policy_free(policy);
    tfuse_policy_free(none);
    tfuse_array_free(raw);
    tfuse_array_free(answers);
    tfuse_array_free(images);
    tfuse_array_free(labels);
    for (int k = 0; k < 2; k++) {
        tfuse_model_free(nets[k]->model);
        free(nets[k]);
    }
    free(x);
    tfuse_ctx_free(ctx);
    return 0;
}
