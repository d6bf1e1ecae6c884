/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The capturing link around a fake one. What it wrote is read here by code of the test's own.
 */
#include "link/pcap.h"

#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/log.h"
#include "capture.h"
#include "tests/support/fake_link.h"

#define WALL_OFFSET_NS  (INT64_C(1700000000) * NS_PER_SEC)
#define FILE_HEADER_LEN 24
#define RECORD_LEN      16

struct fixture {
	char *folder, *file[2];
	struct fake_link fake;
	struct counters counters;
	int64_t now_ns;
	struct pcap_link pcap;
	struct link *link;
	guint n_fds;
};

static guint open_descriptors(void)
{
	GDir *dir = g_dir_open("/proc/self/fd", 0, NULL);
	guint n = 0;

	while (g_dir_read_name(dir))
		n++;
	g_dir_close(dir);
	return n;
}

static void set_up(struct fixture *f, gconstpointer unused)
{
	f->n_fds = open_descriptors();
	f->folder = g_dir_make_tmp("pcap-XXXXXX", NULL);
	f->file[0] = g_build_filename(f->folder, "cap", NULL);
	f->file[1] = g_build_filename(f->folder, "cap.1", NULL);
	fake_link_init(&f->fake);
	f->now_ns = 5 * NS_PER_SEC + 7;
}

static void begin(struct fixture *f, uint64_t limit)
{
	g_assert_cmpint(pcap_link_open(&f->pcap, f->file[0], limit), ==, 0);
	f->link = pcap_link_wrap(&f->pcap, &f->fake.link, &f->now_ns, WALL_OFFSET_NS, &f->counters);
}

static void end(struct fixture *f)
{
	f->link->ops->close(f->link);
	f->link = NULL;
}

static void tear_down(struct fixture *f, gconstpointer unused)
{
	GDir *dir = g_dir_open(f->folder, 0, NULL);
	const char *name;

	if (f->link)
		end(f);
	while ((name = g_dir_read_name(dir))) {
		char *path = g_build_filename(f->folder, name, NULL);

		g_assert_cmpint(g_remove(path), ==, 0);
		g_free(path);
	}
	g_dir_close(dir);
	g_assert_cmpint(g_rmdir(f->folder), ==, 0);
	g_free(f->folder);
	g_free(f->file[0]);
	g_free(f->file[1]);
	g_assert_cmpuint(open_descriptors(), ==, f->n_fds);
}

/* Sends `len` bytes of frame (at least 8) that begin with `number`, with offloads in the header. */
static int transmit(struct fixture *f, uint64_t number, size_t len)
{
	g_autofree uint8_t *frame = g_malloc0(LINK_HEADER_LEN + len);
	const struct iovec iov = {frame, LINK_HEADER_LEN + len};

	memset(frame, 0xee, LINK_HEADER_LEN);
	memset(frame + LINK_HEADER_LEN, (int)number, len);
	memcpy(frame + LINK_HEADER_LEN, &number, sizeof(number));
	return f->link->ops->send(f->link, &iov, 1);
}

static size_t size_of(const char *path)
{
	struct stat st;

	g_assert_cmpint(stat(path, &st), ==, 0);
	return (size_t)st.st_size;
}

/* Walks over a whole file, each frame of which must be transmit()'s and follow the one before.
 * Returns the number of frames; `ret_first` is the first one's. */
static guint read_capture(const char *path, uint64_t *ret_first)
{
	g_autofree char *bytes = NULL;
	uint32_t head[4];
	uint64_t number;
	guint n = 0;
	gsize len;

	g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
	g_assert_cmpuint(len, >=, FILE_HEADER_LEN);
	for (gsize at = FILE_HEADER_LEN; at < len; n++) {
		g_assert_cmpuint(len - at, >=, RECORD_LEN + sizeof(number));
		memcpy(head, bytes + at, sizeof(head));
		g_assert_cmpuint(head[2], ==, head[3]);
		at += RECORD_LEN;
		memcpy(&number, bytes + at, sizeof(number));
		if (n == 0)
			*ret_first = number;
		g_assert_cmpuint(number, ==, *ret_first + n);
		for (gsize i = sizeof(number); i < head[2]; i++)
			g_assert_cmpuint((uint8_t)bytes[at + i], ==, (uint8_t)number);
		at += head[2];
		g_assert_cmpuint(at, <=, len);
	}
	return n;
}

static const struct {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, accuracy, snaplen, linktype;
} expected_header = {0xa1b23c4d, 2, 4, 0, 0, 262144, 1};

static void test_bytes(struct fixture *f, gconstpointer unused)
{
	const uint32_t first[] = {1700000005, 7, 5, 5}, second[] = {1700000006, 8, 6, 6};
	uint8_t buf[LINK_BUFFER_LEN], front[LINK_HEADER_LEN + 2] = "virtionet123ab",
							      rest[] = "cdef";
	const struct iovec iov[] = {{front, sizeof(front)}, {rest, 1}, {rest + 1, 3}};
	g_autoptr(GByteArray) expected = g_byte_array_new();
	g_autofree char *bytes = NULL;
	gsize len;

	begin(f, PCAP_LIMIT_MIN);
	g_queue_push_tail(&f->fake.incoming,
		g_byte_array_append(g_byte_array_new(), (const guint8 *)"frame", 5));
	g_assert_cmpint(f->link->ops->recv(f->link, buf), ==, 5);
	g_assert_cmpmem(buf + LINK_HEADER_LEN, 5, "frame", 5);
	f->now_ns += NS_PER_SEC + 1;
	g_assert_cmpint(f->link->ops->send(f->link, iov, ARRAY_SIZE(iov)), ==, 0);
	pcap_link_flush(&f->pcap);
	g_byte_array_append(expected, (const void *)&expected_header, FILE_HEADER_LEN);
	g_byte_array_append(expected, (const void *)first, RECORD_LEN);
	g_byte_array_append(expected, (const guint8 *)"frame", 5);
	g_byte_array_append(expected, (const void *)second, RECORD_LEN);
	g_byte_array_append(expected, (const guint8 *)"abcdef", 6);
	g_assert_true(g_file_get_contents(f->file[0], &bytes, &len, NULL));
	g_assert_cmpmem(bytes, len, expected->data, expected->len);
}

static void test_new_files(struct fixture *f, gconstpointer unused)
{
	struct stat st;
	uint64_t first;

	begin(f, PCAP_LIMIT_MIN);
	for (int i = 0; i < 2; i++) {
		g_assert_cmpint(stat(f->file[i], &st), ==, 0);
		g_assert_cmpint(st.st_mode & 07777, ==, 0600);
		g_assert_cmpuint(read_capture(f->file[i], &first), ==, 0);
	}
}

/* What did not pass is no frame of the capture's; the inner link's outcomes come through. */
static void test_only_what_passed(struct fixture *f, gconstpointer unused)
{
	uint8_t buf[LINK_BUFFER_LEN];

	begin(f, 0);
	g_assert_cmpint(f->link->ops->recv(f->link, buf), ==, -EAGAIN);
	f->fake.is_down = true;
	g_assert_cmpint(transmit(f, 1, 60), ==, -EIO);
	end(f);
	g_assert_cmpuint(size_of(f->file[0]), ==, FILE_HEADER_LEN);
	g_assert_cmpuint(f->counters.value[COUNTER_PCAP_DROPPED], ==, 0);
}

static void test_looks_like_the_inner(struct fixture *f, gconstpointer unused)
{
	f->fake.link.fd = 99;
	f->fake.link.offloads = LINK_CSUM | LINK_TSO4;
	begin(f, 0);
	g_assert_cmpint(f->link->fd, ==, 99);
	g_assert_cmpuint(f->link->offloads, ==, LINK_CSUM | LINK_TSO4);
	end(f);
	g_assert_cmpint(f->pcap.link.fd, ==, -1);
}

static void test_is_buffered(struct fixture *f, gconstpointer unused)
{
	uint64_t first;
	guint n = 0;

	begin(f, 0);
	g_assert_cmpint(transmit(f, n++, 60), ==, 0);
	g_assert_cmpuint(size_of(f->file[0]), ==, FILE_HEADER_LEN);
	pcap_link_flush(&f->pcap);
	g_assert_cmpuint(size_of(f->file[0]), ==, FILE_HEADER_LEN + RECORD_LEN + 60);
	pcap_link_flush(&f->pcap);
	g_assert_cmpuint(size_of(f->file[0]), ==, FILE_HEADER_LEN + RECORD_LEN + 60);
	/* The largest frames fill it in no time. */
	for (; n < 10; n++)
		g_assert_cmpint(transmit(f, n, LINK_FRAME_MAX), ==, 0);
	g_assert_cmpuint(size_of(f->file[0]), >, PCAP_BUFFER_LEN);
	end(f);
	g_assert_cmpuint(read_capture(f->file[0], &first), ==, n);
	g_assert_cmpuint(first, ==, 0);
}

static void test_no_limit(struct fixture *f, gconstpointer unused)
{
	uint64_t first;

	begin(f, 0);
	for (guint i = 0; i < 1000; i++)
		g_assert_cmpint(transmit(f, i, 1514), ==, 0);
	end(f);
	g_assert_cmpuint(read_capture(f->file[0], &first), ==, 1000);
	g_assert_false(g_file_test(f->file[1], G_FILE_TEST_EXISTS));
}

/* Both files are always whole, within the limit, and together the latest frames without a gap. */
static void check_rotation(struct fixture *f, uint64_t last)
{
	uint64_t first[2] = {0};
	guint n[2];
	int newer;

	for (int i = 0; i < 2; i++) {
		g_assert_cmpuint(size_of(f->file[i]), <=, PCAP_LIMIT_MIN);
		n[i] = read_capture(f->file[i], &first[i]);
	}
	newer = n[1] && first[1] > first[0];
	g_assert_cmpuint(first[newer] + n[newer], ==, last + 1);
	if (n[!newer])
		g_assert_cmpuint(first[!newer] + n[!newer], ==, first[newer]);
	if (last >= 200)
		g_assert_cmpuint(n[0] + n[1], >, PCAP_LIMIT_MIN / 1024);
}

static void test_rotation(struct fixture *f, gconstpointer len)
{
	begin(f, PCAP_LIMIT_MIN);
	for (uint64_t i = 0; i < 500; i++) {
		g_assert_cmpint(transmit(f, i, GPOINTER_TO_SIZE(len)), ==, 0);
		if (i % 10 == 9) {
			pcap_link_flush(&f->pcap);
			check_rotation(f, i);
		}
	}
	g_assert_cmpuint(f->counters.value[COUNTER_PCAP_DROPPED], ==, 0);
}

/* One frame per file, the largest there is. */
static void test_rotation_largest(struct fixture *f, gconstpointer unused)
{
	uint64_t first;

	begin(f, PCAP_LIMIT_MIN);
	for (uint64_t i = 0; i < 4; i++)
		g_assert_cmpint(transmit(f, i, LINK_FRAME_MAX), ==, 0);
	end(f);
	g_assert_cmpuint(read_capture(f->file[0], &first), ==, 1);
	g_assert_cmpuint(first, ==, 2);
	g_assert_cmpuint(read_capture(f->file[1], &first), ==, 1);
	g_assert_cmpuint(first, ==, 3);
}

static void test_earlier_files(struct fixture *f, gconstpointer unused)
{
	uint64_t first;

	for (int i = 0; i < 2; i++)
		g_assert_true(
			g_file_set_contents(f->file[i], "an earlier capture, longer", -1, NULL));
	begin(f, PCAP_LIMIT_MIN);
	transmit(f, 1, 60);
	end(f);
	g_assert_cmpuint(read_capture(f->file[0], &first), ==, 1);
	g_assert_cmpuint(read_capture(f->file[1], &first), ==, 0);
}

/* ---- failures ---- */

/* As on a full disk, but for the error: what is beyond `size` cannot be written. */
static void limit_files(rlim_t size)
{
	struct rlimit limit;

	g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &limit), ==, 0);
	limit.rlim_cur = MIN(size, limit.rlim_max);
	g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
}

static void assert_one_warning(const char *text)
{
	g_assert_nonnull(strstr(text, "warning: --pcap="));
	g_assert_nonnull(strstr(text, "/cap: the capture ends here: "));
	g_assert_true(strchr(text, '\n') == text + strlen(text) - 1);
}

/* The third of five frames fits by half: two are left, and all five have passed. */
static void test_disk_full(struct fixture *f, gconstpointer unused)
{
	struct capture text;
	uint64_t first;

	begin(f, PCAP_LIMIT_MIN);
	capture_begin(&text);
	limit_files(FILE_HEADER_LEN + 5 * (RECORD_LEN + 1000) / 2);
	for (uint64_t i = 0; i < 5; i++)
		g_assert_cmpint(transmit(f, i, 1000), ==, 0);
	pcap_link_flush(&f->pcap);
	g_assert_cmpuint(f->counters.value[COUNTER_PCAP_DROPPED], ==, 3);
	g_assert_cmpint(transmit(f, 5, 1000), ==, 0);
	pcap_link_flush(&f->pcap);
	limit_files(RLIM_INFINITY);
	g_assert_cmpint(transmit(f, 6, 1000), ==, 0);
	end(f);
	capture_end(&text);
	g_assert_cmpuint(f->counters.value[COUNTER_PCAP_DROPPED], ==, 5);
	g_assert_cmpuint(read_capture(f->file[0], &first), ==, 2);
	assert_one_warning(text.err);
	capture_free(&text);
}

/* The second file cannot even begin: the first stays whole. */
static void test_disk_full_at_rotation(struct fixture *f, gconstpointer unused)
{
	struct capture text;
	uint64_t first;
	guint n;

	begin(f, PCAP_LIMIT_MIN);
	for (n = 0; f->pcap.size + RECORD_LEN + 1000 <= PCAP_LIMIT_MIN; n++)
		g_assert_cmpint(transmit(f, n, 1000), ==, 0);
	pcap_link_flush(&f->pcap);
	limit_files(10);
	/* Not captured: its line would be cut, too. */
	log_init("test-pcap", LOG_LEVEL_ERROR);
	g_assert_cmpint(transmit(f, n, 1000), ==, 0);
	log_init("test-pcap", LOG_LEVEL_INFO);
	limit_files(RLIM_INFINITY);
	capture_begin(&text);
	end(f);
	capture_end(&text);
	g_assert_cmpuint(f->counters.value[COUNTER_PCAP_DROPPED], ==, 1);
	g_assert_cmpuint(read_capture(f->file[0], &first), ==, n);
	g_assert_cmpuint(size_of(f->file[1]), ==, 0);
	g_assert_cmpstr(text.err, ==, "");
	capture_free(&text);
}

static void assert_refused(struct fixture *f, uint64_t limit, const char *why)
{
	struct pcap_link *pcap = g_new0(struct pcap_link, 1);
	struct capture text;
	int r;

	capture_begin(&text);
	r = pcap_link_open(pcap, f->file[0], limit);
	capture_end(&text);
	g_assert_cmpint(r, <, 0);
	g_assert_nonnull(strstr(text.err, why));
	g_assert_true(strchr(text.err, '\n') == text.err + strlen(text.err) - 1);
	capture_free(&text);
	g_free(pcap);
}

static void test_no_regular_file(struct fixture *f, gconstpointer unused)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd;

	g_assert_cmpint(g_mkdir(f->file[0], 0700), ==, 0);
	assert_refused(f, 0, "Is a directory");
	g_rmdir(f->file[0]);

	/* One without and one with a reader: neither may block. */
	g_assert_cmpint(mkfifo(f->file[0], 0600), ==, 0);
	assert_refused(f, 0, "not a regular file");
	fd = open(f->file[0], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	g_assert_cmpint(fd, >=, 0);
	assert_refused(f, 0, "not a regular file");
	close(fd);
	g_remove(f->file[0]);

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_strlcpy(at.sun_path, f->file[0], sizeof(at.sun_path));
	g_assert_cmpint(bind(fd, (struct sockaddr *)&at, sizeof(at)), ==, 0);
	assert_refused(f, 0, "not a regular file");
	close(fd);
}

/* A link, as either of the two names, is not followed: what it leads to stays as it is. */
static void test_symbolic_link(struct fixture *f, gconstpointer which)
{
	char *other = g_build_filename(f->folder, "other", NULL);

	g_assert_true(g_file_set_contents(other, "precious", -1, NULL));
	g_assert_cmpint(symlink(other, f->file[GPOINTER_TO_INT(which)]), ==, 0);
	assert_refused(f, PCAP_LIMIT_MIN, "symbolic link");
	g_assert_cmpuint(size_of(other), ==, strlen("precious"));
	g_free(other);
}

static void test_no_folder(struct fixture *f, gconstpointer unused)
{
	g_free(f->file[0]);
	f->file[0] = g_build_filename(f->folder, "missing", "cap", NULL);
	assert_refused(f, 0, "No such file or directory");
}

static void test_long_name(struct fixture *f, gconstpointer unused)
{
	GString *name = g_string_new(f->folder);

	/* Short enough itself, too long with ".1". */
	while (name->len < PATH_MAX - 4)
		g_string_append(name, "/.");
	g_string_append(name, "/c");
	g_free(f->file[0]);
	f->file[0] = g_string_free(name, FALSE);
	assert_refused(f, PCAP_LIMIT_MIN, "--pcap: File name too long");
}

/* Another relay's capture is neither emptied nor mixed up. */
static void test_locked(struct fixture *f, gconstpointer unused)
{
	uint64_t first;

	begin(f, 0);
	transmit(f, 1, 60);
	pcap_link_flush(&f->pcap);
	assert_refused(f, 0, "another capture");
	end(f);
	g_assert_cmpuint(read_capture(f->file[0], &first), ==, 1);
}

/* Hard links: both names mean one file, which cannot be written by turns. */
static void test_one_file_of_two_names(struct fixture *f, gconstpointer unused)
{
	g_assert_true(g_file_set_contents(f->file[0], "", -1, NULL));
	g_assert_cmpint(link(f->file[0], f->file[1]), ==, 0);
	assert_refused(f, PCAP_LIMIT_MIN, "another capture");
}

#define ADD_WITH(name, data, fn) \
	g_test_add("/pcap/" name, struct fixture, data, set_up, fn, tear_down)
#define ADD(name, fn) ADD_WITH(name, NULL, fn)

int main(int argc, char **argv)
{
	signal(SIGXFSZ, SIG_IGN);
	g_test_init(&argc, &argv, NULL);
	log_init("test-pcap", LOG_LEVEL_INFO);
	ADD("bytes", test_bytes);
	ADD("new-files", test_new_files);
	ADD("only-what-passed", test_only_what_passed);
	ADD("looks-like-the-inner", test_looks_like_the_inner);
	ADD("is-buffered", test_is_buffered);
	ADD("no-limit", test_no_limit);
	ADD_WITH("rotation/1000", GSIZE_TO_POINTER(1000), test_rotation);
	ADD_WITH("rotation/1001", GSIZE_TO_POINTER(1001), test_rotation);
	ADD("rotation/largest", test_rotation_largest);
	ADD("earlier-files", test_earlier_files);
	ADD("disk-full", test_disk_full);
	ADD("disk-full-at-rotation", test_disk_full_at_rotation);
	ADD("no-regular-file", test_no_regular_file);
	ADD_WITH("symbolic-link/first", GINT_TO_POINTER(0), test_symbolic_link);
	ADD_WITH("symbolic-link/second", GINT_TO_POINTER(1), test_symbolic_link);
	ADD("no-folder", test_no_folder);
	ADD("long-name", test_long_name);
	ADD("locked", test_locked);
	ADD("one-file-of-two-names", test_one_file_of_two_names);
	return g_test_run();
}
