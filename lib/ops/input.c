/* SPDX-License-Identifier: Apache-2.0
 *
 * input.c: what the model is given: images (channels × height × width), token ids, or features (tokens × channels, or channels
 * alone). The outside fixes the meaning of its units, so its channels are pinned. The evaluator fills its value. Inputs after the first are tokens
 * beside the first one's (a mask, token types), and have a default for when they are not given.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

#define MAX_EXTENT ((int64_t)1 << 24)

static tfuse_status check_extents(tf_env *env, const tf_node *n, const int64_t *extent, int count, bool image)
{
    if (image ? count != 3 : count < 1 || count > 2)
        return tf_fail(env, TFUSE_EGRAPH, "input '%s': shape has %d extents; give %s", n->name, count,
                       image ? "channels,height,width" : "tokens,channels or channels");
    for (int i = 0; i < count; i++)
        if (extent[i] < 1 || extent[i] > MAX_EXTENT)
            return tf_fail(env, TFUSE_ERANGE, "input '%s': extent %lld is not in 1..%lld", n->name, (long long)extent[i],
                           (long long)MAX_EXTENT);
    return TFUSE_OK;
}

/* The channels come first in an image, last otherwise. */
static tfuse_status shape_floats(tf_env *env, tf_graph *g, tf_id node, bool image)
{
    const tf_node *n = &g->nodes[node];
    int64_t extent[TF_MAX_DIMS];
    int count = 0;
    TF_TRY(tf_node_ints(env, n, "shape", extent, TF_MAX_DIMS, &count));
    TF_TRY(check_extents(env, n, extent, count, image));
    int channels = image ? 0 : count - 1;
    char *spec = tf_arena_printf(env, &g->arena, "!channels:%lld", (long long)extent[channels]);
    if (!spec)
        return TFUSE_ENOMEM;
    const tf_binding *dims[TF_MAX_DIMS] = {NULL};
    for (int i = 0; i < count; i++)
        TF_TRY(i == channels ? tf_node_ports(env, g, node, spec, &dims[i]) : tf_binding_fixed(env, g, extent[i], &dims[i]));
    tf_id out = -1;
    return tf_node_output(env, g, node, NULL, count, extent, dims, &out);
}

static tfuse_status shape_tokens(tf_env *env, tf_graph *g, tf_id node)
{
    int64_t length = 0, otherwise = 0;
    TF_TRY(tf_node_int(env, &g->nodes[node], "length", 1, MAX_EXTENT, 0, &length));
    TF_TRY(tf_node_int(env, &g->nodes[node], "default", 0, INT32_MAX, 0, &otherwise));
    const tf_binding *dims[TF_MAX_DIMS] = {NULL};
    if (length > 0)
        TF_TRY(tf_binding_fixed(env, g, length, &dims[0]));
    tf_id out = -1;
    TF_TRY(tf_node_output(env, g, node, NULL, 1, &length, dims, &out));
    g->values[out].integer = true;
    return TFUSE_OK;
}

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const char *kind = tf_node_attr(n, "kind");
    if (!kind)
        kind = "";
    if (strcmp(kind, "tokens") == 0)
        return shape_tokens(env, g, node);
    if (strcmp(kind, "image") == 0 || strcmp(kind, "features") == 0)
        return shape_floats(env, g, node, kind[0] == 'i');
    return tf_fail(env, TFUSE_EGRAPH, "input '%s': kind '%s' is none of image, tokens, features", n->name, kind);
}

static void forward(tf_forward *f, const tf_node *n)
{
    (void)f, (void)n;
}

const tf_op tf_op_input = {
    .name = "input",
    .help = "what the model is given: kind=image shape=C,H,W; kind=tokens [length=N] [default=ID]; kind=features shape=T,C or C",
    .attrs = "kind shape length default",
    .min_inputs = 0,
    .max_inputs = 0,
    .tokenwise = true,
    .shape = shape,
    .permits = tf_permits_linear,
    .flow = tf_flow_solve, /* pinned parts carry no map, and that must be known to the readers */
    .forward = forward,
};
