"""From a language runtime's settings to the memory that it has: one module for each runtime.

Each gives regions (live data, what is allocated and not yet collected, the rest of the
process), phases (the collector's scans over the live data), notes with the arithmetic, and the
most that it may ever hold, which is compared with the container's limit.
"""
