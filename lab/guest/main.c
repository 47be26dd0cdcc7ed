/* The guest's first and only program: reads /plan, sets up, runs, samples, ends.
 *
 * A plan is lines of words. Those of setup.c act at once, in order; `process`, `phase`, `change`
 * and `sample` declare; `run` begins. The sampler is this process: locked in memory, first in
 * line for a CPU, never the OOM killer's choice.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STATUS_OK 16 /* qemu ends with 33 */
#define MAX_WORDS 12

struct plan plan;
struct board *board;
int64_t t0_ns;

static const char *const op_names[OP_COUNT] = {
	"anon", "touch_anon", "touch_anon_random", "read_file", "loop_read_file", "random_read_file",
	"write_file", "write_tmpfs", "hold", "free_anon", "mlock", "fork", "map_file", "punch",
	"dentries", "exec",
};

int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void sleep_until(int64_t at_ns)
{
	struct timespec at = { at_ns / 1000000000, at_ns % 1000000000 };

	if (at_ns > now_ns())
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
			;
}

int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t length = (ssize_t)strlen(text);
	int failed, error;

	if (fd < 0)
		return -1;
	failed = write(fd, text, (size_t)length) != length;
	error = errno;
	close(fd);
	errno = error;
	return failed ? -1 : 0;
}

void die(const char *format, ...)
{
	char text[256];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	wire_record("error", "-", text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
	wire_exit(1);
}

/* An event, from any process; the sampler passes it on. */
void post(const char *format, ...)
{
	int at = __sync_fetch_and_add(&board->nr_events, 1);
	va_list args;

	if (at >= MAX_EVENTS)
		return;
	board->event[at].t_us = (now_ns() - t0_ns) / 1000;
	va_start(args, format);
	vsnprintf(board->event[at].text, EVENT_LEN, format, args);
	va_end(args);
	__sync_synchronize();
	board->event[at].ready = 1;
}

static void add_process(char **argv)
{
	struct process *process = &plan.process[plan.nr_processes];

	if (plan.nr_processes++ == MAX_PROCESSES)
		die("more than %d processes", MAX_PROCESSES);
	snprintf(process->name, sizeof process->name, "%s", argv[1]);
	snprintf(process->cgroup, sizeof process->cgroup, "%s", argv[2]);
	process->adj = atol(argv[3]);
	process->start_ms = atol(argv[4]);
	process->thp = atol(argv[5]);
}

/* The last process's NUMA memory policy. */
static void add_numa(char **argv)
{
	struct process *process = &plan.process[plan.nr_processes - 1];

	process->mpol = atol(argv[1]);
	process->nodes = strtoul(argv[2], NULL, 0);
}

static void add_phase(char **argv)
{
	struct process *process = &plan.process[plan.nr_processes - 1];
	struct phase *phase = &process->phases[process->nr_phases];
	int op;

	if (process->nr_phases++ == MAX_PHASES)
		die("%s: more than %d phases", process->name, MAX_PHASES);
	for (op = 0; op < OP_COUNT && strcmp(op_names[op], argv[1]); op++)
		;
	if (op == OP_COUNT)
		die("%s: no phase is called %s", process->name, argv[1]);
	phase->op = (enum op)op;
	phase->pages = atol(argv[2]);
	phase->rate = atol(argv[3]);
	phase->ms = atol(argv[4]);
	phase->pct = atol(argv[5]);
	snprintf(phase->arg, sizeof phase->arg, "%s", argv[6]);
}

static void add_change(char **argv)
{
	struct change *change = &plan.change[plan.nr_changes];

	if (plan.nr_changes++ == MAX_CHANGES)
		die("more than %d changes", MAX_CHANGES);
	change->at_ms = atol(argv[1]);
	snprintf(change->path, sizeof change->path, "%s", argv[2]);
	snprintf(change->value, sizeof change->value, "%s", argv[3]);
}

static int declare(int argc, char **argv)
{
	if (!strcmp(argv[0], "process") && argc == 6)
		add_process(argv);
	else if (!strcmp(argv[0], "numa") && argc == 3 && plan.nr_processes > 0)
		add_numa(argv);
	else if (!strcmp(argv[0], "phase") && argc == 7 && plan.nr_processes > 0)
		add_phase(argv);
	else if (!strcmp(argv[0], "change") && argc == 4)
		add_change(argv);
	else if (!strcmp(argv[0], "sample") && argc == 3)
		sampler_add(atoi(argv[1]), argv[2]);
	else if (!strcmp(argv[0], "boot") && argc == 2)
		sampler_boot(argv[1]);
	else if (!strcmp(argv[0], "root") && argc == 2)
		snprintf(plan.root, sizeof plan.root, "%s", argv[1]);
	else if (!strcmp(argv[0], "fetch") && argc == 2 && plan.nr_fetched < MAX_FETCHED)
		snprintf(plan.fetched[plan.nr_fetched++], sizeof plan.fetched[0], "%s", argv[1]);
	else if (!strcmp(argv[0], "time") && argc == 4) {
		plan.sample_ms = atol(argv[1]);
		plan.duration_ms = atol(argv[2]);
		plan.seed = atol(argv[3]);
	} else
		return 0;
	return 1;
}

/* The changes have a process of their own: a write to memory.reclaim takes its time. */
static void run_changes(void)
{
	struct sched_param normal = { 0 };
	int i;

	sched_setscheduler(0, SCHED_OTHER, &normal);
	mlockall(MCL_CURRENT);
	for (i = 0; i < plan.nr_changes; i++) {
		const struct change *change = &plan.change[i];
		int failed;

		sleep_until(t0_ns + (int64_t)change->at_ms * 1000000);
		post("change %s", change->path);
		failed = write_text(change->path, change->value);
		post("changed %s %d", change->path, failed ? errno : 0);
	}
	_exit(0);
}

static void tell_exits(void)
{
	int status, i;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (i = 0; i < plan.nr_processes; i++) {
			if (board->pid[i] != pid)
				continue;
			board->pid[i] = -1;
			post("exit %s %s %d", plan.process[i].name, WIFSIGNALED(status) ? "signal" : "code",
			     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		}
}

static void start_due(int64_t now)
{
	int i;

	for (i = 0; i < plan.nr_processes; i++) {
		const struct process *process = &plan.process[i];

		if (board->pid[i] || process->start_ms < 0)
			continue;
		if (now < t0_ns + (int64_t)process->start_ms * 1000000)
			continue;
		board->pid[i] = fork();
		if (board->pid[i] == 0)
			run_process(i);
	}
}

static int64_t next_start(void)
{
	int64_t next = INT64_MAX;
	int i;

	for (i = 0; i < plan.nr_processes; i++) {
		int64_t at = t0_ns + (int64_t)plan.process[i].start_ms * 1000000;

		if (!board->pid[i] && plan.process[i].start_ms >= 0 && at < next)
			next = at;
	}
	return next;
}

static void wait_until(int64_t at)
{
	sigset_t children;
	struct timespec left;
	int64_t wait = at - now_ns();

	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	if (wait <= 0)
		return;
	left.tv_sec = wait / 1000000000;
	left.tv_nsec = wait % 1000000000;
	if (sigtimedwait(&children, NULL, &left) == SIGCHLD)
		tell_exits();
}

static void run(void)
{
	int64_t end, sample_at;
	char clock[24];
	int number = 0, i;

	sampler_open();
	t0_ns = now_ns();
	if (write_text("/dev/kmsg", "lab: t0\n"))
		die("/dev/kmsg: %s", strerror(errno));
	snprintf(clock, sizeof clock, "%lld", (long long)t0_ns);
	wire_record("clock", "t0", clock, strlen(clock));
	end = t0_ns + (int64_t)plan.duration_ms * 1000000;
	sample_at = t0_ns;
	if (plan.nr_changes && fork() == 0)
		run_changes();
	while (now_ns() < end) {
		int64_t next = next_start();

		wait_until(next < sample_at ? next : sample_at);
		start_due(now_ns());
		if (now_ns() < sample_at)
			continue;
		sampler_take(number++);
		sample_at += (int64_t)plan.sample_ms * 1000000;
	}
	sampler_events();
	for (i = 0; i < plan.nr_fetched; i++)
		sampler_fetch(plan.fetched[i]);
	wire_record("end", "-", "", 0);
	wire_exit(STATUS_OK);
}

static void obey(char *line)
{
	char copy[200], *argv[MAX_WORDS], *word;
	int argc = 0;

	snprintf(copy, sizeof copy, "%.199s", line);
	/* "write PATH ..." keeps the rest of the line as one word */
	for (word = strtok(line, " \n"); word && argc < MAX_WORDS; ) {
		argv[argc++] = word;
		word = strtok(NULL, argc == 2 && !strcmp(argv[0], "write") ? "\n" : " \n");
	}
	if (!argc)
		return;
	if (!strcmp(argv[0], "run"))
		run();
	if (declare(argc, argv))
		return;
	switch (setup_line(argc, argv)) {
	case 0: die("not understood: %s", copy);
	case -1: die("%s: %s", copy, strerror(errno));
	}
}

static void become_sampler(void)
{
	struct sched_param first = { .sched_priority = 50 };
	sigset_t children;

	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, NULL);
	board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED || mlockall(MCL_CURRENT | MCL_FUTURE))
		die("cannot lock the sampler: %s", strerror(errno));
	if (write_text("/proc/self/oom_score_adj", "-1000"))
		die("oom_score_adj: %s", strerror(errno));
	if (sched_setscheduler(0, SCHED_FIFO, &first))
		die("SCHED_FIFO: %s", strerror(errno));
}

int main(void)
{
	static char line[512];
	FILE *file;

	wire_open();
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	if (mount("proc", "/proc", "proc", 0, NULL) || mount("sysfs", "/sys", "sysfs", 0, NULL))
		die("mount: %s", strerror(errno));
	if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) && errno != EBUSY)
		die("devtmpfs: %s", strerror(errno));
	become_sampler();
	file = fopen("/plan", "r");
	if (!file)
		die("no /plan");
	while (fgets(line, sizeof line, file))
		obey(line);
	die("the plan ends without run");
}
