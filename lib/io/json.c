/* SPDX-License-Identifier: Apache-2.0
 *
 * json.c: JSON from memory and from files and to text, by jansson, also when memory ends while it works.
 *
 * jansson 2.14 does not look whether the buffer of the token that it reads could grow: when that fails, a character of the text is lost (a string
 * is another one then) or, if it was the closing quote, jansson writes beyond a block. And when it has no room for a string it calls
 * that a syntax error. So
 *  - what parsing may take is asked for first and given back, which is where memory really ends;
 *  - the text is handed over as the second element of an array whose first is a string longer than any token of the text: the buffer grows
 *    there and nowhere else. If that string comes back as it was, nothing was lost;
 *  - what fails is parsed once more: text that is wrong is wrong again, memory that was missing may be there.
 * Its json_dumps loses what its buffer has no room for, too; tf_json_text keeps watch over a buffer of its own.
 */
#include "io/model.h"
#include <string.h>

/* Nodes take some ten times their text; a first block whatever it is. */
enum { BYTES_PER_BYTE = 16, FIRST_BYTES = 1 << 16, LEAST_PRIMER = 64 };

/* ---- the longest token ----------------------------------------------------------------------------------- */

/* Bytes of the string that starts at text[i], to its closing quote; a line break ends it as it ends jansson's reading. */
static size_t string_length(const char *text, size_t size, size_t i)
{
    const size_t start = i;
    for (i++; i < size && text[i] != '"' && text[i] != '\n'; i++)
        i += text[i] == '\\';
    return (i < size ? i + 1 : size) - start;
}

static size_t word_length(const char *text, size_t size, size_t i)
{
    const size_t start = i;
    while (i < size && !strchr(" \t\r\n\"{}[]:,", text[i]))
        i++;
    return i > start ? i - start : 1;
}

static size_t longest_token(const char *text, size_t size)
{
    size_t longest = 0;
    for (size_t i = 0; i < size;) {
        const size_t length = text[i] == '"' ? string_length(text, size, i) : word_length(text, size, i);
        longest = length > longest ? length : longest;
        i += length;
    }
    return longest;
}

/* ---- the text in an array ----------------------------------------------------------------------------------- */

/* What jansson reads: ["xxx...", line break, text]. The break keeps the columns that its errors name. */
typedef struct source {
    const char *text;
    size_t size, primer, at; /* at: bytes handed over */
} source;

static const char head[] = "[\"", tail[] = "\",\n", end[] = "]";

/* Of a part of `size` bytes that begins at *from (bytes before it), what is next; data NULL: x's. */
static void take(source *s, size_t *from, const char *data, size_t size, char *to, size_t room, size_t *done)
{
    if (s->at >= *from && s->at < *from + size && *done < room) {
        const size_t skip = s->at - *from, left = size - skip, n = left < room - *done ? left : room - *done;
        if (data)
            memcpy(to + *done, data + skip, n);
        else
            memset(to + *done, 'x', n);
        s->at += n;
        *done += n;
    }
    *from += size;
}

static size_t next_bytes(void *buffer, size_t room, void *arg)
{
    source *s = arg;
    size_t from = 0, done = 0;
    take(s, &from, head, sizeof head - 1, buffer, room, &done);
    take(s, &from, NULL, s->primer, buffer, room, &done);
    take(s, &from, tail, sizeof tail - 1, buffer, room, &done);
    take(s, &from, s->text, s->size, buffer, room, &done);
    take(s, &from, end, sizeof end - 1, buffer, room, &done);
    return done;
}

static bool is_whole(const json_t *array, size_t primer)
{
    return json_array_size(array) == 2 && json_string_length(json_array_get(array, 0)) == primer;
}

/* NULL: wrong text, or no memory. */
static json_t *parse(const char *text, size_t size, size_t primer, json_error_t *error)
{
    source s = {text, size, primer, 0};
    json_t *array = json_load_callback(next_bytes, &s, JSON_REJECT_DUPLICATES, error), *value = NULL;
    if (array && is_whole(array, primer))
        value = json_incref(json_array_get(array, 1));
    json_decref(array);
    return value;
}

/* ---- what is exported ---------------------------------------------------------------------------------------- */

static tfuse_status fail_memory(tf_env *env, const char *label)
{
    return tf_fail(env, TFUSE_ENOMEM, "%s: out of memory while reading its JSON", label);
}

static bool is_room(size_t size, size_t primer)
{
    size_t bytes, more;
    if (!tf_mul_size(size, BYTES_PER_BYTE, &bytes) || !tf_mul_size(primer, 4, &more) || !tf_add_size(bytes, more + FIRST_BYTES, &bytes))
        return false;
    void *room = tf_mem_alloc(&tf_mem_default, bytes); /* of malloc's family, whence jansson takes, whatever the context's allocator is */
    tf_free(&tf_mem_default, room);
    return room != NULL;
}

static bool is_blank(const char *text, size_t size)
{
    while (size > 0 && memchr(" \t\r\n", text[size - 1], 4))
        size--;
    return size == 0;
}

tfuse_status tf_json_object(tf_env *env, const char *label, const char *text, size_t size, json_t **out)
{
    json_error_t error = {.line = 0}, again;
    char reason[JSON_ERROR_TEXT_LENGTH];
    const size_t longest = longest_token(text ? text : "", size);
    const size_t primer = longest < LEAST_PRIMER ? LEAST_PRIMER : longest;
    *out = NULL;
    if (!is_room(size, primer))
        return fail_memory(env, label);
    if (is_blank(text ? text : "", size))
        return tf_fail(env, TFUSE_EFORMAT, "%s: is empty, where JSON is needed", label);
    json_t *value = parse(text ? text : "", size, primer, &error);
    if (!value) {
        value = parse(text ? text : "", size, primer, &again);
        if (value) {
            json_decref(value);
            return fail_memory(env, label);
        }
        return tf_fail(env, TFUSE_EFORMAT, "%s: line %d, column %d: not valid JSON: %s", label, error.line > 1 ? error.line - 1 : 1,
                       error.line > 1 ? error.column : 1, tf_printable(reason, sizeof reason, *error.text ? error.text : "more than one value"));
    }
    if (!json_is_object(value)) {
        json_decref(value);
        return tf_fail(env, TFUSE_EFORMAT, "%s: is not a JSON object", label);
    }
    *out = value;
    return TFUSE_OK;
}

tfuse_status tf_json_file(tf_env *env, const char *path, uint64_t limit, json_t **out)
{
    tf_buf text;
    *out = NULL;
    TF_TRY(tf_read_file(env, path, limit, &text));
    tfuse_status status = tf_json_object(env, path, text.data, text.len, out);
    tf_buf_free(&text);
    return status;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

json_t *tf_json_append(json_t *list, json_t *item)
{
    if (json_array_append_new(list, item) == 0)
        return list;
    json_decref(list);
    return NULL;
}

typedef struct sink {
    tf_env *env;
    tf_buf *out;
    tfuse_status status; /* of the first failure: jansson goes on after some failures of its callback and reports success */
} sink;

static int add_text(const char *text, size_t size, void *arg)
{
    sink *to = arg;
    if (to->status == TFUSE_OK)
        to->status = tf_buf_add(to->env, to->out, text, size);
    return to->status == TFUSE_OK ? 0 : -1;
}

tfuse_status tf_json_text(tf_env *env, const json_t *json, size_t flags, tf_buf *out)
{
    sink to = {env, out, TFUSE_OK};
    if (!json || json_dump_callback(json, add_text, &to, flags) != 0 || to.status != TFUSE_OK)
        return tf_fail(env, TFUSE_ENOMEM, "out of memory for a JSON text");
    return TFUSE_OK;
}
