"""``./dev kernels``: the daemon on kernels that this machine does not run, in QEMU."""
