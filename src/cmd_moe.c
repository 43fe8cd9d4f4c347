/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_moe.c: tfuse moe: a model split into experts, and back.
 */
#include "tool.h"

static void print_row(const char *name, const json_t *by_split)
{
    print_text(name, 28);
    for (size_t k = 0; k < 3; k++) {
        static const char *const splits[] = {"clustered", "contiguous", "random"};
        const json_t *x = json_object_get(by_split, splits[k]);
        printf(" ");
        if (json_is_number(x))
            print_number(json_number_value(x));
        else
            printf("%10s", "-");
    }
    putchar('\n');
}

static void show_split(const tool *t, const json_t *report)
{
    size_t i;
    const json_t *row, *rows = json_object_get(report, "ffns");
    printf("%zu feed-forward networks in %lld experts each, %lld of them for a token, as %s\n\n", json_array_size(rows),
           (long long)json_integer_value(json_object_get(report, "experts")), (long long)json_integer_value(json_object_get(report, "top_k")),
           json_string_value(json_object_get(report, "layout")));
    printf("%-28s %10s %10s %10s\n", "spread of keys", "clustered", "contiguous", "random");
    json_array_foreach(rows, i, row)
        print_row(json_string_value(json_object_get(row, "name")), json_object_get(row, "spread"));
    print_row("mean", json_object_get(report, "spread"));
    if (t->calib) {
        printf("\n%-28s %10s %10s %10s\n", "error of routed outputs", "clustered", "contiguous", "random");
        json_array_foreach(rows, i, row)
            print_row(json_string_value(json_object_get(row, "name")), json_object_get(row, "error"));
        print_row("mean", json_object_get(report, "error"));
        print_row("outputs of the model", json_object_get(report, "output_error"));
    }
    if (json_is_number(json_object_get(report, "selfcheck")))
        printf("\nself-check: with every expert chosen outputs deviate by %.3g of the largest\n", json_number_value(json_object_get(report, "selfcheck")));
    printf("written to %s\n", t->out);
}

static void show_dense(const tool *t, const json_t *report)
{
    printf("%lld feed-forward networks of %lld experts joined, hidden units in the %s order; written to %s\n",
           (long long)json_integer_value(json_object_get(report, "ffns")), (long long)json_integer_value(json_object_get(report, "experts")),
           json_is_true(json_object_get(report, "ordered")) ? "dense model's" : "experts'", t->out);
}

static int show(const tool *t, char *text)
{
    json_t *report = text ? json_loads(text, 0, NULL) : NULL;
    uint64_t peak = 0;
    tfuse_string_free(text);
    tfuse_ctx_memory(t->ctx, NULL, &peak);
    if (!report || json_object_set_new(report, "peak_bytes", json_integer((json_int_t)peak)) ||
        json_object_set_new(report, "out", json_string(t->out))) {
        json_decref(report);
        return fail("out of memory");
    }
    if (t->json)
        return print_json(report);
    if (t->dense)
        show_dense(t, report);
    else
        show_split(t, report);
    json_decref(report);
    return EXIT_DONE;
}

static int check_options(const tool *t)
{
    const bool experts = tfuse_policy_is_set(t->policy, "moe.experts"), top_k = tfuse_policy_is_set(t->policy, "moe.top_k");
    if (!t->out && !t->dry_run)
        return usage_error(t, "moe needs -o OUT");
    if (t->dense && (experts || top_k || t->calib || tfuse_policy_is_set(t->policy, "moe.layout")))
        return usage_error(t, "--dense takes the experts from the model; leave --experts, --top-k, --layout and --calib out");
    return t->dense || (experts && top_k) ? EXIT_DONE : usage_error(t, "moe needs --experts E and --top-k K, or --dense");
}

static int work(tool *t, char **text)
{
    tfuse_model *model = NULL;
    tfuse_array *calib = NULL;
    int code = library_status(t, tfuse_model_open(t->ctx, t->args[0], 0, &model));
    if (code == EXIT_DONE)
        code = open_array(t, t->calib, &calib);
    if (code == EXIT_DONE && t->dense)
        code = library_status(t, tfuse_moe_dense(t->ctx, t->policy, model, t->out, text));
    else if (code == EXIT_DONE)
        code = library_status(t, tfuse_moe(t->ctx, t->policy, model, calib, t->out, text));
    tfuse_array_free(calib);
    tfuse_model_free(model);
    return code;
}

int cmd_moe(tool *t)
{
    char *text = NULL;
    int code = check_options(t);
    if (code == EXIT_DONE && t->force)
        code = library_status(t, tfuse_policy_set(t->ctx, t->policy, "io.force", "1"));
    if (code == EXIT_DONE && t->dry_run)
        return dry_run(t);
    if (code == EXIT_DONE)
        code = check_output(t, t->out, true);
    if (code == EXIT_DONE)
        code = work(t, &text);
    end_progress();
    return code == EXIT_DONE ? show(t, text) : code;
}
