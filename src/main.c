/* SPDX-License-Identifier: Apache-2.0
 *
 * main.c: the command tfuse: the table of sub-commands, exit statuses, Ctrl-C.
 *
 * Exit status: 0; 1 failed; 2 wrong command line, keys and values included; 130 after Ctrl-C. The first Ctrl-C asks the library to stop,
 * which cleans up; the second kills.
 */
#include "tool.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const command commands[] = {
    {"inspect", "MODEL", "architecture, axes, symmetry groups, parameters",
     "Prints the graph of a model: every axis (a set of neurons that one map may move), its extent, the\n"
     "group of maps that leave the function as it is, and the tensors that it binds. MODEL is a checkpoint\n"
     "directory, a .safetensors file with config.json beside it, or a config.json alone.",
     CMD_INSPECT, 1, 1, cmd_inspect},
    {"eval", "MODEL --inputs F [--labels F]", "accuracy and mean loss",
     "Runs a model on inputs and scores it. Images of uint8 are normalised by the model's\n"
     "preprocessor_config.json and never resized; floating-point inputs are taken as they are; integers are\n"
     "token ids. --json prints {n, accuracy (a fraction), loss (mean, nats)}; without labels the last two are null,\n"
     "but for causal language models, which are scored on their next tokens.",
     CMD_EVAL, 1, 1, cmd_eval},
    {"run", "MODEL --inputs F -o OUT.npy", "outputs (logits)",
     "Runs a model on inputs and writes its outputs as float32, samples first. --json prints {out, shape}.", CMD_RUN, 1, 1, cmd_run},
    {"gauge", "MODEL --seed N -o OUT", "the same function in other coordinates",
     "Draws a random member of the model's symmetry group and writes the same function in other coordinates: stream,\n"
     "heads, inner spaces of queries and keys and of values, hidden units. gauge.stream=orthogonal (the default) writes the\n"
     "canonical form, with norm gains folded away; permutation keeps them; none leaves the stream. Outputs agree to rounding.\n"
     "--json prints {maps, passes, out}.",
     CMD_GAUGE, 1, 1, cmd_gauge},
    {"align", "ANCHOR MODEL... -o PLAN", "compute and save a plan",
     "Aligns models to the first one, the anchor, and writes the plan: the maps and where each applies.\n"
     "--json prints what plan --json does but its table, and {seconds, out}.",
     CMD_ALIGN, 2, -1, cmd_align},
    {"plan", "PLAN", "look into a plan",
     "Prints the maps of a plan: what they cost, the certified gap, how far each is from the identity.\n"
     "--html writes a page that needs nothing but a browser: pictures of the maps, charts by layer, provenance.\n"
     "--json prints {strategy, exact, carries, policy, objective, owners, repair, models: [{name, graph, header, weights}], passes,\n"
     "maps: [as under fuse], table: [{model, tensor, dim, part, map, side}]}.",
     CMD_PLAN, 1, 1, cmd_plan},
    {"fuse", "ANCHOR MODEL... -o OUT", "fuse models into one checkpoint",
     "Aligns models to the first one, the anchor, combines the aligned weights, and writes a checkpoint directory\n"
     "in the anchor's shape. OUT appears whole or not at all. Without --calib units are compared by their weights;\n"
     "causal language models that are small enough, or with --generate N, then write calibration text of their own.\n"
     "--json prints {maps: [{name, model, axis, kind, solver, n, m, cost, gap, error, correlation, kept, identity, entropy,\n"
     "iterations, converged, heads}], strategy, objective, calibration, weights, selfcheck, repair, seconds, peak_bytes, out}.\n"
     "--dry-run lists every problem and what the run takes, from headers alone: {problems, peak_bytes, read_bytes, write_bytes}\n"
     "with --json; exit status 1 when there is a problem.",
     CMD_FUSE, 2, -1, cmd_fuse},
    {"moe", "MODEL --experts E --top-k K -o OUT", "split a model's feed-forward networks into experts",
     "Clusters the hidden units of every feed-forward network by their keys into E experts of equal size, each routed to by the\n"
     "mean of its keys, and writes a mixture of experts in which a token goes to K of them; with K = E it computes what MODEL does.\n"
     "--layout emoe (the default) takes any model; mixtral, qwen2_moe and qwen3_moe are for models that are those but for their\n"
     "experts, and transformers loads them. `tfuse moe MODEL --dense -o OUT` goes back. --calib adds what routing costs: squared\n"
     "error over the square of what the dense model has, beside contiguous and random splits. --json prints {layout, split, experts,\n"
     "top_k, weights, selfcheck, spread, error, output_error, ffns: [{name, units, iterations, swaps, spread, error}], peak_bytes,\n"
     "out}, with --dense {layout, experts, top_k, ffns, ordered, peak_bytes, out}.",
     CMD_MOE, 1, 1, cmd_moe},
    {"path", "A B --inputs F [--labels F]", "loss and accuracy along the line from one model to another",
     "Aligns B to A as fuse would, and scores the fused models on the straight line between them: t is the weight of B,\n"
     "0 is A, 1 is B as aligned. Beside it runs the line without alignment. -o draws it (.svg) or writes the numbers (.json).\n"
     "The barrier is the most by which the loss exceeds the line between the losses of A and B as they are.\n"
     "--json prints {n, strategy, models, points: [{t, loss, accuracy, plain}], barrier: {loss, t}, plain_barrier}.",
     CMD_PATH, 2, 2, cmd_path},
    {"solve", "COST.npy", "solve a bare transport problem",
     "Minimises the sum of coupling × cost over couplings with row sums mu and column sums nu, scaled to sum to one.\n"
     "-o writes the coupling, --save-u and --save-v its potentials; --u and --v start from those of a neighbouring problem.\n"
     "--json prints {cost, gap, bound, iterations, seconds, converged, error, method}: bound is the certified dual value, null without.",
     CMD_SOLVE, 1, 1, cmd_solve},
    {"keys", "", "every policy key with type, bounds, default", "Prints the table of keys that --set takes.", CMD_KEYS, 0, 0,
     cmd_keys},
    {NULL, NULL, NULL, NULL, 0, 0, 0, NULL},
};

static void print_help(FILE *to)
{
    fprintf(to, "usage: tfuse COMMAND ...\n\nFuses independently trained networks into one, by optimal transport.\n\n");
    for (const command *c = commands; c->name; c++)
        fprintf(to, "  tfuse %-7s %-30s %s\n", c->name, c->operands, c->summary);
    fprintf(to, "\n`tfuse COMMAND --help` lists a command's options; `tfuse --version` prints the version.\n"
                "MODEL: a directory with config.json and model.safetensors (or shards with an index), or a .safetensors file.\n"
                "F: .npy, file.npz:key, or IDX, gzipped or not.\n");
}

/* ---- Ctrl-C -------------------------------------------------------------------------------------------------- */

static tfuse_ctx *volatile interrupted;

static void on_interrupt(int number)
{
    (void)number;
    tfuse_ctx_cancel(interrupted);
}

static void catch_interrupts(tfuse_ctx *ctx)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    action.sa_flags = (int)SA_RESETHAND | SA_RESTART;
    sigemptyset(&action.sa_mask);
    interrupted = ctx;
    sigaction(SIGINT, &action, NULL);
}

/* ---- running a command ------------------------------------------------------------------------------------------ */

static int set_up(tool *t)
{
    if (t->threads > UINT32_MAX)
        return usage_error(t, "--threads %lld is too many", (long long)t->threads);
    tfuse_status status = tfuse_ctx_set_threads(t->ctx, (uint32_t)t->threads);
    if (status == TFUSE_ERANGE)
        return usage_error(t, "--threads: %s", tfuse_ctx_error(t->ctx));
    if (status == TFUSE_OK && !t->quiet)
        status = tfuse_ctx_set_log(t->ctx, show_log, NULL, TFUSE_LOG_WARN);
    if (status == TFUSE_OK && !t->quiet && !t->json && isatty(STDERR_FILENO))
        status = tfuse_ctx_set_progress(t->ctx, show_progress, NULL);
    return library_status(t, status);
}

static int run_command(tool *t, int argc, char **argv)
{
    int code = library_status(t, tfuse_policy_new(t->ctx, &t->policy));
    if (code == EXIT_DONE)
        code = parse_options(t, argc, argv);
    if (code == EXIT_DONE && t->help) {
        print_command_help(t->command);
        return EXIT_DONE;
    }
    if (code == EXIT_DONE)
        code = set_up(t);
    if (code == EXIT_DONE)
        code = t->command->run(t);
    end_progress();
    return code;
}

static const command *find_command(const char *name)
{
    for (const command *c = commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

/* A full disk behind standard output is a failure too. */
static int flush(int code)
{
    if (fflush(stdout) != 0 && code == EXIT_DONE)
        return fail("cannot write to standard output");
    return code;
}

/* Large blocks go back to the system when they are freed. glibc otherwise learns to keep blocks of up to 32 MiB, and the process then
 * holds what the library has long given back. */
static void return_blocks(void)
{
#ifdef M_MMAP_THRESHOLD
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 1 << 21);
#endif
}

int main(int argc, char **argv)
{
    tool t = {.steps = 11};
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_help(stdout);
        return flush(EXIT_DONE);
    }
    if (!strcmp(argv[1], "--version")) {
        uint32_t v = tfuse_version();
        printf("tfuse %u.%u.%u\n", v / 10000, v / 100 % 100, v % 100);
        return flush(EXIT_DONE);
    }
    t.command = find_command(argv[1]);
    if (!t.command)
        return usage_error(NULL, "there is no command '%s'", argv[1]);
    return_blocks();
    if (tfuse_ctx_new(NULL, &t.ctx) != TFUSE_OK)
        return fail("out of memory");
    catch_interrupts(t.ctx);
    int code = run_command(&t, argc - 1, argv + 1);
    tfuse_array_free(t.calibration);
    tfuse_policy_free(t.policy);
    signal(SIGINT, SIG_DFL);
    tfuse_ctx_free(t.ctx);
    return flush(code);
}
