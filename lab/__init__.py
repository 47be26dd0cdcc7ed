"""The lab: recordings of real kernels, made in an emulated machine.

``python -m lab record SCENARIO.yaml --kernel 6.12 --out DIR`` boots that kernel with one small
static program for a user space, lets it do what the scenario says, and writes what the kernel
did in the form that ``capplan validate`` reads. Not part of the installed package.
"""
