/* SPDX-License-Identifier: Apache-2.0
 *
 * layouts.h: the forms that a dense model split into experts is written in.
 */
#ifndef TF_ARCH_LAYOUTS_H
#define TF_ARCH_LAYOUTS_H

#include "arch/arch.h"
#include "arch/ffn.h"
#include "io/writer_files.h"

/* The config that the split model has; TFUSE_EKEY for a layout that is not known. Release with json_decref. */
tfuse_status tf_layout_config(tf_env *env, const char *layout, const tfuse_model *m, const tf_emoe *how, json_t **out);
/* The graph of such a model. It is the layout's own: whether it computes what the dense one does is for the caller to see. */
tfuse_status tf_layout_graph(tf_env *env, const char *layout, const tfuse_model *m, const tf_graph *dense, const tf_emoe *how, tf_graph **out);
/* The dense model's config, from that of one split as `emoe`. */
tfuse_status tf_layout_dense_config(tf_env *env, const tfuse_model *m, json_t **out);

#endif
