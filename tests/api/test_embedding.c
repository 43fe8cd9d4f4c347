/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors of a host's: strided, in DLPack's form, released once whatever happens; fused tensors in the host's own buffers.
 */
#include "api.h"
#include <stdlib.h>

/* ---- DLPack's tables, as its specification has them --------------------------------------------------------- */

typedef struct dl_tensor {
    void *data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} dl_tensor;

struct DLManagedTensor {
    dl_tensor t;
    void *ctx;
    void (*deleter)(struct DLManagedTensor *self);
};

struct DLManagedTensorVersioned {
    uint32_t major, minor;
    void *ctx;
    void (*deleter)(struct DLManagedTensorVersioned *self);
    uint64_t flags;
    dl_tensor t;
};

static void deleted(struct DLManagedTensor *self)
{
    ++*(int *)self->ctx;
}

static void deleted_versioned(struct DLManagedTensorVersioned *self)
{
    ++*(int *)self->ctx;
}

static void released(void *owner)
{
    ++*(int *)owner;
}

static struct DLManagedTensor dl(void *data, int64_t *shape, int64_t *strides, int32_t rank, int *count)
{
    return (struct DLManagedTensor){{data, 1, 0, rank, 2, 32, 1, shape, strides, 0}, count, deleted};
}

/* ---- strides ----------------------------------------------------------------------------------------------------- */

static float numbers[24];

static tfuse_model *model_of(tfuse_ctx *ctx, tfuse_dtype dtype, size_t rank, const int64_t *shape, const int64_t *strides, const void *data)
{
    tfuse_model *m = NULL;
    api_ok(ctx, tfuse_model_new(ctx, NULL, NULL, NULL, &m));
    api_ok(ctx, tfuse_model_add_strided(ctx, m, "x", dtype, rank, shape, strides, data, NULL, NULL));
    api_ok(ctx, tfuse_model_seal(ctx, m));
    return m;
}

START_TEST(test_strided)
{
    static const struct {
        size_t rank;
        int64_t shape[3], strides[3], first;
    } views[] = {{2, {4, 6}, {6, 1}, 0},       {2, {6, 4}, {1, 6}, 0},          {2, {2, 3}, {12, 2}, 1},      {1, {24}, {-1}, 23},
                 {3, {2, 3, 4}, {1, 2, 6}, 0}, {3, {3, 2, 2}, {-8, 4, 1}, 16},  {2, {3, 4}, {0, 1}, 5},       {0, {0}, {0}, 7},
                 {2, {0, 4}, {9, 9}, 0},       {2, {1, 3}, {INT64_MAX, 1}, 0},  {3, {4, 1, 2}, {2, 77, 1}, 3}};
    tfuse_ctx *ctx = api_new();
    for (int i = 0; i < 24; i++)
        numbers[i] = (float)i;
    for (size_t v = 0; v < sizeof views / sizeof views[0]; v++) {
        float want[24], got[24];
        size_t n = 1, at[3];
        for (size_t d = 0; d < views[v].rank; d++)
            n *= (size_t)views[v].shape[d];
        for (size_t i = 0; i < n; i++) { /* by definition */
            int64_t where = views[v].first;
            size_t rest = i;
            for (size_t d = views[v].rank; d-- > 0; rest /= (size_t)views[v].shape[d]) {
                at[d] = rest % (size_t)views[v].shape[d];
                if (at[d])
                    where += (int64_t)at[d] * views[v].strides[d];
            }
            want[i] = numbers[where];
        }
        tfuse_model *m = model_of(ctx, TFUSE_F32, views[v].rank, views[v].shape, views[v].strides, numbers + views[v].first);
        api_ok(ctx, tfuse_model_read(ctx, m, 0, TFUSE_F32, got, n * sizeof(float)));
        ck_assert_msg(memcmp(want, got, n * sizeof(float)) == 0, "view %zu", v);
        tfuse_model_free(m);
    }
    api_done(ctx);
}
END_TEST

/* Types are read as they are or as another floating-point type; a strided one has no row-major data to show. */
START_TEST(test_read)
{
    static const uint16_t bf16[] = {0x3f80, 0x4000, 0xbf00, 0x4100}; /* 1, 2, -0.5, 8 */
    static const int64_t shape[] = {2, 2}, across[] = {1, 2};
    tfuse_ctx *ctx = api_new();
    tfuse_tensor_info info = {.struct_size = sizeof info};
    float f[4];
    double d[4];
    uint16_t raw[4];
    tfuse_model *m = model_of(ctx, TFUSE_BF16, 2, shape, across, bf16);
    ck_assert_int_eq(tfuse_model_tensor(m, 0, &info), TFUSE_OK);
    ck_assert_ptr_null(info.data);
    ck_assert_uint_eq(info.size, 8);
    api_ok(ctx, tfuse_model_read(ctx, m, 0, TFUSE_F32, f, sizeof f));
    api_ok(ctx, tfuse_model_read(ctx, m, 0, TFUSE_F64, d, sizeof d));
    api_ok(ctx, tfuse_model_read(ctx, m, 0, TFUSE_BF16, raw, sizeof raw));
    ck_assert(f[0] == 1 && f[1] == -0.5f && f[2] == 2 && f[3] == 8 && d[1] == -0.5);
    ck_assert_int_eq(raw[1], 0xbf00);
    api_fails(ctx, tfuse_model_read(ctx, m, 0, TFUSE_F32, f, 12), TFUSE_ESHAPE, "12 bytes");
    api_fails(ctx, tfuse_model_read(ctx, m, 1, TFUSE_F32, f, sizeof f), TFUSE_ERANGE, "index 1");
    api_fails(ctx, tfuse_model_read(ctx, m, 0, TFUSE_I32, f, sizeof f), TFUSE_EDTYPE, "BF16");
    api_fails(ctx, tfuse_model_read(ctx, m, 0, 99, f, sizeof f), TFUSE_EDTYPE, "99");
    tfuse_model_free(m);
    m = model_of(ctx, TFUSE_BF16, 2, shape, NULL, bf16);
    ck_assert_int_eq(tfuse_model_tensor(m, 0, &info), TFUSE_OK);
    ck_assert_ptr_eq(info.data, bf16);
    tfuse_model_free(m);
    api_done(ctx);
}
END_TEST

/* Whatever fails, what was lent comes back once, and before the call returns. */
START_TEST(test_release_once)
{
    static const int64_t shape[] = {2, 3}, far[] = {INT64_MAX / 2, 1}, negative[] = {2, -3};
    tfuse_ctx *ctx = api_new();
    tfuse_model *m = NULL;
    int n = 0;
    api_ok(ctx, tfuse_model_new(ctx, NULL, released, &n, &m));
#define LEND(model, name, dtype, rank, shape, strides) tfuse_model_add_strided(ctx, model, name, dtype, rank, shape, strides, numbers, released, &n)
    api_ok(ctx, LEND(m, "x", TFUSE_F32, 2, shape, NULL));
    ck_assert_int_eq(n, 0);
    api_fails(ctx, LEND(m, "x", TFUSE_F32, 2, shape, NULL), TFUSE_EINVAL, "in the model already");
    ck_assert_int_eq(n, 1);
    api_fails(ctx, LEND(m, "y", TFUSE_F32, 2, shape, far), TFUSE_ESHAPE, "tensor 'y': strides");
    api_fails(ctx, LEND(m, "y", TFUSE_F32, 2, negative, NULL), TFUSE_ESHAPE, "'y'");
    api_fails(ctx, LEND(m, "y", 77, 2, shape, NULL), TFUSE_EDTYPE, "77");
    api_fails(ctx, LEND(m, "y", TFUSE_F32, 9, shape, NULL), TFUSE_ESHAPE, "rank");
    api_fails(ctx, LEND(m, "y", TFUSE_F32, 2, NULL, NULL), TFUSE_EINVAL, "shape is NULL");
    api_fails(ctx, LEND(m, NULL, TFUSE_F32, 2, shape, NULL), TFUSE_EINVAL, "name is NULL");
    api_fails(ctx, LEND(NULL, "y", TFUSE_F32, 2, shape, NULL), TFUSE_EINVAL, "model is NULL");
    ck_assert_int_eq(n, 8);
    ck_assert_int_eq(tfuse_model_add_strided(NULL, m, "y", TFUSE_F32, 2, shape, NULL, numbers, released, &n), TFUSE_EINVAL);
    ck_assert_int_eq(n, 9);
    api_ok(ctx, tfuse_model_seal(ctx, m));
    api_fails(ctx, LEND(m, "y", TFUSE_F32, 2, shape, far), TFUSE_ESTATE, "sealed");
    ck_assert_int_eq(n, 10);
    tfuse_model_free(m);
    ck_assert_int_eq(n, 12); /* x and the model */
    api_done(ctx);
}
END_TEST

START_TEST(test_dlpack_model)
{
    static uint16_t half[] = {0x3c00, 0xc000, 0x3800, 0x0001}; /* 1, -2, 0.5, 2^-24 */
    int64_t shape[] = {2, 2}, across[] = {1, 2};
    tfuse_ctx *ctx = api_new();
    tfuse_model *m = NULL;
    float f[4];
    int n = 0;
    struct DLManagedTensor plain = dl(numbers, shape, NULL, 2, &n), twice = plain, device = plain, odd = plain, lanes = plain, deep = plain;
    struct DLManagedTensorVersioned f16 = {1, 1, &n, deleted_versioned, 0, {half, 1, 0, 2, 2, 16, 1, shape, across, 0}}, later = f16;
    api_ok(ctx, tfuse_model_new(ctx, NULL, NULL, NULL, &m));
    api_ok(ctx, tfuse_model_add_dlpack(ctx, m, "a", &plain));
    api_ok(ctx, tfuse_model_add_dlpack_versioned(ctx, m, "b", &f16));
    ck_assert_int_eq(n, 0);
    device.t.device_type = 2;
    odd.t.bits = 8;
    lanes.t.lanes = 4;
    deep.t.ndim = 9;
    later.major = 2;
    api_fails(ctx, tfuse_model_add_dlpack(ctx, m, "a", &twice), TFUSE_EINVAL, "in the model already");
    api_fails(ctx, tfuse_model_add_dlpack(ctx, m, "c", &device), TFUSE_EUNSUPPORTED, "tensor 'c': lies on a device");
    api_fails(ctx, tfuse_model_add_dlpack(ctx, m, "c", &odd), TFUSE_EDTYPE, "8 bits");
    api_fails(ctx, tfuse_model_add_dlpack(ctx, m, "c", &lanes), TFUSE_EDTYPE, "4 lanes");
    api_fails(ctx, tfuse_model_add_dlpack(ctx, m, "c", &deep), TFUSE_ESHAPE, "9 dimensions");
    api_fails(ctx, tfuse_model_add_dlpack_versioned(ctx, m, "c", &later), TFUSE_EVERSION, "DLPack 2.1");
    ck_assert_int_eq(n, 6);
    api_fails(ctx, tfuse_model_add_dlpack(ctx, m, "c", NULL), TFUSE_EINVAL, "tensor is NULL");
    api_fails(ctx, tfuse_model_add_dlpack_versioned(ctx, m, "c", NULL), TFUSE_EINVAL, "tensor is NULL");
    ck_assert_int_eq(n, 6);
    api_ok(ctx, tfuse_model_seal(ctx, m));
    api_ok(ctx, tfuse_model_read(ctx, m, 1, TFUSE_F32, f, sizeof f));
    ck_assert(f[0] == 1 && f[1] == 0.5f && f[2] == -2 && f[3] == 0x1p-24f);
    tfuse_model_free(m);
    ck_assert_int_eq(n, 8);
    api_done(ctx);
}
END_TEST

START_TEST(test_dlpack_array)
{
    int64_t shape[] = {2, 3}, across[] = {1, 2}, bad[] = {-2, 3}, far[] = {INT64_MAX / 2, 1};
    tfuse_ctx *ctx = api_new();
    tfuse_array *a = NULL, *b = NULL;
    int n = 0;
    struct DLManagedTensor rows = dl(numbers, shape, NULL, 2, &n), columns = dl(numbers, shape, across, 2, &n), wrong = dl(numbers, bad, NULL, 2, &n),
                           reach = dl(numbers, shape, far, 2, &n), nothing = dl(NULL, shape, across, 2, &n);
    rows.t.byte_offset = 8;
    api_ok(ctx, tfuse_array_from_dlpack(ctx, &rows, &a));
    ck_assert_ptr_eq(tfuse_array_data(a), numbers + 2);
    ck_assert_int_eq(n, 0);
    api_ok(ctx, tfuse_array_from_dlpack(ctx, &columns, &b));
    ck_assert_int_eq(n, 1); /* copied, so given back */
    const float *x = tfuse_array_data(b);
    ck_assert(x[0] == numbers[0] && x[1] == numbers[2] && x[2] == numbers[4] && x[3] == numbers[1]);
    tfuse_array_free(a);
    tfuse_array_free(b);
    ck_assert_int_eq(n, 2);
    api_fails(ctx, tfuse_array_from_dlpack(ctx, &wrong, &a), TFUSE_ESHAPE, "negative");
    api_fails(ctx, tfuse_array_from_dlpack(ctx, &reach, &a), TFUSE_ESHAPE, "strides");
    api_fails(ctx, tfuse_array_from_dlpack(ctx, &nothing, &a), TFUSE_EINVAL, "NULL");
    ck_assert_ptr_null(a);
    ck_assert_int_eq(n, 5);
    api_done(ctx);
}
END_TEST

/* ---- every allocation failed once ----------------------------------------------------------------------------------- */

typedef struct faulty {
    long calls, live, at;
} faulty;

static void *faulty_alloc(void *user, size_t size, size_t align)
{
    faulty *f = user;
    void *p = NULL;
    if (f->calls++ == f->at || posix_memalign(&p, align < sizeof p ? sizeof p : align, size ? size : 1) != 0)
        return NULL;
    f->live++;
    return p;
}

static void faulty_free(void *user, void *ptr, size_t size, size_t align)
{
    (void)size, (void)align;
    ((faulty *)user)->live--;
    free(ptr);
}

/* Lends four things; whatever fails, all that was lent so far comes back once. Returns what went wrong. */
static tfuse_status lend_all(tfuse_ctx *ctx, int *lent, int *back)
{
    int64_t shape[] = {2, 3}, across[] = {1, 2};
    struct DLManagedTensor first = dl(numbers, shape, across, 2, back), second = first;
    float f[6];
    double d[6];
    tfuse_model *m = NULL;
    tfuse_array *a = NULL;
    tfuse_status status = (++*lent, tfuse_model_new(ctx, "{}", released, back, &m));
    if (!status)
        status = (++*lent, tfuse_model_add_strided(ctx, m, "x", TFUSE_F32, 2, shape, across, numbers, released, back));
    if (!status)
        status = (++*lent, tfuse_model_add_dlpack(ctx, m, "y", &first));
    if (!status)
        status = tfuse_model_seal(ctx, m);
    if (!status)
        status = tfuse_model_read(ctx, m, 0, TFUSE_F32, f, sizeof f);
    if (!status)
        status = tfuse_model_read(ctx, m, 1, TFUSE_F64, d, sizeof d);
    if (!status)
        status = (++*lent, tfuse_array_from_dlpack(ctx, &second, &a));
    tfuse_array_free(a);
    tfuse_model_free(m);
    return status;
}

START_TEST(test_faults)
{
    long at = 0;
    for (bool reached = true; reached; at++) {
        faulty f = {.at = at};
        const tfuse_allocator alloc = {sizeof alloc, &f, faulty_alloc, faulty_free};
        tfuse_ctx *ctx = NULL;
        int lent = 0, back = 0;
        tfuse_status status = tfuse_ctx_new(&alloc, &ctx);
        if (!status)
            status = lend_all(ctx, &lent, &back);
        reached = f.calls > at;
        ck_assert_msg(status == (reached ? TFUSE_ENOMEM : TFUSE_OK), "allocation %ld: %s", at, tfuse_status_name(status));
        tfuse_ctx_free(ctx);
        ck_assert_msg(lent == back, "allocation %ld: %d lent, %d came back", at, lent, back);
        ck_assert_int_eq(f.live, 0);
    }
    ck_assert_int_gt(at, 10);
}
END_TEST

/* ---- a network whose weights lie transposed -------------------------------------------------------------------- */

typedef struct turned {
    float *blocks[256];
    int n;
} turned;

static void free_turned(void *owner)
{
    turned *t = owner;
    for (int i = 0; i < t->n; i++)
        free(t->blocks[i]);
    free(t);
}

/* The same model with every matrix stored by columns. */
static tfuse_model *turn(tfuse_ctx *ctx, const tfuse_model *from)
{
    turned *t = calloc(1, sizeof *t);
    tfuse_model *m = NULL;
    api_ok(ctx, tfuse_model_new(ctx, tfuse_model_config(from), free_turned, t, &m));
    for (size_t i = 0; i < tfuse_model_count(from); i++) {
        tfuse_tensor_info info = {.struct_size = sizeof info};
        int64_t strides[TFUSE_MAX_RANK], step = 1;
        ck_assert_int_eq(tfuse_model_tensor(from, i, &info), TFUSE_OK);
        float *block = t->blocks[t->n++] = malloc(info.size);
        for (int d = 0; d < info.rank; d++) {
            strides[d] = step;
            step *= info.shape[d];
        }
        for (int64_t e = 0; e < step; e++) {
            int64_t rest = e, where = 0;
            for (int d = info.rank; d-- > 0; rest /= info.shape[d])
                where += rest % info.shape[d] * strides[d];
            block[where] = ((const float *)info.data)[e];
        }
        api_ok(ctx, tfuse_model_add_strided(ctx, m, info.name, info.dtype, (size_t)info.rank, info.shape, strides, block, NULL, NULL));
    }
    api_ok(ctx, tfuse_model_seal(ctx, m));
    return m;
}

typedef struct buffers {
    unsigned char *data[256];
    uint64_t size[256];
    int placed, done, refuse, stop;
    void *instead;
} buffers;

static void *place(void *user, const tfuse_tensor_info *t)
{
    buffers *b = user;
    ck_assert_ptr_null(t->data);
    if (b->placed == b->refuse)
        return NULL;
    b->size[b->placed] = t->size;
    b->data[b->placed] = malloc((size_t)t->size + 1);
    return b->instead ? b->placed++, b->instead : b->data[b->placed++] + 1; /* any alignment */
}

static int32_t done(void *user, const tfuse_tensor_info *t)
{
    buffers *b = user;
    ck_assert_ptr_eq(t->data, b->data[b->placed - 1] + 1);
    return b->done++ == b->stop ? 9 : 0;
}

static void drop(buffers *b)
{
    for (int i = 0; i < b->placed; i++)
        free(b->data[i]);
    *b = (buffers){.refuse = -1, .stop = -1};
}

START_TEST(test_into_buffers)
{
    tfuse_ctx *ctx = api_new();
    tfuse_model *rows[] = {api_vit(ctx, 2, 1, NULL), api_vit(ctx, 2, 2, NULL)}, *columns[] = {turn(ctx, rows[0]), turn(ctx, rows[1])}, *fused = NULL;
    const tfuse_model *models[] = {rows[0], rows[1]}, *others[] = {columns[0], columns[1]};
    tfuse_array *images = api_images(ctx, 20, 3);
    tfuse_plan *plan = NULL, *same = NULL;
    tfuse_tensor_info info = {.struct_size = sizeof info};
    buffers b = {.refuse = -1, .stop = -1};
    const tfuse_sink sink = {sizeof sink, &b, place, done};
    api_ok(ctx, tfuse_align(ctx, NULL, models, 2, images, &plan));
    api_ok(ctx, tfuse_align(ctx, NULL, others, 2, images, &same));
    api_ok(ctx, tfuse_fuse_model(ctx, NULL, plan, models, 2, &fused));
    api_ok(ctx, tfuse_fuse_into(ctx, NULL, same, others, 2, NULL, &sink));
    ck_assert_uint_eq((size_t)b.done, tfuse_model_count(fused));
    for (int i = 0; i < b.done; i++) { /* columns or rows: the same bits */
        ck_assert_int_eq(tfuse_model_tensor(fused, (size_t)i, &info), TFUSE_OK);
        ck_assert_uint_eq(info.size, b.size[i]);
        ck_assert_msg(memcmp(info.data, b.data[i] + 1, (size_t)info.size) == 0, "%s differs", info.name);
    }
    drop(&b);
    b.refuse = 3;
    api_fails(ctx, tfuse_fuse_into(ctx, NULL, plan, models, 2, NULL, &sink), TFUSE_ECALLBACK, "gave no memory");
    ck_assert_int_eq(b.done, 3);
    drop(&b);
    b.stop = 2;
    api_fails(ctx, tfuse_fuse_into(ctx, NULL, plan, models, 2, NULL, &sink), TFUSE_ECALLBACK, "gave 9");
    drop(&b);
    ck_assert_int_eq(tfuse_model_tensor(rows[1], 5, &info), TFUSE_OK);
    memcpy(&b.instead, &info.data, sizeof b.instead); /* not written to: it is refused */
    api_fails(ctx, tfuse_fuse_into(ctx, NULL, plan, models, 2, NULL, &sink), TFUSE_EINVAL, info.name);
    drop(&b);
    const tfuse_sink none = {sizeof none, &b, NULL, NULL}, shorter = {8, &b, place, done};
    api_fails(ctx, tfuse_fuse_into(ctx, NULL, plan, models, 2, NULL, &none), TFUSE_EINVAL, "place");
    api_fails(ctx, tfuse_fuse_into(ctx, NULL, plan, models, 2, NULL, &shorter), TFUSE_EINVAL, "struct_size");
    tfuse_model_free(fused);
    tfuse_plan_free(plan);
    tfuse_plan_free(same);
    tfuse_array_free(images);
    for (int k = 0; k < 2; k++) {
        tfuse_model_free(rows[k]);
        tfuse_model_free(columns[k]);
    }
    api_done(ctx);
}
END_TEST

Suite *make_suite(void)
{
    API_SUITE("api embedding");
    API_ADD(test_strided);
    API_ADD(test_read);
    API_ADD(test_release_once);
    API_ADD(test_dlpack_model);
    API_ADD(test_dlpack_array);
    API_ADD(test_faults);
    API_ADD(test_into_buffers);
    return api_suite;
}
