/* SPDX-License-Identifier: Apache-2.0
 *
 * omp.h: stands in where a compiler has none. The <blis.h> of an OpenMP build of BLIS includes <omp.h> but
 * uses nothing of it in what a caller sees. Searched last (-idirafter), so that a real one is found first.
 */
