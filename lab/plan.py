"""A scenario as the lines that the guest's program obeys."""

from __future__ import annotations

from collections.abc import Iterator

from capplan.mm.constants import MPOL_DEFAULT, MPOL_LOCAL
from capplan.sim.build_tasks import MEMPOLICIES
from lab.scenario import Phase, Process, Scenario

CGROUPS = "/cg"
FILES = "/files"
TMPFS = "/tmpfs"
FOUND = "/lab/found.json"  # what a program of the disk leaves, below FILES
SWAP_NODE, FILE_NODE, ZRAM_NODE = "nullb0", "nullb1", "zram0"
FILE_DISK_SPARE_MIB = 48  # metadata, journal, and what ext4 keeps back when it is nearly full
PYTHON_MIB = 112  # an interpreter, its library and capplan take 75 to 95
PAGES_PER_MIB = 256
SAMPLE_MS = 250
ZONE_EVERY = 5
SETTLE_MS = 8000  # what was dropped leaves the per-cpu lists, some each second (vmstat_update)

MPOL = {"default": MPOL_DEFAULT, "local": MPOL_LOCAL} | MEMPOLICIES

NODE_FILES = ("/proc/meminfo", "/proc/vmstat", "/proc/pressure/memory")
BOOT_FILES = (
    "/proc/version", "/proc/zoneinfo", "/proc/buddyinfo", "/proc/meminfo",
    "/proc/sys/vm/min_free_kbytes", "/proc/sys/vm/swappiness", "/proc/sys/vm/overcommit_memory",
    "/sys/kernel/mm/lru_gen/enabled", "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/block/zram0/comp_algorithm",
)  # fmt: skip
CGROUP_FILES = {
    "v2": (
        "memory.current", "memory.stat", "memory.events", "memory.pressure",
        "memory.swap.current", "memory.zswap.current", "memory.swap.events",
    ),
    "v1": (
        "memory.usage_in_bytes", "memory.stat", "memory.oom_control", "memory.failcnt",
        "memory.memsw.usage_in_bytes",
    ),
}  # fmt: skip


def modules_of(scenario: Scenario) -> list[str]:
    """Kernel modules that a scenario needs, where the kernel has them not built in."""
    names: list[str] = []
    if scenario.swap_mib or needs_files(scenario):
        names += ["configfs", "null_blk"]
    if needs_files(scenario):
        names += ["crc32c_generic", "ext4"]
    if scenario.zram:
        names += ["zsmalloc", "zram"]
    if scenario.zswap:
        names.append(scenario.zswap.zpool)
    return names


def needs_files(scenario: Scenario) -> bool:
    """Whether there is a file system on a disk."""
    ops = {phase.op for process in scenario.processes for phase in process.phases}
    return bool(scenario.files) or scenario.python or bool(ops & {"write_file", "dentries"})


def file_disk_mib(scenario: Scenario) -> int:
    """Size of the disk of files: those that are there, those that are written, and some more."""
    written = sum(
        phase.mib or 0
        for process in scenario.processes
        for phase in process.phases
        if phase.op == "write_file"
    )
    python = PYTHON_MIB if scenario.python else 0
    return round(sum(scenario.files.values()) + written) + python + FILE_DISK_SPARE_MIB


def lines(scenario: Scenario, modules: list[str], seed: int) -> str:
    """The whole plan.

    Parameters
    ----------
    scenario : Scenario
    modules : list of str
        Names under /m of the modules to load, in order.
    seed : int
        Of the pages' content and the random accesses.
    """
    return "".join(f"{line}\n" for line in _lines(scenario, modules, seed))


def _lines(scenario: Scenario, modules: list[str], seed: int) -> Iterator[str]:
    for name in modules:
        # devices are made one by one, with their own settings
        yield f"module /m/{name}" + (" nr_devices=0" if name.startswith("null_blk") else "")
    yield from _disks(scenario)
    yield f"mkdir {TMPFS}"
    yield f"mount tmpfs none {TMPFS} -"
    yield "write /proc/sys/vm/overcommit_memory 1"
    for key, value in scenario.sysctl.items():
        yield f"write /proc/sys/{key.replace('.', '/')} {value}"
    if scenario.thp == "always":  # a small node has it off (hugepage_init)
        yield "write /sys/kernel/mm/transparent_hugepage/enabled always"
    yield from (f"write {path} {value}" for path, value in scenario.write.items())
    yield from _zswap(scenario)
    yield from _swaps(scenario)
    yield from _cgroups(scenario)
    if scenario.python:
        yield from _python(scenario)
    yield "write /proc/sys/vm/drop_caches 3"
    yield f"time {SAMPLE_MS} {round(scenario.duration_s * 1000)} {seed}"
    for process in scenario.processes:
        yield from _process(process, scenario)
    for change in sorted(scenario.changes, key=lambda change: change.at_s):
        path = f"{CGROUPS}/{change.cgroup}/{change.file}"
        if change.sysctl is not None:
            path = f"/proc/sys/{change.sysctl.replace('.', '/')}"
        yield f"change {round(change.at_s * 1000)} {path} {change.value}"
    yield from _samples(scenario)
    yield "write /proc/sys/vm/drop_caches 3"
    yield f"settle {SETTLE_MS}"
    yield from (f"boot {path}" for path in BOOT_FILES)
    yield "run"


def _disks(scenario: Scenario) -> Iterator[str]:
    """null_blk with memory of its own: it completes requests by the guest's clock."""
    wanted = {SWAP_NODE: scenario.swap_mib}
    if needs_files(scenario):
        wanted[FILE_NODE] = file_disk_mib(scenario)
    if not any(wanted.values()):
        return
    yield "mount configfs none /sys/kernel/config -"
    for name, mib in wanted.items():
        if not mib:
            continue
        folder = f"/sys/kernel/config/nullb/{name}"
        yield f"mkdir {folder}"
        settings = {
            "size": mib, "blocksize": 4096, "memory_backed": 1, "queue_mode": 2, "irqmode": 2,
            "completion_nsec": scenario.disk.latency_us * 1000, "power": 1,
        }  # fmt: skip
        for key, value in settings.items():
            yield f"write {folder}/{key} {value}"
        yield f"fill /dev/{name} {mib}"
        yield f"write /sys/block/{name}/queue/rotational {int(scenario.disk.rotational)}"
    if needs_files(scenario):
        yield f"image /dev/{FILE_NODE} /m/ext4.image"
        yield f"mkdir {FILES}"
        yield f"mount ext4 /dev/{FILE_NODE} {FILES} -"
        yield from (f"file {FILES}/{name} {mib}" for name, mib in scenario.files.items())


def _zswap(scenario: Scenario) -> Iterator[str]:
    if scenario.zswap is None:
        return
    values = scenario.zswap.model_dump(exclude_none=True)
    for key in ("compressor", "zpool", "max_pool_percent", "shrinker_enabled", "enabled"):
        if key in values:
            yield f"write /sys/module/zswap/parameters/{key} {values[key]}"


def _swaps(scenario: Scenario) -> Iterator[str]:
    if scenario.zram is not None:
        folder = f"/sys/block/{ZRAM_NODE}"
        if scenario.zram.comp_algorithm:
            yield f"write {folder}/comp_algorithm {scenario.zram.comp_algorithm}"
        yield f"write {folder}/disksize {scenario.zram.disksize_mib}M"
        if scenario.zram.mem_limit_mib:
            yield f"write {folder}/mem_limit {scenario.zram.mem_limit_mib}M"
        yield f"swap /dev/{ZRAM_NODE}"
    if scenario.swap_mib:
        yield f"swap /dev/{SWAP_NODE}"


def _cgroups(scenario: Scenario) -> Iterator[str]:
    v1 = scenario.cgroup_version == "v1"
    yield f"mkdir {CGROUPS}"
    yield f"mount {'cgroup none' if v1 else 'cgroup2 none'} {CGROUPS} {'memory' if v1 else '-'}"
    if not v1:
        yield f"write {CGROUPS}/cgroup.subtree_control +memory"
    made: set[str] = set()
    parents = {path.rpartition("/")[0] for path in scenario.cgroups}
    for path, keys in scenario.cgroups.items():
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            part = "/".join(parts[:depth])
            if part in made:
                continue
            made.add(part)
            yield f"mkdir {CGROUPS}/{part}"
            if not v1 and any(p == part or p.startswith(f"{part}/") for p in parents):
                yield f"write {CGROUPS}/{part}/cgroup.subtree_control +memory"
        for key, value in keys.items():
            yield f"write {CGROUPS}/{path}/{key} {value}"


def _python(scenario: Scenario) -> Iterator[str]:
    """What a program sees of the machine, below the disk of files, which is its root."""
    yield f"root {FILES}"
    v1 = scenario.cgroup_version == "v1"
    where = f"{FILES}/sys/fs/cgroup" + ("/memory" if v1 else "")
    yield f"mount proc none {FILES}/proc -"
    yield f"mount sysfs none {FILES}/sys -"
    yield f"mount debugfs none {FILES}/sys/kernel/debug -"  # lru_gen: how old pages are
    if v1:
        yield f"mount tmpfs none {FILES}/sys/fs/cgroup -"
        yield f"mkdir {where}"
    yield f"mount {'cgroup none' if v1 else 'cgroup2 none'} {where} {'memory' if v1 else '-'}"
    yield f"fetch {FILES}/lab/log"
    yield f"fetch {FILES}{FOUND}"


def _process(process: Process, scenario: Scenario) -> Iterator[str]:
    tasks = f"{CGROUPS}/{process.cgroup}/cgroup.procs" if process.cgroup else "-"
    start = -1 if process.start_s is None else round(process.start_s * 1000)
    huge = int(process.thp and scenario.thp == "always")
    yield f"process {process.name} {tasks} {process.oom_score_adj} {start} {huge}"
    if process.numa is not None:
        mask = sum(1 << node for node in scenario.nodes_of(process.numa))
        yield f"numa {MPOL[process.numa.policy]} {mask}"
    for number, phase in enumerate(process.phases):
        pages = round((phase.mib or 0) * PAGES_PER_MIB)
        rate = round((phase.rate_mib_s or 0) * PAGES_PER_MIB * 1000)
        ms = round((phase.seconds or 0) * 1000)
        argument = _argument(phase, process.name, number)
        yield f"phase {phase.op} {pages} {rate} {ms} {phase.compressible_pct or 0} {argument}"


def _argument(phase: Phase, process: str, number: int) -> str:
    if phase.child is not None or phase.program is not None:
        return phase.child or phase.program or "-"
    if phase.file is not None:
        return f"{FILES}/{phase.file}"
    own = {
        "write_file": f"{FILES}/{process}-{number}",
        "write_tmpfs": f"{TMPFS}/{process}-{number}",
    }
    return own.get(phase.op, FILES if phase.op == "dentries" else "-")


def _samples(scenario: Scenario) -> Iterator[str]:
    yield from (f"sample 1 {path}" for path in NODE_FILES)
    yield f"sample {ZONE_EVERY} /proc/zoneinfo"
    if scenario.zram is not None:
        yield f"sample 1 /sys/block/{ZRAM_NODE}/mm_stat"
    for path in scenario.cgroups:
        for name in CGROUP_FILES[scenario.cgroup_version]:
            yield f"sample 1 {CGROUPS}/{path}/{name}"
