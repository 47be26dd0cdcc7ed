/* The lines of the plan that set the machine up, each one small act. */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MIB (1L << 20)

static char block[64 * 4096] __attribute__((aligned(4096)));

static int load_module(const char *path, const char *parameters)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long failed;

	if (fd < 0)
		return -1;
	failed = syscall(SYS_finit_module, fd, parameters, 0);
	close(fd);
	unlink(path); /* the initramfs lies in memory */
	return failed ? -1 : 0;
}

/* Devices appear a moment after what makes them. */
static int open_device(const char *path, int flags)
{
	int tries, fd = -1;

	for (tries = 0; tries < 200 && fd < 0; tries++) {
		fd = open(path, flags | O_CLOEXEC);
		if (fd < 0)
			usleep(10000);
	}
	return fd;
}

/* Writes each page of a device once, so that one that lives in memory has all of it. */
static int fill_device(const char *path, long mib)
{
	int fd = open_device(path, O_WRONLY | O_DIRECT);
	long at;

	if (fd < 0)
		return -1;
	memset(block, 0, sizeof block);
	for (at = 0; at < mib * MIB; at += (long)sizeof block)
		if (pwrite(fd, block, sizeof block, at) != (ssize_t)sizeof block)
			return -1;
	return close(fd);
}

/* An image without its zeros: "<offset> <length>\n", then the bytes, again and again. */
static int write_image(const char *device, const char *path)
{
	FILE *image = fopen(path, "r");
	int fd = open_device(device, O_WRONLY);
	long offset, length;

	if (!image || fd < 0)
		return -1;
	while (fscanf(image, "%ld %ld", &offset, &length) == 2) {
		fgetc(image);
		if (length > (long)sizeof block || fread(block, 1, (size_t)length, image) != (size_t)length)
			return -1;
		if (pwrite(fd, block, (size_t)length, offset) != length)
			return -1;
	}
	fclose(image);
	unlink(path);
	if (fsync(fd))
		return -1;
	return close(fd);
}

/* include/linux/swap.h, union swap_header: version and last page at 1024, the magic at the end */
static int make_swap(const char *device)
{
	static char page[4096] __attribute__((aligned(4096)));
	int fd = open_device(device, O_RDWR | O_DIRECT);
	uint32_t *info = (uint32_t *)(page + 1024);
	off_t length;

	if (fd < 0)
		return -1;
	length = lseek(fd, 0, SEEK_END);
	info[0] = 1;
	info[1] = (uint32_t)(length / PAGE - 1);
	memcpy(page + PAGE - 10, "SWAPSPACE2", 10);
	if (pwrite(fd, page, sizeof page, 0) != (ssize_t)sizeof page)
		return -1;
	close(fd);
	return swapon(device, 0);
}

/* A file of random bytes; its pages leave the cache with the drop before the run. */
static int make_file(const char *path, long mib)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	uint64_t state = 88172645463325252ULL, *word = (uint64_t *)block;
	size_t i;
	long at;

	if (fd < 0)
		return -1;
	for (i = 0; i < sizeof block / 8; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		word[i] = state;
	}
	for (at = 0; at < mib * MIB; at += (long)sizeof block)
		if (write(fd, block, sizeof block) != (ssize_t)sizeof block)
			return -1;
	if (fsync(fd))
		return -1;
	return close(fd);
}

/* 1: done; 0: not a line for this file; below 0: it failed, errno says why. */
int setup_line(int argc, char **argv)
{
	const char *verb = argv[0];
	int failed;

	if (!strcmp(verb, "mkdir") && argc == 2)
		failed = mkdir(argv[1], 0755) && errno != EEXIST;
	else if (!strcmp(verb, "mount") && argc == 5)
		failed = mount(argv[2], argv[3], argv[1], 0, strcmp(argv[4], "-") ? argv[4] : NULL);
	else if (!strcmp(verb, "write") && argc == 3)
		failed = write_text(argv[1], argv[2]);
	else if (!strcmp(verb, "module") && argc >= 2)
		failed = load_module(argv[1], argc > 2 ? argv[2] : "");
	else if (!strcmp(verb, "fill") && argc == 3)
		failed = fill_device(argv[1], atol(argv[2]));
	else if (!strcmp(verb, "image") && argc == 3)
		failed = write_image(argv[1], argv[2]);
	else if (!strcmp(verb, "swap") && argc == 2)
		failed = make_swap(argv[1]);
	else if (!strcmp(verb, "file") && argc == 3)
		failed = make_file(argv[1], atol(argv[2]));
	else if (!strcmp(verb, "settle") && argc == 2)
		failed = usleep((useconds_t)atol(argv[1]) * 1000);
	else
		return 0;
	return failed ? -1 : 1;
}
