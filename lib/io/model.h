/* SPDX-License-Identifier: Apache-2.0
 *
 * model.h: named tensors and a config. Knows nothing of heads.
 */
#ifndef TF_IO_MODEL_H
#define TF_IO_MODEL_H

#include "base/env.h"
#include "base/file.h"
#include "base/blob.h"
#include "base/strmap.h"
#include <jansson.h>
#include <stdatomic.h>
#include <tfuse/model.h>

typedef struct tf_tensor {
    const char *name;  /* in the model's arena */
    tfuse_dtype dtype;
    int rank;
    int64_t shape[TFUSE_MAX_RANK];
    const uint8_t *data; /* any alignment */
    const int64_t *strides; /* in elements, of a borrowed tensor that is not row-major; in the model's arena. NULL: row-major */
    uint64_t size, count;
    int file;          /* index of the file it is in, -1 when borrowed */
} tf_tensor;

/* What a borrowed tensor is given back to. */
typedef struct tf_lender {
    tfuse_release_fn release;
    void *owner;
    struct tf_lender *next;
} tf_lender;

/* Fingerprints of a model whose tensors are all in files, as of the files' states (fingerprint.c). A sealed model is shared between threads: one of
 * them takes `filled` from 0 to 1, writes, and sets it to 2; whoever sees 2 may read. */
typedef struct tf_fingerprints {
    atomic_int filled;
    uint64_t state;
    char header[17], weights[17];
} tf_fingerprints;

struct tfuse_model {
    uint32_t kind; /* TF_KIND_MODEL */
    tf_mem mem;
    tf_arena arena;
    char *path;        /* as given; "" when built in memory */
    char *dir;         /* where config.json lies; NULL when built in memory */
    json_t *config;    /* NULL when there is none */
    char *config_text; /* as it was in the file */
    tf_tensor *tensors; /* sorted by name once sealed */
    size_t count, cap;
    tf_strmap index;
    tf_mapping *files;
    char **file_names;
    size_t n_files;
    bool sealed;
    tfuse_release_fn release;
    void *owner;
    tf_lender *lenders; /* of single tensors, in the arena */
    tf_fingerprints *fingerprints; /* in the arena */
};

tfuse_status tf_model_new(tf_env *env, const char *config, tfuse_model **out);
tfuse_status tf_model_add(tf_env *env, tfuse_model *m, const tf_tensor *tensor); /* name copied; duplicates refused */
/* The same for memory of the caller's, with strides in elements (of any sign; NULL: row-major) and a release of its own (NULL: the model's).
 * On failure release is not called. */
tfuse_status tf_model_lend(tf_env *env, tfuse_model *m, const tf_tensor *tensor, const int64_t *strides, tfuse_release_fn release, void *owner);
tfuse_status tf_model_seal(tf_env *env, tfuse_model *m);                         /* sorts by name */
const tf_tensor *tf_model_find(const tfuse_model *m, const char *name);          /* NULL if absent */
void tf_model_free(tfuse_model *m);
/* For readers of checkpoints: room for n mapped files; then each is mapped, parsed, and its tensors added. */
tfuse_status tf_model_reserve_files(tf_env *env, tfuse_model *m, size_t n);
tfuse_status tf_model_map(tf_env *env, tfuse_model *m, const char *path);
/* The file that a tensor is in, as a path, or tf_model_label. */
const char *tf_tensor_file(const tfuse_model *m, const tf_tensor *t);
/* checkpoint.c */
tfuse_status tf_model_open(tf_env *env, const char *path, uint32_t flags, tfuse_model **out);

/* Bytes from..from+size-1 of a tensor. One in a file is read, not looked at through the mapping, which a file cut short would turn into a
 * SIGBUS: TFUSE_EIO then. `data` serves for what is known to lie in memory (file < 0), and for where in the file it is. */
tfuse_status tf_tensor_bytes(tf_env *env, const tfuse_model *m, const tf_tensor *t, uint64_t from, uint64_t size, void *dst);
/* Reads a tensor as float32 into dst (count elements). NaN or infinity is TFUSE_ENUMERIC naming tensor and file. */
tfuse_status tf_tensor_read(tf_env *env, const tfuse_model *m, const tf_tensor *t, float *dst);
/* Elements first..first+count-1 of it, in row-major order. */
tfuse_status tf_tensor_read_part(tf_env *env, const tfuse_model *m, const tf_tensor *t, uint64_t first, uint64_t count, float *dst);

/* ---- strided.c: memory that is not row-major ---- */
/* *span: bytes before and after the first element that strides reach; TFUSE_ESHAPE when they do not fit an address space. */
typedef struct tf_span {
    size_t before, after;
} tf_span;
tfuse_status tf_strides_span(tf_env *env, size_t width, int rank, const int64_t *shape, const int64_t *strides, tf_span *span);
bool tf_strides_are_row_major(int rank, const int64_t *shape, const int64_t *strides);
/* Elements first..first+count-1 in row-major order, of `width` bytes each; data is that of the element whose indices are all zero. */
void tf_gather(size_t width, int rank, const int64_t *shape, const int64_t *strides, const void *data, uint64_t first, uint64_t count, void *dst);

/* What a person calls the model in an error: its path, or "(in memory)". */
const char *tf_model_label(const tfuse_model *m);
/* 64-bit fingerprints as 16 hex digits: of names, types and shapes; and of the bytes of all tensors. They tell versions of a model apart; they
 * are no defence against forgery. Reads every byte, so it reports progress ("hashing") and can be cancelled; not again while the files that the model was
 * opened from are unchanged by size and time. */
tfuse_status tf_model_hash(tf_env *env, const tfuse_model *m, char header[17], char weights[17]);

/* ---- config.json, typed (config.c). A missing or mistyped key is TFUSE_EFORMAT naming file and key. "a.b" is key b of
 * the object a. ---- */
tfuse_status tf_config_int(tf_env *env, const tfuse_model *m, const char *key, int64_t min, int64_t max, int64_t *out);
/* With a fallback when the key is absent or null. */
tfuse_status tf_config_int_or(tf_env *env, const tfuse_model *m, const char *key, int64_t min, int64_t max,
                              int64_t fallback, int64_t *out);
tfuse_status tf_config_real_or(tf_env *env, const tfuse_model *m, const char *key, double fallback, double *out);
tfuse_status tf_config_bool_or(tf_env *env, const tfuse_model *m, const char *key, bool fallback, bool *out);
bool tf_config_has(const tfuse_model *m, const char *key); /* and it is not null */
/* A list of numbers, at most `cap`; *count 0 when absent. */
tfuse_status tf_config_reals(tf_env *env, const tfuse_model *m, const char *key, double *out, size_t cap, size_t *count);
/* Item `index` of a list of strings; NULL when there is none. */
const char *tf_config_item(const tfuse_model *m, const char *key, int64_t index);
/* Borrowed from the config. fallback may be NULL: then the key is required. */
tfuse_status tf_config_text_or(tf_env *env, const tfuse_model *m, const char *key, const char *fallback, const char **out);

/* ---- JSON (json.c): one object, no key twice. `label` names the source in errors. Release with json_decref. ---- */
tfuse_status tf_json_object(tf_env *env, const char *label, const char *text, size_t size, json_t **out);
tfuse_status tf_json_file(tf_env *env, const char *path, uint64_t limit, json_t **out);
/* The list with an item more, which is taken over; NULL when either is or there is no memory, and then both are released. */
json_t *tf_json_append(json_t *list, json_t *item);
/* JSON as text, added to `out`; `flags` are jansson's. NULL, which an object that could not be made is, is TFUSE_ENOMEM. */
tfuse_status tf_json_text(tf_env *env, const json_t *json, size_t flags, tf_buf *out);
/* The model's config from its text, which is copied. */
tfuse_status tf_model_set_config(tf_env *env, tfuse_model *m, const char *label, const char *text, size_t size);

/* ---- shard_index.c ---- */
/* Opens the shards that an index lists, which lie in `dir`: every mapped tensor in its file, and no other. */
tfuse_status tf_shards_open(tf_env *env, const char *dir, const char *index_path, tfuse_model *m);

/* ---- safetensors.c ---- */
/* Largest header that is read or written, as in the reference implementation. */
#define TF_SAFETENSORS_HEADER_MAX 100000000u
/* Parses and checks the header of a file and adds its tensors to the model, with file index `file`; they point into src->data. */
tfuse_status tf_safetensors_parse(tf_env *env, const char *path, const tf_blob *src, int file, tfuse_model *m);

/* ---- writer.c: a checkpoint directory written tensor by tensor ---- */
typedef struct tf_writer tf_writer;
enum { TF_WRITER_BYTES = 1 << 20 }; /* what one holds beside names, to convert in */
typedef struct tf_write_options {
    bool force;
    uint64_t shard_size;   /* bytes of data in one shard; 0: one file */
    const json_t *metadata; /* string → string, borrowed; "format": "pt" is added */
    const char *config_text; /* what config.json will hold */
    const char *notes_name, *notes_text; /* one more small file, or NULL */
    const char *copy_from;  /* directory whose other files a framework needs (preprocessor, tokenizer, generation config...) or NULL */
} tf_write_options;
/* TFUSE_EEXIST when a model lies in what is to be written: weights that are being read are not replaced, force or not. A NULL model is passed over. */
tfuse_status tf_check_apart(tf_env *env, const tfuse_model *const *models, size_t n, const char *out_dir);
/* Lays the files out from names, types and shapes (sorted by name), writes headers. */
tfuse_status tf_writer_open(tf_env *env, const char *out_dir, const tf_write_options *options,
                            const tf_tensor *tensors, size_t count, tf_writer **out);
/* Writes tensor `index` (of the array given above): count float32 values, converted to its dtype; or raw bytes. In any order, once each. */
tfuse_status tf_writer_put(tf_env *env, tf_writer *w, size_t index, const float *values);
/* The next `count` elements of a tensor, in order from the first; the last part completes it. */
tfuse_status tf_writer_put_part(tf_env *env, tf_writer *w, size_t index, const float *values, size_t count);
tfuse_status tf_writer_put_raw(tf_env *env, tf_writer *w, size_t index, const void *bytes);
/* Checks that all were written; makes OUT appear. Frees w whether or not it succeeds. */
tfuse_status tf_writer_commit(tf_env *env, tf_writer *w);
void tf_writer_abort(tf_env *env, tf_writer *w); /* NULL allowed */

#endif
