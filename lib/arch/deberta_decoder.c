/* SPDX-License-Identifier: Apache-2.0
 *
 * deberta_decoder.c: a DeBERTa layer from its attention on, and the mask decoder, which runs the last layer's tensors on other queries.
 */
#include "arch/deberta.h"
#include <stdio.h>

bool tf_deberta_decodes(const tf_deberta *c)
{
    return c->side_placed && c->new_words && (c->words_beside || c->e.head == TF_HEAD_WORDS);
}

tfuse_status tf_deberta_check(tf_env *env, const tfuse_model *m, const tf_deberta *c)
{
    return !tf_deberta_decodes(c) || (c->table == c->e.hidden && c->e.layers > 1)
               ? TFUSE_OK
               : tf_fail(env, TFUSE_EUNSUPPORTED, "%s: its mask decoder (lm_predictions with a table of positions) is known for two layers and more, and "
                         "for an embedding_size that is the hidden_size", tf_model_label(m));
}

/* " weight=@layer.5/output.weight bias=@layer.5/output.bias", or nothing for tensors of one's own. */
typedef struct tie {
    char text[256];
} tie;

static tie tie_to(const char *owner, const char *node, const char *first)
{
    tie t = {""};
    if (owner)
        snprintf(t.text, sizeof t.text, " %s=@%s/%s.%s bias=@%s/%s.bias", first, owner, node, first, owner, node);
    return t;
}

static tfuse_status norm(const tf_block *b, const tf_deberta *c, const char *owner, const char *name, const char *input)
{
    char full[32];
    snprintf(full, sizeof full, "~/%s", name);
    return tf_block_addf(b, "layernorm", full, input, "eps=%s%s", tf_real(c->e.eps).text, tie_to(owner, name, "gain").text);
}

tfuse_status tf_deberta_layer_end(const tf_block *b, const tf_deberta *c, const char *owner)
{
    const long long width = c->e.hidden;
    TF_TRY(tf_block_addf(b, "linear", "~/output", "~/attention", "out=/stream:%lld%s", width, tie_to(owner, "output", "weight").text));
    TF_TRY(tf_block_addf(b, "add", "~/residual1", "^ ~/output", "residual=%s", b->from));
    TF_TRY(norm(b, c, owner, "norm1", "~/residual1"));
    TF_TRY(tf_block_addf(b, "linear", "~/fc1", "~/norm1", "out=ffn:%lld%s", (long long)c->e.ffn, tie_to(owner, "fc1", "weight").text));
    TF_TRY(tf_block_addf(b, "activation", "~/activation", "~/fc1", "kind=%s", c->e.activation));
    TF_TRY(tf_block_addf(b, "linear", "~/fc2", "~/activation", "out=/stream:%lld%s", width, tie_to(owner, "fc2", "weight").text));
    TF_TRY(tf_block_addf(b, "add", "~/residual2", "~/norm1 ~/fc2", "residual=%s/norm1", b->scope));
    return norm(b, c, owner, "norm2", "~/residual2");
}

/* Keys, values and relative positions are those that the last layer has already: it read the same states. */
static tfuse_status pass(const tf_block *b, const tf_deberta *c, const char *owner)
{
    char inputs[512], buckets[80] = "";
    const long long heads = c->e.heads, inner = c->e.hidden / c->e.heads;
    if (c->buckets > 0)
        snprintf(buckets, sizeof buckets, " buckets=%lld max_distance=%lld", (long long)c->buckets, (long long)c->most);
    snprintf(inputs, sizeof inputs, "~/query %s/key %s/value %s/position_key %s/position_query attention_mask", owner, owner, owner, owner);
    TF_TRY(tf_block_addf(b, "linear", "~/query", "^", "out=heads:%lld*qk:%lld%s", heads, inner, tie_to(owner, "query", "weight").text));
    TF_TRY(tf_block_addf(b, "disentangled", "~/attention", inputs, "span=%lld%s c2p=%d p2c=%d", (long long)c->span, buckets, c->c2p, c->p2c));
    return tf_deberta_layer_end(b, c, owner);
}

tfuse_status tf_deberta_decoder_nodes(const tf_block *b, const tf_deberta *c, const char *before_last, char *from, size_t size)
{
    char owner[64], scope[64], start[64], sum[160];
    snprintf(owner, sizeof owner, "%slayer.%lld", c->scope, (long long)c->e.layers - 1);
    snprintf(start, sizeof start, "%sdecoder", c->scope);
    snprintf(sum, sizeof sum, "%s ~embeddings/positions", before_last);
    TF_TRY(tf_block_addf(b, "add", start, sum, "residual=%s", before_last));
    snprintf(from, size, "%s", start);
    for (int i = 0; i < 2; i++) {
        snprintf(scope, sizeof scope, "%sdecoder.%d", c->scope, i);
        TF_TRY(pass(&(tf_block){b->env, b->g, scope, from}, c, owner));
        snprintf(from, size, "%s/norm2", scope);
    }
    return TFUSE_OK;
}
