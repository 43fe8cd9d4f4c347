/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_path.c: tfuse path: loss and accuracy along the straight line between a model and another one aligned to it.
 *
 * One plan is made, or read, and applied with the weights 1 - t and t; no repair. Beside it runs the line without alignment. The barrier of
 * a line is max over t of L(t) - ((1 - t) L(A) + t L(B)), with the losses of the models as they are (Entezari et al., ICLR 2022): where a soft
 * map damages B, the loss of what it made of B counts as part of the barrier.
 */
#include "path.h"
#include "tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STEPS = 1001 };

typedef struct work {
    tool *t;
    tfuse_model **models;
    size_t n_models;
    tfuse_array *inputs, *labels;
} work;

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static int check_options(const tool *t)
{
    if (!t->inputs)
        return usage_error(t, "path needs --inputs F");
    if (t->out && !ends_in(t->out, ".svg") && !ends_in(t->out, ".json"))
        return usage_error(t, "-o takes a name that ends in .svg or .json, not '%s'", t->out);
    if (t->steps < 2 || t->steps > MOST_STEPS)
        return usage_error(t, "--steps takes 2 to %d, not %lld", MOST_STEPS, (long long)t->steps);
    if (tfuse_policy_is_set(t->policy, "combine.weights"))
        return usage_error(t, "combine.weights is what path goes through; leave it out");
    return check_plan_options(t);
}

/* ---- scores -------------------------------------------------------------------------------------------------- */

static int score(const work *w, const tfuse_model *model, double *loss, double *accuracy, int64_t *n)
{
    tfuse_score s = {.struct_size = sizeof s};
    int code = library_status(w->t, tfuse_eval(w->t->ctx, model, NULL, w->inputs, w->labels, w->t->limit, &s));
    if (code != EXIT_DONE)
        return code;
    if (s.scored == 0 && !w->labels)
        return usage_error(w->t, "without labels there is no loss to draw; give --labels F");
    if (s.scored == 0)
        return fail("%s: no label counts (all are -100), so there is no loss to draw", w->t->labels);
    *loss = s.loss;
    *accuracy = (double)s.correct / (double)s.scored;
    *n = s.n;
    return EXIT_DONE;
}

static int score_point(const work *w, const tfuse_plan *plan, double t, double *loss, double *accuracy)
{
    char weights[64];
    tfuse_model *fused = NULL;
    int64_t n;
    snprintf(weights, sizeof weights, "%.17g,%.17g", 1 - t, t);
    int code = library_status(w->t, tfuse_policy_set(w->t->ctx, w->t->policy, "combine.weights", weights));
    if (code == EXIT_DONE)
        code = library_status(w->t, tfuse_fuse_model(w->t->ctx, w->t->policy, plan, (const tfuse_model *const *)w->models,
                                                     w->n_models, &fused));
    if (code == EXIT_DONE)
        code = score(w, fused, loss, accuracy, &n);
    tfuse_model_free(fused);
    return code;
}

static void find_barrier(const path_scores *p, path_curve *curve)
{
    curve->barrier = -INFINITY;
    for (size_t i = 0; i < p->steps; i++) {
        double above = curve->loss[i] - ((1 - p->t[i]) * p->loss[0] + p->t[i] * p->loss[1]);
        if (above > curve->barrier) {
            curve->barrier = above;
            curve->at = p->t[i];
        }
    }
}

static int score_line(const work *w, const tfuse_plan *plan, const path_scores *p, path_curve *curve)
{
    int code = EXIT_DONE;
    curve->loss = calloc(p->steps, sizeof *curve->loss);
    curve->accuracy = calloc(p->steps, sizeof *curve->accuracy);
    if (!curve->loss || !curve->accuracy)
        return fail("out of memory");
    for (size_t i = 0; code == EXIT_DONE && i < p->steps; i++)
        code = score_point(w, plan, p->t[i], &curve->loss[i], &curve->accuracy[i]);
    if (code == EXIT_DONE)
        find_barrier(p, curve);
    return code;
}

/* The line of plain averaging, where there is one: not between models of different widths. */
static int score_plain(const work *w, const path_scores *p, path_curve *curve)
{
    const tool *t = w->t;
    tfuse_plan *plan = NULL;
    int code = library_status(t, tfuse_policy_set(t->ctx, t->policy, "align.strategy", "none"));
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_policy_set(t->ctx, t->policy, "align.control", "none"));
    if (code != EXIT_DONE)
        return code;
    tfuse_status status = tfuse_align(t->ctx, t->policy, (const tfuse_model *const *)w->models, w->n_models, NULL, &plan);
    if (status == TFUSE_EGRAPH || status == TFUSE_ESHAPE)
        return EXIT_DONE;
    code = library_status(t, status);
    if (code == EXIT_DONE)
        code = score_line(w, plan, p, curve);
    tfuse_plan_free(plan);
    return code;
}

static int score_all(const work *w, path_scores *p, json_t **report)
{
    tfuse_plan *plan = NULL;
    int code = EXIT_DONE;
    for (int k = 0; k < 2 && code == EXIT_DONE; k++)
        code = score(w, w->models[k], &p->loss[k], &p->accuracy[k], &p->samples);
    if (code == EXIT_DONE)
        code = find_plan(w->t, w->models, w->n_models, &plan);
    if (code == EXIT_DONE)
        code = plan_object(w->t, plan, report);
    if (code == EXIT_DONE)
        code = score_line(w, plan, p, &p->aligned);
    tfuse_plan_free(plan);
    if (code != EXIT_DONE)
        return code;
    p->strategy = json_string_value(json_object_get(*report, "strategy"));
    bool is_plain = !strcmp(p->strategy, "none") && !json_object_get(json_object_get(*report, "policy"), "align.control");
    return is_plain ? EXIT_DONE : score_plain(w, p, &p->plain);
}

/* ---- output -------------------------------------------------------------------------------------------------- */

static void print_barrier(const char *what, const path_curve *curve)
{
    if (curve->loss)
        printf("  barrier%s  %8.4f nats at t = %.3g\n", what, shown(curve->barrier, 4), curve->at);
}

static void print_table(const path_scores *p)
{
    printf("%8s  %10s  %10s%s\n", "t", "loss", "accuracy", p->plain.loss ? "  without alignment" : "");
    for (size_t i = 0; i < p->steps; i++) {
        printf("%8.4g  %10.4f  %8.2f %%", p->t[i], p->aligned.loss[i], 100 * p->aligned.accuracy[i]);
        if (p->plain.loss)
            printf("  %10.4f  %8.2f %%", p->plain.loss[i], 100 * p->plain.accuracy[i]);
        putchar('\n');
    }
    for (int k = 0; k < 2; k++) {
        printf("  %s: ", k ? "B" : "A");
        print_text(p->names[k], 0);
        printf(", loss %.4f, accuracy %.2f %%\n", p->loss[k], 100 * p->accuracy[k]);
    }
    print_barrier("                    ", &p->aligned);
    print_barrier(" without alignment  ", &p->plain);
}

static void write_json(FILE *f, const void *scores)
{
    json_t *object = path_json(scores);
    if (object)
        json_dumpf(object, f, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
    fputc('\n', f);
    json_decref(object);
}

static int report(const tool *t, const path_scores *p)
{
    int code = EXIT_DONE;
    if (t->out)
        code = save_file(t, t->out, ends_in(t->out, ".svg") ? draw_path : write_json, p);
    if (code != EXIT_DONE)
        return code;
    if (t->json)
        return print_json(path_json(p));
    print_table(p);
    if (t->out)
        printf("written to %s\n", t->out);
    else
        printf("-o F.svg draws it\n");
    return EXIT_DONE;
}

static int set_up(path_scores *p, const tool *t)
{
    p->steps = (size_t)t->steps;
    p->t = calloc(p->steps, sizeof *p->t);
    if (!p->t)
        return fail("out of memory");
    for (size_t i = 0; i < p->steps; i++)
        p->t[i] = (double)i / (double)(p->steps - 1);
    p->names[0] = t->args[0];
    p->names[1] = t->args[1];
    return EXIT_DONE;
}

int cmd_path(tool *t)
{
    work w = {.t = t};
    path_scores p = {0};
    json_t *plan = NULL;
    int code = check_options(t);
    if (code == EXIT_DONE)
        code = check_output(t, t->out, false);
    if (code == EXIT_DONE)
        code = set_up(&p, t);
    if (code == EXIT_DONE)
        code = open_models(t, 0, &w.models, &w.n_models);
    if (code == EXIT_DONE)
        code = open_array(t, t->inputs, &w.inputs);
    if (code == EXIT_DONE)
        code = open_array(t, t->labels, &w.labels);
    if (code == EXIT_DONE)
        code = score_all(&w, &p, &plan);
    end_progress();
    if (code == EXIT_DONE)
        code = report(t, &p);
    json_decref(plan);
    double *own[] = {p.t, p.aligned.loss, p.aligned.accuracy, p.plain.loss, p.plain.accuracy};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        free(own[i]);
    tfuse_array_free(w.labels);
    tfuse_array_free(w.inputs);
    free_models(w.models, w.n_models);
    return code;
}
