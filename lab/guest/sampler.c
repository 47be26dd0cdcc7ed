/* Reads the kernel's files, whole, and hands them to the host, which takes them apart.
 *
 * All files stay open: a file of /proc that is opened anew under pressure would want memory.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_SAMPLED 256

static struct sampled {
	int fd, every;
	char path[128];
} sampled[MAX_SAMPLED];
static int nr_sampled;
static int kmsg = -1;
static int statm[MAX_PROCESSES];
static int events_sent;
static char buffer[1 << 17];

void sampler_add(int every, const char *path)
{
	if (nr_sampled == MAX_SAMPLED)
		die("more than %d files to sample", MAX_SAMPLED);
	sampled[nr_sampled].fd = -1;
	sampled[nr_sampled].every = every;
	snprintf(sampled[nr_sampled++].path, sizeof sampled[0].path, "%s", path);
}

/* A file that a kernel lacks (memory.zswap.current, say) is left out. */
void sampler_open(void)
{
	int i;

	for (i = 0; i < nr_sampled; i++)
		sampled[i].fd = open(sampled[i].path, O_RDONLY);
	for (i = 0; i < MAX_PROCESSES; i++)
		statm[i] = -1;
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (kmsg < 0 || lseek(kmsg, 0, SEEK_END) < 0)
		die("/dev/kmsg: %s", strerror(errno));
}

static ssize_t read_whole(int fd)
{
	size_t length = 0;
	ssize_t n;

	while (length < sizeof buffer) {
		n = pread(fd, buffer + length, sizeof buffer - length, (off_t)length);
		if (n < 0)
			return length ? (ssize_t)length : -1;
		if (n == 0)
			break;
		length += (size_t)n;
	}
	return (ssize_t)length;
}

void sampler_boot(const char *path)
{
	int fd = open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return;
	n = read_whole(fd);
	if (n >= 0)
		wire_record("boot", path, buffer, (size_t)n);
	close(fd);
}

static void take_processes(void)
{
	char path[64];
	int i;

	for (i = 0; i < plan.nr_processes; i++) {
		pid_t pid = board->pid[i];
		ssize_t n;

		if (pid <= 0)
			continue;
		if (statm[i] < 0) {
			snprintf(path, sizeof path, "/proc/%d/statm", pid);
			statm[i] = open(path, O_RDONLY);
		}
		n = statm[i] < 0 ? -1 : read_whole(statm[i]);
		if (n > 0)
			wire_record("statm", plan.process[i].name, buffer, (size_t)n);
	}
}

static void take_kernel_log(void)
{
	ssize_t n;

	for (;;) {
		n = read(kmsg, buffer, sizeof buffer - 1);
		if (n > 0)
			wire_record("kmsg", "-", buffer, (size_t)n);
		else if (n == 0 || errno != EPIPE) /* EPIPE: overwritten before it was read */
			break;
	}
}

void sampler_events(void)
{
	while (events_sent < board->nr_events && events_sent < MAX_EVENTS) {
		struct event *event = &board->event[events_sent];
		char line[EVENT_LEN + 32];
		int n;

		if (!event->ready)
			break;
		n = snprintf(line, sizeof line, "%lld %s", (long long)event->t_us, event->text);
		wire_record("event", "-", line, (size_t)n);
		events_sent++;
	}
}

/* A whole file, in pieces. */
void sampler_fetch(const char *path)
{
	int fd = open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return;
	while ((n = read(fd, buffer, sizeof buffer)) > 0)
		wire_record("fetched", path, buffer, (size_t)n);
	close(fd);
}

void sampler_take(int number)
{
	int i;

	wire_record("sample", "-", "", 0);
	for (i = 0; i < nr_sampled; i++) {
		ssize_t n;

		if (sampled[i].fd < 0 || number % sampled[i].every)
			continue;
		n = read_whole(sampled[i].fd);
		if (n >= 0)
			wire_record("file", sampled[i].path, buffer, (size_t)n);
	}
	take_processes();
	sampler_events();
	take_kernel_log();
}
