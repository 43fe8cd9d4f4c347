/* SPDX-License-Identifier: Apache-2.0
 *
 * tool.h: what the files of the command share. The command uses the library's public headers and nothing else of it.
 */
#ifndef TOOL_H
#define TOOL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <tfuse/tfuse.h>

/* Exit statuses. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CANCELLED = 130 };

struct tool;

/* A sub-command. */
typedef struct command {
    const char *name;
    const char *operands;   /* "ANCHOR MODEL... -o OUT" */
    const char *summary;    /* one line, for the list of commands */
    const char *text;       /* paragraphs of its --help */
    unsigned bit;           /* in the options' masks */
    int min_args, max_args; /* operands */
    int (*run)(struct tool *tool);
} command;

enum { CMD_INSPECT = 1, CMD_EVAL = 2, CMD_RUN = 4, CMD_ALIGN = 8, CMD_PLAN = 16, CMD_FUSE = 32, CMD_SOLVE = 64, CMD_KEYS = 128,
       CMD_PATH = 256, CMD_GAUGE = 512, CMD_MOE = 1024 };

extern const command commands[]; /* ends with a NULL name */

/* One run of the command: what the command line said, and the handles that everything goes through. */
typedef struct tool {
    const command *command;
    tfuse_ctx *ctx;
    tfuse_policy *policy;
    char **args; /* operands */
    int n_args;
    const char *inputs, *labels, *calib, *mu, *nu, *u, *v, *save_u, *save_v, *out, *plan, *save_plan, *html;
    const char *align_option; /* the last one given that bears on aligning; NULL: none */
    int64_t limit, threads, steps;
    bool json, quiet, force, help, dry_run, dense;
    bool samples_given;
    tfuse_array *calibration; /* made by load_calibration */
    bool generated;           /* by the models themselves */
} tool;

/* opts.c: the table of options. EXIT_DONE, or an exit status after having said why. */
int parse_options(tool *t, int argc, char **argv);
void print_command_help(const command *c);

/* output.c */
int usage_error(const tool *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says what the library said, and turns its status into an exit status; EXIT_DONE for TFUSE_OK. */
int library_status(const tool *t, tfuse_status status);
/* What speaks against an output that the library, which does not know all of a command's files, cannot see: its name is empty, it is an input, or another
 * output has its name (EXIT_USAGE). The exit status of a run that meets it, and why (OUTPUT_WHY bytes); EXIT_DONE: nothing does. */
enum { OUTPUT_WHY = 2048 };
int output_problem(const tool *t, const char *path, char *why);
/* Refuses such an output before any work is done, and one that the library would refuse to write: a file, or a checkpoint's directory. */
int check_output(const tool *t, const char *path, bool directory);
/* Writes what `draw` prints on a stream to a file that appears whole or not at all. */
int save_file(const tool *t, const char *path, void (*draw)(FILE *f, const void *subject), const void *subject);
/* Prints one object on standard output and gives it back. */
int print_json(json_t *object);
/* A number, or null when it is none. */
json_t *json_number(double x);
/* Prints text without control characters, padded to `width` columns. */
void print_text(const char *text, int width);
/* A number for "%.*f" with so many digits: where rounding leaves nothing of it, a zero without a sign. */
double shown(double x, int digits);
/* A path as a shell takes it, for commands that are shown to be copied: quoted where that is needed. */
void print_word(const char *text);
/* A number in at most 10 columns; "-" when it is none. */
void print_number(double x);
double seconds_now(void);

/* models.c */
/* Opens the operands from `first` on as models, *n of them. */
int open_models(const tool *t, int first, tfuse_model ***out, size_t *n);
void free_models(tfuse_model **models, size_t n);
/* Opens an array; a NULL path gives NULL. */
int open_array(const tool *t, const char *path, tfuse_array **out);

/* The calibration inputs of --calib, or those that the models generate for aligning, or for a plan that is given; t->calibration stays NULL where there
 * are none. Once. */
int load_calibration(tool *t, const tfuse_plan *plan, tfuse_model **models, size_t n);

/* dry_run.c */
/* Prints what a run of fuse (or of moe) would meet and take; EXIT_FAILED when it would fail. */
int dry_run(const tool *t);
/* Refuses a run for which run.memory is too little, before any work is done. */
int check_memory(const tool *t);

/* progress.c: a bar on standard error. */
int32_t show_progress(void *user, const tfuse_progress *p);
void end_progress(void);
void show_log(void *user, int32_t level, const char *line);

/* maps.c: the maps of a plan. */
typedef struct map_totals {
    size_t maps, solved, unconverged;
    double cost, gap; /* sum of costs; worst gap, NaN when no map has one */
} map_totals;
map_totals total_maps(const tfuse_plan *plan);
void print_totals(const map_totals *totals);
/* A line for each map of heads of the plan's report (all of them, or those of unequal counts): where each head of the anchor comes from. */
void print_heads(const json_t *report, bool all);
/* Whose units repair selected, by axis: of a plan that was saved with it. */
void print_owners(const json_t *report);
/* Units of a row of owners that came from a model. */
size_t count_owned(const json_t *owners, size_t model);
/* The plan's report as JSON. */
int plan_object(const tool *t, const tfuse_plan *plan, json_t **out);
/* Options that exclude --plan. */
int check_plan_options(const tool *t);
/* Reads the plan of --plan, or makes one of the models with the policy and the calibration inputs and saves it where --save-plan says. */
int find_plan(tool *t, tfuse_model **models, size_t n, tfuse_plan **out);
/* Makes a plan of models with the policy and the calibration inputs. */
int make_plan(tool *t, tfuse_model **models, size_t n, tfuse_plan **out);

int cmd_inspect(tool *t);
int cmd_eval(tool *t);
int cmd_run(tool *t);
int cmd_align(tool *t);
int cmd_plan(tool *t);
int cmd_fuse(tool *t);
int cmd_solve(tool *t);
int cmd_keys(tool *t);
int cmd_gauge(tool *t);
int cmd_path(tool *t);
int cmd_moe(tool *t);

#endif
