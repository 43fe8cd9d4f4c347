/* SPDX-License-Identifier: Apache-2.0
 *
 * opts.c: one table of options, from which come parsing, --help, and which key each is a synonym of. A synonym sets its key as it is met,
 * and so does --set, so the last one given wins.
 */
#include "tool.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind {
    TEXT,  /* into a const char * of the tool */
    FLAG,  /* into a bool */
    COUNT, /* into an int64_t, at least 0 */
    SOME,  /* into an int64_t, at least 1 */
    KEY,   /* a synonym of a key */
    SET    /* KEY=VALUE */
} kind;

typedef struct option_row {
    const char *name;
    char letter; /* 0: none */
    kind kind;
    const char *argument; /* NULL: none */
    const char *key;      /* the key that it is a synonym of */
    size_t field;
    unsigned commands;
    const char *help;
} option_row;

#define FIELD(name) offsetof(tool, name)
#define MODELS (CMD_ALIGN | CMD_FUSE | CMD_PATH)
#define WRITES (CMD_FUSE | CMD_GAUGE | CMD_MOE)
#define LOADS (CMD_EVAL | CMD_RUN | CMD_GAUGE | CMD_MOE | MODELS)
#define WORKS (LOADS | CMD_SOLVE)
#define ANY 2047u

static const option_row rows[] = {
    {"inputs", 0, TEXT, "F", NULL, FIELD(inputs), CMD_EVAL | CMD_RUN | CMD_PATH, "inputs: .npy, file.npz:key, or IDX, gzipped or not"},
    {"labels", 0, TEXT, "F", NULL, FIELD(labels), CMD_EVAL | CMD_PATH, "labels, one for each input; -100 is left out"},
    {"limit", 0, SOME, "N", NULL, FIELD(limit), CMD_EVAL | CMD_RUN | CMD_PATH, "the first N inputs only"},
    {"steps", 0, COUNT, "N", NULL, FIELD(steps), CMD_PATH, "points on the line, both ends among them; 11"},
    {"align", 0, KEY, "NAME", "align.strategy", 0, MODELS, "how units are aligned: matching, otfusion, none"},
    {"control", 0, KEY, "NAME", "align.control", 0, MODELS, "a baseline: half-anchor, uniform, random"},
    {"solver", 0, KEY, "NAME", "solver.name", 0, MODELS | CMD_SOLVE, "exact, sinkhorn, sinkhorn-scaling"},
    {"reg", 0, KEY, "X", "solver.reg", 0, MODELS | CMD_SOLVE, "strength of the entropy in sinkhorn"},
    {"repair", 0, KEY, "SET", "repair", 0, CMD_FUSE, "what is fitted on calibration inputs: auto, none, or mix,circuits,select,regmean,refit,statistics,head"},
    {"generate", 0, KEY, "N", "calib.generate", 0, MODELS, "without --calib, sequences that language models draw from themselves; 0: none"},
    {"calib", 0, TEXT, "F", NULL, FIELD(calib), MODELS | CMD_MOE, "calibration inputs; file forms as for eval --inputs"},
    {"samples", 0, KEY, "N", "calib.samples", 0, MODELS | CMD_MOE, "how many calibration inputs are used"},
    {"weights", 0, KEY, "W,W,...", "combine.weights", 0, CMD_FUSE, "one weight a model, the anchor's first"},
    {"seed", 0, KEY, "N", "run.seed", 0, CMD_GAUGE | CMD_MOE | MODELS, "seed of everything random"},
    {"experts", 0, KEY, "E", "moe.experts", 0, CMD_MOE, "experts that every feed-forward network is cut into"},
    {"top-k", 0, KEY, "K", "moe.top_k", 0, CMD_MOE, "experts that each token goes to"},
    {"layout", 0, KEY, "NAME", "moe.layout", 0, CMD_MOE, "what is written: emoe, mixtral, qwen2_moe, qwen3_moe"},
    {"dense", 0, FLAG, NULL, NULL, FIELD(dense), CMD_MOE, "back: the experts of a split model side by side again"},
    {"plan", 0, TEXT, "PLAN", NULL, FIELD(plan), CMD_FUSE | CMD_PATH, "apply this plan in place of aligning"},
    {"save-plan", 0, TEXT, "PLAN", NULL, FIELD(save_plan), CMD_FUSE, "write the plan to a file too"},
    {"html", 0, TEXT, "F", NULL, FIELD(html), CMD_PLAN, "write a page with pictures of the maps"},
    {"mu", 0, TEXT, "F", NULL, FIELD(mu), CMD_SOLVE, "masses of the rows; uniform if left out"},
    {"nu", 0, TEXT, "F", NULL, FIELD(nu), CMD_SOLVE, "masses of the columns; uniform if left out"},
    {"u", 0, TEXT, "F", NULL, FIELD(u), CMD_SOLVE, "row potentials of a neighbouring problem to start from; not needed with --v"},
    {"v", 0, TEXT, "F", NULL, FIELD(v), CMD_SOLVE, "column potentials of a neighbouring problem to start from"},
    {"save-u", 0, TEXT, "F", NULL, FIELD(save_u), CMD_SOLVE, "write the row potentials, .npy"},
    {"save-v", 0, TEXT, "F", NULL, FIELD(save_v), CMD_SOLVE, "write the column potentials, .npy"},
    {"output", 'o', TEXT, "OUT", NULL, FIELD(out), CMD_RUN | CMD_GAUGE | CMD_MOE | MODELS | CMD_SOLVE, "where the result goes"},
    {"dtype", 0, KEY, "TYPE", "io.dtype", 0, WRITES, "type of floating-point tensors: keep, F32, F16, BF16"},
    {"shard-size", 0, KEY, "BYTES", "io.shard_size", 0, WRITES, "most bytes of tensors in one file; 0: one file"},
    {"memory", 0, KEY, "BYTES", "run.memory", 0, CMD_ALIGN | CMD_FUSE | CMD_MOE, "most memory, with K, M or G; too little is refused at once"},
    {"dry-run", 0, FLAG, NULL, NULL, FIELD(dry_run), CMD_FUSE | CMD_MOE, "list every problem, memory and bytes; do nothing"},
    {"force", 0, FLAG, NULL, NULL, FIELD(force), CMD_RUN | CMD_GAUGE | CMD_MOE | MODELS | CMD_SOLVE | CMD_PLAN, "replace an output; never what is read"},
    {"set", 0, SET, "KEY=VALUE", NULL, 0, CMD_GAUGE | CMD_MOE | MODELS | CMD_SOLVE, "set any key; `tfuse keys` lists them"},
    {"threads", 0, COUNT, "N", NULL, FIELD(threads), WORKS, "threads; all cores if left out"},
    {"json", 0, FLAG, NULL, NULL, FIELD(json), ANY, "print one JSON object and nothing else"},
    {"quiet", 0, FLAG, NULL, NULL, FIELD(quiet), ANY, "no progress bar, no warnings"},
    {"help", 'h', FLAG, NULL, NULL, FIELD(help), ANY, "this text"},
};

enum { N_ROWS = sizeof rows / sizeof rows[0], FIRST_VALUE = 256 };

void print_command_help(const command *c)
{
    printf("usage: tfuse %s %s%s[OPTIONS]\n\n%s\n\noptions:\n", c->name, c->operands, *c->operands ? " " : "", c->text);
    for (size_t i = 0; i < N_ROWS; i++) {
        const option_row *r = &rows[i];
        char left[64], key[64] = "";
        if (!(r->commands & c->bit))
            continue;
        snprintf(left, sizeof left, "%.1s%.1s%s--%s%s%s", r->letter ? "-" : " ", r->letter ? &r->letter : " ",
                 r->letter ? ", " : "  ", r->name, r->argument ? " " : "", r->argument ? r->argument : "");
        if (r->key)
            snprintf(key, sizeof key, " (%s)", r->key);
        printf("  %-26s %s%s\n", left, r->help, key);
    }
}

/* Keys that decide the maps; with a plan given they would be ignored. */
static bool bears_on_aligning(const char *key)
{
    static const char *const parts[] = {"align.", "otfusion.", "matching.", "solver.", "calib.", "run.seed"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strncmp(key, parts[i], strlen(parts[i])) == 0)
            return true;
    return false;
}

static int set_key(tool *t, const char *key, const char *value, const char *option)
{
    const bool of_repair_too = t->command->bit == CMD_FUSE && !strncmp(key, "calib.", 6);
    if (bears_on_aligning(key) && !of_repair_too)
        t->align_option = option;
    if (strcmp(key, "calib.samples") == 0)
        t->samples_given = true;
    tfuse_status status = tfuse_policy_set(t->ctx, t->policy, key, value);
    if (status == TFUSE_EKEY)
        return usage_error(t, "%s", tfuse_ctx_error(t->ctx));
    return library_status(t, status);
}

static int set_pair(tool *t, const char *pair)
{
    const char *equals = strchr(pair, '=');
    if (!equals || equals == pair)
        return usage_error(t, "--set takes KEY=VALUE, not '%s'", pair);
    char *key = strndup(pair, (size_t)(equals - pair));
    if (!key)
        return fail("out of memory");
    int code = set_key(t, key, equals + 1, pair);
    free(key);
    return code;
}

static int set_count(tool *t, const option_row *row, const char *text)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (end == text || *end || errno || n < (row->kind == SOME))
        return usage_error(t, "--%s takes a count%s, not '%s'", row->name, row->kind == SOME ? " of at least 1" : "", text);
    memcpy((char *)t + row->field, &(int64_t){n}, sizeof(int64_t));
    return EXIT_DONE;
}

static int take(tool *t, const option_row *row, const char *argument)
{
    switch (row->kind) {
    case TEXT:
        memcpy((char *)t + row->field, &argument, sizeof argument);
        return EXIT_DONE;
    case FLAG:
        memcpy((char *)t + row->field, &(bool){true}, sizeof(bool));
        return EXIT_DONE;
    case COUNT:
    case SOME:
        return set_count(t, row, argument);
    case KEY:
        return set_key(t, row->key, argument, row->name);
    case SET:
        return set_pair(t, argument);
    }
    return EXIT_DONE;
}

/* The table in getopt's form. */
static void make_getopt(const command *c, struct option *longs, char *letters, const option_row **by_value)
{
    size_t n = 0;
    *letters++ = ':';
    for (size_t i = 0; i < N_ROWS; i++) {
        const option_row *r = &rows[i];
        if (!(r->commands & c->bit))
            continue;
        longs[n] = (struct option){r->name, r->argument ? required_argument : no_argument, NULL, FIRST_VALUE + (int)n};
        by_value[n++] = r;
        if (r->letter) {
            *letters++ = r->letter;
            if (r->argument)
                *letters++ = ':';
        }
    }
    longs[n] = (struct option){NULL, 0, NULL, 0};
    *letters = '\0';
}

static const option_row *by_letter(const command *c, int letter)
{
    for (size_t i = 0; i < N_ROWS; i++)
        if (rows[i].letter == letter && rows[i].letter && (rows[i].commands & c->bit))
            return &rows[i];
    return NULL;
}

static int check_operands(const tool *t)
{
    const command *c = t->command;
    if (t->n_args < c->min_args)
        return usage_error(t, "%s needs %s", c->name, c->operands);
    if (c->max_args >= 0 && t->n_args > c->max_args)
        return usage_error(t, "'%s' is one operand too many", t->args[c->max_args]);
    return EXIT_DONE;
}

int parse_options(tool *t, int argc, char **argv)
{
    struct option longs[N_ROWS + 1];
    const option_row *by_value[N_ROWS];
    char letters[2 * N_ROWS + 2];
    make_getopt(t->command, longs, letters, by_value);
    opterr = 0;
    optind = 1;
    for (int value; (value = getopt_long(argc, argv, letters, longs, NULL)) != -1;) {
        if (value == '?' && optopt && optopt < FIRST_VALUE)
            return usage_error(t, "unknown option -%c", optopt);
        if (value == '?')
            return usage_error(t, "unknown option or missing value: %s", argv[optind - 1]);
        if (value == ':')
            return usage_error(t, "%s needs a value", argv[optind - 1]);
        const option_row *row = value >= FIRST_VALUE ? by_value[value - FIRST_VALUE] : by_letter(t->command, value);
        int code = take(t, row, optarg);
        if (code != EXIT_DONE)
            return code;
    }
    t->args = argv + optind;
    t->n_args = argc - optind;
    return t->help ? EXIT_DONE : check_operands(t);
}
