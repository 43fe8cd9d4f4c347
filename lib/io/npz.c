/* SPDX-License-Identifier: Apache-2.0
 *
 * npz.c: one array out of a ZIP archive of .npy members (PKWARE APPNOTE 6.3.10), stored or deflated, with zip64. The
 * central directory counts; a member's local header must agree with it in its name, and every offset and size is checked
 * against the file before it is used. A member may claim no more than deflate's ratio allows, and its CRC-32 must hold.
 */
#include "io/io.h"
#include <inttypes.h>
#include <string.h>

enum {
    END_SIZE = 22,
    END64_LOCATOR_SIZE = 20,
    END64_SIZE = 56,
    ENTRY_SIZE = 46,
    LOCAL_SIZE = 30,
    KEYS_SHOWN = 10,
    KEY_SHOWN = 80,
    STORED = 0,
    DEFLATED = 8,
    COMMENT_MAX = 65535,
    DIRECTORY_MAX = 1 << 26, /* that of a million arrays */
};

#define IDS "input_ids"

typedef struct archive {
    const char *label;
    const tf_blob *src;
    uint8_t *directory;
    uint64_t at, end, left; /* in the directory: next entry, its end, entries to come */
} archive;

typedef struct member {
    const char *name; /* not terminated */
    size_t name_len, key_len; /* key: without ".npy" */
    uint64_t packed, raw, offset;
    uint32_t crc;
    unsigned flags, method;
} member;

static tfuse_status damaged(tf_env *env, const archive *z, const char *what)
{
    return tf_fail(env, TFUSE_ECORRUPT, "%s: %s; the .npz file is truncated or damaged", z->label, what);
}

static bool inside(const archive *z, uint64_t offset, uint64_t size)
{
    return offset <= z->src->size && size <= z->src->size - offset;
}

/* ---- the directory ---------------------------------------------------------------------------- */

/* Where in the file's last `size` bytes the end record is: the last thing but for a comment of its stated length. */
static bool find_end(const uint8_t *tail, size_t size, size_t *out)
{
    if (size < END_SIZE)
        return false;
    for (size_t comment = 0; comment <= COMMENT_MAX && comment <= size - END_SIZE; comment++) {
        const size_t at = size - END_SIZE - comment;
        if (tf_get_le(tail + at, 4) == 0x06054b50 && tf_get_le(tail + at + 20, 2) == comment) {
            *out = at;
            return true;
        }
    }
    return false;
}

/* The directory's place from a zip64 end record, if there is one before the plain end. */
static tfuse_status read_end64(tf_env *env, archive *z, const uint8_t *tail, size_t end, uint64_t *size, uint64_t *offset)
{
    uint8_t record[END64_SIZE];
    if (end < END64_LOCATOR_SIZE || tf_get_le(tail + end - END64_LOCATOR_SIZE, 4) != 0x07064b50)
        return TFUSE_OK;
    const uint64_t at = tf_get_le(tail + end - END64_LOCATOR_SIZE + 8, 8);
    if (!inside(z, at, END64_SIZE))
        return damaged(env, z, "its zip64 end record is missing");
    TF_TRY(tf_blob_read(env, z->label, z->src, at, END64_SIZE, record));
    if (tf_get_le(record, 4) != 0x06064b50)
        return damaged(env, z, "its zip64 end record is missing");
    z->left = tf_get_le(record + 32, 8);
    *size = tf_get_le(record + 40, 8);
    *offset = tf_get_le(record + 48, 8);
    return TFUSE_OK;
}

static tfuse_status read_directory(tf_env *env, archive *z, uint64_t offset, uint64_t size, uint64_t end)
{
    if (offset > end || size > end - offset || z->left > size / ENTRY_SIZE)
        return damaged(env, z, "its ZIP directory does not fit in the file");
    if (size > DIRECTORY_MAX)
        return tf_fail(env, TFUSE_EFORMAT, "%s: a ZIP directory of %" PRIu64 " bytes is more than the %d allowed", z->label, size, DIRECTORY_MAX);
    z->directory = tf_alloc(env, (size_t)size + 1);
    z->end = size;
    return z->directory ? tf_blob_read(env, z->label, z->src, offset, size, z->directory) : TFUSE_ENOMEM;
}

/* tail: the file's last `size` bytes. */
static tfuse_status open_directory(tf_env *env, archive *z, const uint8_t *tail, size_t size)
{
    size_t end;
    if (!find_end(tail, size, &end))
        return damaged(env, z, "there is no end of a ZIP directory");
    uint64_t bytes = tf_get_le(tail + end + 12, 4), offset = tf_get_le(tail + end + 16, 4);
    z->left = tf_get_le(tail + end + 10, 2);
    TF_TRY(read_end64(env, z, tail, end, &bytes, &offset));
    return read_directory(env, z, offset, bytes, z->src->size - size + end);
}

/* z->directory is the caller's to free, also after a failure. */
static tfuse_status open_archive(tf_env *env, archive *z)
{
    const size_t most = END64_LOCATOR_SIZE + END_SIZE + COMMENT_MAX, size = z->src->size < most ? (size_t)z->src->size : most;
    uint8_t *tail = tf_alloc(env, size + 1);
    if (!tail)
        return TFUSE_ENOMEM;
    tfuse_status status = tf_blob_read(env, z->label, z->src, z->src->size - size, size, tail);
    if (status == TFUSE_OK)
        status = open_directory(env, z, tail, size);
    tf_free(&env->mem, tail);
    return status;
}

/* Values that do not fit in 32 bits stand in the extra field with id 1, in this order. */
static bool read_extra64(const uint8_t *extra, size_t size, member *m)
{
    uint64_t *wide[3] = {&m->raw, &m->packed, &m->offset};
    while (size >= 4) {
        size_t len = (size_t)tf_get_le(extra + 2, 2);
        if (len > size - 4)
            return false;
        const uint8_t *p = extra + 4;
        for (size_t i = 0; tf_get_le(extra, 2) == 1 && i < TF_LEN(wide); i++) {
            if (*wide[i] != UINT32_MAX)
                continue;
            if (p + 8 > extra + 4 + len)
                return false;
            *wide[i] = tf_get_le(p, 8);
            p += 8;
        }
        extra += 4 + len;
        size -= 4 + len;
    }
    return true;
}

/* The next entry; *more is false after the last. */
static tfuse_status next_member(tf_env *env, archive *z, member *m, bool *more)
{
    *more = z->left > 0;
    if (!*more)
        return TFUSE_OK;
    const uint8_t *p = z->directory + z->at;
    if (z->end - z->at < ENTRY_SIZE || tf_get_le(p, 4) != 0x02014b50)
        return damaged(env, z, "an entry of its ZIP directory is missing");
    size_t name = (size_t)tf_get_le(p + 28, 2), extra = (size_t)tf_get_le(p + 30, 2), comment = (size_t)tf_get_le(p + 32, 2);
    if (z->end - z->at - ENTRY_SIZE < name + extra + comment)
        return damaged(env, z, "an entry of its ZIP directory is cut off");
    m->flags = (unsigned)tf_get_le(p + 8, 2);
    m->method = (unsigned)tf_get_le(p + 10, 2);
    m->crc = (uint32_t)tf_get_le(p + 16, 4);
    m->packed = tf_get_le(p + 20, 4);
    m->raw = tf_get_le(p + 24, 4);
    m->offset = tf_get_le(p + 42, 4);
    m->name = (const char *)p + ENTRY_SIZE;
    m->name_len = name;
    m->key_len = name > 4 && memcmp(m->name + name - 4, ".npy", 4) == 0 ? name - 4 : name;
    if (!read_extra64(p + ENTRY_SIZE + name, extra, m))
        return damaged(env, z, "an entry of its ZIP directory has a bad extra field");
    z->at += ENTRY_SIZE + name + extra + comment;
    z->left--;
    return TFUSE_OK;
}

/* ---- finding ---------------------------------------------------------------------------------- */

/* A member's name or key as text that can be shown. */
static const char *show(const char *text, size_t len, char buffer[KEY_SHOWN])
{
    char copy[KEY_SHOWN];
    if (len >= sizeof copy)
        len = sizeof copy - 1;
    memcpy(copy, text, len);
    copy[len] = 0;
    return tf_printable(buffer, KEY_SHOWN, copy);
}

static bool equals(const char *text, size_t len, const char *key)
{
    return strlen(key) == len && memcmp(text, key, len) == 0;
}

/* TFUSE_ENOTFOUND with the keys that there are. */
static tfuse_status fail_key(tf_env *env, archive z, const char *key)
{
    char shown[KEY_SHOWN];
    tf_buf list;
    member m = {0};
    bool more;
    uint64_t total = z.left;
    tf_buf_init(&list, &env->mem);
    tfuse_status status = TFUSE_OK;
    for (int i = 0; status == TFUSE_OK && i < KEYS_SHOWN && z.left > 0; i++) {
        TF_TRY_OUT(next_member(env, &z, &m, &more));
        TF_TRY_OUT(tf_buf_printf(env, &list, "%s%s", i ? ", " : "", show(m.name, m.key_len, shown)));
    }
    if (key)
        tf_printable(shown, sizeof shown, key);
    status = tf_fail(env, TFUSE_ENOTFOUND, "%s: %s%s%s; it holds %s%s", z.label, key ? "there is no array '" : "name one array as FILE.npz:KEY",
                     key ? shown : "", key ? "'" : "", list.len ? list.data : "no array", total > KEYS_SHOWN ? ", ..." : "");
out:
    tf_buf_free(&list);
    return status;
}

/* The member that has the key as its name, with or without ".npy". */
static tfuse_status find_member(tf_env *env, const archive *directory, const char *key, member *out)
{
    archive z = *directory;
    member m = {0};
    bool more;
    uint64_t found = 0;
    for (;;) {
        TF_TRY(next_member(env, &z, &m, &more));
        if (!more)
            break;
        if (key && !equals(m.name, m.key_len, key) && !equals(m.name, m.name_len, key))
            continue;
        *out = m;
        found++;
    }
    if (found > 1 && key)
        return tf_fail(env, TFUSE_EFORMAT, "%s: holds more than one array '%s'", z.label, key);
    return found == 1 ? TFUSE_OK : fail_key(env, *directory, key);
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* Whether the name in the file at `at` is that of the directory. */
static tfuse_status check_name(tf_env *env, const archive *z, const member *m, uint64_t at)
{
    char *name = tf_alloc(env, m->name_len + 1);
    if (!name)
        return TFUSE_ENOMEM;
    tfuse_status status = tf_blob_read(env, z->label, z->src, at, m->name_len, name);
    if (status == TFUSE_OK && memcmp(name, m->name, m->name_len) != 0)
        status = damaged(env, z, "a member's name differs from the directory's");
    tf_free(&env->mem, name);
    return status;
}

static tfuse_status find_data(tf_env *env, const archive *z, const member *m, const char *label, tf_blob *out)
{
    uint8_t p[LOCAL_SIZE];
    if (m->flags & 1)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: is encrypted", label);
    if (m->method != STORED && m->method != DEFLATED)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: ZIP method %u is not supported; use numpy.savez or savez_compressed", label, m->method);
    if (!inside(z, m->offset, LOCAL_SIZE))
        return damaged(env, z, "a member begins after the end of the file");
    TF_TRY(tf_blob_read(env, z->label, z->src, m->offset, LOCAL_SIZE, p));
    if (tf_get_le(p, 4) != 0x04034b50)
        return damaged(env, z, "a member's header is missing");
    uint64_t name = tf_get_le(p + 26, 2), extra = tf_get_le(p + 28, 2);
    uint64_t start = m->offset + LOCAL_SIZE + name + extra;
    if (!inside(z, start, m->packed))
        return damaged(env, z, "a member ends after the end of the file");
    if (name != m->name_len)
        return damaged(env, z, "a member's name differs from the directory's");
    TF_TRY(check_name(env, z, m, m->offset + LOCAL_SIZE));
    if (m->method == STORED ? m->raw != m->packed : m->raw > tf_inflate_bound(m->packed))
        return damaged(env, z, "a member's sizes are impossible");
    *out = tf_blob_part(z->src, start, m->packed);
    return TFUSE_OK;
}

static tfuse_status check_crc(tf_env *env, const char *label, const tf_blob *raw, const member *m)
{
    uint32_t crc;
    TF_TRY(tf_blob_crc32(env, label, raw, &crc));
    if (crc == m->crc)
        return TFUSE_OK;
    return tf_fail(env, TFUSE_ECORRUPT, "%s: its checksum is wrong; the file is damaged", label);
}

static tfuse_status read_deflated(tf_env *env, const char *label, const tf_blob *packed, const member *m, tfuse_array **out)
{
    uint8_t *raw = tf_alloc(env, (size_t)m->raw);
    if (!raw)
        return TFUSE_ENOMEM;
    const tf_blob plain = tf_blob_memory(raw, m->raw);
    tfuse_status status = tf_inflate_raw(env, label, packed, raw, m->raw);
    if (status == TFUSE_OK)
        status = check_crc(env, label, &plain, m);
    if (status == TFUSE_OK)
        status = tf_npy_parse(env, label, &plain, out);
    tf_free(&env->mem, raw);
    return status;
}

static tfuse_status read_member(tf_env *env, const archive *z, const member *m, const char *label, tfuse_array **out)
{
    tf_blob data;
    TF_TRY(find_data(env, z, m, label, &data));
    if (m->method == DEFLATED)
        return read_deflated(env, label, &data, m, out);
    TF_TRY(check_crc(env, label, &data, m));
    return tf_npy_parse(env, label, &data, out);
}

static tfuse_status read_named(tf_env *env, const archive *z, const member *m, tfuse_array **out)
{
    char shown[KEY_SHOWN];
    tf_buf full;
    tf_buf_init(&full, &env->mem);
    tfuse_status status = tf_buf_printf(env, &full, "%s:%s", z->label, show(m->name, m->key_len, shown));
    if (status == TFUSE_OK)
        status = read_member(env, z, m, full.data, out);
    tf_buf_free(&full);
    return status;
}

/* The arrays of a language model's inputs: all but the ids themselves and what they are scored by. */
static tfuse_status attach_others(tf_env *env, const archive *directory, tfuse_array *ids)
{
    archive z = *directory;
    member m = {0};
    for (bool more = true;;) {
        tfuse_array *other = NULL;
        char name[KEY_SHOWN];
        TF_TRY(next_member(env, &z, &m, &more));
        if (!more)
            return TFUSE_OK;
        if (equals(m.name, m.key_len, IDS) || equals(m.name, m.key_len, "labels"))
            continue;
        TF_TRY(read_named(env, directory, &m, &other));
        TF_TRY(tf_array_attach(env, ids, show(m.name, m.key_len, name), other));
    }
}

/* Whether there are ids among several arrays. */
static tfuse_status has_ids(tf_env *env, const archive *directory, bool *has)
{
    archive z = *directory;
    member m = {0};
    int count = 0;
    bool ids = false;
    for (bool more = true;; count++) {
        TF_TRY(next_member(env, &z, &m, &more));
        if (!more)
            break;
        ids = ids || equals(m.name, m.key_len, IDS);
    }
    *has = ids && count > 1;
    return TFUSE_OK;
}

static tfuse_status read_archive(tf_env *env, archive *z, const char *key, tfuse_array **out)
{
    member m = {0};
    bool several = false;
    TF_TRY(open_archive(env, z));
    if (!key)
        TF_TRY(has_ids(env, z, &several));
    TF_TRY(find_member(env, z, several ? IDS : key, &m));
    TF_TRY(read_named(env, z, &m, out));
    return several ? attach_others(env, z, *out) : TFUSE_OK;
}

tfuse_status tf_npz_parse(tf_env *env, const char *label, const tf_blob *src, const char *key, tfuse_array **out)
{
    archive z = {.label = label, .src = src};
    *out = NULL;
    const tfuse_status status = read_archive(env, &z, key, out);
    tf_free(&env->mem, z.directory);
    if (status != TFUSE_OK) {
        tf_array_free(*out);
        *out = NULL;
    }
    return status;
}
