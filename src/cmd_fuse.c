/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_fuse.c: tfuse fuse: aligns, or takes a plan, and writes the fused checkpoint.
 */
#include "tool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_options(const tool *t)
{
    if (!t->out)
        return usage_error(t, "fuse needs -o OUT");
    if (t->plan && t->save_plan)
        return usage_error(t, "--plan and --save-plan exclude each other");
    return check_plan_options(t);
}

/* How much each model counted: combine.weights, or equal ones, scaled to sum to one; only the anchor under half-anchor, not scaled again. */
static json_t *weights_object(const tool *t, const json_t *plan, int n)
{
    const char *control = json_string_value(json_object_get(json_object_get(plan, "policy"), "align.control"));
    const char *at = tfuse_policy_get(t->policy, "combine.weights");
    const bool equal = !strcmp(at, "equal");
    json_t *weights = json_array();
    double sum = 0;
    for (int k = 0; k < n; k++) {
        char *end;
        double w = equal ? 1 : strtod(at, &end);
        at = equal ? at : end + (*end == ',');
        json_array_append_new(weights, json_real(w));
        sum += w;
    }
    for (int k = 0; k < n; k++) {
        json_t *w = json_array_get(weights, (size_t)k);
        bool left_out = k > 0 && control && !strcmp(control, "half-anchor");
        json_real_set(w, left_out ? 0 : json_real_value(w) / sum);
    }
    return weights;
}

/* Looks before anything is written, and keeps what was found; the library need not look again. */
static int self_check(const tool *t, const tfuse_plan *plan, const tfuse_model *const *models, size_t n, json_t **found)
{
    char *text = NULL;
    if (!strcmp(tfuse_policy_get(t->policy, "fuse.selfcheck"), "0")) {
        *found = json_pack("{s:s}", "result", "off");
        return EXIT_DONE;
    }
    tfuse_array *calib = NULL;
    int code = open_array(t, t->calib, &calib);
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_selfcheck_on(t->ctx, t->policy, plan, models, n, calib, &text));
    tfuse_array_free(calib);
    if (code == EXIT_DONE) {
        *found = json_loads(text, 0, NULL);
        code = library_status(t, tfuse_policy_set(t->ctx, t->policy, "fuse.selfcheck", "0"));
    }
    tfuse_string_free(text);
    return code;
}

/* The largest deviation of a form over all models; below 0: none was run. */
static double most_of(const json_t *found, const char *form)
{
    double most = -1;
    size_t k;
    json_t *row;
    json_array_foreach(json_object_get(found, "models"), k, row)
        if (json_is_number(json_object_get(row, form)) && json_number_value(json_object_get(row, form)) > most)
            most = json_number_value(json_object_get(row, form));
    return most;
}

static void print_check(const json_t *found)
{
    const double canonical = most_of(found, "canonical"), aligned = most_of(found, "aligned");
    printf("  self-check     %s", json_string_value(json_object_get(found, "result")));
    if (canonical >= 0)
        printf("; canonical forms deviate by %.1e", canonical);
    if (aligned >= 0)
        printf("; aligned forms by %.1e%s", aligned,
               json_is_true(json_object_get(found, "exact")) ? "" : ", which judges nothing: this strategy's maps are no symmetries");
    printf("\n");
}

/* Weights fitted on the calibration inputs, and what the library tells of them. */
static int make_repair(tool *t, const tfuse_plan *plan, tfuse_model **models, size_t n, tfuse_repair **repair, json_t **found)
{
    int code = load_calibration(t, plan, models, n);
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_repair_new(t->ctx, t->policy, plan, (const tfuse_model *const *)models, n, t->calibration, repair));
    if (code == EXIT_DONE)
        *found = json_loads(tfuse_repair_report(*repair), 0, NULL);
    if (code == EXIT_DONE && t->plan && t->calib && !json_array_size(json_object_get(*found, "stages")))
        code = usage_error(t, "--calib bears on aligning, which --plan replaces, and on repair, which is off or not possible with its maps");
    return code;
}

/* Which mix of the models the layers before the last are fitted to, where one was chosen. */
static void print_mix(const tool *t, const json_t *found)
{
    const json_t *mix = json_object_get(found, "mix"), *tried = json_object_get(found, "mixes");
    size_t k, i;
    json_t *share, *row;
    if (!json_array_size(tried))
        return;
    json_array_foreach(mix, k, share)
        json_array_foreach(tried, i, row) {
            const double own = json_number_value(share);
            if (!json_is_integer(json_object_get(row, "lead")) || (size_t)json_integer_value(json_object_get(row, "lead")) != k ||
                fabs(json_number_value(json_object_get(row, "share")) - own) > 1e-9)
                continue;
            printf(own < 1 ? "  mix            %.0f %% of %s, which leads\n"
                           : "  mix            %.0f %% of %s: it alone, but for its last layer; no mix of the models came nearer to the ensemble\n",
                   100 * own, t->args[k]);
            return;
        }
    printf("  mix            of all models by their weights\n");
}

static void print_repair(const tool *t, const json_t *found)
{
    const json_t *stages = json_object_get(found, "stages");
    size_t k;
    json_t *name;
    if (!json_array_size(stages))
        return;
    printf("  repair         ");
    json_array_foreach(stages, k, name)
        printf("%s%s", k ? ", " : "", json_string_value(name));
    if (!json_integer_value(json_object_get(found, "samples"))) {
        printf(", from weights alone\n");
        return;
    }
    printf(", on %lld samples; from the ensemble %.4f nats, the anchor alone %.4f\n", (long long)json_integer_value(json_object_get(found, "samples")),
           shown(json_number_value(json_object_get(found, "kl_fused")), 4), shown(json_number_value(json_object_get(found, "kl_anchor")), 4));
    print_mix(t, found);
}

/* Where the calibration inputs come from; null: there are none. */
static json_t *calibration_object(const tool *t)
{
    if (!t->calibration)
        return json_null();
    const int64_t *shape = tfuse_array_shape(t->calibration);
    return t->generated ? json_pack("{s:s, s:I, s:I}", "source", "generated", "sequences", (json_int_t)shape[0], "tokens", (json_int_t)shape[1])
                        : json_pack("{s:s}", "source", t->calib);
}

static void print_calibration(const tool *t)
{
    if (!t->generated)
        return;
    const int64_t *shape = tfuse_array_shape(t->calibration);
    printf("  calibration    generated %lld sequences of %lld tokens from the models themselves\n", (long long)shape[0], (long long)shape[1]);
}

/* The last word where fusing did harm. */
static void print_verdict(const json_t *found)
{
    const double fused = json_number_value(json_object_get(found, "kl_fused")), anchor = json_number_value(json_object_get(found, "kl_anchor"));
    if (json_is_true(json_object_get(found, "worse")))
        printf("THE FUSED MODEL IS WORSE THAN THE ANCHOR ALONE: %.4f nats from the models' ensemble, the anchor %.4f\n", fused, shown(anchor, 4));
}

static int report(const tool *t, const tfuse_plan *plan, json_t *check, json_t *repaired, double seconds)
{
    json_t *object = NULL;
    uint64_t peak = 0;
    tfuse_ctx_memory(t->ctx, NULL, &peak);
    int code = plan_object(t, plan, &object);
    if (code != EXIT_DONE)
        return code;
    if (t->json) {
        json_t *out = json_object();
        json_object_set(out, "maps", json_object_get(object, "maps"));
        json_object_set(out, "strategy", json_object_get(object, "strategy"));
        json_object_set(out, "objective", json_object_get(object, "objective"));
        json_object_set_new(out, "calibration", calibration_object(t));
        json_object_set_new(out, "weights", weights_object(t, object, t->n_args));
        json_object_set(out, "selfcheck", check);
        json_object_set(out, "repair", repaired);
        json_object_set_new(out, "seconds", json_real(seconds));
        json_object_set_new(out, "peak_bytes", json_integer((json_int_t)peak));
        json_object_set_new(out, "out", json_string(t->out));
        code = print_json(out);
    } else {
        map_totals totals = total_maps(plan);
        printf("  strategy       %10s\n", json_string_value(json_object_get(object, "strategy")));
        print_totals(&totals);
        print_heads(object, false);
        print_calibration(t);
        print_check(check);
        print_repair(t, repaired);
        printf("  time           %10.2f s\nfused model written to ", seconds);
        print_text(t->out, 0);
        printf("; look at it with: tfuse eval ");
        print_word(t->out);
        printf(" --inputs F --labels F\n");
        print_verdict(repaired);
    }
    json_decref(object);
    return code;
}

int cmd_fuse(tool *t)
{
    tfuse_model **models = NULL;
    tfuse_plan *plan = NULL;
    tfuse_repair *repair = NULL;
    json_t *check = NULL, *repaired = NULL;
    size_t n = 0;
    double start = seconds_now();
    int code = check_options(t);
    if (code == EXIT_DONE && t->force)
        code = library_status(t, tfuse_policy_set(t->ctx, t->policy, "io.force", "1"));
    if (code == EXIT_DONE && t->dry_run)
        return dry_run(t);
    if (code == EXIT_DONE)
        code = check_output(t, t->out, true);
    if (code == EXIT_DONE)
        code = check_output(t, t->save_plan, false);
    if (code == EXIT_DONE)
        code = check_memory(t);
    if (code == EXIT_DONE)
        code = open_models(t, 0, &models, &n);
    if (code == EXIT_DONE)
        code = find_plan(t, models, n, &plan);
    if (code == EXIT_DONE)
        code = self_check(t, plan, (const tfuse_model *const *)models, n, &check);
    if (code == EXIT_DONE)
        code = make_repair(t, plan, models, n, &repair, &repaired);
    if (code == EXIT_DONE && t->save_plan && json_array_size(json_object_get(repaired, "stages"))) /* ours since find_plan, now with what repair did */
        code = library_status(t, tfuse_plan_save_repaired(t->ctx, plan, repair, t->save_plan, 1));
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_fuse_repaired(t->ctx, t->policy, plan, (const tfuse_model *const *)models, n, repair, t->out));
    end_progress();
    if (code == EXIT_DONE)
        code = report(t, plan, check, repaired, seconds_now() - start);
    json_decref(check);
    json_decref(repaired);
    tfuse_repair_free(repair);
    tfuse_plan_free(plan);
    free_models(models, n);
    return code;
}
