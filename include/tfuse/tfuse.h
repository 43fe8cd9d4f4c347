/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse.h: everything. libtfuse fuses independently trained networks into one: it aligns their neurons by optimal transport,
 * combines the aligned weights, and writes a checkpoint that the usual frameworks load.
 *
 *     checkpoint -> tfuse_model -> tfuse_graph -> tfuse_plan (align, by a tfuse_policy) -> fused model -> checkpoint
 */
#ifndef TFUSE_TFUSE_H
#define TFUSE_TFUSE_H

#include <tfuse/array.h>
#include <tfuse/base.h>
#include <tfuse/dlpack.h>
#include <tfuse/fuse.h>
#include <tfuse/graph.h>
#include <tfuse/model.h>
#include <tfuse/moe.h>
#include <tfuse/plan.h>
#include <tfuse/policy.h>
#include <tfuse/repair.h>
#include <tfuse/run.h>
#include <tfuse/solver.h>
#include <tfuse/statistics.h>
#include <tfuse/version.h>

#endif
