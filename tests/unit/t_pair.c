/* SPDX-License-Identifier: Apache-2.0 */
#include "t_pair.h"
#include <stdio.h>

void t_pair_open(t_pair *p, const char *names)
{
    memset(p, 0, sizeof *p);
    p->env = t_env(2);
    for (; names[p->n]; p->n++) {
        char path[64];
        snprintf(path, sizeof path, "tests/data/vit-fmnist-%c", names[p->n]);
        t_ok(p->env, tf_model_open(p->env, path, 0, &p->models[p->n]));
        t_ok(p->env, tf_graph_build(p->env, p->models[p->n], false, &p->graphs[p->n]));
    }
    t_ok(p->env, tf_array_open(p->env, "tests/data/parity/images_n40.npy", &p->images));
    t_ok(p->env, tf_solvers_init(p->env, &p->solvers));
    t_ok(p->env, tf_policy_new(p->env, &p->policy));
    t_ok(p->env, tf_policy_set(p->env, p->policy, "align.strategy", "otfusion"));
}

void t_pair_close(t_pair *p)
{
    tf_model_free(p->fused);
    tf_plan_free(p->plan);
    tf_policy_free(p->policy);
    tf_solvers_free(&p->solvers);
    tf_array_free(p->images);
    for (size_t k = 0; k < p->n; k++) {
        tf_graph_free(p->graphs[k]);
        tf_model_free(p->models[k]);
    }
    t_env_free(p->env);
}

void t_pair_set(t_pair *p, const char *key, const char *value)
{
    t_ok(p->env, tf_policy_set(p->env, p->policy, key, value));
}

static const tfuse_model *const *models_of(t_pair *p)
{
    return (const tfuse_model *const *)p->models;
}

tfuse_status t_pair_align(t_pair *p, bool calib)
{
    tf_plan_free(p->plan);
    p->plan = NULL;
    tf_align_job job = {.policy = p->policy, .solvers = &p->solvers, .models = models_of(p), .graphs = p->graphs, .n = p->n,
                        .calib = calib ? p->images : NULL};
    return tf_align(p->env, &job, &p->plan);
}

tfuse_status t_pair_fuse(t_pair *p)
{
    tf_model_free(p->fused);
    p->fused = NULL;
    tf_fuse_job job = {.policy = p->policy, .plan = p->plan, .models = models_of(p), .graphs = p->graphs, .n = p->n};
    return tf_fuse_to_model(p->env, &job, &p->fused);
}

double t_model_diff(tf_env *env, const tfuse_model *x, const tfuse_model *y)
{
    double worst = 0;
    ck_assert_uint_eq(x->count, y->count);
    for (size_t i = 0; i < x->count; i++) {
        const tf_tensor *tx = &x->tensors[i], *ty = tf_model_find(y, tx->name);
        ck_assert_msg(ty && ty->count == tx->count, "%s differs in shape", tx->name);
        float *a = tf_alloc_array(env, (size_t)tx->count, sizeof *a), *b = tf_alloc_array(env, (size_t)tx->count, sizeof *b);
        t_ok(env, tf_tensor_read(env, x, tx, a));
        t_ok(env, tf_tensor_read(env, y, ty, b));
        double d = t_max_diff(a, b, (size_t)tx->count);
        worst = d > worst ? d : worst;
        tf_free(&env->mem, a);
        tf_free(&env->mem, b);
    }
    return worst;
}
