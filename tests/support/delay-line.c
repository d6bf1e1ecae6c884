/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A long wire between two network namespaces:
 *
 *   delay-line [--delay-ms=MS] [--loss=PROBABILITY] [--seed=N] [--queue=PACKETS] [--name=NAME] A B
 *
 * A and B are paths of network namespaces. It makes a tun device in each (line0), prints "ready",
 * and carries packets of up to 2 KiB between the two, each so much later (one way: a round trip
 * takes twice the delay). Some are lost at random, by a seed, and those that find the queue full
 * are, too. It ends with its standard input and prints what it has seen as one line of JSON; the
 * devices go with it.
 *
 * Addresses, "up", and a txqueuelen of some thousand packets (for the times when another program
 * has the processor) are the caller's business.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
	PACKET_MAX = 2048,
	BATCH = 64, /* read from one side before the other has its turn */
};

struct packet {
	int64_t due_ns;
	uint32_t length;
	unsigned char data[PACKET_MAX];
};

/* One direction: what was read from one device and waits to be written to the other. */
struct direction {
	int from_fd, to_fd;
	struct packet *ring;
	size_t head, n_queued;
	uint64_t n_read, n_written, n_lost, n_overflows, n_refused;
};

static int64_t delay_ns = 10000000;
static uint64_t loss_bound; /* a random number below it loses the packet */
static size_t queue_size = 8192;
static uint64_t random_state = 1;
static const char *name = "line0";

static _Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *format, ...)
{
	int error = errno;
	va_list args;

	va_start(args, format);
	fputs("delay-line: ", stderr);
	vfprintf(stderr, format, args);
	fprintf(stderr, ": %s\n", strerror(error));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* SplitMix64 */
static uint64_t random_next(void)
{
	uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void enter_namespace(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		fail("%s", path);
	close(fd);
}

static int make_device(const char *path)
{
	struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	int fd;

	enter_namespace(path);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
		fail("a tun device in %s", path);
	return fd;
}

static void direction_init(struct direction *d, int from_fd, int to_fd)
{
	*d = (struct direction){.from_fd = from_fd, .to_fd = to_fd};
	d->ring = calloc(queue_size, sizeof(*d->ring));
	if (!d->ring)
		fail("a queue of %zu packets", queue_size);
}

/* Where the next packet is read to. The one slot beyond a full queue takes what is dropped. */
static struct packet *free_slot(struct direction *d)
{
	static struct packet dropped;

	if (d->n_queued == queue_size)
		return &dropped;
	return &d->ring[(d->head + d->n_queued) % queue_size];
}

static void take(struct direction *d, int64_t now)
{
	for (int i = 0; i < BATCH; i++) {
		struct packet *packet = free_slot(d);
		ssize_t n = read(d->from_fd, packet->data, PACKET_MAX);

		if (n <= 0) {
			if (n < 0 && errno != EAGAIN && errno != EINTR)
				fail("reading packets");
			return;
		}
		d->n_read++;
		if (random_next() < loss_bound) {
			d->n_lost++;
		} else if (d->n_queued == queue_size) {
			d->n_overflows++;
		} else {
			packet->length = (uint32_t)n;
			packet->due_ns = now + delay_ns;
			d->n_queued++;
		}
	}
}

static void give(struct direction *d, int64_t now)
{
	while (d->n_queued > 0 && d->ring[d->head].due_ns <= now) {
		struct packet *packet = &d->ring[d->head];

		/* A device that is down refuses. */
		if (write(d->to_fd, packet->data, packet->length) < 0)
			d->n_refused++;
		else
			d->n_written++;
		d->head = (d->head + 1) % queue_size;
		d->n_queued--;
	}
}

static int64_t direction_next_ns(const struct direction *d)
{
	return d->n_queued ? d->ring[d->head].due_ns : INT64_MAX;
}

/* Until something can be read or is due. */
static void wait_for_work(struct pollfd *fds, struct direction *both)
{
	int64_t a = direction_next_ns(&both[0]), b = direction_next_ns(&both[1]);
	int64_t due_ns = a < b ? a : b, left_ns = due_ns - now_ns();
	struct timespec wait = {};

	if (left_ns > 0) {
		wait.tv_sec = left_ns / 1000000000;
		wait.tv_nsec = left_ns % 1000000000;
	}
	if (ppoll(fds, 3, due_ns == INT64_MAX ? NULL : &wait, NULL) < 0 && errno != EINTR)
		fail("ppoll");
}

static void carry(struct direction *both)
{
	struct pollfd fds[] = {
		{.fd = both[0].from_fd, .events = POLLIN},
		{.fd = both[1].from_fd, .events = POLLIN},
		{.fd = STDIN_FILENO, .events = POLLIN},
	};

	/* Else the kernel may add 50 us to each wait. */
	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	while (!fds[2].revents) {
		wait_for_work(fds, both);
		for (int i = 0; i < 2; i++) {
			if (fds[i].revents)
				take(&both[i], now_ns());
			give(&both[i], now_ns());
		}
	}
}

static void print_direction(const char *label, const struct direction *d)
{
	printf("\"%s\": {\"read\": %llu, \"written\": %llu, \"lost\": %llu, \"overflows\": %llu, "
	       "\"refused\": %llu}",
		label, (unsigned long long)d->n_read, (unsigned long long)d->n_written,
		(unsigned long long)d->n_lost, (unsigned long long)d->n_overflows,
		(unsigned long long)d->n_refused);
}

static void set_loss(const char *text)
{
	double loss = strtod(text, NULL);

	errno = EINVAL;
	if (!(loss >= 0 && loss < 1))
		fail("--loss=%s", text);
	loss_bound = (uint64_t)(loss * 18446744073709551616.0);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{"delay-ms", required_argument, NULL, 'd'},
		{"loss", required_argument, NULL, 'l'},
		{"seed", required_argument, NULL, 's'},
		{"queue", required_argument, NULL, 'q'},
		{"name", required_argument, NULL, 'n'},
		{},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (option == 'd')
			delay_ns = (int64_t)(strtod(optarg, NULL) * 1e6);
		else if (option == 'l')
			set_loss(optarg);
		else if (option == 's')
			random_state = strtoull(optarg, NULL, 0);
		else if (option == 'q')
			queue_size = strtoul(optarg, NULL, 0);
		else if (option == 'n')
			name = optarg;
		else
			exit(1);
	}
	errno = EINVAL;
	if (argc - optind != 2 || queue_size == 0 || delay_ns < 0)
		fail("usage: delay-line [OPTION...] NAMESPACE NAMESPACE");
}

int main(int argc, char **argv)
{
	struct direction both[2];
	int a, b;

	parse(argc, argv);
	a = make_device(argv[optind]);
	b = make_device(argv[optind + 1]);
	direction_init(&both[0], a, b);
	direction_init(&both[1], b, a);
	puts("ready");
	fflush(stdout);
	carry(both);
	fputs("{", stdout);
	print_direction("there", &both[0]);
	fputs(", ", stdout);
	print_direction("back", &both[1]);
	puts("}");
	return 0;
}
