"""The same chunks on a Dask cluster: one that is there, or one of this machine's cores."""

from __future__ import annotations

import concurrent.futures
from typing import Any

from capplan.errors import CapplanError, InputError
from capplan.plan.local import cores
from capplan.plan.work import Chunk, Done, compute

__all__ = ["Cluster"]

RETRIES = 3  # of a chunk whose worker died or left
CONNECT_S = 30


class Cluster:
    """Workers of a Dask cluster.

    Parameters
    ----------
    address : str, optional
        The scheduler's, such as ``tcp://10.0.0.5:8786``; None: a cluster of worker processes
        on this machine's loopback, ended with the run.
    jobs : int, optional
        Worker processes of that local cluster; None: one per core.

    Raises
    ------
    InputError
        Dask is not installed, or no scheduler answers.
    """

    def __init__(self, address: str | None = None, jobs: int | None = None) -> None:
        try:
            from distributed import Client, LocalCluster
        except ImportError as error:
            raise InputError(
                "--executor dask needs Dask\n    pip install 'capplan[dask]'"
            ) from error
        self._cluster: Any = None
        if address is None:
            self._cluster = LocalCluster(
                n_workers=jobs or cores(),
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
            )
        try:
            self._client: Any = Client(self._cluster or address, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            raise InputError(f"no Dask scheduler answers at {address}: {error}") from error
        # pure=False: a chunk that is sent twice is two chunks
        self._executor: concurrent.futures.Executor = self._client.get_executor(
            pure=False, retries=RETRIES
        )

    @property
    def size(self) -> int:
        """Threads of all workers that are there now; one a worker is best."""
        return max(len(self._client.nthreads()), 1)

    def submit(self, chunk: Chunk) -> concurrent.futures.Future[list[Done]]:
        """Have a chunk computed; Dask does it again elsewhere when a worker dies."""
        try:
            return self._executor.submit(compute, chunk)
        except RuntimeError as error:
            raise CapplanError(f"the Dask cluster does not take work: {error}") from error

    def close(self) -> None:
        """Let go of the cluster; end it when it was started here."""
        self._executor.shutdown(wait=False)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()
