/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_eval.c: tfuse eval: accuracy and mean loss.
 */
#include "tool.h"

#include <math.h>
#include <stdio.h>

static int report(const tool *t, const tfuse_score *score, double seconds)
{
    double accuracy = score->scored ? (double)score->correct / (double)score->scored : NAN;
    if (t->json)
        return print_json(json_pack("{s:I, s:o, s:o}", "n", (json_int_t)score->n, "accuracy", json_number(accuracy), "loss",
                                    json_number(score->loss)));
    if (score->scored) {
        printf("  accuracy  %8.2f %%  (%lld of %lld)\n", 100 * accuracy, (long long)score->correct, (long long)score->scored);
        printf("  loss      %8.4f nats\n", score->loss);
    } else {
        printf("  nothing is scored: give --labels, or a language model sequences of two tokens or more\n");
    }
    printf("  time      %8.2f s    (%lld inputs, %.0f a second)\n", seconds, (long long)score->n,
           (double)score->n / (seconds > 0 ? seconds : 1e-9));
    return EXIT_DONE;
}

int cmd_eval(tool *t)
{
    tfuse_model *model = NULL;
    tfuse_array *inputs = NULL, *labels = NULL;
    tfuse_score score = {.struct_size = sizeof score};
    if (!t->inputs)
        return usage_error(t, "eval needs --inputs F");
    int code = library_status(t, tfuse_model_open(t->ctx, t->args[0], 0, &model));
    if (code == EXIT_DONE)
        code = open_array(t, t->inputs, &inputs);
    if (code == EXIT_DONE)
        code = open_array(t, t->labels, &labels);
    double start = seconds_now();
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_eval(t->ctx, model, NULL, inputs, labels, t->limit, &score));
    double seconds = seconds_now() - start;
    end_progress();
    if (code == EXIT_DONE)
        code = report(t, &score, seconds);
    tfuse_array_free(labels);
    tfuse_array_free(inputs);
    tfuse_model_free(model);
    return code;
}
