/* SPDX-License-Identifier: Apache-2.0
 *
 * t_scene.h: two random models of one small graph, calibration inputs, and what aligning and repairing them made.
 */
#ifndef T_SCENE_H
#define T_SCENE_H

#include "align/align.h"
#include "fuse/fuse.h"
#include "t_nets.h"

enum { SAMPLES = 64 };

typedef struct scene {
    tf_env *env;
    tf_graph *g;
    t_model a, b;
    tfuse_policy *policy;
    tf_solver_registry solvers;
    tfuse_array *calib;
    tfuse_plan *plan;
    float **fitted;
    json_t *report;
    const tfuse_model *models[2];
    tf_graph *graphs[2];
} scene;

static inline void scene_open(scene *s, const t_node *nodes, size_t count, int threads, int64_t samples)
{
    *s = (scene){.env = t_env(threads)};
    s->g = sized_graph(s->env, nodes, count, &small);
    s->a = t_random_model(s->env, s->g, 3);
    s->b = t_random_model(s->env, s->g, 1003);
    t_ok(s->env, tf_solvers_init(s->env, &s->solvers));
    t_ok(s->env, tf_policy_new(s->env, &s->policy));
    t_ok(s->env, tf_array_new(s->env, TFUSE_F32, 3, (const int64_t[]){samples, TOKENS, FEATURES}, &s->calib));
    t_fill((float *)s->calib->data, (size_t)(samples * TOKENS * FEATURES), 21);
    s->models[0] = s->a.m;
    s->models[1] = s->b.m;
    s->graphs[0] = s->graphs[1] = s->g;
}

static inline void forget(scene *s)
{
    tf_fitted_free(s->env, s->g, s->fitted);
    json_decref(s->report);
    tf_plan_free(s->plan);
    s->fitted = NULL;
    s->report = NULL;
    s->plan = NULL;
}

static inline void scene_close(scene *s)
{
    forget(s);
    tf_array_free(s->calib);
    tf_policy_free(s->policy);
    tf_solvers_free(&s->solvers);
    t_model_free(&s->a);
    t_model_free(&s->b);
    tf_graph_free(s->g);
    t_env_free(s->env);
}

static inline void set(scene *s, const char *key, const char *value)
{
    t_ok(s->env, tf_policy_set(s->env, s->policy, key, value));
}

static inline tf_fuse_job job_of(const scene *s)
{
    return (tf_fuse_job){.policy = s->policy, .plan = s->plan, .models = s->models, .graphs = s->graphs, .n = 2, .fitted = s->fitted};
}

/* The plan of both models; what was there is forgotten. */
static inline void scene_align(scene *s, const char *strategy, const tfuse_array *calib)
{
    forget(s);
    set(s, "align.strategy", strategy);
    const tf_align_job job = {.policy = s->policy, .solvers = &s->solvers, .models = s->models, .graphs = s->graphs, .n = 2, .calib = calib};
    t_ok(s->env, tf_align(s->env, &job, &s->plan));
}

#endif
