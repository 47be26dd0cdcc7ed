/* One process of a scenario: it joins its cgroup and runs its phases one after the other.
 *
 * Rates are upper bounds: a loop works a piece, then sleeps until that piece was due, so one
 * that was held back catches up. The beginning and the end of each phase are posted, with the
 * pages done: the machine's own speeds (the calibration) are read off phases without a rate.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECE 16L       /* pages between two looks at the clock: 64 KiB */
#define HUGE (2L << 20)
#define MAX_SEGMENTS 32

static struct segment {
	char *start;
	long pages;
} segment[MAX_SEGMENTS];
static int nr_segments;
static uint64_t random_state;
static char io_buffer[PIECE * PAGE] __attribute__((aligned(4096)));

struct pace {
	int64_t begin_ns;
	long rate; /* thousandths of a page per second */
	long done; /* pages */
};

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* The first part of the page random, the rest one repeated byte. */
static void fill_page(char *page, long pct)
{
	uint64_t *word = (uint64_t *)page;
	long words = PAGE / 8 * (100 - pct) / 100;
	long i;

	for (i = 0; i < words; i++)
		word[i] = next_random();
	if (words < PAGE / 8)
		memset(word + words, 0x55, (size_t)(PAGE - words * 8));
}

static struct pace begin(const struct phase *phase)
{
	struct pace pace = { now_ns(), phase->rate, 0 };

	return pace;
}

static void keep(struct pace *pace, long pages)
{
	pace->done += pages;
	if (pace->rate > 0)
		sleep_until(pace->begin_ns + (int64_t)((double)pace->done * 1e12 / (double)pace->rate));
}

static long least(long a, long b)
{
	return a < b ? a : b;
}

static char *map_anon(long pages, long thp)
{
	size_t length = (size_t)(pages * PAGE);
	char *start = mmap(NULL, length + (thp ? HUGE : 0), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (start == MAP_FAILED || nr_segments == MAX_SEGMENTS)
		_exit(12);
	if (thp)
		start = (char *)(((uintptr_t)start + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
	segment[nr_segments].start = start;
	segment[nr_segments++].pages = pages;
	return start;
}

static long grow(const struct phase *phase, long thp)
{
	struct pace pace = begin(phase);
	char *start = map_anon(phase->pages, thp);
	long i, j;

	for (i = 0; i < phase->pages; i += PIECE) {
		long n = least(PIECE, phase->pages - i);

		for (j = i; j < i + n; j++)
			fill_page(start + j * PAGE, phase->pct);
		keep(&pace, n);
	}
	return pace.done;
}

static long all_pages(void)
{
	long sum = 0;
	int i;

	for (i = 0; i < nr_segments; i++)
		sum += segment[i].pages;
	return sum;
}

static char *page_at(long number)
{
	int i;

	for (i = 0; i < nr_segments; i++) {
		if (number < segment[i].pages)
			return segment[i].start + number * PAGE;
		number -= segment[i].pages;
	}
	return NULL;
}

static long touch(const struct phase *phase)
{
	struct pace pace = begin(phase);
	int64_t end = pace.begin_ns + (int64_t)phase->ms * 1000000;
	long total = all_pages(), at = 0, j;

	while (total > 0 && now_ns() < end) {
		for (j = 0; j < PIECE; j++) {
			char *page = page_at(phase->op == OP_TOUCH_RANDOM
						     ? (long)(next_random() % (uint64_t)total)
						     : at++ % total);

			(*(volatile char *)page)++;
		}
		keep(&pace, PIECE);
	}
	return pace.done;
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags, 0600);

	if (fd < 0) {
		post("error %s: %s", path, strerror(errno));
		_exit(13);
	}
	return fd;
}

static long read_file(const struct phase *phase)
{
	struct pace pace = begin(phase);
	int64_t end = pace.begin_ns + (int64_t)phase->ms * 1000000;
	int fd = open_file(phase->arg, O_RDONLY);
	long at = 0;

	for (;;) {
		long n = least(PIECE, phase->pages - at);

		if (pread(fd, io_buffer, (size_t)(n * PAGE), at * PAGE) != n * PAGE)
			_exit(14);
		keep(&pace, n);
		at += n;
		if (phase->op == OP_LOOP_READ && now_ns() >= end)
			break;
		if (at < phase->pages)
			continue;
		if (phase->op == OP_READ)
			break;
		at = 0;
	}
	close(fd);
	return pace.done;
}

static long random_read(const struct phase *phase)
{
	struct pace pace = begin(phase);
	int64_t end = pace.begin_ns + (int64_t)phase->ms * 1000000;
	int fd = open_file(phase->arg, O_RDONLY);

	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	while (now_ns() < end) {
		long page = (long)(next_random() % (uint64_t)phase->pages);

		if (pread(fd, io_buffer, (size_t)PAGE, page * PAGE) != PAGE)
			_exit(14);
		keep(&pace, 1);
	}
	close(fd);
	return pace.done;
}

/* Reads each page of a mapped file once; the mapping stays until the process ends. */
static long map_file(const struct phase *phase)
{
	struct pace pace = begin(phase);
	int fd = open_file(phase->arg, O_RDONLY);
	const char *start = mmap(NULL, (size_t)(phase->pages * PAGE), PROT_READ, MAP_SHARED, fd, 0);
	volatile char seen = 0;
	long i, j;

	if (start == MAP_FAILED)
		_exit(12);
	for (i = 0; i < phase->pages; i += PIECE) {
		long n = least(PIECE, phase->pages - i);

		for (j = i; j < i + n; j++)
			seen ^= start[j * PAGE];
		keep(&pace, n);
	}
	close(fd);
	return pace.done;
}

static long write_file(const struct phase *phase)
{
	struct pace pace = begin(phase);
	int fd = open_file(phase->arg, O_RDWR | O_CREAT | O_TRUNC);
	long at = 0, i;

	for (i = 0; i < PIECE; i++)
		fill_page(io_buffer + i * PAGE, phase->pct);
	while (at < phase->pages) {
		long n = least(PIECE, phase->pages - at);
		ssize_t done = write(fd, io_buffer, (size_t)(n * PAGE));

		if (done < 0) {
			post("error write %s: %s", phase->arg, strerror(errno));
			_exit(errno);
		}
		at += done / PAGE;
		keep(&pace, done / PAGE);
	}
	close(fd);
	return pace.done;
}

/* The newest pages: the last `wanted` of what was mapped. */
static void newest(long wanted, void (*use)(char *start, long pages))
{
	int i;

	for (i = nr_segments - 1; i >= 0 && wanted > 0; i--) {
		long n = least(wanted, segment[i].pages);

		use(segment[i].start + (segment[i].pages - n) * PAGE, n);
		wanted -= n;
	}
}

static void use_mlock(char *start, long pages)
{
	if (mlock(start, (size_t)(pages * PAGE)))
		post("error mlock: %s", strerror(errno));
}

/* Every second page goes back: what is left lets no two neighbours merge. */
static void use_punch(char *start, long pages)
{
	long i;

	for (i = 0; i < pages; i += 2)
		madvise(start + i * PAGE, (size_t)PAGE, MADV_DONTNEED);
}

static long free_newest(long wanted)
{
	long freed = 0;

	while (wanted > 0 && nr_segments > 0) {
		struct segment *last = &segment[nr_segments - 1];
		long n = least(wanted, last->pages);

		munmap(last->start + (last->pages - n) * PAGE, (size_t)(n * PAGE));
		last->pages -= n;
		wanted -= n;
		freed += n;
		if (!last->pages)
			nr_segments--;
	}
	return freed;
}

/* Names that are looked for and not there: one unused dentry each, 21 to a page of slab. */
static long dentries(const struct phase *phase)
{
	struct pace pace = begin(phase);
	struct stat stat;
	char path[256];
	long i, j;

	for (i = 0; i < phase->pages; i++) {
		for (j = 0; j < 21; j++) {
			snprintf(path, sizeof path, "%s/%s-%ld-%ld", phase->arg, "absent", i, j);
			if (lstat(path, &stat) == 0)
				_exit(15);
		}
		keep(&pace, 1);
	}
	return pace.done;
}

/* The child has the sampler for a parent, which so learns of its end. */
static long fork_child(const char *name)
{
	int i;

	for (i = 0; i < plan.nr_processes; i++) {
		if (strcmp(plan.process[i].name, name))
			continue;
		if (syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0)
			run_process(i);
		return 0;
	}
	_exit(16);
}

/* A program of the file system under plan.root, with what it says in /lab/log there. */
static long run_program(const char *path)
{
	pid_t pid = fork();
	int status, fd;

	if (pid == 0) {
		if (chroot(plan.root) || chdir("/"))
			_exit(18);
		fd = open("/dev/null", O_RDONLY);
		dup2(fd, 0);
		fd = open("/lab/log", O_WRONLY | O_CREAT | O_APPEND, 0600);
		dup2(fd, 1);
		dup2(fd, 2);
		syscall(SYS_close_range, 3, ~0U, 0); /* the sampler's files */
		execl(path, path, (char *)NULL);
		_exit(19);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status)
		post("error %s ended with status %d", path, status);
	return 0;
}

static long run_phase(const struct phase *phase, long thp)
{
	switch (phase->op) {
	case OP_ANON: return grow(phase, thp);
	case OP_TOUCH:
	case OP_TOUCH_RANDOM: return touch(phase);
	case OP_READ:
	case OP_LOOP_READ: return read_file(phase);
	case OP_RANDOM_READ: return random_read(phase);
	case OP_WRITE_FILE:
	case OP_WRITE_TMPFS: return write_file(phase);
	case OP_HOLD: sleep_until(now_ns() + (int64_t)phase->ms * 1000000); return 0;
	case OP_FREE: return free_newest(phase->pages);
	case OP_MLOCK: newest(phase->pages, use_mlock); return phase->pages;
	case OP_PUNCH: newest(phase->pages, use_punch); return phase->pages / 2;
	case OP_FORK: return fork_child(phase->arg);
	case OP_MAP_FILE: return map_file(phase);
	case OP_DENTRIES: return dentries(phase);
	case OP_EXEC: return run_program(phase->arg);
	case OP_COUNT: break;
	}
	_exit(17);
}

void run_process(int number)
{
	const struct process *me = &plan.process[number];
	struct sched_param normal = { 0 };
	char text[16];
	int i;

	board->pid[number] = getpid();
	sched_setscheduler(0, SCHED_OTHER, &normal);
	snprintf(text, sizeof text, "%ld", me->adj);
	if (write_text("/proc/self/oom_score_adj", text))
		die("%s: oom_score_adj", me->name);
	if (strcmp(me->cgroup, "-") && write_text(me->cgroup, "0"))
		die("%s: cannot join %s", me->name, me->cgroup);
	if (me->mpol && syscall(SYS_set_mempolicy, me->mpol, &me->nodes, 8 * sizeof me->nodes))
		die("%s: set_mempolicy", me->name);
	prctl(PR_SET_NAME, me->name);
	prctl(PR_SET_THP_DISABLE, !me->thp, 0, 0, 0);
	random_state = 0x9e3779b97f4a7c15ULL * (uint64_t)(plan.seed * 64 + number + 1);
	post("start %s %d", me->name, getpid());
	for (i = 0; i < me->nr_phases; i++) {
		long pages;

		post("begin %s %d", me->name, i);
		pages = run_phase(&me->phases[i], me->thp);
		post("end %s %d %ld", me->name, i, pages);
	}
	_exit(0);
}
