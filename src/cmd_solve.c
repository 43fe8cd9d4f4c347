/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_solve.c: tfuse solve: one transport problem by itself.
 */
#include "tool.h"

#include <stdio.h>

static int report(const tool *t, const tfuse_solution *solution)
{
    tfuse_solution_info info = {.struct_size = sizeof info};
    int code = library_status(t, tfuse_solution_get(solution, &info));
    if (code != EXIT_DONE)
        return code;
    if (t->json)
        return print_json(json_pack("{s:o, s:o, s:o, s:I, s:f, s:b, s:o, s:s}", "cost", json_number(info.cost), "gap",
                                    json_number(info.gap), "bound", json_number(info.cost - info.gap), "iterations",
                                    (json_int_t)info.iterations, "seconds", info.seconds, "converged", (int)info.converged, "error",
                                    json_number(info.error), "method", tfuse_solution_method(solution)));
    printf("  problem     %lld × %lld\n  method      %s\n  cost        %.9g\n  gap         ", (long long)info.n, (long long)info.m,
           tfuse_solution_method(solution), info.cost);
    if (info.gap >= 0)
        printf("%.3g (certified: no coupling costs less than %.9g)\n", info.gap, info.cost - info.gap);
    else
        printf("none: no bound from this solver\n");
    printf("  error       %.3g (marginals, L1)\n  iterations  %lld%s\n  time        %.4f s\n", info.error,
           (long long)info.iterations, info.converged ? "" : ", not converged", info.seconds);
    return EXIT_DONE;
}

static int save_coupling(const tool *t, const tfuse_solution *solution)
{
    tfuse_array *coupling = NULL;
    int code = library_status(t, tfuse_solution_coupling(t->ctx, solution, &coupling));
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_array_save(t->ctx, coupling, t->out));
    tfuse_array_free(coupling);
    return code;
}

/* The potentials, those that are asked for. */
static int save_potentials(const tool *t, const tfuse_solution *solution)
{
    tfuse_array *u = NULL, *v = NULL;
    int code = library_status(t, tfuse_solution_potentials(t->ctx, solution, t->save_u ? &u : NULL, t->save_v ? &v : NULL));
    if (code == EXIT_DONE && u)
        code = library_status(t, tfuse_array_save(t->ctx, u, t->save_u));
    if (code == EXIT_DONE && v)
        code = library_status(t, tfuse_array_save(t->ctx, v, t->save_v));
    tfuse_array_free(u);
    tfuse_array_free(v);
    return code;
}

static int save(const tool *t, const tfuse_solution *solution)
{
    int code = t->out ? save_coupling(t, solution) : EXIT_DONE;
    return code == EXIT_DONE && (t->save_u || t->save_v) ? save_potentials(t, solution) : code;
}

static int solve(const tool *t, tfuse_array *const *in)
{
    const tfuse_task task = {sizeof task, in[0], in[1], in[2], in[3], in[4]};
    tfuse_solution *solution = NULL;
    int code = library_status(t, tfuse_solve_batch(t->ctx, t->policy, &task, 1, &solution));
    if (code == EXIT_DONE)
        code = save(t, solution);
    end_progress();
    if (code == EXIT_DONE)
        code = report(t, solution);
    tfuse_solution_free(solution);
    return code;
}

int cmd_solve(tool *t)
{
    enum { INPUTS = 5, OUTPUTS = 3 };
    const char *const paths[INPUTS] = {t->args[0], t->mu, t->nu, t->u, t->v}, *const outputs[OUTPUTS] = {t->out, t->save_u, t->save_v};
    tfuse_array *in[INPUTS] = {NULL};
    int code = EXIT_DONE;
    for (int k = 0; k < OUTPUTS && code == EXIT_DONE; k++)
        code = check_output(t, outputs[k], false);
    for (int k = 0; k < INPUTS && code == EXIT_DONE; k++)
        code = open_array(t, paths[k], &in[k]);
    if (code == EXIT_DONE)
        code = solve(t, in);
    for (int k = 0; k < INPUTS; k++)
        tfuse_array_free(in[k]);
    return code;
}
