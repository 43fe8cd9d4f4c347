/* SPDX-License-Identifier: Apache-2.0
 *
 * registry.c: the table of solvers. Built-in solvers and those of the caller are rows of one table and differ only in which
 * of two functions they carry.
 */
#include "ot/internal.h"

#include <stdio.h>
#include <string.h>

enum { NAME_MAX_LENGTH = 64 };

static const struct {
    const char *name;
    tf_native_solver solve;
    bool checks;
} built_in[] = {
    {"exact", tf_exact, true},
    {"sinkhorn", tf_sinkhorn_log, false},
    {"sinkhorn-scaling", tf_sinkhorn_scaling, false},
};

static bool name_is_valid(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    size_t length = strnlen(name, NAME_MAX_LENGTH + 1);
    return length > 0 && length <= NAME_MAX_LENGTH && strspn(name, allowed) == length;
}

static tfuse_status add_entry(tf_env *env, tf_solver_registry *reg, const char *name, struct tf_solver_entry entry)
{
    void *entries = reg->entries;
    bool grown = tf_grow(env, &entries, &reg->cap, reg->count + 1, sizeof entry);
    reg->entries = entries;
    entry.name = grown ? tf_strdup(env, name) : NULL;
    if (!entry.name)
        return TFUSE_ENOMEM;
    reg->entries[reg->count++] = entry;
    return TFUSE_OK;
}

tfuse_status tf_solvers_init(tf_env *env, tf_solver_registry *reg)
{
    memset(reg, 0, sizeof *reg);
    reg->mem = env->mem;
    for (size_t i = 0; i < TF_LEN(built_in); i++) {
        struct tf_solver_entry entry = {.native = built_in[i].solve, .checks = built_in[i].checks};
        tfuse_status status = add_entry(env, reg, built_in[i].name, entry);
        if (status != TFUSE_OK) {
            tf_solvers_free(reg);
            return status;
        }
    }
    return TFUSE_OK;
}

void tf_solvers_free(tf_solver_registry *reg)
{
    for (size_t i = 0; i < reg->count; i++)
        tf_free(&reg->mem, reg->entries[i].name);
    tf_free(&reg->mem, reg->entries);
    memset(reg, 0, sizeof *reg);
}

/* A table of another version: shorter ones lack functions; longer ones are taken when all that we do not know is zero. */
static bool table_is_known(const tfuse_solver_ops *ops)
{
    if (ops->struct_size < sizeof *ops)
        return false;
    const unsigned char *bytes = (const unsigned char *)ops;
    for (size_t i = sizeof *ops; i < ops->struct_size; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

tfuse_status tf_solvers_add(tf_env *env, tf_solver_registry *reg, const tfuse_solver_ops *ops, void *user)
{
    if (!ops)
        return tf_fail(env, TFUSE_EINVAL, "solver: the table of functions is NULL");
    if (!table_is_known(ops))
        return tf_fail(env, TFUSE_EVERSION,
                       "solver: struct_size is %zu where this library knows %zu; set it to sizeof(tfuse_solver_ops)",
                       ops->struct_size, sizeof *ops);
    if (!ops->name || !name_is_valid(ops->name))
        return tf_fail(env, TFUSE_EINVAL, "solver: a name has 1 to %d letters, digits, '-' and '_'", NAME_MAX_LENGTH);
    if (!ops->solve)
        return tf_fail(env, TFUSE_EINVAL, "solver '%s': solve is NULL", ops->name);
    if (tf_solvers_has(reg, ops->name))
        return tf_fail(env, TFUSE_EINVAL, "solver '%s': the name is taken", ops->name);
    struct tf_solver_entry entry = {.ops = *ops, .user = user};
    entry.ops.name = NULL; /* borrowed: only the copy in entry.name lasts */
    return add_entry(env, reg, ops->name, entry);
}

const struct tf_solver_entry *tf_solvers_find(const tf_solver_registry *reg, const char *name)
{
    for (size_t i = 0; i < reg->count; i++)
        if (strcmp(reg->entries[i].name, name) == 0)
            return &reg->entries[i];
    return NULL;
}

bool tf_solvers_has(const tf_solver_registry *reg, const char *name)
{
    return tf_solvers_find(reg, name) != NULL;
}

tfuse_status tf_solvers_names(tf_env *env, const tf_solver_registry *reg, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < reg->count; i++) {
        int wrote = snprintf(out + used, size - used, "%s%s", i ? ", " : "", reg->entries[i].name);
        if (wrote < 0 || (size_t)wrote >= size - used)
            return tf_fail(env, TFUSE_ERANGE, "solver names do not fit into %zu bytes", size);
        used += (size_t)wrote;
    }
    return TFUSE_OK;
}
