"""The checks, which run in the machine that QEMU emulates, as root, on Debian's own Python."""
