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
        return print_json(json_pack("{s:o, s:o, s:I, s:f, s:b, s:o}", "cost", json_number(info.cost), "gap", json_number(info.gap),
                                    "iterations", (json_int_t)info.iterations, "seconds", info.seconds, "converged",
                                    (int)info.converged, "error", json_number(info.error)));
    printf("  problem     %lld × %lld\n  cost        %.9g\n  gap         ", (long long)info.n, (long long)info.m, info.cost);
    if (info.gap >= 0)
        printf("%.3g (certified)\n", info.gap);
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

int cmd_solve(tool *t)
{
    tfuse_array *cost = NULL, *mu = NULL, *nu = NULL;
    tfuse_solution *solution = NULL;
    int code = check_output(t, t->out);
    if (code == EXIT_DONE)
        code = open_array(t, t->args[0], &cost);
    if (code == EXIT_DONE)
        code = open_array(t, t->mu, &mu);
    if (code == EXIT_DONE)
        code = open_array(t, t->nu, &nu);
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_solve(t->ctx, t->policy, cost, mu, nu, &solution));
    if (code == EXIT_DONE && t->out)
        code = save_coupling(t, solution);
    end_progress();
    if (code == EXIT_DONE)
        code = report(t, solution);
    tfuse_solution_free(solution);
    tfuse_array_free(nu);
    tfuse_array_free(mu);
    tfuse_array_free(cost);
    return code;
}
