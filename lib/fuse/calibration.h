/* SPDX-License-Identifier: Apache-2.0
 *
 * calibration.h: calibration inputs that nobody gave: sequences that causal language models draw from themselves.
 */
#ifndef TF_FUSE_CALIBRATION_H
#define TF_FUSE_CALIBRATION_H

#include "fuse/fuse.h"

typedef struct tf_calibration {
    tfuse_array *array;   /* ids, sequences × tokens, int32; NULL: nothing is generated */
    tfuse_policy *policy; /* as given, but calib.samples takes all of them unless it was set, and what was decided stands there */
} tf_calibration;

/* Whether inputs are to be generated for a job without any, and room for them, zeros: what needs sizes alone can go on from there. plan: that which
 * is applied; NULL: the models are aligned. By the key calib.generate, N sequences, an error where the models cannot (TFUSE_EUNSUPPORTED). Where it
 * was not set, the key's default under `matching` and repair, if all models can and 2 × parameters × tokens is at most TF_GENERATE_FLOPS;
 * above that a warning says what is missed, if `warn`. */
#define TF_GENERATE_FLOPS 3e11
tfuse_status tf_calibration_plan(tf_env *env, const tf_align_job *job, const tfuse_plan *plan, bool warn, tf_calibration *out);
/* All of it for a run: decides, checks what can be checked without running, memory too, and draws. The job gets inputs and policy, which live
 * as long as `out`. tf_fuse_check_memory is called in any case. */
tfuse_status tf_calibrate(tf_env *env, tf_align_job *job, const tfuse_plan *plan, bool warn, tf_calibration *out);
/* Draws them, in turn from each model. */
tfuse_status tf_calibration_fill(tf_env *env, const tf_align_job *job, const tf_calibration *c);
/* What is held at most while they are drawn, all that is live now among it. */
tfuse_status tf_calibration_peak(tf_env *env, const tf_align_job *job, const tf_calibration *c, uint64_t *peak);
void tf_calibration_free(tf_calibration *c);

#endif
