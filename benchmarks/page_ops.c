/* The replay of a logged sequence of page operations, as plain C.
 *
 * A buddy allocator of order-0 movable pages (free lists per order, split, merge, put last when
 * the block above is free) and LRU lists with second chance: the
 * same algorithms, on the same records, as capplan's own functions. Written for this benchmark.
 *
 *   gcc -O2 -shared -fPIC page_ops.c -o page_ops.so
 */
#include <stdint.h>

typedef struct { /* frame_t of capplan/mm/state.py */
	int32_t next, prev, io_next, flags, nr_pages, memcg, mapping, pte;
	int8_t zone, order, migratetype;
	uint8_t lru;
	int8_t gen, refs, swap, pad;
	double seen;
	int64_t io_done_ns, line;
} frame;

typedef struct {
	int64_t free, frames;
	int64_t nr_free[11][4];
	int32_t head[11][4], tail[11][4];
	int64_t lru_pages[5];
} zone;

typedef struct {
	int64_t pages[5];
	int32_t head[5], tail[5];
} lruvec;

enum { FREE = 1, REFERENCED = 2, ACTIVE = 4, MAX_ORDER = 10, PAGEBLOCK = 512, NONE = 255 };
enum { INACTIVE_FILE = 2, ACTIVE_FILE = 3, MOVABLE = 1 };

static void link_block(zone *z, frame *f, int32_t i, int order, int mt, int last)
{
	f[i].flags = FREE;
	f[i].order = (int8_t)order;
	if (last) {
		int32_t other = z->tail[order][mt];
		f[i].next = -1;
		f[i].prev = other;
		z->tail[order][mt] = i;
		if (other >= 0)
			f[other].next = i;
		else
			z->head[order][mt] = i;
	} else {
		int32_t other = z->head[order][mt];
		f[i].prev = -1;
		f[i].next = other;
		z->head[order][mt] = i;
		if (other >= 0)
			f[other].prev = i;
		else
			z->tail[order][mt] = i;
	}
	z->nr_free[order][mt]++;
}

static void unlink_block(zone *z, frame *f, int32_t i, int order, int mt)
{
	int32_t next = f[i].next, prev = f[i].prev;

	if (prev >= 0)
		f[prev].next = next;
	else
		z->head[order][mt] = next;
	if (next >= 0)
		f[next].prev = prev;
	else
		z->tail[order][mt] = prev;
	f[i].flags = 0;
	f[i].next = -1;
	f[i].prev = -1;
	z->nr_free[order][mt]--;
}

static int32_t alloc_page(zone *z, frame *f, int mt)
{
	for (int order = 0; order <= MAX_ORDER; order++) {
		int32_t i = z->head[order][mt];
		if (i < 0)
			continue;
		unlink_block(z, f, i, order, mt);
		while (order > 0) {
			order--;
			link_block(z, f, i + (1 << order), order, mt, 0);
		}
		f[i].order = 0;
		z->free--;
		return i;
	}
	return -1;
}

static int is_free_block(const zone *z, const frame *f, int64_t block, int order)
{
	return block < z->frames && (f[block].flags & FREE) && f[block].order == order;
}

static void free_page(zone *z, frame *f, int32_t i)
{
	int64_t block = i;
	int order = 0, last = 0;
	int mt = f[block & ~(int64_t)(PAGEBLOCK - 1)].migratetype;

	z->free++;
	while (order < MAX_ORDER) {
		int64_t buddy = block ^ ((int64_t)1 << order);
		if (!is_free_block(z, f, buddy, order))
			break;
		unlink_block(z, f, (int32_t)buddy, order, mt);
		block &= buddy;
		order++;
	}
	if (order < MAX_ORDER - 1) {
		int64_t above = block & ~((int64_t)1 << order);
		last = is_free_block(z, f, above ^ ((int64_t)1 << (order + 1)), order + 1);
	}
	link_block(z, f, (int32_t)block, order, mt, last);
}

static void lru_add(zone *z, lruvec *groups, frame *f, int32_t i)
{
	lruvec *l = &groups[f[i].memcg];
	int lru = f[i].flags & ACTIVE ? ACTIVE_FILE : INACTIVE_FILE;
	int32_t head = l->head[lru];

	f[i].prev = -1;
	f[i].next = head;
	if (head >= 0)
		f[head].prev = i;
	else
		l->tail[lru] = i;
	l->head[lru] = i;
	f[i].lru = (uint8_t)lru;
	l->pages[lru] += f[i].nr_pages;
	z->lru_pages[lru] += f[i].nr_pages;
}

static void lru_del(zone *z, lruvec *groups, frame *f, int32_t i)
{
	lruvec *l = &groups[f[i].memcg];
	int lru = f[i].lru;
	int32_t next = f[i].next, prev = f[i].prev;

	if (prev >= 0)
		f[prev].next = next;
	else
		l->head[lru] = next;
	if (next >= 0)
		f[next].prev = prev;
	else
		l->tail[lru] = prev;
	f[i].lru = NONE;
	l->pages[lru] -= f[i].nr_pages;
	z->lru_pages[lru] -= f[i].nr_pages;
}

static void move(zone *z, lruvec *groups, frame *f, int32_t i, int flags)
{
	lru_del(z, groups, f, i);
	f[i].flags = flags;
	lru_add(z, groups, f, i);
}

/* 0: allocate. 1: touch page arg (twice touched: active). 2: scan the inactive tail (touched:
 * active, else free). 3: scan the active tail (to the inactive list). */
int64_t replay(frame *f, zone *z, lruvec *groups, const uint8_t *op, const int32_t *arg, int64_t n)
{
	int64_t sum = 0;

	for (int64_t at = 0; at < n; at++) {
		int32_t i = -1;

		if (op[at] == 0) {
			i = alloc_page(z, f, MOVABLE);
			if (i >= 0) {
				f[i].nr_pages = 1;
				f[i].memcg = 1;
				lru_add(z, groups, f, i);
			}
		} else if (op[at] == 1) {
			i = arg[at];
			if (f[i].lru == NONE)
				i = -1;
			else if (!(f[i].flags & REFERENCED))
				f[i].flags |= REFERENCED;
			else if (!(f[i].flags & ACTIVE))
				move(z, groups, f, i, ACTIVE);
		} else if (op[at] == 2) {
			i = groups[1].tail[INACTIVE_FILE];
			if (i >= 0 && (f[i].flags & REFERENCED)) {
				move(z, groups, f, i, ACTIVE);
			} else if (i >= 0) {
				lru_del(z, groups, f, i);
				f[i].flags = 0;
				free_page(z, f, i);
			}
		} else {
			i = groups[1].tail[ACTIVE_FILE];
			if (i >= 0)
				move(z, groups, f, i, 0);
		}
		sum = sum * 31 + i;
	}
	return sum;
}
