"""Granules of a mapping that are not in memory: which of them does a random access meet?

    lost:  appended to the list of its class of popularity
    found: the last of that list takes its place
    draw:  a class by what its missing granules weigh, one of its list, kept by its own weight

All granules of a uniform pattern are of class 0. Under zipf class c has the granules 2^c - 1 to
2^(c+1) - 2: their weights differ by at most 2^s. Each entry of a mapping has a cell, a class the
cells of its own entries; its list stands in the first of these, ``place`` says where on it an
entry is. So a granule comes and goes in a fixed number of steps and a draw takes a walk over the
counts of some twenty classes at most, however few granules are missing. Lists are kept from the
first random access to a mapping on.

Not in the kernel, which need not ask: there a task touches its pages itself.
"""

from __future__ import annotations

from capplan.mm._jit import jit, prefetch, rare
from capplan.mm.lruvec import draw, zipf_mass
from capplan.mm.state import ACCESS_ZIPF, CELLS, NR_MISSING_CLASSES, PTE_COW, PTE_NONE, PTE_PRESENT
from capplan.mm.xarray import ask_for_node

__all__ = ["ask_for_missing", "granule_found", "granule_lost", "missing_share", "pick_missing"]

MAX_LOST = 256
UNIT = 9007199254740992.0  # 2^53: a draw lies below
# A candidate is kept with a probability of at least 2^-s: so many in a row are refused once in
# 10^19 runs at s = 1.
ATTEMPTS = 64


@jit
def popularity_class(index):
    """The class of a granule: log2(index + 1), rounded down.

    Worked example: granules 0, 1 to 2, 3 to 6, 7 to 14 are classes 0, 1, 2, 3.
    """
    x = index + 1
    c = 0
    for shift in (16, 8, 4, 2, 1):
        if x >> shift:
            x >>= shift
            c += shift
    return c


@jit
def _class_of(mapping, index):
    return popularity_class(index) if mapping.listed == ACCESS_ZIPF else 0


@jit
def _first_cell(mapping, c):
    """The cell where the list of class c begins."""
    return mapping.first_pte + (1 << c) - 1


@jit
def _listed(k, pt, cell):
    return pt[k.nr_entries + cell // CELLS].cells[cell % CELLS]


@jit
def _list(k, pt, cell, index):
    pt[k.nr_entries + cell // CELLS].cells[cell % CELLS] = index


@jit
def _append(k, pt, m, e):
    mapping = k.mapping[m]
    index = e - mapping.first_pte
    c = _class_of(mapping, index)
    at = mapping.missing[c]
    mapping.missing[c] = at + 1
    _list(k, pt, _first_cell(mapping, c) + at, index)
    pt[e].place = at
    if mapping.listed == ACCESS_ZIPF:
        mapping.missing_mass += zipf_mass(mapping, index, index + 1)


@jit
def _remove(k, pt, m, e):
    mapping = k.mapping[m]
    index = e - mapping.first_pte
    c = _class_of(mapping, index)
    first = _first_cell(mapping, c)
    last = mapping.missing[c] - 1
    mapping.missing[c] = last
    moved = _listed(k, pt, first + last)
    at = pt[e].place
    _list(k, pt, first + at, moved)
    pt[mapping.first_pte + moved].place = at
    if mapping.listed == ACCESS_ZIPF:
        mapping.missing_mass -= zipf_mass(mapping, index, index + 1)
        if mapping.nonresident == 0:
            mapping.missing_mass = 0.0  # what rounding has left


@jit
def granule_lost(k, pt, m, e, nr):
    """A resident granule of mapping m (nr pages) is gone; whoever touches m faults from now on."""
    mapping = k.mapping[m]
    mapping.resident_pages -= nr
    mapping.nonresident += 1
    if mapping.listed >= 0:
        _append(k, pt, m, e)
    if mapping.nonresident == 1 and mapping.first_task >= 0:
        if k.nr_lost < MAX_LOST:
            k.lost[k.nr_lost] = m
        k.nr_lost += 1


@jit
def granule_found(k, pt, m, e):
    """Entry e of mapping m was missing and is so no longer: in memory again, or given up."""
    mapping = k.mapping[m]
    mapping.nonresident -= 1
    if mapping.listed >= 0:
        _remove(k, pt, m, e)


@rare
def _list_missing(k, pt, m):
    """Begin to keep the lists of mapping m, for its present pattern."""
    mapping = k.mapping[m]
    mapping.listed = mapping.pattern
    mapping.missing_mass = 0.0
    for c in range(NR_MISSING_CLASSES):
        mapping.missing[c] = 0
    for e in range(mapping.first_pte, mapping.first_pte + mapping.used):
        if pt[e].state != PTE_PRESENT and pt[e].state != PTE_NONE and pt[e].state != PTE_COW:
            _append(k, pt, m, e)


@jit
def missing_share(k, pt, m):
    """Share of the random accesses to mapping m that meet a missing granule.

    Worked example: 2 of 8 granules missing, uniform: 0.25. Zipf with s = 1, the two least popular:
    log(9 / 7) / log(9) = 0.114.
    """
    mapping = k.mapping[m]
    if mapping.listed != mapping.pattern:
        _list_missing(k, pt, m)
    n = max(mapping.used, 1)
    if mapping.pattern != ACCESS_ZIPF:
        return mapping.nonresident / n
    return min(max(mapping.missing_mass / zipf_mass(mapping, 0, n), 0.0), 1.0)


@jit
def _heaviest(mapping, c):
    """Most that a granule of class c weighs."""
    first = (1 << c) - 1
    return zipf_mass(mapping, first, first + 1)


@jit
def _candidate(k, pt, m, x):
    """The missing granule at height x of the classes stacked up: (index, class); -1: none."""
    mapping = k.mapping[m]
    for c in range(NR_MISSING_CLASSES):
        count = mapping.missing[c]
        if count == 0:
            continue
        heaviest = _heaviest(mapping, c)
        if x < count * heaviest:
            at = min(int(x / heaviest), count - 1)
            return _listed(k, pt, _first_cell(mapping, c) + at), c
        x -= count * heaviest
    return -1, -1


@jit
def _stacked(mapping):
    """Height of all classes: their missing granules, each taken for its class's heaviest."""
    height = 0.0
    for c in range(NR_MISSING_CLASSES):
        if mapping.missing[c]:
            height += mapping.missing[c] * _heaviest(mapping, c)
    return height


@jit
def _pick_popular(k, pt, t, m):
    """Index of a missing granule drawn by weight, -1: none."""
    mapping = k.mapping[m]
    task = k.task[t]
    height = _stacked(mapping)
    index = -1
    for _ in range(ATTEMPTS):
        task.draws += 1
        x = draw(k, mapping.stream, t, task.draws) / UNIT * height
        found, c = _candidate(k, pt, m, x)
        if found < 0:
            continue  # rounding: at the very top
        index = found
        task.draws += 1
        kept = draw(k, mapping.stream, t, task.draws) / UNIT
        if kept * _heaviest(mapping, c) < zipf_mass(mapping, index, index + 1):
            break
    return index


@jit
def _bits_below(n):
    """Bits of a draw that do not tell numbers below n apart, nor below the next power of two."""
    bits = 53
    rest = n - 1
    while rest > 0:
        rest >>= 1
        bits -= 1
    return bits


@jit
def _place_drawn(k, t, m, draws, bits):
    """Which of the missing granules, all alike, the next draws give: (place, draws by then).

    Drawn below the next power of two until it is on the list: the place stays the same when
    a few granules come or go before it is asked for again. bits : :func:`_bits_below`
    """
    mapping = k.mapping[m]
    for _ in range(ATTEMPTS):
        draws += 1
        at = draw(k, mapping.stream, t, draws) >> bits
        if at < mapping.nonresident:
            return at, draws
    return 0, draws


@jit
def pick_missing(k, pt, t, m):
    """A granule that is not resident, drawn as the pattern of mapping m touches them: its entry.

    -1 when none is missing. :func:`missing_share` has begun the lists. The draws are task t's.
    """
    mapping = k.mapping[m]
    if mapping.nonresident == 0:
        return -1
    if mapping.pattern == ACCESS_ZIPF:
        index = _pick_popular(k, pt, t, m)
    else:
        bits = _bits_below(mapping.nonresident)
        at, k.task[t].draws = _place_drawn(k, t, m, k.task[t].draws, bits)
        index = _listed(k, pt, mapping.first_pte + at)
    return mapping.first_pte + index if index >= 0 else -1


@jit
def ask_for_missing(k, pt, t, m):
    """Ask memory for the entry that :func:`pick_missing` finds next, if nothing changes till then.

    A draw depends on its number alone, so the next ones are known now; a granule that is met at
    random is in no cache. The cell that names the entry was asked for a turn before.
    """
    mapping = k.mapping[m]
    if mapping.nonresident == 0 or mapping.pattern == ACCESS_ZIPF:
        return
    bits = _bits_below(mapping.nonresident)
    at, draws = _place_drawn(k, t, m, k.task[t].draws, bits)
    e = mapping.first_pte + _listed(k, pt, mapping.first_pte + at)
    prefetch(pt, e)
    ask_for_node(k, pt, e)
    at, _ = _place_drawn(k, t, m, draws, bits)
    prefetch(pt, k.nr_entries + (mapping.first_pte + at) // CELLS)
