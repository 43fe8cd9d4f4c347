/* SPDX-License-Identifier: Apache-2.0
 *
 * fold.c: writing what repeats from layer to layer once.
 *
 * Two axes fold into one when they agree in all but one number, which their own name and the names of the tensors that they bind share.
 * The tensors of an axis without a number (the residual stream) fold among themselves.
 */
#include "fold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MARK = '\1', LONGEST = 256 };

static const char *find_number(const char *name, size_t *digits)
{
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
        *digits = strspn(dot + 1, "0123456789");
        char after = dot[1 + *digits];
        if (*digits > 0 && *digits < 10 && (after == '\0' || after == '/' || after == '.'))
            return dot + 1;
    }
    return NULL;
}

long fold_name(const char *name, char *pattern, size_t size)
{
    size_t digits = 0;
    const char *number = find_number(name, &digits);
    if (!number) {
        snprintf(pattern, size, "%s", name);
        return -1;
    }
    snprintf(pattern, size, "%.*s%c%s", (int)(number - name), name, MARK, number + digits);
    return strtol(number, NULL, 10);
}

static void number_text(const json_t *numbers, char *text, size_t size)
{
    size_t n = json_array_size(numbers);
    json_int_t first = json_integer_value(json_array_get(numbers, 0));
    json_int_t last = json_integer_value(json_array_get(numbers, n - 1));
    if (n == 1) {
        snprintf(text, size, "%lld", (long long)first);
    } else if (last - first + 1 == (json_int_t)n) {
        snprintf(text, size, "{%lld..%lld}", (long long)first, (long long)last);
    } else {
        size_t at = 0;
        for (size_t i = 0; i < n && at < size; i++)
            at += (size_t)snprintf(text + at, size - at, "%c%lld", i ? ',' : '{',
                                   (long long)json_integer_value(json_array_get(numbers, i)));
        if (at < size)
            snprintf(text + at, size - at, "}");
    }
}

void unfold_name(const char *pattern, const json_t *numbers, char *name, size_t size)
{
    char text[LONGEST];
    const char *mark = strchr(pattern, MARK);
    if (!mark || json_array_size(numbers) == 0) {
        snprintf(name, size, "%s", pattern);
        return;
    }
    number_text(numbers, text, sizeof text);
    snprintf(name, size, "%.*s%s%s", (int)(mark - pattern), pattern, text, mark + 1);
}

/* Adds a number to the list under a key; an ordered object keeps the order of first appearance. */
static int add_number(json_t *object, const char *key, long number)
{
    json_t *list = json_object_get(object, key);
    if (!list) {
        list = json_array();
        if (json_object_set_new(object, key, list) != 0)
            return -1;
    }
    return number < 0 ? 0 : json_array_append_new(list, json_integer(number));
}

/* {use: {pattern of "tensor[dim]": [numbers]}} */
static json_t *fold_tensors(const json_t *tensors)
{
    size_t i;
    json_t *row, *uses = json_object();
    json_array_foreach(tensors, i, row) {
        char label[LONGEST], pattern[LONGEST];
        const char *use = json_string_value(json_object_get(row, "use"));
        snprintf(label, sizeof label, "%s[%lld]", json_string_value(json_object_get(row, "name")),
                 (long long)json_integer_value(json_object_get(row, "dim")));
        long number = fold_name(label, pattern, sizeof pattern);
        json_t *patterns = json_object_get(uses, use);
        if (!patterns) {
            patterns = json_object();
            json_object_set_new(uses, use, patterns);
        }
        if (add_number(patterns, pattern, number) != 0) {
            json_decref(uses);
            return NULL;
        }
    }
    return uses;
}

/* Replaces each list that is just the axis's own number by true: the part that all axes of a fold share. */
static void mark_own(json_t *uses, long own)
{
    const char *use, *pattern;
    json_t *patterns, *numbers;
    json_object_foreach(uses, use, patterns) {
        void *next;
        json_object_foreach_safe(patterns, next, pattern, numbers) {
            if (own >= 0 && json_array_size(numbers) == 1 && json_integer_value(json_array_get(numbers, 0)) == own)
                json_object_set_new(patterns, pattern, json_true());
        }
    }
}

/* An axis with patterns for names; its number into *own. */
static json_t *axis_pattern(const json_t *axis, long *own)
{
    char name[LONGEST], parent[LONGEST] = "";
    *own = fold_name(json_string_value(json_object_get(axis, "name")), name, sizeof name);
    const char *parent_name = json_string_value(json_object_get(axis, "parent"));
    if (parent_name)
        fold_name(parent_name, parent, sizeof parent);
    json_t *uses = fold_tensors(json_object_get(axis, "tensors"));
    if (!uses)
        return NULL;
    mark_own(uses, *own);
    return json_pack("{s:s, s:O, s:O, s:s, s:o}", "name", name, "extent", json_object_get(axis, "extent"), "group",
                     json_object_get(axis, "group"), "parent", parent, "tensors", uses);
}

/* What is printed of a fold: names with their numbers back in. */
static json_t *unfold_axis(const json_t *pattern, const json_t *numbers)
{
    char name[LONGEST];
    const char *use, *label;
    json_t *patterns, *mine, *tensors = json_object();
    json_object_foreach(json_object_get(pattern, "tensors"), use, patterns) {
        json_t *list = json_array();
        json_object_foreach(patterns, label, mine) {
            unfold_name(label, json_is_true(mine) ? numbers : mine, name, sizeof name);
            json_array_append_new(list, json_string(name));
        }
        json_object_set_new(tensors, use, list);
    }
    size_t count = json_array_size(numbers);
    json_t *axis = json_pack("{s:O, s:O, s:o, s:I}", "extent", json_object_get(pattern, "extent"), "group",
                             json_object_get(pattern, "group"), "tensors", tensors, "count", (json_int_t)(count ? count : 1));
    unfold_name(json_string_value(json_object_get(pattern, "name")), numbers, name, sizeof name);
    json_object_set_new(axis, "name", json_string(name));
    unfold_name(json_string_value(json_object_get(pattern, "parent")), numbers, name, sizeof name);
    json_object_set_new(axis, "parent", json_string(name));
    return axis;
}

json_t *fold_axes(const json_t *axes)
{
    size_t i;
    json_t *axis, *numbers, *folded = json_array(), *groups = json_object();
    const char *key;
    json_array_foreach(axes, i, axis) {
        long own;
        json_t *pattern = axis_pattern(axis, &own);
        char *text = pattern ? json_dumps(pattern, JSON_COMPACT) : NULL;
        int failed = !text || add_number(groups, text, own) != 0;
        free(text);
        json_decref(pattern);
        if (failed) {
            json_decref(groups);
            json_decref(folded);
            return NULL;
        }
    }
    json_object_foreach(groups, key, numbers) {
        json_t *pattern = json_loads(key, 0, NULL);
        json_array_append_new(folded, unfold_axis(pattern, numbers));
        json_decref(pattern);
    }
    json_decref(groups);
    return folded;
}
