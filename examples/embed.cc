/* SPDX-License-Identifier: Apache-2.0
 *
 * embed.cc: inside a training framework, with nothing on disk. A host in C++ trains two networks of its own and has them fused: it lends its
 * tensors as they lie (by pointer or as DLPack; float32 by columns, bfloat16, float16), hands over activations while it trains, brings its
 * allocator, threads, log and progress, cancels from another thread, gets the fused weights in its own buffers, and goes on training them.
 *
 *     embed
 *
 * Prints accuracies on fresh samples, what the library called, and how much of what was lent came back.
 */
#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <tfuse/tfuse.h>

/* ---- a small framework: tensors and a perceptron ---------------------------------------------------------- */

/* What <dlpack/dlpack.h> declares; a framework has it. */
struct DLTensor {
    void *data;
    int32_t device_type, device_id, ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
};
struct DLManagedTensorVersioned {
    uint32_t major, minor;
    void *manager_ctx;
    void (*deleter)(DLManagedTensorVersioned *self);
    uint64_t flags;
    DLTensor tensor;
};

static std::atomic<int> lent(0), given_back(0);

enum { INPUTS = 20, HIDDEN = 40, CLASSES = 6, BATCH = 50, STEPS = 4000, LAST = 60, TEST = 4000 };

typedef std::vector<float> floats;

/* A weight is stored by columns: inputs × outputs. */
struct Net {
    floats w1, b1, w2, b2;
    floats first, relu, logits; /* of the batch under way */

    explicit Net(unsigned seed) : w1(INPUTS * HIDDEN), b1(HIDDEN), w2(HIDDEN * CLASSES), b2(CLASSES)
    {
        std::mt19937 random(seed);
        std::normal_distribution<float> normal(0, 0.3f);
        for (float &x : w1)
            x = normal(random);
        for (float &x : w2)
            x = normal(random);
    }

    static void linear(const floats &x, const floats &w, const floats &b, floats &y)
    {
        const size_t out = b.size(), in = w.size() / out, rows = x.size() / in;
        y.assign(rows * out, 0);
        for (size_t r = 0; r < rows; r++)
            for (size_t o = 0; o < out; o++) {
                float sum = b[o];
                for (size_t i = 0; i < in; i++)
                    sum += x[r * in + i] * w[i * out + o];
                y[r * out + o] = sum;
            }
    }

    void forward(const floats &x)
    {
        linear(x, w1, b1, first);
        relu = first;
        for (float &v : relu)
            v = std::max(v, 0.0f);
        linear(relu, w2, b2, logits);
    }

    static void descend(const floats &x, const floats &g, floats &w, floats &b, float rate)
    {
        const size_t out = b.size(), in = w.size() / out, rows = x.size() / in;
        for (size_t r = 0; r < rows; r++)
            for (size_t o = 0; o < out; o++) {
                b[o] -= rate * g[r * out + o];
                for (size_t i = 0; i < in; i++)
                    w[i * out + o] -= rate * g[r * out + o] * x[r * in + i];
            }
    }

    void learn(const floats &x, const std::vector<int> &label)
    {
        floats g(logits.size()), h(first.size());
        for (size_t r = 0; r < label.size(); r++) {
            float sum = 0;
            for (int c = 0; c < CLASSES; c++)
                sum += g[r * CLASSES + c] = std::exp(logits[r * CLASSES + c]);
            for (int c = 0; c < CLASSES; c++)
                g[r * CLASSES + c] = (g[r * CLASSES + c] / sum - (label[r] == c)) / BATCH;
            for (int u = 0; u < HIDDEN; u++)
                for (int c = 0; c < CLASSES && first[r * HIDDEN + u] > 0; c++)
                    h[r * HIDDEN + u] += g[r * CLASSES + c] * w2[u * CLASSES + c];
        }
        descend(relu, g, w2, b2, 0.3f);
        descend(x, h, w1, b1, 0.3f);
    }
};

/* The task: what a random network answers. */
struct Task {
    Net teacher;
    std::mt19937 random;
    explicit Task(unsigned seed) : teacher(99), random(seed) {}

    void draw(size_t rows, floats &x, std::vector<int> &label)
    {
        std::normal_distribution<float> normal;
        x.resize(rows * INPUTS);
        label.resize(rows);
        for (float &v : x)
            v = normal(random);
        teacher.forward(x);
        for (size_t r = 0; r < rows; r++)
            label[r] = int(std::max_element(&teacher.logits[r * CLASSES], &teacher.logits[(r + 1) * CLASSES]) - &teacher.logits[r * CLASSES]);
    }
};

static void report(const char *name, Net &net)
{
    floats x;
    std::vector<int> label;
    Task(7).draw(TEST, x, label);
    net.forward(x);
    int right = 0;
    for (size_t r = 0; r < label.size(); r++)
        right += std::max_element(&net.logits[r * CLASSES], &net.logits[(r + 1) * CLASSES]) - &net.logits[r * CLASSES] == label[r];
    std::printf("%-18s %.2f %%\n", name, 100.0 * right / TEST);
}

/* ---- what the host brings --------------------------------------------------------------------------------------- */

static std::atomic<long> blocks(0), loops(0), lines(0);

static void *host_alloc(void *, size_t size, size_t align)
{
    void *p = nullptr;
    if (posix_memalign(&p, std::max(align, sizeof p), size ? size : 1))
        return nullptr;
    blocks++;
    return p;
}

static void host_free(void *, void *p, size_t, size_t)
{
    blocks--;
    std::free(p);
}

static void host_log(void *, int32_t, const char *)
{
    lines++;
}

/* Threads that wait for work. */
class Pool {
    std::mutex mutex;
    std::condition_variable work, idle;
    void (*body)(void *, uint32_t) = nullptr;
    void *arg = nullptr;
    uint32_t next = 0, end = 0, busy = 0;
    bool quit = false;
    std::vector<std::thread> threads;

    void take(std::unique_lock<std::mutex> &lock)
    {
        while (next < end) {
            const uint32_t i = next++;
            busy++;
            lock.unlock();
            body(arg, i);
            lock.lock();
            if (--busy == 0 && next >= end)
                idle.notify_all();
        }
    }

public:
    explicit Pool(unsigned n)
    {
        for (unsigned i = 1; i < n; i++)
            threads.emplace_back([this] {
                std::unique_lock<std::mutex> lock(mutex);
                while (!quit) {
                    take(lock);
                    work.wait(lock, [this] { return quit || next < end; });
                }
            });
    }
    ~Pool()
    {
        {
            std::lock_guard<std::mutex> lock(mutex);
            quit = true;
        }
        work.notify_all();
        for (std::thread &t : threads)
            t.join();
    }
    static void parallel_for(void *self, uint32_t n, void (*body)(void *, uint32_t), void *arg)
    {
        Pool *p = static_cast<Pool *>(self);
        std::unique_lock<std::mutex> lock(p->mutex);
        loops++;
        p->body = body;
        p->arg = arg;
        p->next = 0;
        p->end = n;
        p->work.notify_all();
        p->take(lock);
        p->idle.wait(lock, [p] { return p->busy == 0 && p->next >= p->end; });
    }
};

/* Progress wakes another thread, which cancels; the call is held until it has. */
struct Stopper {
    tfuse_ctx *ctx;
    std::mutex mutex;
    std::condition_variable changed;
    bool started = false, cancelled = false;

    static int32_t progress(void *self, const tfuse_progress *)
    {
        Stopper *s = static_cast<Stopper *>(self);
        std::unique_lock<std::mutex> lock(s->mutex);
        s->started = true;
        s->changed.notify_all();
        s->changed.wait(lock, [s] { return s->cancelled; });
        return 0;
    }
    void watch()
    {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [this] { return started; });
        tfuse_ctx_cancel(ctx);
        cancelled = true;
        changed.notify_all();
    }
};

/* ---- handing over ---------------------------------------------------------------------------------------------------- */

struct Freer {
    void operator()(tfuse_ctx *p) const { tfuse_ctx_free(p); }
    void operator()(tfuse_model *p) const { tfuse_model_free(p); }
    void operator()(tfuse_policy *p) const { tfuse_policy_free(p); }
    void operator()(tfuse_plan *p) const { tfuse_plan_free(p); }
    void operator()(tfuse_stats *p) const { tfuse_stats_free(p); }
    void operator()(tfuse_array *p) const { tfuse_array_free(p); }
};
template <class T> using handle = std::unique_ptr<T, Freer>;

static void check(const handle<tfuse_ctx> &ctx, tfuse_status status)
{
    if (status) {
        std::fprintf(stderr, "embed: %s: %s\n", tfuse_status_name(status), tfuse_ctx_error(ctx.get()));
        std::exit(1);
    }
}

static const char config[] =
    "{\"model_type\": \"perceptron\", \"tfuse_graph\": {\"tfuse_graph\": 1, \"arch\": \"perceptron\", \"output\": \"logits\","
    " \"nodes\": [{\"op\": \"input\", \"name\": \"x\", \"inputs\": \"\", \"attrs\": \"kind=features shape=20\"},"
    " {\"op\": \"linear\", \"name\": \"first\", \"inputs\": \"x\", \"attrs\": \"out=hidden:40 bias=1\"},"
    " {\"op\": \"activation\", \"name\": \"relu\", \"inputs\": \"first\", \"attrs\": \"kind=relu\"},"
    " {\"op\": \"linear\", \"name\": \"logits\", \"inputs\": \"relu\", \"attrs\": \"out=!classes:6 bias=1\"}],"
    " \"tensors\": {}, \"buffers\": []}}";

static void give_back(void *)
{
    given_back++;
}

/* The first network's own float32 memory, by pointer: its weights change under the library's eyes. */
static handle<tfuse_model> lend(const handle<tfuse_ctx> &ctx, Net &n)
{
    tfuse_model *made = nullptr;
    check(ctx, tfuse_model_new(ctx.get(), config, nullptr, nullptr, &made));
    handle<tfuse_model> model(made);
    const auto add = [&](const char *name, const floats &data, std::vector<int64_t> shape, std::vector<int64_t> strides) {
        lent++;
        check(ctx, tfuse_model_add_strided(ctx.get(), made, name, TFUSE_F32, shape.size(), shape.data(), strides.data(), data.data(), give_back,
                                           nullptr));
    };
    add("first.weight", n.w1, {HIDDEN, INPUTS}, {1, HIDDEN});
    add("first.bias", n.b1, {HIDDEN}, {1});
    add("logits.weight", n.w2, {CLASSES, HIDDEN}, {1, CLASSES});
    add("logits.bias", n.b2, {CLASSES}, {1});
    check(ctx, tfuse_model_seal(ctx.get(), made));
    return model;
}

/* A copy in 16 bits, as mixed-precision training keeps one. It owns itself: the library's release deletes it. */
struct Half {
    std::vector<uint16_t> data;
    std::vector<int64_t> shape, strides;
    DLManagedTensorVersioned table;

    Half(const std::vector<int64_t> &s, const std::vector<int64_t> &st, bool brain) : shape(s), strides(st)
    {
        size_t n = 1;
        for (int64_t e : shape)
            n *= size_t(e);
        data.resize(n);
        table = DLManagedTensorVersioned();
        table.major = 1;
        table.manager_ctx = this;
        table.deleter = [](DLManagedTensorVersioned *self) {
            given_back++;
            delete static_cast<Half *>(self->manager_ctx);
        };
        table.tensor.data = data.data();
        table.tensor.device_type = 1; /* kDLCPU */
        table.tensor.ndim = int32_t(shape.size());
        table.tensor.code = brain ? 4 : 2; /* kDLBfloat, kDLFloat */
        table.tensor.bits = 16;
        table.tensor.lanes = 1;
        table.tensor.shape = shape.data();
        table.tensor.strides = strides.data();
    }
    void copy(const floats &from)
    {
        for (size_t i = 0; i < data.size(); i++) {
            uint32_t u;
            std::memcpy(&u, &from[i], sizeof u);
            if (table.tensor.code == 4) {
                data[i] = uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
            } else { /* biases of this network are normal numbers in float16, or next to zero */
                const int e = int(u >> 23 & 255) - 112;
                data[i] = uint16_t(u >> 16 & 0x8000) | uint16_t(e <= 0 ? 0 : (uint32_t(e) << 10 | (u >> 13 & 1023)) + (u >> 12 & 1));
            }
        }
    }
};

struct Halves {
    Half *w1, *b1, *w2, *b2;
    Halves()
        : w1(new Half({HIDDEN, INPUTS}, {1, HIDDEN}, true)), b1(new Half({HIDDEN}, {1}, false)), w2(new Half({CLASSES, HIDDEN}, {1, CLASSES}, true)),
          b2(new Half({CLASSES}, {1}, false))
    {
    }
    void copy(const Net &n)
    {
        w1->copy(n.w1);
        b1->copy(n.b1);
        w2->copy(n.w2);
        b2->copy(n.b2);
    }
    handle<tfuse_model> lend(const handle<tfuse_ctx> &ctx)
    {
        tfuse_model *made = nullptr;
        check(ctx, tfuse_model_new(ctx.get(), config, nullptr, nullptr, &made));
        handle<tfuse_model> model(made);
        lent += 4;
        check(ctx, tfuse_model_add_dlpack_versioned(ctx.get(), made, "first.weight", &w1->table));
        check(ctx, tfuse_model_add_dlpack_versioned(ctx.get(), made, "first.bias", &b1->table));
        check(ctx, tfuse_model_add_dlpack_versioned(ctx.get(), made, "logits.weight", &w2->table));
        check(ctx, tfuse_model_add_dlpack_versioned(ctx.get(), made, "logits.bias", &b2->table));
        check(ctx, tfuse_model_seal(ctx.get(), made));
        return model;
    }
};

/* The values that the policy wants, of the batch that has just gone forward. */
static void feed(const handle<tfuse_ctx> &ctx, tfuse_stats *stats, Net *const *nets)
{
    for (size_t i = 0; i < tfuse_stats_count(stats); i++) {
        tfuse_stat_want want = tfuse_stat_want();
        want.struct_size = sizeof want;
        check(ctx, tfuse_stats_want(stats, i, &want));
        const Net &n = *nets[want.model];
        const std::string name = want.value;
        const floats &value = name == "first" ? n.first : name == "relu" ? n.relu : n.logits;
        const int64_t shape[] = {BATCH, want.units};
        tfuse_array *batch = nullptr;
        lent++;
        check(ctx, tfuse_array_wrap(ctx.get(), TFUSE_F32, 2, shape, value.data(), give_back, nullptr, &batch));
        handle<tfuse_array> owned(batch);
        check(ctx, tfuse_stats_feed(ctx.get(), stats, want.model, want.value, batch));
    }
    check(ctx, tfuse_stats_step(ctx.get(), stats));
}

/* Fused tensors come row by row, and are stored by columns. */
struct Receiver {
    Net net;
    floats rows;
    Receiver() : net(0) {}

    static void *place(void *self, const tfuse_tensor_info *t)
    {
        Receiver *r = static_cast<Receiver *>(self);
        r->rows.resize(size_t(t->size / sizeof(float)));
        return t->dtype == TFUSE_F32 ? r->rows.data() : nullptr;
    }
    static int32_t done(void *self, const tfuse_tensor_info *t)
    {
        Receiver *r = static_cast<Receiver *>(self);
        const std::string name = t->name;
        floats &to = name == "first.weight" ? r->net.w1 : name == "first.bias" ? r->net.b1 : name == "logits.weight" ? r->net.w2 : r->net.b2;
        const size_t out = size_t(t->shape[0]), in = to.size() / out;
        for (size_t o = 0; o < out; o++)
            for (size_t i = 0; i < in; i++)
                to[i * out + o] = r->rows[o * in + i];
        return 0;
    }
};

static Net fuse(const handle<tfuse_ctx> &ctx, tfuse_policy *policy, tfuse_plan *plan, const tfuse_model *const *models)
{
    Receiver receiver;
    tfuse_sink sink = tfuse_sink();
    sink.struct_size = sizeof sink;
    sink.user = &receiver;
    sink.place = Receiver::place;
    sink.done = Receiver::done;
    check(ctx, tfuse_fuse_into(ctx.get(), policy, plan, models, 2, nullptr, &sink));
    return receiver.net;
}

static handle<tfuse_policy> policy_of(const handle<tfuse_ctx> &ctx, const char *strategy)
{
    tfuse_policy *made = nullptr;
    check(ctx, tfuse_policy_new(ctx.get(), &made));
    handle<tfuse_policy> policy(made);
    check(ctx, tfuse_policy_set(ctx.get(), made, "align.strategy", strategy));
    return policy;
}

static handle<tfuse_ctx> context(Pool &pool)
{
    tfuse_ctx *made = nullptr;
    tfuse_allocator alloc = tfuse_allocator();
    alloc.struct_size = sizeof alloc;
    alloc.alloc = host_alloc;
    alloc.free = host_free;
    if (tfuse_ctx_new(&alloc, &made))
        std::exit(1);
    handle<tfuse_ctx> ctx(made);
    tfuse_executor ex = tfuse_executor();
    ex.struct_size = sizeof ex;
    ex.user = &pool;
    ex.concurrency = 3;
    ex.parallel_for = Pool::parallel_for;
    check(ctx, tfuse_ctx_set_executor(made, &ex));
    check(ctx, tfuse_ctx_set_log(made, host_log, nullptr, TFUSE_LOG_DEBUG));
    return ctx;
}

/* An alignment that another thread stops; then the same one to its end. */
static handle<tfuse_plan> align(const handle<tfuse_ctx> &ctx, tfuse_policy *policy, tfuse_stats *stats)
{
    tfuse_plan *plan = nullptr;
    Stopper stopper;
    stopper.ctx = ctx.get();
    check(ctx, tfuse_ctx_set_progress(ctx.get(), Stopper::progress, &stopper));
    std::thread other(&Stopper::watch, &stopper);
    const tfuse_status status = tfuse_align_stats(ctx.get(), policy, stats, &plan);
    other.join();
    std::printf("%-18s %s\n", "stopped", tfuse_status_name(status));
    check(ctx, tfuse_ctx_set_progress(ctx.get(), nullptr, nullptr));
    check(ctx, tfuse_align_stats(ctx.get(), policy, stats, &plan));
    return handle<tfuse_plan>(plan);
}

/* The library's own evaluator agrees with the host about the borrowed weights. */
static void report_by_library(const handle<tfuse_ctx> &ctx, const tfuse_model *model)
{
    floats x;
    std::vector<int> label;
    Task(7).draw(TEST, x, label);
    const int64_t shape[] = {TEST, INPUTS};
    tfuse_array *made = nullptr;
    tfuse_score score = tfuse_score();
    score.struct_size = sizeof score;
    check(ctx, tfuse_array_wrap(ctx.get(), TFUSE_F32, 2, shape, x.data(), nullptr, nullptr, &made));
    handle<tfuse_array> samples(made);
    check(ctx, tfuse_array_wrap(ctx.get(), TFUSE_I32, 1, shape, label.data(), nullptr, nullptr, &made));
    handle<tfuse_array> labels(made);
    check(ctx, tfuse_eval(ctx.get(), model, nullptr, samples.get(), labels.get(), 0, &score));
    std::printf("%-18s %.2f %%\n", "the same by tfuse", 100.0 * double(score.correct) / double(score.n));
}

static void run(const handle<tfuse_ctx> &ctx)
{
    Net first(1), second(2), *nets[] = {&first, &second};
    Halves copies;
    handle<tfuse_model> a = lend(ctx, first), b = copies.lend(ctx);
    const tfuse_model *models[] = {a.get(), b.get()};
    handle<tfuse_policy> policy = policy_of(ctx, "otfusion"), none = policy_of(ctx, "none");
    tfuse_stats *made = nullptr;
    check(ctx, tfuse_stats_new(ctx.get(), policy.get(), models, 2, &made));
    handle<tfuse_stats> stats(made);

    Task task(3);
    floats x;
    std::vector<int> label;
    for (int step = 0; step < STEPS; step++) {
        task.draw(BATCH, x, label);
        for (Net *n : nets)
            n->forward(x);
        if (step >= STEPS - LAST)
            feed(ctx, made, nets);
        for (Net *n : nets)
            n->learn(x, label);
    }
    copies.copy(second);

    handle<tfuse_plan> plan = align(ctx, policy.get(), made);
    tfuse_plan *plain = nullptr;
    check(ctx, tfuse_align(ctx.get(), none.get(), models, 2, nullptr, &plain));
    handle<tfuse_plan> same_places(plain);
    Net average = fuse(ctx, none.get(), plain, models), fused = fuse(ctx, policy.get(), plan.get(), models);
    report("first", first);
    report_by_library(ctx, a.get());
    report("second", second);
    report("plain average", average);
    report("fused", fused);
    for (int step = 0; step < STEPS / 10; step++) {
        task.draw(BATCH, x, label);
        fused.forward(x);
        fused.learn(x, label);
    }
    report("trained further", fused);
}

int main()
{
    Pool pool(3);
    {
        handle<tfuse_ctx> ctx = context(pool);
        run(ctx);
    }
    std::printf("%-18s %d of %d\n", "given back", given_back.load(), lent.load());
    std::printf("%-18s %ld\n", "blocks left", blocks.load());
    std::printf("%-18s %s\n", "own threads", loops.load() > 0 ? "used" : "not used");
    std::printf("%-18s %s\n", "own log", lines.load() > 0 ? "used" : "not used");
    return 0;
}
