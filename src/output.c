/* SPDX-License-Identifier: Apache-2.0
 *
 * output.c: what goes to standard output and standard error: errors are one line that starts with "tfuse: ".
 */
#include "tool.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

__attribute__((format(printf, 1, 0))) static void print_line(const char *format, va_list args)
{
    char text[2048];
    end_progress();
    vsnprintf(text, sizeof text, format, args);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    fprintf(stderr, "tfuse: %s", text);
}

int usage_error(const tool *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
    if (t && t->command)
        fprintf(stderr, "; see tfuse %s --help\n", t->command->name);
    else
        fprintf(stderr, "; see tfuse --help\n");
    return EXIT_USAGE;
}

int fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
    fputc('\n', stderr);
    return EXIT_FAILED;
}

int library_status(const tool *t, tfuse_status status)
{
    if (status == TFUSE_OK)
        return EXIT_DONE;
    fail("%s", tfuse_ctx_error(t->ctx));
    return status == TFUSE_ECANCELLED ? EXIT_CANCELLED : status == TFUSE_EKEY ? EXIT_USAGE : EXIT_FAILED;
}

static bool is_file(const struct stat *st, const char *path, size_t length)
{
    struct stat other;
    char *name = strndup(path, length);
    const bool same = name && stat(*name ? name : ".", &other) == 0 && other.st_dev == st->st_dev && other.st_ino == st->st_ino;
    free(name);
    return same;
}

/* Is it what this run reads, or the directory of a checkpoint that is named by one of its files? */
static bool is_input(const tool *t, const struct stat *st)
{
    const char *const arrays[] = {t->inputs, t->labels, t->calib, t->mu, t->nu, t->u, t->v, t->plan};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        const char *key = arrays[i] ? strstr(arrays[i], ".npz:") : NULL;
        if (arrays[i] && (is_file(st, arrays[i], strlen(arrays[i])) || (key && is_file(st, arrays[i], (size_t)(key + 4 - arrays[i])))))
            return true;
    }
    for (int i = 0; i < t->n_args; i++) {
        const char *slash = strrchr(t->args[i], '/');
        struct stat arg;
        if (is_file(st, t->args[i], strlen(t->args[i])) || (stat(t->args[i], &arg) == 0 && S_ISREG(arg.st_mode) &&
                                                            is_file(st, t->args[i], slash ? (size_t)(slash - t->args[i]) + 1 : 0)))
            return true;
    }
    return false;
}

/* The directory that a file or directory of this name is or would be in, and its name there. False: out of memory; release both in any case. */
static bool split_path(const char *path, char **dir, char **name)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    const size_t slashes = start > 1 ? start - 1 : start;
    *dir = start ? strndup(path, slashes) : strdup(".");
    *name = strndup(path + start, end - start);
    return *dir && *name;
}

static bool is_one_name(const char *a, const char *b)
{
    char *dirs[2] = {NULL, NULL}, *names[2] = {NULL, NULL};
    struct stat st;
    bool same = split_path(a, &dirs[0], &names[0]) && split_path(b, &dirs[1], &names[1]) && strcmp(names[0], names[1]) == 0;
    same = same && (strcmp(dirs[0], dirs[1]) == 0 || (stat(dirs[0], &st) == 0 && is_file(&st, dirs[1], strlen(dirs[1]))));
    for (int i = 0; i < 2; i++) {
        free(dirs[i]);
        free(names[i]);
    }
    return same;
}

static bool is_named_twice(const tool *t, const char *path)
{
    const char *const outputs[] = {t->out, t->save_plan, t->save_u, t->save_v};
    int times = 0;
    for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; i++)
        times += outputs[i] && is_one_name(outputs[i], path);
    return times > 1;
}

/* Says what is wrong with an output, and what a run that meets it ends with. */
__attribute__((format(printf, 3, 4))) static int wrong(char *why, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, OUTPUT_WHY, format, args);
    va_end(args);
    return code;
}

int output_problem(const tool *t, const char *path, char *why)
{
    struct stat st, behind;
    if (!path)
        return EXIT_DONE;
    if (!*path)
        return wrong(why, EXIT_FAILED, "the name of an output is empty");
    if (is_named_twice(t, path))
        return wrong(why, EXIT_USAGE, "%s: two outputs cannot have one name", path);
    if (t->force && lstat(path, &st) == 0 && is_input(t, stat(path, &behind) == 0 ? &behind : &st))
        return wrong(why, EXIT_FAILED, "%s: is read by this run, and is not replaced; give another name", path);
    return EXIT_DONE;
}

int check_output(const tool *t, const char *path, bool directory)
{
    char why[OUTPUT_WHY];
    int code = output_problem(t, path, why);
    if (code == EXIT_DONE && path)
        return library_status(t, tfuse_output_check(t->ctx, path, directory, t->force));
    return code == EXIT_USAGE ? usage_error(t, "%s", why) : code == EXIT_FAILED ? fail("%s", why) : EXIT_DONE;
}

int save_file(const tool *t, const char *path, void (*draw)(FILE *f, const void *subject), const void *subject)
{
    char *data = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&data, &size);
    if (!f)
        return fail("out of memory");
    draw(f, subject);
    bool whole = !ferror(f);
    int code = fclose(f) == 0 && whole ? EXIT_DONE : fail("%s: out of memory", path);
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_file_save(t->ctx, path, data, size, t->force));
    free(data);
    return code;
}

int print_json(json_t *object)
{
    int code = EXIT_DONE;
    if (!object || json_dumpf(object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(15)) != 0 || putchar('\n') == EOF)
        code = fail("cannot write to standard output");
    json_decref(object);
    return code;
}

json_t *json_number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

void print_text(const char *text, int width)
{
    int columns = 0;
    for (; text && *text; text++) {
        putchar((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
        columns += ((unsigned char)*text & 0xc0) != 0x80;
    }
    for (; columns < width; columns++)
        putchar(' ');
}

double shown(double x, int digits)
{
    char text[32]; /* the digits of a small number; what is cut off a large one does not matter */
    snprintf(text, sizeof text, "%.*f", digits, x);
    return text[0] == '-' && !text[strspn(text, "-0.")] ? 0 : x;
}

void print_word(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./,:=@%+-";
    if (*text == '-')
        fputs("./", stdout); /* it is a path, which an option would hide */
    if (*text && !text[strspn(text, plain)]) {
        fputs(text, stdout);
        return;
    }
    putchar('\'');
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\'", stdout);
        print_text((const char[]){*text, '\0'}, 0);
    }
    putchar('\'');
}

void print_number(double x)
{
    if (isfinite(x))
        printf("%10.4g", x);
    else
        printf("%10s", "-");
}

double seconds_now(void)
{
    struct timespec t = {0, 0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
