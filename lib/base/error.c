/* SPDX-License-Identifier: Apache-2.0
 *
 * error.c: error text, log lines, progress and cancellation.
 *
 * Every text is formatted into a local buffer first, so env->error may itself be an argument, and
 * is then made printable: whatever a hostile name brings along, an error is one line of valid UTF-8.
 */
#include "base/env.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TEXT_MAX = 2048, PROGRESS_NS = 50000000 };

/* Bytes of the character at s if it is valid UTF-8 and not a control character, else 0.
 * The continuation ranges are table 3-7 of the Unicode standard: no overlong forms, no surrogates. */
static size_t printable_len(const unsigned char *s)
{
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f;
    size_t len = s[0] < 0xc2 || s[0] > 0xf4 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (len == 0)
        return 0;
    unsigned low = 0x80, high = 0xbf;
    if (s[0] == 0xc2 || s[0] == 0xe0)
        low = 0xa0; /* after 0xc2: U+0080..U+009F are controls */
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf4)
        high = 0x8f;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

bool tf_is_utf8(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t n; *s; s += n) {
        n = printable_len(s);
        if (n == 0) /* controls are characters too */
            n = s[0] < 0x80 ? 1 : s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0 ? 2 : 0;
        if (n == 0)
            return false;
    }
    return true;
}

const char *tf_printable(char *buffer, size_t size, const char *text)
{
    static const char dots[] = "...";
    const unsigned char *s = (const unsigned char *)text;
    size_t len = 0, cut = 0; /* cut: the last character boundary with room for the dots */
    if (size == 0)
        return buffer;
    while (*s) {
        size_t n = printable_len(s);
        size_t step = n ? n : 1;
        if (len + step >= size) {
            size_t room = size - 1 - cut;
            len = cut + (room < 3 ? room : 3);
            memcpy(buffer + cut, dots, len - cut);
            break;
        }
        if (n)
            memcpy(buffer + len, s, n);
        else
            buffer[len] = '?';
        s += step;
        len += step;
        if (len + sizeof dots <= size)
            cut = len;
    }
    buffer[len] = '\0';
    return buffer;
}

void tf_set_error(tf_env *env, const char *format, ...)
{
    char text[TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tf_printable(env->error, sizeof env->error, text);
}

tfuse_status tf_fail_in(tf_env *env, tfuse_status status, const char *format, ...)
{
    char prefix[TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    return tf_fail(env, status, "%s: %s", prefix, env->error);
}

static const char *error_text(int number, char *buffer, size_t size)
{
#ifdef __GLIBC__
    return strerror_r(number, buffer, size); /* the GNU form, which returns the text */
#else
    return strerror_r(number, buffer, size) == 0 ? buffer : "unknown error";
#endif
}

static tfuse_status status_of_errno(int number)
{
    switch (number) {
    case ENOMEM:
        return TFUSE_ENOMEM;
    case ENOENT:
    case ENOTDIR:
        return TFUSE_ENOTFOUND;
    case EEXIST:
        return TFUSE_EEXIST;
    default:
        return TFUSE_EIO;
    }
}

tfuse_status tf_fail_errno(tf_env *env, int error_number, const char *format, ...)
{
    char text[TEXT_MAX], reason[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return tf_fail(env, status_of_errno(error_number), "%s: %s", text,
                   error_text(error_number, reason, sizeof reason));
}

void tf_log(tf_env *env, int32_t level, const char *format, ...)
{
    if (!env->log || level > env->log_level)
        return;
    char text[TEXT_MAX], line[TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    env->log(env->log_user, level, tf_printable(line, sizeof line, text));
}

tfuse_status tf_check_cancel(tf_env *env)
{
    return tf_cancelled(env) ? tf_fail(env, TFUSE_ECANCELLED, "cancelled") : TFUSE_OK;
}

static uint64_t now_ns(void)
{
    struct timespec t = {0, 0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

tfuse_status tf_progress(tf_env *env, const char *stage, uint64_t done, uint64_t total)
{
    TF_TRY(tf_check_cancel(env));
    if (!env->progress)
        return TFUSE_OK;
    uint64_t now = now_ns();
    if (done != 0 && done != total && now - env->progress_last_ns < PROGRESS_NS)
        return TFUSE_OK;
    env->progress_last_ns = now;
    tfuse_progress report = {sizeof report, stage, done, total};
    if (env->progress(env->progress_user, &report) != 0)
        return tf_fail(env, TFUSE_ECANCELLED, "cancelled");
    return tf_check_cancel(env);
}
