/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of 8-byte counters over connected sockets that were passed to it, every byte compared:
 *
 *   stream JOB...       JOB: send:FD:BYTES, recv:FD:BYTES, sample:FD:BYTES
 *
 * Each job is a process of its own. `send` ends its direction behind the last byte, `recv` wants
 * just that many bytes and the end, `sample` also prints how many bytes came in each second. The
 * first job that fails decides the exit status and says why on standard error.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define N_WORDS 32768

struct job {
	char kind[8];
	int fd;
	uint64_t n_bytes;
};

static uint64_t words[N_WORDS + 1];

static _Noreturn void fail(const char *what, uint64_t at)
{
	fprintf(stderr, "%s after byte %" PRIu64 ": %s\n", what, at, strerror(errno));
	exit(1);
}

static _Noreturn void wrong(const char *what, uint64_t at)
{
	fprintf(stderr, "%s after byte %" PRIu64 "\n", what, at);
	exit(1);
}

static void run_send(const struct job *job)
{
	uint64_t sent = 0;
	size_t at, len;
	ssize_t n;

	while (sent < job->n_bytes) {
		for (size_t i = 0; i < N_WORDS; i++)
			words[i] = sent / 8 + i;
		len = N_WORDS * 8;
		if (len > job->n_bytes - sent)
			len = (size_t)(job->n_bytes - sent);
		for (at = 0; at < len; at += (size_t)n) {
			n = send(job->fd, (char *)words + at, len - at, MSG_NOSIGNAL);
			if (n < 0)
				fail("cannot send", sent + at);
		}
		sent += len;
	}
	if (shutdown(job->fd, SHUT_WR) < 0)
		fail("cannot end", sent);
}

/* The first bytes of a word that is not whole count, too. */
static void compare(uint64_t first_word, size_t len)
{
	uint64_t expected;
	size_t rest = len % 8;

	for (size_t i = 0; i < len / 8; i++)
		if (words[i] != first_word + i)
			wrong("wrong content", (first_word + i) * 8);
	expected = first_word + len / 8;
	if (rest && memcmp(&words[len / 8], &expected, rest) != 0)
		wrong("wrong content", expected * 8);
}

static void sample(uint64_t n_bytes, uint64_t *printed, time_t *second)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec == *second)
		return;
	if (*second)
		printf("%" PRIu64 "\n", n_bytes - *printed);
	*second = now.tv_sec;
	*printed = n_bytes;
}

static void run_recv(const struct job *job)
{
	uint64_t received = 0, printed = 0;
	size_t rest = 0;
	time_t second = 0;
	ssize_t n;

	for (;;) {
		n = recv(job->fd, (char *)words + rest, N_WORDS * 8, 0);
		if (n < 0)
			fail("cannot receive", received);
		if (n == 0)
			break;
		compare((received - rest) / 8, rest + (size_t)n);
		received += (size_t)n;
		words[0] = words[(rest + (size_t)n) / 8];
		rest = received % 8;
		if (job->kind[0] == 's')
			sample(received, &printed, &second);
	}
	if (received != job->n_bytes)
		wrong("the end comes", received);
}

static void run(const struct job *job)
{
	/* Time-outs of the one who passed the socket are nonblocking mode. */
	fcntl(job->fd, F_SETFL, fcntl(job->fd, F_GETFL) & ~O_NONBLOCK);
	if (!strcmp(job->kind, "send"))
		run_send(job);
	else
		run_recv(job);
}

static void start(const char *text)
{
	struct job job;
	pid_t pid;

	if (sscanf(text, "%7[a-z]:%d:%" SCNu64, job.kind, &job.fd, &job.n_bytes) != 3) {
		fprintf(stderr, "what is %s?\n", text);
		exit(2);
	}
	pid = fork();
	if (pid < 0)
		fail("cannot fork", 0);
	if (pid > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	run(&job);
	exit(0);
}

int main(int argc, char **argv)
{
	int status;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 1; i < argc; i++)
		start(argv[i]);
	while (wait(&status) > 0)
		if (status != 0)
			return 1;
	return 0;
}
