/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups, and what they promise: a random member of every axis's group, applied to all tensors by their bindings and uses, leaves the
 * output as it was. Small graphs stand for the ways in which axes meet: heads interleaved with query, key and value, grouped
 * queries under rotary positions, gated hidden units, norms on a stream, a stack of experts.
 *
 * Members have a condition number of a few, so float32 outputs of order one agree to about 1e-6; the tolerance is 1e-4. A member of
 * too large a group changes the output by far more, which is tested too.
 */
#include "t_graph.h"

/* ---- groups as sets ------------------------------------------------------------------------------ */

START_TEST(test_meet)
{
    char text[128];
    static const struct {
        tf_group a, b;
        const char *want;
    } cases[] = {
        {TF_GROUP_LINEAR, TF_GROUP_PAIRS, "scaled rotation per pair"},
        {TF_GROUP_ORTHO, TF_GROUP_PAIRS, "rotation per pair"},
        {TF_GROUP_PERM_SIGN, TF_GROUP_PAIRS, "sign per pair"},
        {TF_GROUP_PERM_POS, TF_GROUP_PAIRS, "pinned"},
        {TF_GROUP_ORTHO, TF_GROUP_ORTHO_ONES, "orthogonal fixing ones"},
        {TF_GROUP_ORTHO, TF_GROUP_PERM_SCALE, "signed permutation"},
        {TF_GROUP_ORTHO_ONES, TF_GROUP_PERM_SIGN, "permutation"},
        {TF_GROUP_PERM_SCALE, TF_GROUP_PERM_POS, "permutation, positive scale"},
        {TF_GROUP_PERM_SIGN, TF_GROUP_PERM_POS, "permutation"},
        {TF_GROUP_LINEAR, TF_GROUP_PERM_SCALE, "permutation, scale"},
        {TF_GROUP_LINEAR, TF_GROUP_ORTHO, "orthogonal"},
        {TF_GROUP_LINEAR, TF_GROUP_LINEAR, "general linear"},
        {TF_GROUP_PERM, TF_GROUP_PAIRS, "pinned"},
        {TF_G_POS | TF_G_SIGN, TF_GROUP_LINEAR, "positive scale, sign"},
    };
    for (size_t i = 0; i < TF_LEN(cases); i++)
        ck_assert_str_eq(tf_group_name(cases[i].a & cases[i].b, text, sizeof text), cases[i].want);
    char tiny[8];
    ck_assert_uint_lt(strlen(tf_group_name(TF_G_POS | TF_G_SIGN, tiny, sizeof tiny)), sizeof tiny);
}
END_TEST

/* ---- random members --------------------------------------------------------------------------------- */

enum { MOST = 24 }; /* largest extent of a dimension here */

typedef struct square {
    int n;
    double x[MOST][MOST];
} square;

static square identity(int n)
{
    square s = {.n = n};
    for (int i = 0; i < n; i++)
        s.x[i][i] = 1;
    return s;
}

static square times(const square *a, const square *b)
{
    square s = {.n = a->n};
    for (int i = 0; i < a->n; i++)
        for (int j = 0; j < a->n; j++)
            for (int k = 0; k < a->n; k++)
                s.x[i][j] += a->x[i][k] * b->x[k][j];
    return s;
}

/* (M^-1)', by Gauss-Jordan with pivoting. */
static square inverse_transpose(const square *m)
{
    square a = *m, inv = identity(m->n), out = {.n = m->n};
    for (int c = 0; c < m->n; c++) {
        int pivot = c;
        for (int r = c; r < m->n; r++)
            pivot = fabs(a.x[r][c]) > fabs(a.x[pivot][c]) ? r : pivot;
        ck_assert(fabs(a.x[pivot][c]) > 1e-3);
        for (int j = 0; j < m->n; j++) {
            const double x = a.x[c][j], y = inv.x[c][j];
            a.x[c][j] = a.x[pivot][j], a.x[pivot][j] = x;
            inv.x[c][j] = inv.x[pivot][j], inv.x[pivot][j] = y;
        }
        const double d = a.x[c][c];
        for (int j = 0; j < m->n; j++)
            a.x[c][j] /= d, inv.x[c][j] /= d;
        for (int r = 0; r < m->n; r++) {
            const double f = r == c ? 0 : a.x[r][c];
            for (int j = 0; j < m->n; j++)
                a.x[r][j] -= f * a.x[c][j], inv.x[r][j] -= f * inv.x[c][j];
        }
    }
    for (int i = 0; i < m->n; i++)
        for (int j = 0; j < m->n; j++)
            out.x[i][j] = inv.x[j][i];
    return out;
}

static square rotation(int n, int i, int j, double angle)
{
    square s = identity(n);
    s.x[i][i] = s.x[j][j] = cos(angle);
    s.x[i][j] = -sin(angle);
    s.x[j][i] = sin(angle);
    return s;
}

/* Rotations in random planes; when `ones` is asked for, conjugated by the reflection that takes e_0 to the ones vector and leaving e_0. */
static square orthogonal(int n, bool ones, uint64_t *seed)
{
    square s = identity(n), h = identity(n);
    for (int i = ones; i < n; i++)
        for (int j = i + 1; j < n; j++) {
            const square r = rotation(n, i, j, 3.0 * (double)t_rand(seed));
            s = times(&r, &s);
        }
    if (!ones)
        return s;
    double v[MOST], norm = 0;
    for (int i = 0; i < n; i++) {
        v[i] = (i == 0) - 1 / sqrt(n);
        norm += v[i] * v[i];
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            h.x[i][j] -= 2 * v[i] * v[j] / norm;
    s = times(&h, &s);
    return times(&s, &h);
}

static square monomial(int n, tf_group g, uint64_t *seed)
{
    int place[MOST] = {0};
    square s = {.n = n};
    for (int i = 0; i < n; i++) {
        const int j = (int)(((double)t_rand(seed) + 1) / 2 * (i + 1));
        place[i] = place[j];
        place[j] = i;
    }
    for (int i = 0; i < n; i++) {
        const double sign = g & TF_G_SIGN && t_rand(seed) < 0 ? -1 : 1;
        s.x[place[i]][i] = sign * (g & TF_G_POS ? exp(0.7 * (double)t_rand(seed)) : 1);
    }
    return s;
}

static square member(int n, tf_group g, uint64_t *seed)
{
    square s = identity(n);
    if (g & TF_G_LINEAR) {
        s = orthogonal(n, false, seed);
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++)
                s.x[i][j] *= 1 + 0.5 * (i == 0) + 0.3 * (double)i / n;
        const square r = orthogonal(n, false, seed);
        return times(&s, &r);
    }
    if (g & (TF_G_ROT | TF_G_ROT_ONES))
        return orthogonal(n, !(g & TF_G_ROT), seed);
    for (int i = 0; g & TF_G_PAIR_ROT && i < n / 2; i++) {
        const square r = rotation(n, i, i + n / 2, 3.0 * (double)t_rand(seed));
        const double scale = g & TF_G_PAIR_SCALE ? exp(0.7 * (double)t_rand(seed)) : 1;
        s = times(&r, &s);
        for (int j = 0; j < n; j++)
            s.x[i][j] *= scale, s.x[i + n / 2][j] *= scale;
    }
    return g & TF_G_PERM ? monomial(n, g, seed) : s;
}

/* ---- moving a model ------------------------------------------------------------------------------------ */

typedef struct gauge {
    tf_env *env;
    const tf_graph *g;
    square **maps; /* a class: one, or one for each unit of its parent */
    bool *inside;  /* wherever the class is bound, its parent is bound outside it */
} gauge;

static int factor_of_class(const tf_graph *g, const tf_part *p, tf_id cls)
{
    for (int k = 0; k < p->n_factors; k++)
        if (p->port[k] >= 0 && tf_class_of(g, p->port[k]) == cls)
            return k;
    return -1;
}

static void find_inside(gauge *x)
{
    for (size_t c = 0; c < x->g->n_classes; c++)
        x->inside[c] = tf_class_parent(x->g, (tf_id)c) >= 0;
    for (size_t i = 0; i < x->g->n_params; i++)
        for (int d = 0; d < x->g->params[i].rank; d++) {
            tf_part *parts = NULL;
            int count = 0;
            t_ok(x->env, tf_binding_parts(x->env, x->g, x->g->params[i].dims[d], &parts, &count));
            for (int p = 0; p < count; p++)
                for (int k = 0; k < parts[p].n_factors; k++) {
                    const tf_id cls = tf_class_of(x->g, parts[p].port[k]);
                    if (cls >= 0 && factor_of_class(x->g, &parts[p], tf_class_parent(x->g, cls)) < 0)
                        x->inside[cls] = false;
                }
            tf_free(&x->env->mem, parts);
        }
}

static void decode(const tf_part *p, int64_t u, int64_t *at)
{
    for (int k = p->n_factors - 1; k >= 0; k--) {
        at[k] = u % p->extent[k];
        u /= p->extent[k];
    }
}

/* What the maps make of one part: unit u goes to v with this weight. */
static double weight(const gauge *x, const tf_part *p, int64_t v, int64_t u)
{
    int64_t to[TF_MAX_FACTORS], from[TF_MAX_FACTORS];
    double w = 1;
    decode(p, v, to);
    decode(p, u, from);
    for (int k = 0; k < p->n_factors; k++) {
        const tf_id cls = tf_class_of(x->g, p->port[k]);
        if (cls < 0) {
            w *= to[k] == from[k];
            continue;
        }
        const int outer = x->inside[cls] ? factor_of_class(x->g, p, tf_class_parent(x->g, cls)) : -1;
        w *= x->maps[cls][outer >= 0 ? from[outer] : 0].x[to[k]][from[k]];
    }
    return w;
}

static bool is_monomial(const square *m)
{
    for (int i = 0; i < m->n; i++) {
        int count = 0;
        for (int j = 0; j < m->n; j++)
            count += m->x[i][j] != 0;
        if (count != 1)
            return false;
    }
    return true;
}

/* The matrix that acts along one dimension: T, T^-T on its index for consumed and dual parts, the permutation for neutral ones. A neutral
 * tensor under more than scaled permutations must be constant, and stays. */
static square acting(const gauge *x, tf_id param, int dim)
{
    const tf_param *p = &x->g->params[param];
    tf_part *parts = NULL;
    int count = 0;
    square out = {.n = (int)p->shape[dim]};
    ck_assert_int_le(out.n, MOST);
    t_ok(x->env, tf_binding_parts(x->env, x->g, p->dims[dim], &parts, &count));
    for (int i = 0; i < count; i++) {
        const tf_part *part = &parts[i];
        square m = {.n = (int)part->size};
        bool inverse = false, neutral = p->use[dim] == TF_USE_NEUTRAL;
        for (int k = 0; k < part->n_factors; k++) {
            const tf_use use = tf_param_use(x->g, param, dim, part->port[k]);
            inverse = inverse || use == TF_USE_CONSUMED || use == TF_USE_DUAL;
        }
        for (int v = 0; v < m.n; v++)
            for (int u = 0; u < m.n; u++)
                m.x[v][u] = weight(x, part, v, u);
        if (neutral && !is_monomial(&m))
            m = identity(m.n);
        else if (inverse)
            m = inverse_transpose(&m);
        for (int v = 0; v < m.n; v++)
            for (int u = 0; u < m.n; u++)
                out.x[tf_part_index(part, v)][tf_part_index(part, u)] = neutral ? m.x[v][u] != 0 : m.x[v][u];
    }
    tf_free(&x->env->mem, parts);
    return out;
}

static void move_param(const gauge *x, tf_id param, float *data)
{
    const tf_param *p = &x->g->params[param];
    for (int d = 0; d < p->rank; d++) {
        const square a = acting(x, param, d);
        int64_t inner = 1;
        for (int i = d + 1; i < p->rank; i++)
            inner *= p->shape[i];
        for (int64_t at = 0; at < tf_param_count(p); at++) {
            if (at / inner % a.n != 0)
                continue;
            double column[MOST];
            for (int v = 0; v < a.n; v++) {
                column[v] = 0;
                for (int u = 0; u < a.n; u++)
                    column[v] += a.x[v][u] * (double)data[at + u * inner];
            }
            for (int v = 0; v < a.n; v++)
                data[at + v * inner] = (float)column[v];
        }
    }
}

static void move_model(tf_env *env, const tf_graph *g, const tf_group *groups, t_model *m, uint64_t seed)
{
    gauge x = {env, g, calloc(g->n_classes, sizeof *x.maps), calloc(g->n_classes, sizeof *x.inside)};
    find_inside(&x);
    for (size_t c = 0; c < g->n_classes; c++) {
        const int64_t blocks = x.inside[c] ? tf_class_extent(g, tf_class_parent(g, (tf_id)c)) : 1;
        x.maps[c] = malloc((size_t)blocks * sizeof **x.maps);
        for (int64_t b = 0; b < blocks; b++)
            x.maps[c][b] = member((int)tf_class_extent(g, (tf_id)c), groups[c], &seed);
    }
    for (size_t i = 0; i < g->n_params; i++)
        move_param(&x, (tf_id)i, m->data[i]);
    for (size_t c = 0; c < g->n_classes; c++)
        free(x.maps[c]);
    free(x.maps);
    free(x.inside);
}

/* ---- the promise ------------------------------------------------------------------------------------------- */

typedef struct expectation {
    const char *axis, *group;
} expectation;

/* Gains one and biases zero where the tensor's name starts so. */
static void plain_norm(const tf_graph *g, t_model *m, const char *prefix)
{
    for (size_t i = 0; prefix && i < g->n_params; i++)
        if (strncmp(g->params[i].name, prefix, strlen(prefix)) == 0)
            for (size_t k = 0; k < t_param_count(g, (tf_id)i); k++)
                m->data[i][k] = strstr(g->params[i].name, ".gain") ? 1 : 0;
}

/* Largest change of the output under a random member of `groups`. */
static double change(tf_env *env, const tf_graph *g, const tf_group *groups, const char *plain, uint64_t seed)
{
    enum { SAMPLES = 3 };
    t_model a = t_random_model(env, g, 11), b = t_random_model(env, g, 11);
    tf_view *va = NULL, *vb = NULL;
    plain_norm(g, &a, plain);
    plain_norm(g, &b, plain);
    move_model(env, g, groups, &b, seed);
    t_ok(env, tf_view_root(env, g, a.m, &va));
    t_ok(env, tf_view_root(env, g, b.m, &vb));
    const tf_value *in = &g->values[g->inputs[0]], *out = &g->values[g->output];
    float x[256];
    t_fill(x, (size_t)(SAMPLES * in->extent[0] * in->extent[1]), 77);
    float *ya = t_run(env, va, x, SAMPLES), *yb = t_run(env, vb, x, SAMPLES);
    const double d = t_max_diff(ya, yb, (size_t)(SAMPLES * out->extent[0] * out->extent[1]));
    free(ya);
    free(yb);
    tf_view_free(va);
    tf_view_free(vb);
    t_model_free(&a);
    t_model_free(&b);
    return d;
}

/* Asserts the groups, that members of them keep the output, and that each axis that is less than general linear needs its
 * bound. `plain`: norms whose tensors are one and zero. */
static void promise(const t_node *nodes, size_t n, const char *plain, const expectation *want, size_t n_want)
{
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, nodes, n, nodes[n - 1].name);
    t_model m = t_random_model(env, g, 11);
    plain_norm(g, &m, plain);
    tf_view *view = NULL;
    t_ok(env, tf_view_root(env, g, m.m, &view));
    for (size_t i = 0; i < n_want; i++)
        t_group_is(env, g, view, want[i].axis, want[i].group);
    tf_group *groups = calloc(g->n_classes, sizeof *groups);
    t_ok(env, tf_groups(env, g, view, groups));
    for (uint64_t seed = 1; seed <= 5; seed++) {
        const double d = change(env, g, groups, plain, seed);
        ck_assert_msg(d < 1e-4, "the output moved by %g (seed %d)", d, (int)seed);
    }
    for (size_t c = 0; c < g->n_classes; c++) {
        if (groups[c] == TF_GROUP_LINEAR || groups[c] == TF_GROUP_PINNED)
            continue;
        const tf_group right = groups[c];
        groups[c] = TF_GROUP_LINEAR;
        ck_assert_msg(change(env, g, groups, plain, 1) > 1e-2, "axis %s takes more than its group", g->class_name[c]);
        groups[c] = right;
    }
    free(groups);
    tf_view_free(view);
    t_model_free(&m);
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_interleaved_qkv)
{
    const t_node nodes[] = {
        {"input", "x", "", "kind=features shape=4,3"},
        {"linear", "embed", "x", "out=/stream:6"},
        {"layernorm", "l/norm", "embed", ""},
        {"linear", "l/qkv", "l/norm", "out=heads:2*(q=qk:3|k=qk:3|v=vo:4)"},
        {"split", "l/q", "l/qkv", "label=q"},
        {"split", "l/k", "l/qkv", "label=k"},
        {"split", "l/v", "l/qkv", "label=v"},
        {"attention", "l/core", "l/q l/k l/v", ""},
        {"linear", "l/out", "l/core", "out=/stream:6"},
        {"add", "l/add", "embed l/out", ""},
        {"layernorm", "last", "l/add", ""},
        {"linear", "head", "last", "out=!classes:3"},
    };
    const expectation learned[] = {{"stream", "permutation"}, {"l/heads", "permutation"}, {"l/qk", "general linear"},
                                   {"l/vo", "general linear"}, {"classes", "pinned"}};
    promise(nodes, TF_LEN(nodes), NULL, learned, TF_LEN(learned));
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "head");
    ck_assert_int_eq(tf_class_parent(g, t_class(g, "l/qk")), t_class(g, "l/heads"));
    ck_assert_int_eq(tf_class_parent(g, t_class(g, "l/vo")), t_class(g, "l/heads"));
    ck_assert_int_eq(tf_class_find(g, "l/qk#2"), -1);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* Norms with nothing learned leave the stream every rotation that keeps them. */
START_TEST(test_norms_between)
{
    const t_node layer[] = {
        {"input", "x", "", "kind=features shape=4,3"}, {"linear", "embed", "x", "out=/stream:6"},
        {"layernorm", "n1", "embed", ""},              {"linear", "up", "n1", "out=ffn:5"},
        {"activation", "act", "up", "kind=gelu"},      {"linear", "down", "act", "out=/stream:6"},
        {"add", "add", "embed down", ""},              {"layernorm", "n2", "add", ""},
        {"linear", "head", "n2", "out=!classes:3"},
    };
    t_node rms[TF_LEN(layer)];
    memcpy(rms, layer, sizeof rms);
    rms[2].op = rms[7].op = "rmsnorm";
    const expectation ones[] = {{"stream", "orthogonal fixing ones"}, {"ffn", "permutation"}};
    const expectation all[] = {{"stream", "orthogonal"}, {"ffn", "permutation"}};
    const expectation gains[] = {{"stream", "signed permutation"}};
    promise(layer, TF_LEN(layer), "n", ones, 2);
    promise(rms, TF_LEN(rms), "n", all, 2);
    promise(rms, TF_LEN(rms), "n1", gains, 1);
}
END_TEST

START_TEST(test_grouped_rotary)
{
    const t_node nodes[] = {
        {"input", "x", "", "kind=features shape=5,3"},
        {"linear", "embed", "x", "out=/stream:4 bias=0"},
        {"rmsnorm", "l/norm", "embed", ""},
        {"linear", "l/q", "l/norm", "out=kv:2*group:3*qk:4 bias=0"},
        {"linear", "l/k", "l/norm", "out=kv:2*qk:4 bias=0"},
        {"linear", "l/v", "l/norm", "out=kv:2*vo:3 bias=0"},
        {"attention", "l/core", "l/q l/k l/v", "rope=1 rope_theta=100 causal=1"},
        {"linear", "l/o", "l/core", "out=/stream:4 bias=0"},
        {"add", "l/add", "embed l/o", ""},
        {"rmsnorm", "last", "l/add", ""},
        {"linear", "head", "last", "out=!classes:3 bias=0"},
    };
    const expectation want[] = {{"l/kv", "permutation"}, {"l/group", "permutation"}, {"l/qk", "scaled rotation per pair"},
                                {"l/vo", "general linear"}, {"stream", "signed permutation"}};
    promise(nodes, TF_LEN(nodes), NULL, want, TF_LEN(want));
}
END_TEST

START_TEST(test_swiglu)
{
    const t_node nodes[] = {
        {"input", "x", "", "kind=features shape=4,3"},
        {"linear", "embed", "x", "out=/stream:4"},
        {"rmsnorm", "norm", "embed", ""},
        {"linear", "gate", "norm", "out=ffn:5"},
        {"activation", "act", "gate", "kind=silu"},
        {"linear", "up", "norm", "out=ffn:5"},
        {"multiply", "mul", "act up", ""},
        {"linear", "down", "mul", "out=/stream:4"},
        {"add", "add", "embed down", ""},
        {"linear", "head", "add", "out=!classes:3"},
    };
    const expectation want[] = {{"ffn", "permutation, scale"}, {"stream", "signed permutation"}};
    promise(nodes, TF_LEN(nodes), NULL, want, 2);
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "head");
    ck_assert_int_eq(g->params[tf_graph_find_param(g, "gate.weight")].use[0], TF_USE_NEUTRAL);
    ck_assert_int_eq(g->params[tf_graph_find_param(g, "up.weight")].use[0], TF_USE_PRODUCED);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

START_TEST(test_relu)
{
    const t_node nodes[] = {
        {"input", "x", "", "kind=features shape=4,3"}, {"linear", "up", "x", "out=ffn:5"},
        {"activation", "act", "up", "kind=relu"},      {"linear", "down", "act", "out=!y:3"},
    };
    const expectation want[] = {{"ffn", "permutation, positive scale"}, {"y", "pinned"}, {"channels", "pinned"}};
    promise(nodes, TF_LEN(nodes), NULL, want, 3);
}
END_TEST

/* Three experts, two of which each token uses. */
START_TEST(test_experts)
{
    const t_node nodes[] = {
        {"input", "x", "", "kind=features shape=4,3"},
        {"linear", "embed", "x", "out=/stream:4"},
        {"rmsnorm", "norm", "embed", ""},
        {"linear", "moe/router", "norm", "out=experts:3 bias=0"},
        {"linear", "moe/gate", "norm", "out=experts:3*ffn:5"},
        {"activation", "moe/act", "moe/gate", "kind=silu"},
        {"linear", "moe/up", "norm", "out=experts:3*ffn:5"},
        {"multiply", "moe/gated", "moe/act moe/up", ""},
        {"route", "moe/routed", "moe/gated moe/router", "top_k=2"},
        {"linear", "moe/down", "moe/routed", "out=/stream:4"},
        {"add", "add", "embed moe/down", ""},
        {"linear", "head", "add", "out=!classes:3"},
    };
    const expectation want[] = {{"moe/experts", "permutation"}, {"moe/ffn", "permutation, scale"}, {"stream", "signed permutation"}};
    promise(nodes, TF_LEN(nodes), NULL, want, 3);
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "head");
    ck_assert_int_eq(tf_class_parent(g, t_class(g, "moe/ffn")), t_class(g, "moe/experts"));
    ck_assert_int_eq(tf_class_of(g, (tf_id)tf_strmap_get(&g->port_index, "moe/router.experts")), t_class(g, "moe/experts"));
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* A tensor that cannot be read is an error, not a smaller group. */
START_TEST(test_unreadable)
{
    const t_node nodes[] = {{"input", "x", "", "kind=features shape=4,3"},
                            {"linear", "embed", "x", "out=/stream:4"},
                            {"layernorm", "norm", "embed", ""},
                            {"linear", "head", "norm", "out=!classes:3"}};
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "head");
    t_model m = t_random_model(env, g, 1);
    t_data(&m, g, "norm.gain")[2] = NAN;
    tf_view *view = NULL;
    t_ok(env, tf_view_root(env, g, m.m, &view));
    tf_group groups[8];
    t_fails(env, tf_groups(env, g, view, groups), TFUSE_ENUMERIC, "norm.gain");
    t_ok(env, tf_groups(env, g, NULL, groups));
    tf_view_free(view);
    t_model_free(&m);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("groups");
    T_ADD(test_meet);
    T_ADD(test_interleaved_qkv);
    T_ADD(test_norms_between);
    T_ADD(test_grouped_rotary);
    T_ADD(test_swiglu);
    T_ADD(test_relu);
    T_ADD(test_experts);
    T_ADD(test_unreadable);
    return t_suite;
}
