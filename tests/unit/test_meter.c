/* SPDX-License-Identifier: Apache-2.0
 *
 * The meter: what is live, the peak, and that blocks may outlive the owner; the tally.
 */
#include "base/meter.h"
#include "ot/ot.h"
#include "t.h"

START_TEST(test_live_and_peak)
{
    tf_env *env = t_env(1); /* fails the test when the meter leaks */
    tf_meter *m = tf_meter_new(&env->mem);
    ck_assert_ptr_nonnull(m);
    tf_mem mem = tf_meter_mem(m);
    void *a = tf_mem_alloc(&mem, 1000), *b = tf_mem_alloc(&mem, 5000);
    const uint64_t both = tf_meter_live(m);
    ck_assert_uint_ge(both, 6000);
    ck_assert_uint_le(both, 6000 + 256); /* headers */
    tf_free(&mem, b);
    ck_assert_uint_lt(tf_meter_live(m), 1200);
    ck_assert_uint_eq(tf_meter_peak(m), both);
    tf_meter_restart(m);
    ck_assert_uint_eq(tf_meter_peak(m), tf_meter_live(m));
    tf_meter_release(m);
    tf_free(&mem, a); /* the last one takes the meter along */
    t_env_free(env);
}
END_TEST

START_TEST(test_tally)
{
    tf_tally t = {0, 0};
    tf_tally_take(&t, 100);
    tf_tally_spike(&t, 50);
    tf_tally_drop(&t, 60);
    ck_assert_uint_eq(t.live, 40);
    ck_assert_uint_eq(t.peak, 150);
    ck_assert_uint_eq(tf_area(3, 5, 4), 60);
    ck_assert_uint_eq(tf_area(INT64_MAX, INT64_MAX, 8), TF_TALLY_MOST);
    ck_assert_uint_eq(tf_area(0, 5, 4), 0);
}
END_TEST

/* What tf_ot_bytes_of says is what a solve takes, within a tenth; small arrays are left out, so problems are not tiny. */
static void check_solver(const char *name, int64_t n, int64_t m)
{
    tf_env *env = t_env(1);
    tf_mem outer = env->mem;
    env->meter = tf_meter_new(&outer);
    env->mem = tf_meter_mem(env->meter);
    tf_solver_registry solvers;
    t_ok(env, tf_solvers_init(env, &solvers));
    float *cost = tf_alloc_array(env, (size_t)(n * m), sizeof *cost);
    t_fill(cost, (size_t)(n * m), 7);
    for (int64_t e = 0; e < n * m; e++)
        cost[e] += 1;
    const uint64_t before = tf_meter_live(env->meter);
    tf_meter_restart(env->meter);
    tf_solution s;
    tf_ot_options options = {.reg = 0.5};
    t_ok(env, tf_ot_solve(env, &solvers, name, &options, n, m, cost, NULL, NULL, &s));
    const double took = (double)(tf_meter_peak(env->meter) - before);
    const tf_ot_bytes said = tf_ot_bytes_of(name, n, m);
    const double most = (double)(n * m) * 4; /* where no array is as large as the cost, that is the scale */
    ck_assert_msg(took - (double)(said.work + said.kept) < 0.1 * (took > most ? took : most) &&
                      (double)(said.work + said.kept) - took < 0.1 * (took > most ? took : most),
                  "%s %lld x %lld: %.0f bytes, estimated %.0f", name, (long long)n, (long long)m, took,
                  (double)(said.work + said.kept));
    tf_solution_free(&s);
    tf_free(&env->mem, cost);
    tf_solvers_free(&solvers);
    tf_meter_release(env->meter);
    env->meter = NULL;
    env->mem = outer;
    t_env_free(env);
}

START_TEST(test_solvers)
{
    check_solver("exact", 300, 300);
    check_solver("exact", 300, 200);
    check_solver("sinkhorn", 300, 300);
    check_solver("sinkhorn", 400, 250);
    check_solver("sinkhorn-scaling", 300, 300);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("meter");
    T_ADD(test_live_and_peak);
    T_ADD(test_tally);
    T_ADD(test_solvers);
    return t_suite;
}
