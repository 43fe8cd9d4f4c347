/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading, mapping, writing, path names, and stages: whole or not at all, stale and live temporaries.
 */
#include "t.h"

#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct place {
    tf_env *env;
    char *dir, *final, *temp;
} place;

static place setup(void)
{
    place p = {.env = t_env(1), .dir = t_mkdtemp()};
    p.final = tf_path_join(p.env, p.dir, "out");
    p.temp = tf_path_join(p.env, p.dir, ".out.tfuse-partial");
    return p;
}

static void teardown(place *p)
{
    tf_free(&p->env->mem, p->final);
    tf_free(&p->env->mem, p->temp);
    t_rmdir(p->dir);
    t_env_free(p->env);
}

static bool there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static void write_in(place *p, const char *dir, const char *name, const char *text)
{
    int fd;
    char *path = tf_path_join(p->env, dir, name);
    t_ok(p->env, tf_create_file(p->env, path, &fd));
    t_ok(p->env, tf_write_all(p->env, fd, path, text, strlen(text)));
    t_ok(p->env, tf_close_file(p->env, fd, path));
    tf_free(&p->env->mem, path);
}

static void check_text(place *p, const char *dir, const char *name, const char *want)
{
    tf_buf text;
    char *path = tf_path_join(p->env, dir, name);
    t_ok(p->env, tf_read_file(p->env, path, 1000, &text));
    ck_assert_str_eq(text.data, want);
    tf_buf_free(&text);
    tf_free(&p->env->mem, path);
}

START_TEST(test_read)
{
    place p = setup();
    tf_buf text;
    write_in(&p, p.dir, "out", "hello");
    t_ok(p.env, tf_read_file(p.env, p.final, 5, &text));
    ck_assert_uint_eq(text.len, 5);
    ck_assert_str_eq(text.data, "hello");
    tf_buf_free(&text);
    t_fails(p.env, tf_read_file(p.env, p.final, 4, &text), TFUSE_EFORMAT, "out: its 5 bytes");
    t_fails(p.env, tf_read_file(p.env, p.temp, 4, &text), TFUSE_ENOTFOUND, "tfuse-partial: cannot open");
    t_fails(p.env, tf_read_file(p.env, p.dir, 4, &text), TFUSE_EIO, "is a directory");
    ck_assert_int_eq(mkfifo(p.temp, 0600), 0);
    t_fails(p.env, tf_read_file(p.env, p.temp, 4, &text), TFUSE_EIO, "not a regular file");
    t_fails(p.env, tf_read_file(p.env, "/proc/self/maps", 50, &text), TFUSE_EFORMAT, "larger than the 50");
    t_ok(p.env, tf_read_file(p.env, "/proc/self/stat", 100000, &text)); /* claims no size */
    ck_assert_uint_gt(text.len, 10);
    tf_buf_free(&text);
    teardown(&p);
}
END_TEST

START_TEST(test_map)
{
    place p = setup();
    tf_mapping map;
    write_in(&p, p.dir, "out", "hello");
    t_ok(p.env, tf_map_file(p.env, p.final, &map));
    ck_assert_uint_eq(map.size, 5);
    ck_assert_mem_eq(map.data, "hello", 5);
    tf_unmap_file(&map);
    tf_unmap_file(&map);
    write_in(&p, p.dir, "out", "");
    t_ok(p.env, tf_map_file(p.env, p.final, &map));
    ck_assert_uint_eq(map.size, 0);
    ck_assert_ptr_null(map.data);
    tf_unmap_file(&map);
    t_fails(p.env, tf_map_file(p.env, p.dir, &map), TFUSE_EIO, p.dir);
    t_fails(p.env, tf_map_file(p.env, p.temp, &map), TFUSE_ENOTFOUND, p.temp);
    teardown(&p);
}
END_TEST

START_TEST(test_paths)
{
    static const char *cases[][3] = {{"a/b", "a", "b"}, {"b", ".", "b"},     {"/b", "/", "b"},
                                     {"a//b", "a", "b"}, {"/a/b/", "/a/b", ""}, {"", ".", ""}};
    tf_env *env = t_env(1);
    for (size_t i = 0; i < TF_LEN(cases); i++) {
        char *dir = tf_path_dir(env, cases[i][0]);
        ck_assert_str_eq(dir, cases[i][1]);
        ck_assert_str_eq(tf_path_base(cases[i][0]), cases[i][2]);
        tf_free(&env->mem, dir);
    }
    static const char *joins[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < TF_LEN(joins); i++) {
        char *path = tf_path_join(env, joins[i][0], joins[i][1]);
        ck_assert_str_eq(path, joins[i][2]);
        tf_free(&env->mem, path);
    }
    t_env_free(env);
}
END_TEST

START_TEST(test_write_and_copy)
{
    place p = setup();
    int fd;
    size_t size = (1 << 20) + 12345;
    char *data = malloc(size);
    for (size_t i = 0; i < size; i++)
        data[i] = (char)(i * 31 >> 3);
    t_ok(p.env, tf_create_file(p.env, p.temp, &fd));
    t_ok(p.env, tf_write_at(p.env, fd, p.temp, data + 100, size - 100, 100));
    t_ok(p.env, tf_write_at(p.env, fd, p.temp, data, 100, 0));
    t_fails(p.env, tf_write_at(p.env, fd, p.temp, data, 100, UINT64_MAX - 5), TFUSE_ERANGE, "no file is so long");
    t_ok(p.env, tf_close_file(p.env, fd, p.temp));
    t_ok(p.env, tf_copy_file(p.env, p.temp, p.final));
    tf_mapping map;
    t_ok(p.env, tf_map_file(p.env, p.final, &map));
    ck_assert_uint_eq(map.size, size);
    ck_assert_mem_eq(map.data, data, size);
    tf_unmap_file(&map);
    t_fails(p.env, tf_copy_file(p.env, "/nonexistent", p.final), TFUSE_ENOTFOUND, "/nonexistent");
    t_fails(p.env, tf_copy_file(p.env, p.temp, "/nonexistent/x"), TFUSE_ENOTFOUND, "/nonexistent/x");
    fd = open("/dev/full", O_WRONLY);
    if (fd >= 0) {
        t_fails(p.env, tf_write_all(p.env, fd, "full", data, 100), TFUSE_EIO, "full: cannot write: No space");
        close(fd);
    }
    free(data);
    teardown(&p);
}
END_TEST

START_TEST(test_stage_file)
{
    place p = setup();
    tf_stage stage;
    t_ok(p.env, tf_stage_open(p.env, p.final, false, false, &stage));
    ck_assert_str_eq(stage.temp_path, p.temp);
    write_in(&p, p.dir, ".out.tfuse-partial", "new");
    ck_assert(!there(p.final));
    t_ok(p.env, tf_stage_commit(p.env, &stage));
    tf_stage_abort(p.env, &stage);
    check_text(&p, p.dir, "out", "new");
    ck_assert(!there(p.temp));

    t_fails(p.env, tf_stage_open(p.env, p.final, false, false, &stage), TFUSE_EEXIST, "out: exists");
    t_fails(p.env, tf_stage_open(p.env, p.final, true, true, &stage), TFUSE_EEXIST, "not a directory");
    t_ok(p.env, tf_stage_open(p.env, p.final, false, true, &stage));
    write_in(&p, p.dir, ".out.tfuse-partial", "newer");
    check_text(&p, p.dir, "out", "new");
    t_ok(p.env, tf_stage_commit(p.env, &stage));
    check_text(&p, p.dir, "out", "newer");
    teardown(&p);
}
END_TEST

START_TEST(test_stage_dir)
{
    place p = setup();
    tf_stage stage;
    char *slashes = tf_path_join(p.env, p.dir, "out//");
    t_ok(p.env, tf_stage_open(p.env, slashes, true, false, &stage));
    ck_assert_str_eq(stage.final_path, p.final);
    write_in(&p, stage.temp_path, "a", "1");
    write_in(&p, stage.temp_path, "b.safetensors", "2");
    t_ok(p.env, tf_stage_commit(p.env, &stage));
    check_text(&p, p.final, "a", "1");

    t_fails(p.env, tf_stage_open(p.env, slashes, true, false, &stage), TFUSE_EEXIST, "exists");
    t_fails(p.env, tf_stage_open(p.env, p.final, false, true, &stage), TFUSE_EEXIST, "a directory");
    t_ok(p.env, tf_stage_open(p.env, p.final, true, true, &stage));
    write_in(&p, stage.temp_path, "c", "3");
    t_ok(p.env, tf_stage_commit(p.env, &stage));
    check_text(&p, p.final, "c", "3");
    char *old = tf_path_join(p.env, p.final, "a");
    ck_assert(!there(old));
    ck_assert(!there(p.temp));
    tf_free(&p.env->mem, old);
    tf_free(&p.env->mem, slashes);
    teardown(&p);
}
END_TEST

START_TEST(test_stage_abort)
{
    place p = setup();
    tf_stage stage;
    memset(&stage, 0, sizeof stage);
    tf_stage_abort(p.env, &stage); /* would close standard input if it took lock_fd for set */
    ck_assert_int_ge(fcntl(0, F_GETFD), -1);
    t_ok(p.env, tf_stage_open(p.env, p.final, true, false, &stage));
    write_in(&p, stage.temp_path, "a", "1");
    tf_stage_abort(p.env, &stage);
    tf_stage_abort(p.env, &stage);
    ck_assert(!there(p.temp) && !there(p.final));
    teardown(&p);
}
END_TEST

START_TEST(test_stage_refuses)
{
    place p = setup();
    tf_stage stage;
    char *orphan = tf_path_join(p.env, p.temp, "x");
    t_fails(p.env, tf_stage_open(p.env, orphan, true, false, &stage), TFUSE_EIO, "there is no directory");
    tf_free(&p.env->mem, orphan);
    t_fails(p.env, tf_stage_open(p.env, "/", true, true, &stage), TFUSE_EINVAL, "no name");
    t_fails(p.env, tf_stage_open(p.env, "..", true, true, &stage), TFUSE_EINVAL, "no name");
    t_fails(p.env, tf_stage_open(p.env, "", true, true, &stage), TFUSE_EINVAL, "no name");
    char *deep = tf_path_join(p.env, p.final, "photos");
    ck_assert_int_eq(mkdir(p.final, 0700), 0);
    ck_assert_int_eq(mkdir(deep, 0700), 0);
    t_fails(p.env, tf_stage_open(p.env, p.final, true, true, &stage), TFUSE_EEXIST, "'photos'");
    ck_assert_int_eq(rmdir(deep), 0);
    write_in(&p, p.final, "thesis.txt", "my own");
    t_fails(p.env, tf_stage_open(p.env, p.final, true, true, &stage), TFUSE_EEXIST, "'thesis.txt' and no .safetensors");
    check_text(&p, p.final, "thesis.txt", "my own");
    tf_free(&p.env->mem, deep);
    teardown(&p);
}
END_TEST

/* What appears while the stage is open is not overwritten unless forced. */
START_TEST(test_stage_overtaken)
{
    place p = setup();
    tf_stage stage;
    t_ok(p.env, tf_stage_open(p.env, p.final, false, false, &stage));
    write_in(&p, p.dir, "out", "theirs");
    t_fails(p.env, tf_stage_commit(p.env, &stage), TFUSE_EEXIST, "out:");
    tf_stage_abort(p.env, &stage);
    check_text(&p, p.dir, "out", "theirs");
    ck_assert(!there(p.temp));
    teardown(&p);
}
END_TEST

/* A child that opens a stage, says so through the pipe, and lives until it is killed. */
static pid_t start_writer(place *p, bool is_dir)
{
    int pipes[2];
    char ready;
    ck_assert_int_eq(pipe(pipes), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        tf_stage stage;
        ready = tf_stage_open(p->env, p->final, is_dir, false, &stage) == TFUSE_OK ? 'y' : 'n';
        if (is_dir && ready == 'y')
            write_in(p, stage.temp_path, "left", "over");
        if (write(pipes[1], &ready, 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    ck_assert_int_eq(read(pipes[0], &ready, 1), 1);
    ck_assert_int_eq(ready, 'y');
    close(pipes[0]);
    close(pipes[1]);
    return child;
}

/* The parent is renamed between the beginning and the end, and another one may take its name. */
START_TEST(test_stage_parent_goes)
{
    for (int kind = 0; kind < 4; kind++) {
        const bool is_dir = kind & 1, replaced = kind & 2;
        place p = setup();
        tf_stage s;
        char *parent = tf_path_join(p.env, p.dir, "parent"), *moved = tf_path_join(p.env, p.dir, "moved"), *out = tf_path_join(p.env, parent, "out");
        ck_assert_int_eq(mkdir(parent, 0755), 0);
        t_ok(p.env, tf_stage_open(p.env, out, is_dir, true, &s));
        if (is_dir)
            write_in(&p, s.temp_path, "one", "first");
        ck_assert_int_eq(rename(parent, moved), 0);
        if (replaced)
            ck_assert_int_eq(mkdir(parent, 0755), 0);
        t_fails(p.env, tf_stage_commit(p.env, &s), TFUSE_EIO, "was moved or removed while out was being written in it");
        tf_stage_abort(p.env, &s);
        ck_assert_int_eq(rmdir(moved), 0); /* nothing is left in it */
        ck_assert_int_eq(rmdir(parent), replaced ? 0 : -1);
        tf_free(&p.env->mem, out);
        tf_free(&p.env->mem, moved);
        tf_free(&p.env->mem, parent);
        teardown(&p);
    }
}
END_TEST

START_TEST(test_stage_live_and_stale)
{
    for (int is_dir = 0; is_dir < 2; is_dir++) {
        place p = setup();
        tf_stage stage;
        pid_t child = start_writer(&p, is_dir);
        t_fails(p.env, tf_stage_open(p.env, p.final, is_dir, false, &stage), TFUSE_EEXIST, "another process is writing");
        ck_assert(there(p.temp));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        ck_assert(there(p.temp));
        /* Stale now; also what it left is of the other kind in the first of these. */
        t_ok(p.env, tf_stage_open(p.env, p.final, !is_dir, false, &stage));
        tf_stage_abort(p.env, &stage);
        child = start_writer(&p, is_dir);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        t_ok(p.env, tf_stage_open(p.env, p.final, is_dir, false, &stage));
        char *left = tf_path_join(p.env, stage.temp_path, "left");
        ck_assert(!there(left));
        tf_free(&p.env->mem, left);
        t_ok(p.env, tf_stage_commit(p.env, &stage));
        ck_assert(there(p.final) && !there(p.temp));
        teardown(&p);
    }
}
END_TEST

/* Several processes replace one directory over and over; whenever somebody looks, it is whole. */
START_TEST(test_stage_race)
{
    enum { WRITERS = 3, ROUNDS = 100 };
    place p = setup();
    pid_t child[WRITERS];
    for (int w = 0; w < WRITERS; w++) {
        child[w] = fork();
        ck_assert_int_ge(child[w], 0);
        if (child[w] != 0)
            continue;
        for (int done = 0, tries = 0; done < ROUNDS; tries++) {
            tf_stage stage;
            tfuse_status status = tf_stage_open(p.env, p.final, true, true, &stage);
            if (status == TFUSE_EEXIST && tries < 20000) {
                usleep(500);
                continue;
            }
            if (status != TFUSE_OK)
                _exit(2);
            write_in(&p, stage.temp_path, "a", "1");
            write_in(&p, stage.temp_path, "b.safetensors", "2");
            check_text(&p, stage.temp_path, "a", "1");
            status = tf_stage_commit(p.env, &stage);
            tf_stage_abort(p.env, &stage);
            if (status != TFUSE_OK)
                _exit(3);
            done++;
        }
        _exit(0);
    }
    for (int w = 0; w < WRITERS; w++) {
        int result;
        waitpid(child[w], &result, 0);
        ck_assert_int_eq(result, 0);
    }
    check_text(&p, p.final, "a", "1");
    check_text(&p, p.final, "b.safetensors", "2");
    ck_assert(!there(p.temp));
    teardown(&p);
}
END_TEST

static void *refuse_alloc(void *user, size_t size, size_t align)
{
    int *left = user;
    return (*left)-- > 0 ? tf_mem_default.alloc(NULL, size, align) : NULL;
}

static void plain_free(void *user, void *ptr, size_t size, size_t align)
{
    (void)user;
    tf_mem_default.free(NULL, ptr, size, align);
}

START_TEST(test_out_of_memory)
{
    place p = setup();
    tfuse_status status = TFUSE_ENOMEM;
    for (int allowed = 0; status != TFUSE_OK; allowed++) {
        int left = allowed;
        tf_mem mem = {sizeof mem, &left, refuse_alloc, plain_free};
        tf_env env;
        tf_stage stage;
        tf_env_init(&env, &mem);
        status = tf_stage_open(&env, p.final, true, false, &stage);
        if (status == TFUSE_OK) {
            status = tf_stage_commit(&env, &stage);
            tf_stage_abort(&env, &stage);
        }
        if (status != TFUSE_OK) {
            ck_assert_int_eq(status, TFUSE_ENOMEM);
            ck_assert(!there(p.temp) && !there(p.final));
        }
        ck_assert_int_lt(allowed, 20);
    }
    ck_assert(there(p.final));
    teardown(&p);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("file");
    T_ADD(test_read);
    T_ADD(test_map);
    T_ADD(test_paths);
    T_ADD(test_write_and_copy);
    T_ADD(test_stage_file);
    T_ADD(test_stage_dir);
    T_ADD(test_stage_abort);
    T_ADD(test_stage_refuses);
    T_ADD(test_stage_overtaken);
    T_ADD(test_stage_parent_goes);
    T_ADD(test_stage_live_and_stale);
    T_ADD(test_stage_race);
    T_ADD(test_out_of_memory);
    return t_suite;
}
