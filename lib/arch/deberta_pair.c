/* SPDX-License-Identifier: Apache-2.0
 *
 * deberta_pair.c: DeBERTaV3 as it is trained (He et al. 2023): a generator, which fills in masked words, and a discriminator, which tells the
 * replaced ones, in one checkpoint, whose config has an object for each and no model_type. The discriminator's words are the generator's table and a
 * difference (embedding_sharing "gdes"), that table ("es"), or its own ("none"). In the first two both networks have one residual stream, which the embedding
 * ties; heads and hidden units are each network's own. The discriminator is what runs.
 */
#include "arch/deberta.h"
#include <string.h>

static bool claims(const tfuse_model *m)
{
    return json_is_object(json_object_get(m->config, "generator")) && json_is_object(json_object_get(m->config, "discriminator"));
}

/* The model with one of the two configs for its own; it shares everything with the model. */
static tfuse_model with_config(const tfuse_model *m, const char *name)
{
    tfuse_model part = *m;
    part.config = json_object_get(m->config, name);
    return part;
}

static tfuse_status read_one(tf_env *env, const tfuse_model *m, const char *name, const char *scope, const char *stored, tf_encoder_head head, tf_deberta *c)
{
    const tfuse_model part = with_config(m, name);
    TF_TRY(tf_deberta_read(env, &part, false, c));
    c->scope = scope;
    c->stored = stored;
    c->e.head = head;
    c->e.tied = true;
    tf_deberta_find(m, c);
    return TFUSE_OK;
}

/* Of a config without tensors: what training writes. */
static void assume(tf_deberta *g, tf_deberta *d, bool differs)
{
    g->new_words = true;
    g->side_placed = !g->placed;
    d->only_delta = d->delta_positions = differs;
}

static tfuse_status read_sharing(tf_env *env, const tfuse_model *m, tf_deberta *g, tf_deberta *d)
{
    const char *sharing = NULL;
    char shown[64];
    TF_TRY(tf_config_text_or(env, m, "embedding_sharing", "none", &sharing));
    const bool differs = !strcmp(sharing, "gdes"), shares = !strcmp(sharing, "es");
    if (!differs && !shares && strcmp(sharing, "none"))
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: embedding_sharing '%s' is not known; gdes, es and none are", tf_model_label(m),
                       tf_printable(shown, sizeof shown, sharing));
    if (m->count == 0)
        assume(g, d, differs);
    d->shares = shares;
    if ((differs || shares) && (g->table != d->table || g->e.hidden != d->e.hidden || g->e.vocab != d->e.vocab))
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: generator and discriminator share a table of words, but not vocab_size, embedding_size and "
                       "hidden_size", tf_model_label(m));
    if (d->only_delta && !differs)
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: embedding_sharing is '%s', but the discriminator has the difference to a table only",
                       tf_model_label(m), tf_printable(shown, sizeof shown, sharing));
    return TFUSE_OK;
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *graph)
{
    tf_deberta g, d;
    TF_TRY(read_one(env, m, "generator", "generator/", "generator.", TF_HEAD_WORDS, &g));
    TF_TRY(read_one(env, m, "discriminator", "discriminator/", "discriminator.", TF_HEAD_REPLACED, &d));
    TF_TRY(read_sharing(env, m, &g, &d));
    TF_TRY(tf_deberta_check(env, m, &g));
    TF_TRY(tf_deberta_check(env, m, &d));
    TF_TRY(tf_deberta_nodes(env, graph, &g));
    TF_TRY(tf_deberta_nodes(env, graph, &d));
    TF_TRY(tf_deberta_names(env, m, graph, &g));
    TF_TRY(tf_deberta_names(env, m, graph, &d));
    return tf_graph_buffer(env, graph, "*.position_ids");
}

const tf_arch tf_arch_deberta_pair = {"deberta-v3 (generator and discriminator)", NULL, build, claims};
