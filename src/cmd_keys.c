/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_keys.c: tfuse keys: the table of policy keys.
 */
#include "tool.h"

#include <stdio.h>

static const char *type_name(int32_t type)
{
    switch (type) {
    case TFUSE_KEY_CHOICE:
        return "choice";
    case TFUSE_KEY_INT:
        return "integer";
    case TFUSE_KEY_REAL:
        return "number";
    case TFUSE_KEY_FLAG:
        return "flag";
    case TFUSE_KEY_NAME:
        return "name";
    case TFUSE_KEY_REALS:
        return "numbers";
    case TFUSE_KEY_SET:
        return "set";
    default:
        return "?";
    }
}

static bool bounded(const tfuse_key_info *key)
{
    return key->type == TFUSE_KEY_INT || key->type == TFUSE_KEY_REAL;
}

static json_t *key_object(const tfuse_key_info *key)
{
    json_t *object = json_pack("{s:s, s:s, s:s?, s:s, s:s}", "name", key->name, "type", type_name(key->type), "values",
                               key->values, "default", key->default_value, "help", key->help);
    if (bounded(key)) {
        json_object_set_new(object, "min", json_number(key->min));
        json_object_set_new(object, "max", json_number(key->max));
    }
    return object;
}

static void print_bounds(const tfuse_key_info *key)
{
    printf("%s, %.12g ", type_name(key->type), key->min);
    if (key->type == TFUSE_KEY_INT && key->max >= 1e15)
        printf("or more\n");
    else
        printf("to %.12g\n", key->max);
}

static void print_key(const tfuse_key_info *key)
{
    printf("%s = %s\n    %s\n    ", key->name, key->default_value, key->help);
    if (key->values)
        printf("%s\n", key->values);
    else if (bounded(key))
        print_bounds(key);
    else
        printf("%s\n", key->type == TFUSE_KEY_FLAG ? "0 | 1" : type_name(key->type));
}

int cmd_keys(tool *t)
{
    json_t *keys = json_array();
    for (size_t i = 0; i < tfuse_key_count(); i++) {
        tfuse_key_info key = {.struct_size = sizeof key};
        if (tfuse_key_get(i, &key) != TFUSE_OK)
            continue;
        if (t->json)
            json_array_append_new(keys, key_object(&key));
        else
            print_key(&key);
    }
    if (t->json)
        return print_json(json_pack("{s:o}", "keys", keys));
    json_decref(keys);
    return EXIT_DONE;
}
