/* SPDX-License-Identifier: Apache-2.0
 *
 * encoder.h: what the encoders of BERT's kind share (Devlin et al. 2019): learned positions, a norm after each sum, and the heads that Hugging
 * Face puts on them. An architecture's file says how its config and its tensors are named.
 */
#ifndef TF_ARCH_ENCODER_H
#define TF_ARCH_ENCODER_H

#include "arch/arch.h"

typedef enum tf_encoder_head {
    TF_HEAD_NONE,     /* ...Model: the last states */
    TF_HEAD_WORDS,    /* ...ForMaskedLM */
    TF_HEAD_SEQUENCE, /* ...ForSequenceClassification: of the first token */
    TF_HEAD_TOKENS,   /* ...ForTokenClassification, ...ForQuestionAnswering */
    TF_HEAD_REPLACED, /* a number a token: whether it was replaced (Clark et al. 2020) */
} tf_encoder_head;

typedef struct tf_encoder {
    int64_t hidden, layers, heads, ffn, vocab, positions, types, pad; /* types 0: none; pad -1: positions do not depend on padding */
    double eps;
    const char *activation;
    bool tied;
    tf_encoder_head head;
    int64_t classes, words_width; /* words_width: of the table of words, where it is not hidden; 0 */
    const char *head_activation; /* of what stands between the encoder and its classes */
    const char *between;         /* TF_HEAD_SEQUENCE: the node of that linear; NULL: none */
    bool pooler;                 /* a linear and tanh on the first token, whoever reads it */
    bool next_sentence;          /* two classes on the pooler, which nobody reads */
    bool detector_norm;          /* TF_HEAD_REPLACED: a norm of each token plus the first one stands before */
} tf_encoder;

/* The head by config.json's architectures, and the number of its classes; without any, the encoder alone. prefix: "Bert". */
tfuse_status tf_encoder_read_head(tf_env *env, const tfuse_model *m, const char *prefix, tf_encoder *e);
/* Keys under BERT's names. */
tfuse_status tf_encoder_read(tf_env *env, const tfuse_model *m, tf_encoder *e);
/* What stands on the encoder's last value, b->from. b->scope is "", or with a slash at its end where a graph holds several networks. */
tfuse_status tf_encoder_head_nodes(const tf_block *b, const tf_encoder *e);
/* TF_HEAD_WORDS without making it the output. */
tfuse_status tf_encoder_word_nodes(const tf_block *b, const tf_encoder *e);
tfuse_status tf_encoder_nodes(tf_env *env, tf_graph *g, const tf_encoder *e);

/* BERT's tensor names with "bert." replaced by `prefix`, and the names of the first checkpoints (gamma, beta) where the model has them: the
 * embeddings and the layers. */
tfuse_status tf_encoder_names(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_encoder *e, const char *prefix);
/* The table of words; a tied head of words may have stored it again. */
tfuse_status tf_encoder_name_table(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_encoder *e, const char *stored, const char *again);
/* The linear that puts out classes, which is named otherwise where it answers questions. */
tfuse_status tf_encoder_name_classes(tf_env *env, const tfuse_model *m, tf_graph *g);

#endif
