/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The empty root and Landlock: what can still be reached, and what is seen of the host's changes.
 */
#include <ftw.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>

#include "sandbox-child.h"

/* ---- the empty root ---- */

static void check_root(void)
{
	struct stat st;

	check(stat("/etc/passwd", &st) == 0 && stat("/run", &st) == 0);
	check(stat("/home", &st) < 0 && stat("/usr", &st) < 0 && stat("/tmp", &st) < 0);
	check(stat("/proc", &st) < 0 && stat("/var", &st) < 0 && stat("/.old", &st) < 0);
	check(stat("/", &st) == 0 && st.st_nlink == 4); /* ., .., etc, run */
}

static void check_read_only(const char *path)
{
	const unsigned long all = ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC;
	struct statvfs fs;

	check(statvfs(path, &fs) == 0);
	check((fs.f_flag & all) == all);
}

static void root_is_empty(const void *ordinary)
{
	struct sandbox_plan plan = nothing();

	if (ordinary)
		become_ordinary();
	if (geteuid() != 0 && !have_user_namespaces())
		_exit(SKIP);
	plan.empty_root = SANDBOX_MUST;
	check(sandbox_enter(&plan) == 0);
	check_root();
	check_read_only("/");
	check_read_only("/etc");
	check_read_only("/run");
	check(mkdir("/run/x", 0700) < 0 && errno == EROFS);
}

static void all_layers_together(const void *ordinary)
{
	struct sandbox_plan plan;

	if (ordinary)
		become_ordinary();
	if (geteuid() != 0 && !have_user_namespaces())
		_exit(SKIP);
	plan = all_layers();
	check(sandbox_enter(&plan) == 0);
	check_root();
}

/* A tree of the test's own in place of /etc and /run, in a mount namespace of the test's own. */
static char *stage;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

static void make_stage(void)
{
	char path[256];

	stage = g_dir_make_tmp("netns-helper-sandbox-XXXXXX", NULL);
	g_assert_nonnull(stage);
	g_assert_cmpint(chmod(stage, 0755), ==, 0);
	for (const char *const *name = (const char *const[]){"etc", "run", "run/a", "run/mnt",
		     "run/user", "far", NULL};
		*name; name++) {
		snprintf(path, sizeof(path), "%s/%s", stage, *name);
		g_assert_cmpint(mkdir(path, 0755), ==, 0);
	}
}

static void remove_stage(void)
{
	nftw(stage, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	g_free(stage);
}

static const char *in_stage(const char *name)
{
	static char path[2][256];
	static unsigned int turn;

	turn ^= 1;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", stage, name);
	return path[turn];
}

/* As the root of some namespaces, or as somebody there who has no capability (`nested`: the empty
 * root then needs a user namespace more; the id 0 could not be mapped into that). */
static void mount_stage(bool nested)
{
	if (nested) {
		become_ordinary();
		enter_user_namespace(ORDINARY_USER, CLONE_NEWNS);
	} else {
		become_namespace_root(CLONE_NEWNS);
	}
	check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	check(mount(in_stage("etc"), "/etc", NULL, MS_BIND | MS_REC, NULL) == 0);
	check(mount(in_stage("run"), "/run", NULL, MS_BIND | MS_REC, NULL) == 0);
}

struct reader {
	pid_t pid;
	int sock;
};

/* Enters the sandbox and answers each byte with what `path` then holds ("-": nothing). */
static void serve_file(int sock, const char *path)
{
	struct sandbox_plan plan = all_layers();
	char text[64];

	check(sandbox_enter(&plan) == 0);
	check(write(sock, "ready", 5) == 5);
	while (read(sock, text, 1) == 1) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

		if (n < 0)
			text[0] = '-';
		check(write(sock, text, n < 0 ? 1 : (size_t)n) > 0);
		close(fd);
	}
}

static void expect_answer(const struct reader *reader, const char *text)
{
	char answer[65] = {0};
	ssize_t n = read(reader->sock, answer, sizeof(answer) - 1);

	g_assert_cmpint(n, >=, 0);
	g_assert_cmpstr(answer, ==, text);
}

static void expect_content(const struct reader *reader, const char *text)
{
	g_assert_cmpint(send(reader->sock, "?", 1, MSG_NOSIGNAL), ==, 1);
	expect_answer(reader, text);
}

/* False: skipped. */
static bool start_reader(struct reader *reader, bool nested)
{
	int pair[2], status;
	char ready[8];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
	reader->pid = fork();
	g_assert_cmpint(reader->pid, >=, 0);
	if (reader->pid == 0) {
		close(pair[0]);
		mount_stage(nested);
		if (nested)
			drop_all_capabilities();
		serve_file(pair[1], "/etc/resolv.conf");
		_exit(0);
	}
	close(pair[1]);
	reader->sock = pair[0];
	if (read(reader->sock, ready, sizeof(ready)) == 5)
		return true;
	close(reader->sock);
	g_assert_cmpint(waitpid(reader->pid, &status, 0), ==, reader->pid);
	expect_good(status);
	g_assert_cmpint(WEXITSTATUS(status), ==, SKIP);
	return false;
}

static void stop_reader(struct reader *reader)
{
	int status;

	close(reader->sock);
	g_assert_cmpint(waitpid(reader->pid, &status, 0), ==, reader->pid);
	g_assert_cmpint(status, ==, 0);
}

static void replace_link(const char *target)
{
	g_assert_cmpint(symlink(target, in_stage("etc/new")), ==, 0);
	g_assert_cmpint(rename(in_stage("etc/new"), in_stage("etc/resolv.conf")), ==, 0);
}

static void test_resolv_conf_followed(const void *nested)
{
	struct reader reader;

	make_stage();
	write_text(in_stage("etc/resolv.conf"), "first");
	write_text(in_stage("run/a/one"), "linked");
	write_text(in_stage("run/a/two"), "relative");
	if (start_reader(&reader, nested)) {
		expect_content(&reader, "first");
		write_text(in_stage("etc/resolv.conf"), "rewritten");
		expect_content(&reader, "rewritten");
		write_text(in_stage("etc/new"), "renamed over");
		g_assert_cmpint(rename(in_stage("etc/new"), in_stage("etc/resolv.conf")), ==, 0);
		expect_content(&reader, "renamed over");
		replace_link("/run/a/one");
		expect_content(&reader, "linked");
		replace_link("../run/a/two");
		expect_content(&reader, "relative");
		g_assert_cmpint(unlink(in_stage("etc/resolv.conf")), ==, 0);
		expect_content(&reader, "-");
		stop_reader(&reader);
	}
	remove_stage();
}

/* Its file lies in a folder that the new root does not have, and even where the stage is built. */
static void test_resolv_conf_elsewhere(const void *nested)
{
	struct reader reader;

	make_stage();
	write_text(in_stage("far/resolv.conf"), "far away");
	g_assert_cmpint(symlink(in_stage("far/resolv.conf"), in_stage("etc/resolv.conf")), ==, 0);
	if (start_reader(&reader, nested)) {
		expect_content(&reader, "far away");
		write_text(in_stage("far/resolv.conf"), "still");
		expect_content(&reader, "still");
		stop_reader(&reader);
	}
	remove_stage();
}

/* The host's own mount below /run, shared as the hosts of containers are. */
static void host_mounts(const void *nested)
{
	int pair[2], status;
	char answer[8];
	pid_t pid;

	mount_stage(nested);
	check(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) == 0);
	check(mount("tmpfs", "/run/mnt", "tmpfs", 0, "size=4k") == 0);
	write_text("/run/mnt/file", "host");
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		close(pair[0]);
		if (nested)
			drop_all_capabilities();
		serve_file(pair[1], "/run/mnt/file");
		_exit(0);
	}
	close(pair[1]);
	check(read(pair[0], answer, 8) == 5);
	check(write(pair[0], "?", 1) == 1 && read(pair[0], answer, 8) == 4);
	/* Its own unmounting did not come out. */
	check(access("/run/mnt/file", F_OK) == 0 && access("/tmp/.", W_OK) == 0);
	/* The host's comes in. */
	check(umount2("/run/mnt", MNT_DETACH) == 0);
	check(write(pair[0], "?", 1) == 1 && read(pair[0], answer, 8) == 1);
	check(answer[0] == '-');
	close(pair[0]);
	check(waitpid(pid, &status, 0) == pid && status == 0);
}

static void test_host_mounts(const void *nested)
{
	make_stage();
	expect_good(run_child(host_mounts, nested));
	remove_stage();
}

/* Below /run, whatever is mounted there is read-only, too; and users' own folders are gone. */
static void below_run(const void *data)
{
	struct sandbox_plan plan = nothing();
	bool recursive =
		syscall(442 /* mount_setattr */, -1, NULL, 0, NULL, 0) < 0 && errno != ENOSYS;
	struct stat st;

	mount_stage(false);
	check(mount("tmpfs", "/run/mnt", "tmpfs", 0, "size=4k") == 0);
	write_text("/run/user/key", "secret");
	plan.empty_root = SANDBOX_MUST;
	check(sandbox_enter(&plan) == 0);
	check(stat("/run/user", &st) == 0 && (st.st_mode & 0777) == 0);
	check(stat("/run/user/key", &st) < 0);
	check_read_only("/run/user");
	if (recursive)
		check_read_only("/run/mnt");
}

static void test_below_run(void)
{
	make_stage();
	expect_good(run_child(below_run, NULL));
	remove_stage();
}

/* ---- the API socket's folder ---- */

static void enter_with_folder(struct sandbox_plan plan, const void *ordinary)
{
	if (ordinary)
		become_ordinary();
	if (geteuid() != 0 && !have_user_namespaces())
		_exit(SKIP);
	check(plan.keep_folder >= 0);
	check(sandbox_enter(&plan) == 0);
}

static void unlinks_in_folder(const void *ordinary)
{
	struct sandbox_plan plan = all_layers();
	struct stat st;

	plan.keep_folder = open(in_stage("run"), O_PATH | O_DIRECTORY | O_CLOEXEC);
	enter_with_folder(plan, ordinary);
	check(fstatat(plan.keep_folder, "sock", &st, AT_SYMLINK_NOFOLLOW) == 0);
	check(unlinkat(plan.keep_folder, "sock", 0) == 0);
	check(unlinkat(plan.keep_folder, "../far/keep", 0) < 0);
}

static void folder_has_no_way_out(const void *ordinary)
{
	struct sandbox_plan plan = nothing();
	struct stat st;

	plan.empty_root = SANDBOX_MUST;
	plan.keep_folder = open(in_stage("run"), O_PATH | O_DIRECTORY | O_CLOEXEC);
	enter_with_folder(plan, ordinary);
	check(fstatat(plan.keep_folder, "sock", &st, AT_SYMLINK_NOFOLLOW) == 0);
	check(fstatat(plan.keep_folder, "../far/keep", &st, 0) < 0);
	check(fstatat(plan.keep_folder, "../../usr", &st, 0) < 0);
}

static void run_with_folder(child_fn *fn, const void *ordinary)
{
	make_stage();
	write_text(in_stage("run/sock"), "");
	write_text(in_stage("far/keep"), "");
	if (geteuid() == 0 && ordinary)
		g_assert_cmpint(chown(in_stage("run"), ORDINARY_USER, ORDINARY_USER), ==, 0);
	expect_good(run_child(fn, ordinary));
	g_assert_cmpint(access(in_stage("far/keep"), F_OK), ==, 0);
	remove_stage();
}

static void test_unlinks_in_folder(const void *ordinary)
{
	run_with_folder(unlinks_in_folder, ordinary);
}

static void test_folder_has_no_way_out(const void *ordinary)
{
	run_with_folder(folder_has_no_way_out, ordinary);
}

/* ---- the target's user namespace instead of one of its own ---- */

/* A user namespace of the same user in which he is root, held open. */
static int make_target(pid_t *ret_pid)
{
	int pair[2], fd;
	char path[64], c;

	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	*ret_pid = fork();
	check(*ret_pid >= 0);
	if (*ret_pid == 0) {
		close(pair[0]);
		become_namespace_root(0);
		check(write(pair[1], "x", 1) == 1);
		_exit(read(pair[1], &c, 1) != 0);
	}
	close(pair[1]);
	if (read(pair[0], &c, 1) != 1)
		_exit(SKIP);
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)*ret_pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	check(fd >= 0);
	close(pair[0]);
	return fd;
}

static void join_target(int target)
{
	struct sandbox_plan plan = nothing();
	int sig = 0;

	plan.target_userns = target;
	plan.empty_root = plan.capabilities = SANDBOX_MUST;
	feature_add(&plan.disabled_features, FEATURE_USER_NAMESPACE);
	check(prctl(PR_SET_PDEATHSIG, SIGUSR2) == 0);
	check(sandbox_enter(&plan) == 0);
	check_root();
	check(geteuid() == 0);
	check(prctl(PR_GET_DUMPABLE) == 0);
	check(prctl(PR_GET_PDEATHSIG, &sig) == 0 && sig == SIGUSR2);
}

static void joins_target_if_it_must(const void *data)
{
	pid_t pid;
	int target, status;

	become_ordinary();
	target = make_target(&pid);
	join_target(target);
	check(waitpid(pid, &status, 0) == pid && status == 0);
}

/* Its root is another user of the host: the change of ids clears the parent-death signal. */
static void joins_target_of_other_ids(const void *data)
{
	char path[64], c;
	int pair[2], target;
	pid_t pid;

	need_root();
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		close(pair[0]);
		check(write(pair[1], unshare(CLONE_NEWUSER) == 0 ? "y" : "n", 1) == 1);
		_exit(read(pair[1], &c, 1) != 0);
	}
	close(pair[1]);
	check(read(pair[0], &c, 1) == 1);
	if (c == 'n')
		_exit(SKIP);
	for (const char *const *map = (const char *const[]){"uid_map", "gid_map", NULL}; *map;
		map++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, *map);
		write_text(path, "0 100000 1");
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	target = open(path, O_RDONLY | O_CLOEXEC);
	check(target >= 0);
	drop_all_capabilities();
	join_target(target);
}

/* ---- Landlock alone ---- */

static void landlock_alone(const void *data)
{
	struct sandbox_plan plan = nothing();

	if (!have_landlock())
		_exit(SKIP);
	plan.landlock = SANDBOX_MUST;
	plan.keep_folder = open(in_stage("run"), O_PATH | O_DIRECTORY | O_CLOEXEC);
	check(sandbox_enter(&plan) == 0);
	check(open("/etc/passwd", O_RDONLY) >= 0);
	check(open("/etc/passwd", O_RDWR) < 0);
	check(open("/usr/.", O_RDONLY) < 0 && errno == EACCES);
	check(open(in_stage("run/sock"), O_RDONLY) < 0 && errno == EACCES);
	check(open(in_stage("run/new"), O_WRONLY | O_CREAT, 0600) < 0 && errno == EACCES);
	check(unlinkat(plan.keep_folder, "../far/keep", 0) < 0 && errno == EACCES);
	check(unlinkat(plan.keep_folder, "sock", 0) == 0);
}

static void test_landlock_alone(void)
{
	run_with_folder(landlock_alone, NULL);
}

/* ---- the list ---- */

static const struct child_case cases[] = {
	{"root/is-empty", root_is_empty, NULL},
	{"root/is-empty-ordinary", root_is_empty, AS_ORDINARY},
	{"root/all-layers", all_layers_together, NULL},
	{"root/all-layers-ordinary", all_layers_together, AS_ORDINARY},
	{"root/joins-target-if-it-must", joins_target_if_it_must, NULL},
	{"root/joins-target-of-other-ids", joins_target_of_other_ids, NULL},
};

static const struct {
	const char *name;
	GTestDataFunc run;
	const void *data;
} stage_cases[] = {
	{"/sandbox/root/resolv-conf", test_resolv_conf_followed, NULL},
	{"/sandbox/root/resolv-conf-nested", test_resolv_conf_followed, ""},
	{"/sandbox/root/resolv-conf-elsewhere", test_resolv_conf_elsewhere, NULL},
	{"/sandbox/root/resolv-conf-elsewhere-nested", test_resolv_conf_elsewhere, ""},
	{"/sandbox/root/host-mounts", test_host_mounts, NULL},
	{"/sandbox/root/host-mounts-nested", test_host_mounts, ""},
	{"/sandbox/folder/unlinks", test_unlinks_in_folder, NULL},
	{"/sandbox/folder/unlinks-ordinary", test_unlinks_in_folder, AS_ORDINARY},
	{"/sandbox/folder/no-way-out", test_folder_has_no_way_out, NULL},
	{"/sandbox/folder/no-way-out-ordinary", test_folder_has_no_way_out, AS_ORDINARY},
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_child_cases(cases, ARRAY_SIZE(cases));
	for (size_t i = 0; i < ARRAY_SIZE(stage_cases); i++)
		g_test_add_data_func(stage_cases[i].name, stage_cases[i].data, stage_cases[i].run);
	g_test_add_func("/sandbox/root/below-run", test_below_run);
	g_test_add_func("/sandbox/landlock/alone", test_landlock_alone);
	return g_test_run();
}
