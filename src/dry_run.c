/* SPDX-License-Identifier: Apache-2.0
 *
 * dry_run.c: --dry-run of fuse and moe: every problem at once, and what the run would take.
 */
#include "tool.h"

#include <stdio.h>
#include <string.h>

static void print_size(const char *what, const json_t *bytes)
{
    const double n = (double)json_integer_value(bytes);
    if (json_is_null(bytes))
        printf("  %-14s          -\n", what);
    else
        printf("  %-14s %10.1f MiB\n", what, n / (1 << 20));
}

static int show(const tool *t, json_t *report)
{
    const json_t *problems = json_object_get(report, "problems");
    const size_t n = json_array_size(problems);
    if (t->json) {
        int code = print_json(report);
        return code == EXIT_DONE && n ? EXIT_FAILED : code;
    }
    for (size_t i = 0; i < n; i++) {
        print_text(json_string_value(json_array_get(problems, i)), 0);
        putchar('\n');
    }
    printf("  problems       %10zu\n", n);
    print_size("peak memory", json_object_get(report, "peak_bytes"));
    print_size("read", json_object_get(report, "read_bytes"));
    print_size("written", json_object_get(report, "write_bytes"));
    printf("nothing was written: this was a dry run\n");
    json_decref(report);
    return n ? EXIT_FAILED : EXIT_DONE;
}

static int dry_run_report(const tool *t, json_t **report)
{
    const tfuse_run_paths paths = {.struct_size = sizeof paths, .models = (const char *const *)t->args, .n_models = (size_t)t->n_args,
                                   .calib = t->calib, .plan = t->plan, .save_plan = t->save_plan, .out = t->out};
    char *text = NULL;
    *report = NULL;
    const bool moe = t->command->bit == CMD_MOE;
    int code = library_status(t, moe ? tfuse_moe_dry_run(t->ctx, t->policy, &paths, t->dense, &text) : tfuse_dry_run(t->ctx, t->policy, &paths, &text));
    if (code == EXIT_DONE && !(*report = json_loads(text, 0, NULL)))
        code = fail("out of memory");
    tfuse_string_free(text);
    return code;
}

/* Whether the library has found a problem with a file. */
static bool is_told(const json_t *problems, const char *path)
{
    const size_t n = strlen(path);
    size_t i;
    json_t *line;
    json_array_foreach(problems, i, line)
        if (!strncmp(json_string_value(line), path, n) && !strncmp(json_string_value(line) + n, ": ", 2))
            return true;
    return false;
}

/* What a run refuses that the library, which is told names of files and not what they are to the command, cannot see. */
static int add_outputs(const tool *t, json_t *problems)
{
    const char *const outputs[] = {t->out, t->save_plan};
    bool twice = false;
    for (size_t k = 0; k < sizeof outputs / sizeof *outputs; k++) {
        char why[OUTPUT_WHY];
        const int code = output_problem(t, outputs[k], why);
        if (code == EXIT_DONE || (code == EXIT_USAGE ? twice : !*outputs[k] || is_told(problems, outputs[k])))
            continue;
        twice |= code == EXIT_USAGE;
        if (json_array_append_new(problems, json_string(why)))
            return fail("out of memory");
    }
    return EXIT_DONE;
}

int dry_run(const tool *t)
{
    json_t *report;
    int code = dry_run_report(t, &report);
    if (code == EXIT_DONE && (code = add_outputs(t, json_object_get(report, "problems"))) != EXIT_DONE)
        json_decref(report);
    return code == EXIT_DONE ? show(t, report) : code;
}

int check_memory(const tool *t)
{
    json_t *report;
    const char *most = tfuse_policy_get(t->policy, "run.memory");
    if (most[0] == '0' && !most[1])
        return EXIT_DONE;
    int code = dry_run_report(t, &report);
    const json_t *problems = json_object_get(report, "problems");
    if (code == EXIT_DONE && json_array_size(problems))
        code = fail("%s", json_string_value(json_array_get(problems, json_array_size(problems) - 1)));
    json_decref(report);
    return code;
}
