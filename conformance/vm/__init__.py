"""A throwaway machine with nothing but cgroup v2: Debian 13, systemd, runc, crun, containerd and Podman.

One image, and two machines that boot it; both are plain programs that need no KVM.  User-mode Linux is up in
two seconds, runs at native speed and has the controllers cpu, io, memory and pids.  The emulated PC has a
stock kernel with everything (cpuset, hugetlb, criu, AppArmor, two processors) and is twenty times slower.

``python -m conformance.vm [--full] [--systemd] [--selinux] [--project] -- COMMAND`` runs a command in a copy
of the current directory and ends with its status.

recipe    what the image holds
image     builds it once, into the cache of the peers
job       the second disk: what goes in, the command, what comes back
uml, pc   the command lines of the two machines
machine   boots one with a job and waits
project   this project, compiled for the guest's Python
"""
