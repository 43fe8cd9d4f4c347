/* SPDX-License-Identifier: Apache-2.0
 *
 * ensemble.c: accuracy and loss of the mean of several models' logits: what fusion into one network is measured against.
 *
 *     ensemble IMAGES LABELS MODEL MODEL...
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <tfuse/tfuse.h>

static void die(const tfuse_ctx *ctx)
{
    fprintf(stderr, "ensemble: %s\n", tfuse_ctx_error(ctx));
    exit(1);
}

/* Adds a model's logits; makes the sum at the first model. */
static float *add_logits(tfuse_ctx *ctx, const char *path, const tfuse_array *images, float *sum, int64_t *rows, int64_t *classes)
{
    tfuse_model *model = NULL;
    tfuse_array *logits = NULL;
    if (tfuse_model_open(ctx, path, 0, &model) || tfuse_run(ctx, model, NULL, images, 0, &logits))
        die(ctx);
    const int64_t *shape = tfuse_array_shape(logits);
    const float *x = tfuse_array_data(logits);
    if (!sum && !(sum = calloc((size_t)(shape[0] * shape[1]), sizeof *sum)))
        exit(1);
    for (int64_t i = 0; i < shape[0] * shape[1]; i++)
        sum[i] += x[i];
    *rows = shape[0];
    *classes = shape[1];
    tfuse_array_free(logits);
    tfuse_model_free(model);
    return sum;
}

int main(int argc, char **argv)
{
    tfuse_ctx *ctx = NULL;
    tfuse_array *images = NULL, *labels = NULL;
    int64_t rows = 0, classes = 0, correct = 0;
    float *sum = NULL;
    double loss = 0;
    if (argc < 4) {
        fprintf(stderr, "usage: ensemble IMAGES LABELS MODEL MODEL...\n");
        return 2;
    }
    if (tfuse_ctx_new(NULL, &ctx))
        return 1;
    if (tfuse_ctx_set_threads(ctx, 0) || tfuse_array_open(ctx, argv[1], &images) || tfuse_array_open(ctx, argv[2], &labels))
        die(ctx);
    for (int i = 3; i < argc; i++)
        sum = add_logits(ctx, argv[i], images, sum, &rows, &classes);
    if (tfuse_array_dtype(labels) != TFUSE_U8 || tfuse_array_shape(labels)[0] != rows) {
        fprintf(stderr, "ensemble: %s: one uint8 label for each image is wanted\n", argv[2]);
        return 1;
    }
    const unsigned char *label = tfuse_array_data(labels);
    for (int64_t r = 0; r < rows; r++) {
        const float *x = sum + r * classes;
        if (label[r] >= classes) {
            fprintf(stderr, "ensemble: %s: label %d, and the models know %lld classes\n", argv[2], label[r], (long long)classes);
            return 1;
        }
        double n = argc - 3, total = 0;
        int64_t best = 0;
        for (int64_t c = 0; c < classes; c++) {
            best = x[c] > x[best] ? c : best;
            total += exp(x[c] / n);
        }
        correct += best == label[r];
        loss += log(total) - x[label[r]] / n;
    }
    printf("{\"n\": %lld, \"accuracy\": %.6f, \"loss\": %.6f}\n", (long long)rows, (double)correct / (double)rows,
           loss / (double)rows);
    free(sum);
    tfuse_array_free(images);
    tfuse_array_free(labels);
    tfuse_ctx_free(ctx);
    return 0;
}
