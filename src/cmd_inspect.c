/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_inspect.c: tfuse inspect: the graph of a model, for a person.
 */
#include "fold.h"
#include "tool.h"

#include <stdio.h>
#include <string.h>

enum { COLUMNS = 110, INDENT = 17 };

/* 139018 as 139,018. */
static void print_grouped(json_int_t n)
{
    char digits[32];
    int len = snprintf(digits, sizeof digits, "%lld", (long long)n);
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0 && digits[i - 1] != '-')
            putchar(',');
        putchar(digits[i]);
    }
}

static void print_tensors(const char *use, const json_t *list)
{
    size_t i, at = INDENT;
    json_t *label;
    printf("      %-9s  ", use);
    json_array_foreach(list, i, label) {
        size_t len = strlen(json_string_value(label)) + 2;
        bool wrap = i && at + len > COLUMNS;
        if (wrap)
            printf(",\n%*s", INDENT, "");
        printf("%s%s", i && !wrap ? ", " : "", json_string_value(label));
        at = (wrap ? INDENT : at) + len;
    }
    putchar('\n');
}

static void print_axis(const json_t *axis, int width)
{
    static const char *const uses[] = {"produced", "consumed", "dual", "neutral"};
    const char *parent = json_string_value(json_object_get(axis, "parent"));
    const json_t *tensors = json_object_get(axis, "tensors");
    printf("  ");
    print_text(json_string_value(json_object_get(axis, "name")), width);
    printf("%7lld  %s%s%s\n", (long long)json_integer_value(json_object_get(axis, "extent")),
           json_string_value(json_object_get(axis, "group")), *parent ? ", inside " : "", parent);
    for (size_t i = 0; i < sizeof uses / sizeof uses[0]; i++)
        if (json_object_get(tensors, uses[i]))
            print_tensors(uses[i], json_object_get(tensors, uses[i]));
}

static int print_graph(const tool *t, const json_t *graph)
{
    size_t i;
    int width = 4;
    json_t *axis, *axes = fold_axes(json_object_get(graph, "axes"));
    if (!axes)
        return fail("out of memory");
    json_array_foreach(axes, i, axis) {
        int len = (int)strlen(json_string_value(json_object_get(axis, "name")));
        width = len > width ? len : width;
    }
    const char *name = json_string_value(json_object_get(graph, "architecture")); /* "" for a graph from the builder */
    printf("%s: %s, ", t->args[0], name && name[0] ? name : "a network of its own");
    print_grouped(json_integer_value(json_object_get(graph, "parameters")));
    printf(" parameters in %zu tensors, %zu axes, graph %s\n\n  ", json_array_size(json_object_get(graph, "tensors")),
           json_array_size(json_object_get(graph, "axes")), json_string_value(json_object_get(graph, "signature")));
    print_text("axis", width);
    printf(" extent  what may be done to it; then tensor[dimension], by use\n");
    json_array_foreach(axes, i, axis)
        print_axis(axis, width);
    json_decref(axes);
    return EXIT_DONE;
}

int cmd_inspect(tool *t)
{
    tfuse_model *model = NULL;
    tfuse_graph *graph = NULL;
    char *text = NULL;
    json_t *object = NULL;
    int code = library_status(t, tfuse_model_open(t->ctx, t->args[0], TFUSE_OPEN_CONFIG_ONLY, &model));
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_graph_infer(t->ctx, model, &graph));
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_graph_describe(t->ctx, graph, model, &text));
    if (code == EXIT_DONE && !(object = json_loads(text, 0, NULL)))
        code = fail("out of memory");
    if (code == EXIT_DONE)
        code = t->json ? print_json(json_incref(object)) : print_graph(t, object);
    json_decref(object);
    tfuse_string_free(text);
    tfuse_graph_free(graph);
    tfuse_model_free(model);
    return code;
}
