/* SPDX-License-Identifier: Apache-2.0
 *
 * deberta.h: what the files of DeBERTa share.
 */
#ifndef TF_ARCH_DEBERTA_H
#define TF_ARCH_DEBERTA_H

#include "arch/encoder.h"

/* One network; in a pair of generator and discriminator, one of the two. */
typedef struct tf_deberta {
    tf_encoder e;      /* sizes, heads */
    int64_t table;     /* width of the table of words */
    int64_t span, buckets, most, kernel; /* kernel: of the convolution, 0 for none */
    bool first, c2p, p2c, shared, norm_rel;
    bool placed;       /* positions are added to the words */
    bool side_placed;  /* there is a table of positions all the same: the mask decoder's */
    bool words_beside; /* a head for masked words that is carried, not run */
    bool new_words;    /* that head, or the one that is run, under lm_predictions */
    bool delta, delta_positions; /* differences to a generator's tables are beside the sums */
    bool only_delta;   /* the words are the generator's table and a difference */
    bool shares;       /* they are the generator's table */
    const char *conv_activation;
    const char *scope, *stored; /* before logical names and stored ones: "" or "generator/" and "generator." */
    const char *drop;  /* "deberta." where the encoder is saved alone */
} tf_deberta;

/* deberta.c */
tfuse_status tf_deberta_read(tf_env *env, const tfuse_model *m, bool first, tf_deberta *c);
tfuse_status tf_deberta_nodes(tf_env *env, tf_graph *g, const tf_deberta *c);
/* What is in the model beside the encoder: tables, differences, heads; config.json says nothing of them. Needs scope and stored. */
void tf_deberta_find(const tfuse_model *m, tf_deberta *c);

/* deberta_decoder.c: the mask decoder (He et al. 2021): positions enter at the end, as queries of the last layer, which runs twice more. *from: its
 * last value. */
tfuse_status tf_deberta_decoder_nodes(const tf_block *b, const tf_deberta *c, const char *before_last, char *from, size_t size);
/* Whether there is one: a head for words under lm_predictions, and a table of positions that the input does not get. */
bool tf_deberta_decodes(const tf_deberta *c);
/* TFUSE_EUNSUPPORTED where its states do not fit: with tables of another width, or one layer. */
tfuse_status tf_deberta_check(tf_env *env, const tfuse_model *m, const tf_deberta *c);
/* The rest of a layer whose attention is in "~/attention" and whose queries came from the value `input`. owner: the scope of the layer whose tensors
 * it takes; NULL: they are its own. */
tfuse_status tf_deberta_layer_end(const tf_block *b, const tf_deberta *c, const char *owner);

/* deberta_names.c */
tfuse_status tf_deberta_names(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_deberta *c);

#endif
