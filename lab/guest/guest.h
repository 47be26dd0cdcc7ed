/* What the parts of the guest's one program share.
 *
 * main.c      reads /plan, sets the machine up line by line, then keeps time
 * setup.c     the lines that set up: mounts, modules, devices, swap, files
 * workload.c  one process: its phases, one after the other, at paced rates
 * sampler.c   reads the kernel's files and gives them to the host
 * wire.c      the way to the host: a port of the emulated machine, past all of its memory
 */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE 4096L
#define MAX_PROCESSES 24
#define MAX_PHASES 24
#define MAX_CHANGES 64
#define MAX_EVENTS 1024
#define MAX_FETCHED 4
#define NAME_LEN 48
#define EVENT_LEN 104

enum op {
	OP_ANON, OP_TOUCH, OP_TOUCH_RANDOM, OP_READ, OP_LOOP_READ, OP_RANDOM_READ, OP_WRITE_FILE,
	OP_WRITE_TMPFS, OP_HOLD, OP_FREE, OP_MLOCK, OP_FORK, OP_MAP_FILE, OP_PUNCH, OP_DENTRIES,
	OP_EXEC, OP_COUNT
};

struct phase {
	enum op op;
	long pages;
	long rate;      /* thousandths of a page per second; 0: as fast as it can */
	long ms;
	long pct;       /* of each page that holds one repeated byte */
	char arg[128];  /* a file's path, a child's name, a folder, a program */
};

struct process {
	char name[NAME_LEN];
	char cgroup[128]; /* cgroup.procs to join; "-" for a child that stays with its parent */
	long adj;
	long start_ms;    /* below 0: started by another's fork phase */
	long thp;
	long mpol;        /* MPOL_*; 0: its parent's */
	unsigned long nodes;
	int nr_phases;
	struct phase phases[MAX_PHASES];
};

struct change {
	long at_ms;
	char path[128];
	char value[128];
};

struct event {
	volatile int ready;
	int64_t t_us;
	char text[EVENT_LEN];
};

/* Seen by all processes of the guest: what happened, and who is who. */
struct board {
	volatile int nr_events;
	volatile pid_t pid[MAX_PROCESSES];
	struct event event[MAX_EVENTS];
};

struct plan {
	long sample_ms, duration_ms, seed;
	int nr_processes, nr_changes, nr_fetched;
	struct process process[MAX_PROCESSES];
	struct change change[MAX_CHANGES];
	char fetched[MAX_FETCHED][128];
	char root[128]; /* where programs have their root, and in it /lab/log */
};

extern struct plan plan;
extern struct board *board;
extern int64_t t0_ns; /* CLOCK_MONOTONIC at the run's beginning */

int64_t now_ns(void);
void sleep_until(int64_t at_ns);
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
int write_text(const char *path, const char *text);
void post(const char *format, ...) __attribute__((format(printf, 1, 2)));

void wire_open(void);
void wire_record(const char *kind, const char *name, const char *data, size_t length);
void wire_exit(int status) __attribute__((noreturn));

int setup_line(int argc, char **argv);

void run_process(int number) __attribute__((noreturn));

void sampler_add(int every, const char *path);
void sampler_open(void);
void sampler_boot(const char *path);
void sampler_take(int number);
void sampler_events(void);
void sampler_fetch(const char *path);

#endif
