/* SPDX-License-Identifier: Apache-2.0
 *
 * container.c: the plan file as a container of named chunks, each compressed and checksummed; docs/plan-format.md describes it byte by
 * byte. Chunks are compressed straight into the file, so writing takes no memory for them; the file appears by one rename. Of a
 * file that is read every field is checked, and nothing is allocated for a chunk before its sizes have been.
 */
#include "io/io.h"
#include <string.h>
#include <zlib.h>

enum { VERSION = 1, FILE_HEADER = 12, CHUNK_HEADER = 32, STEP = 1 << 18, LEVEL = 6 };
static const char magic[] = "TFUSEPLN";
static const char end_name[] = "END!";

/* ---- writing ---------------------------------------------------------------------------------- */

typedef struct output {
    const tf_stage *stage;
    uint64_t at;    /* where the next chunk begins */
    uint8_t *block; /* STEP bytes */
} output;

static tfuse_status write_at(tf_env *env, output *o, const void *data, size_t size, uint64_t offset)
{
    return tf_write_at(env, o->stage->lock_fd, o->stage->final_path, data, size, offset);
}

/* Compresses data from file offset o->at on; *packed is what it took. */
static tfuse_status deflate_loop(tf_env *env, output *o, z_stream *z, const uint8_t *data, uint64_t size, uint64_t *packed)
{
    int code = Z_OK;
    *packed = 0;
    for (uint64_t done = 0; code != Z_STREAM_END;) {
        if (z->avail_in == 0 && done < size) {
            uint64_t part = size - done < STEP ? size - done : STEP;
            z->next_in = (Bytef *)(uintptr_t)(data + done); /* zlib only reads */
            z->avail_in = (uInt)part;
            done += part;
        }
        z->next_out = o->block;
        z->avail_out = STEP;
        code = deflate(z, done == size ? Z_FINISH : Z_NO_FLUSH);
        if (code == Z_STREAM_ERROR)
            return tf_fail(env, TFUSE_EINTERNAL, "%s: compression failed", o->stage->final_path);
        size_t made = STEP - z->avail_out;
        TF_TRY(write_at(env, o, o->block, made, o->at + *packed));
        *packed += made;
        TF_TRY(tf_check_cancel(env));
    }
    return TFUSE_OK;
}

static tfuse_status write_packed(tf_env *env, output *o, const void *data, uint64_t size, uint64_t *packed)
{
    z_stream z;
    memset(&z, 0, sizeof z);
    z.zalloc = tf_zalloc;
    z.zfree = tf_zfree;
    z.opaque = &env->mem;
    if (deflateInit(&z, LEVEL) != Z_OK)
        return tf_fail(env, TFUSE_ENOMEM, "%s: out of memory while compressing", o->stage->final_path);
    tfuse_status status = deflate_loop(env, o, &z, data, size, packed);
    deflateEnd(&z);
    return status;
}

static void put(uint8_t *p, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

static tfuse_status write_chunk(tf_env *env, output *o, const char *name, const void *data, uint64_t size)
{
    uint8_t h[CHUNK_HEADER] = {0};
    uint64_t start = o->at, packed;
    o->at += CHUNK_HEADER;
    TF_TRY(write_packed(env, o, data, size, &packed));
    o->at += packed;
    memcpy(h, name, 4);
    put(h + 8, size, 8);
    put(h + 16, packed, 8);
    put(h + 24, tf_crc32(data, size), 4);
    put(h + 28, tf_crc32(h, 28), 4);
    return write_at(env, o, h, sizeof h, start);
}

static bool good_name(const char *name)
{
    for (int i = 0; i < 4; i++)
        if (name[i] < '!' || name[i] > '~')
            return false;
    return memcmp(name, end_name, 4) != 0;
}

static tfuse_status write_all(tf_env *env, output *o, const tf_chunk *chunks, size_t count)
{
    uint8_t head[FILE_HEADER], total[8];
    memcpy(head, magic, 8);
    put(head + 8, VERSION, 4);
    TF_TRY(write_at(env, o, head, sizeof head, 0));
    o->at = sizeof head;
    for (size_t i = 0; i < count; i++) {
        if (!good_name(chunks[i].name) || chunks[i].name[4])
            return tf_fail(env, TFUSE_EINTERNAL, "chunk name '%.4s'", chunks[i].name);
        TF_TRY(write_chunk(env, o, chunks[i].name, chunks[i].data, chunks[i].size));
        TF_TRY(tf_progress(env, "writing plan", i + 1, count));
    }
    put(total, count, 8);
    return write_chunk(env, o, end_name, total, sizeof total);
}

tfuse_status tf_container_save(tf_env *env, const char *path, const tf_chunk *chunks, size_t count)
{
    tf_stage stage;
    output o = {.stage = &stage};
    TF_TRY(tf_stage_open(env, path, false, true, &stage));
    o.block = tf_alloc(env, STEP);
    tfuse_status status = o.block ? write_all(env, &o, chunks, count) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = tf_stage_commit(env, &stage);
    tf_stage_abort(env, &stage);
    tf_free(&env->mem, o.block);
    return status;
}

/* ---- reading ---------------------------------------------------------------------------------- */

typedef struct input {
    const char *label;
    const tf_blob *src;
    uint64_t at;
} input;

static tfuse_status damaged(tf_env *env, const input *in, const char *what)
{
    return tf_fail(env, TFUSE_ECORRUPT, "%s: %s; the plan file is truncated or damaged, make it again", in->label, what);
}

static tfuse_status read_file_header(tf_env *env, input *in)
{
    uint8_t h[FILE_HEADER];
    const uint64_t got = in->src->size < sizeof h ? in->src->size : sizeof h;
    TF_TRY(tf_blob_read(env, in->label, in->src, 0, got, h));
    if (got < 8 || memcmp(h, magic, 8) != 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: is not a plan file; tfuse align writes one", in->label);
    if (got < FILE_HEADER)
        return damaged(env, in, "its header is cut off");
    uint64_t version = tf_get_le(h + 8, 4);
    if (version > VERSION)
        return tf_fail(env, TFUSE_EVERSION, "%s: its format version %u is newer than %d, which this library reads; use a newer tfuse",
                       in->label, (unsigned)version, VERSION);
    if (version == 0)
        return damaged(env, in, "its format version is 0");
    in->at = FILE_HEADER;
    return TFUSE_OK;
}

/* One chunk into *out, whose data are then owned by the caller; the end chunk comes out under its name. */
static tfuse_status read_chunk(tf_env *env, input *in, tf_chunk *out)
{
    uint8_t h[CHUNK_HEADER];
    if (in->src->size - in->at < CHUNK_HEADER)
        return damaged(env, in, "a chunk is missing");
    TF_TRY(tf_blob_read(env, in->label, in->src, in->at, sizeof h, h));
    if (tf_get_le(h + 28, 4) != tf_crc32(h, 28))
        return damaged(env, in, "the checksum of a chunk's header is wrong");
    if (tf_get_le(h + 4, 4) != 0)
        return tf_fail(env, TFUSE_EVERSION, "%s: has a chunk with flags that are not known; use a newer tfuse", in->label);
    uint64_t raw = tf_get_le(h + 8, 8), packed = tf_get_le(h + 16, 8);
    if (packed > in->src->size - in->at - CHUNK_HEADER || raw > tf_inflate_bound(packed))
        return damaged(env, in, "the size of a chunk is impossible");
    memcpy(out->name, h, 4);
    out->name[4] = 0;
    if (!good_name(out->name) && memcmp(out->name, end_name, 4) != 0)
        return damaged(env, in, "the name of a chunk is not text");
    uint8_t *data = tf_alloc(env, (size_t)raw);
    if (!data)
        return TFUSE_ENOMEM;
    out->data = data;
    out->size = raw;
    const tf_blob stream = tf_blob_part(in->src, in->at + CHUNK_HEADER, packed);
    TF_TRY(tf_inflate_zlib(env, in->label, &stream, data, raw));
    if (tf_crc32(data, raw) != tf_get_le(h + 24, 4))
        return damaged(env, in, "the checksum of a chunk is wrong");
    in->at += CHUNK_HEADER + packed;
    return TFUSE_OK;
}

/* The last chunk, the end, leaves the list again. */
static tfuse_status check_end(tf_env *env, const input *in, tf_container *out)
{
    const tf_chunk *end = &out->chunks[out->count - 1];
    if (end->size != 8 || tf_get_le(end->data, 8) != out->count - 1)
        return damaged(env, in, "the number of chunks is wrong");
    if (in->at != in->src->size)
        return damaged(env, in, "there are bytes after the end");
    tf_free(&out->mem, (void *)(uintptr_t)end->data);
    out->count--;
    return TFUSE_OK;
}

static tfuse_status read_chunks(tf_env *env, input *in, tf_container *out)
{
    size_t cap = 0;
    for (;;) {
        void *grown = out->chunks;
        if (!tf_grow(env, &grown, &cap, out->count + 1, sizeof *out->chunks))
            return TFUSE_ENOMEM;
        out->chunks = grown;
        tf_chunk *chunk = &out->chunks[out->count++];
        memset(chunk, 0, sizeof *chunk);
        TF_TRY(read_chunk(env, in, chunk));
        if (memcmp(chunk->name, end_name, 4) == 0)
            return check_end(env, in, out);
        TF_TRY(tf_progress(env, "reading plan", in->at, in->src->size));
    }
}

tfuse_status tf_container_parse(tf_env *env, const char *label, const tf_blob *src, tf_container *out)
{
    input in = {label, src, 0};
    memset(out, 0, sizeof *out);
    out->mem = env->mem;
    tfuse_status status = read_file_header(env, &in);
    if (status == TFUSE_OK)
        status = read_chunks(env, &in, out);
    if (status != TFUSE_OK)
        tf_container_free(out);
    return status;
}

tfuse_status tf_container_load(tf_env *env, const char *path, tf_container *out)
{
    tf_mapping map;
    memset(out, 0, sizeof *out);
    TF_TRY(tf_map_file(env, path, &map));
    const tf_blob src = tf_blob_file(&map);
    tfuse_status status = tf_container_parse(env, path, &src, out);
    tf_unmap_file(&map);
    return status;
}

const tf_chunk *tf_container_find(const tf_container *c, const char *name)
{
    for (size_t i = 0; i < c->count; i++)
        if (strcmp(c->chunks[i].name, name) == 0)
            return &c->chunks[i];
    return NULL;
}

void tf_container_free(tf_container *c)
{
    for (size_t i = 0; i < c->count; i++)
        tf_free(&c->mem, (void *)(uintptr_t)c->chunks[i].data);
    if (c->chunks)
        tf_free(&c->mem, c->chunks);
    memset(c, 0, sizeof *c);
}
