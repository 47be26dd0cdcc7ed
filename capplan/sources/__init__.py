"""Foreign formats become ordinary node files and profiles that a person can read and change.

One file per format. Each has one entry that takes text, paths or an open reader and returns a
:class:`~capplan.sources.draft.Draft`: the node file and its profiles as plain mappings, with
comments that say where a figure comes from and what was assumed. Nothing here simulates,
prints or writes anything but through :func:`capplan.sources.write.write`.

============ ======================================== =================================
module       reads                                    command
============ ======================================== =================================
capture      this host (procfs, cgroupfs), or a copy  ``capplan capture``
record       this host, once a second                 ``capplan record``
compose      compose files, docker stats              ``capplan import compose``
kubernetes   manifests, kubectl get pods,nodes        ``capplan import kubernetes``
oom_log      OOM reports of dmesg or the journal      ``capplan import oom``
prometheus   query_range JSON, OpenMetrics, a server  ``capplan import prometheus``
============ ======================================== =================================

A new format: a module here, ``capplan/cli/import_<kind>.py`` with a command that ends in
:func:`capplan.cli.import_.finish`, and a row in ``capplan.cli.import_.KINDS``. Input is
foreign: bounded before it is read, never trusted to be whole; a line that is not understood
becomes a :class:`~capplan.errors.Problem` of severity ``warning``, never a traceback.
"""
