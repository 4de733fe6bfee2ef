"""The verb table: every operation a plan can name, written once.

``python -m ocirun.plan.generate`` makes from it the C enum and decoder of the helper, the constructors in
``steps.py``, the facts the linter uses and the page docs/verbs.md; and all of the C of a verb that is nothing
but a row of system calls with its arguments (``Call``).  Nothing on the hot path imports this.

Kinds of arguments (the wire form of each is in ocirun/plan/wire.md):

========  =====================================================================
``u32``   unsigned, 32 bits
``i32``   signed, 32 bits
``u64``   unsigned, 64 bits
``str``   text without NUL (a path, a name)
``bytes`` any bytes (a BPF program)
``strs``  a list of texts
``u32s``  a list of unsigned numbers of 32 bits
``slot``  the name of a slot that an earlier step filled
``out``   the name of the slot that this step fills with a file descriptor
========  =====================================================================
"""

from __future__ import annotations

HOST, STAGE, INIT = "host", "stage", "init"

#: The few system calls that any seccomp filter a container can live under admits; after load_seccomp the
#: linter lets only verbs pass whose calls are all in here.
CALLS_UNDER_ANY_FILTER = frozenset(
    "read write clone wait4 prctl capget capset setgroups setresuid setresgid execve exit_group".split()
)


class Call:
    """A system call of a verb that is no more than such calls; one that is refused fails the step.

    ``arguments`` is C in which an argument of the verb stands by its name, a slot for its descriptor;
    ``about`` is the argument, or else the text, that stands beside the name of the call in the error.
    """

    __slots__ = ("about", "arguments", "name")

    def __init__(self, name: str, arguments: str, about: str) -> None:
        self.name = name
        self.arguments = arguments
        self.about = about


class Open:
    """The opening of the argument ``path``, a path of the host, into the slot ``out``."""

    __slots__ = ("flags", "out", "path")

    name = "openat"

    def __init__(self, path: str, flags: str, out: str) -> None:
        self.path = path
        self.flags = flags
        self.out = out


class Write:
    """One write of the argument ``text`` to a file of the procfs in the slot ``proc``.

    ``file`` is an argument that holds its path, or else the name of a file of the process itself.
    """

    __slots__ = ("file", "text")

    name = "readlinkat openat2 write"

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text


#: A change of ids undoes it where fs.suid_dumpable is 1: it is done again behind one.
HIDE = Call("prctl", "PR_SET_DUMPABLE, 0, 0, 0, 0", "PR_SET_DUMPABLE")

AFFINITY = Call("sched_setaffinity", "0, cpus.length, cpus.data", "")


class Verb:
    """One row: who performs it, what it takes and fills, what undoes it, the system calls it makes."""

    __slots__ = ("actor", "after", "args", "calls", "doc", "does", "leaves", "name", "once", "undo")

    def __init__(
        self,
        name: str,
        actor: str,
        args: str,
        doc: str,
        *,
        calls: str = "",
        does: tuple[Call | Open | Write, ...] = (),
        undo: str = "",
        leaves: str = "",
        after: str = "",
        once: bool = True,
    ) -> None:
        self.name = name
        self.actor = actor
        #: ("name", "kind") pairs in wire order, written "name:kind name:kind".
        self.args = tuple((word.split(":")[0], word.split(":")[1]) for word in args.split())
        self.doc = doc
        #: All it does, where that needs no decision; the C of other verbs is written by hand (run_NAME).
        self.does = does
        self.calls = tuple(calls.split() or dict.fromkeys(name for one in does for name in one.name.split()))
        #: The trace it leaves on the host, in words, and the inverse that the journal replays; both or none.
        self.leaves = leaves
        self.undo = undo
        #: Verbs that, where a plan has them, must all stand before this one (the laws of order).
        self.after = tuple(after.split())
        #: Whether a plan may hold it only once.
        self.once = once


TABLE: tuple[Verb, ...] = (
    # -- inserted by the compiler ----------------------------------------------------------------------
    Verb("meet", INIT, "give:u32s take:u32s",
         "stop until the host has done its steps; slots in `give` go to the host, those in `take` come "
         "from it",
         calls="sendmsg recvmsg", once=False),
    # -- host: the Python process -----------------------------------------------------------------------
    Verb("make_cgroup", HOST, "mount:str path:str parents:u32 controllers:str",
         "make the cgroup `path` below the cgroup2 mount, and what is missing above it, with those of the "
         "`controllers` that can be had there; `parents` directories above it are ours and go with it when "
         "they are empty",
         calls="mkdir openat write", leaves="cgroup", undo="remove_cgroup"),
    Verb("make_resctrl", HOST,
         "mount:str group:str own:u32 l3:str bandwidth:str schemata:strs monitor:str",
         "make the class of service `group` of resctrl (the default one has no name) where it is missing, "
         "write its lines, or compare them with those of a class that is there, and make the group "
         "`monitor`; an `own` class goes with the container, and a group does",
         calls="mkdir openat read write", leaves="class of service", undo="remove_resctrl"),
    Verb("enter_resctrl", HOST, "places:strs",
         "put the process into the class and the group with these directories",
         calls="openat write", after="make_resctrl clone_init"),
    Verb("remove_resctrl", HOST, "place:str", "remove a directory of resctrl",
         calls="unlinkat", after="kill_cgroup", once=False),
    Verb("make_scope", HOST, "mount:str path:str inner:str unit:str user:u32 properties:strs",
         "have systemd, the `user`'s or the system's, make the scope `unit` of stage, with `properties`, "
         "names and values in turn; its cgroup is `path` below the cgroup2 mount, in which init is born, or "
         "in `inner` below it",
         calls="sendto recvfrom mkdir", leaves="unit of systemd", undo="stop_scope", after="hide_process"),
    Verb("set_cgroup", HOST, "path:str writes:strs needed:u32",
         "write to a file of a cgroup: `writes` are files and values in turn, and the first file that is "
         "there is written; unless `needed` a refusal is passed over",
         calls="openat write", after="make_cgroup make_scope", once=False),
    Verb("own_cgroup", HOST, "path:str owner:u32 group:i32",
         "give the cgroup to the user of the container, and to his group unless -1: the directory and the "
         "files in it that /sys/kernel/cgroup/delegate names",
         calls="openat read chown", after="make_cgroup make_scope"),
    Verb("limit_processes", HOST, "path:str most:str",
         "set the number of processes in a scope that would not have left room for stage",
         calls="openat write", after="make_scope clone_init"),
    Verb("enter_subgroup", HOST, "path:str inner:str owner:i32 group:i32",
         "make the cgroup `inner` below that of the container, give it away as own_cgroup does unless "
         "`owner` is -1, and move init into it: its cgroup namespace begins above, and the limits are there",
         calls="mkdir chown openat write", after="clone_init limit_processes own_cgroup"),
    Verb("stop_scope", HOST, "unit:str user:u32 description:str",
         "have systemd stop and forget a scope, if it has that `description`",
         calls="sendto recvfrom", after="kill_cgroup"),
    Verb("vacate_cgroup", HOST, "path:str leaf:str",
         "move the processes that are in a cgroup of the caller's to a new one below it, `leaf`: who has "
         "processes can give no controllers to those below (cgroup-v2.rst, No Internal Process Constraint)",
         calls="mkdir openat read write"),
    Verb("make_user_namespace", HOST, "uids:str gids:str newuidmap:str newgidmap:str",
         "have the helper enter a user and a mount namespace of its own before its first step, and write the "
         "mappings: by the programs, or, where there is none, directly and without setgroups(2)",
         calls="unshare execve openat write"),
    Verb("enter_user_namespace", HOST, "path:str",
         "have the helper enter the user namespace at `path` and a new mount namespace before its first step",
         calls="openat setns unshare execve"),
    Verb("open_init", HOST, "pid:u32 start:str init:out",
         "open the init of a running container by its pid, after checking its start time against reuse",
         calls="pidfd_open openat read", after="hide_process"),
    Verb("move_net_devices", HOST, "names:strs",
         "move network devices of the host into the network namespace of init, with the addresses that they "
         "keep, and set them up; `names` are those on the host and those inside in turn",
         calls="fork openat setns socket sendto recvfrom", after="clone_init"),
    Verb("join_scope", HOST, "unit:str user:u32 inner:str",
         "have systemd, the `user`'s or the system's, move stage into the cgroup of the scope `unit`, or "
         "`inner` below it: from there an ordinary user may put a process into it (cgroups(7), Delegation)",
         calls="sendto recvfrom", after="open_init"),
    Verb("send_console", HOST, "console:slot",
         "hand the master of the terminal to the console socket, or keep it for a foreground run",
         calls="sendmsg", after="make_console"),
    Verb("keep_tree", HOST, "tree:slot target:str set:u64 clear:u64 rset:u64 rclear:u64",
         "keep a mount that stage has opened, with its attributes, for criu, which restores in mounts of its "
         "own: there it is attached at `target`",
         calls="mount_setattr", after="open_tree open_filesystem", once=False),
    Verb("send_listener", HOST, "listener:slot path:str metadata:str",
         "hand the descriptor of the notifications of a filter to the agent that listens at `path`, with the "
         "state of the process and the `metadata`; init goes on meanwhile",
         calls="connect sendmsg", after="load_seccomp"),
    Verb("run_hook", HOST, "kind:str number:u32 path:str",
         "run a hook of the runtime namespace to its end; the state of the container is its standard input",
         calls="clone execve wait4", after="clone_init", once=False),
    # -- stage: the helper, outside, still privileged ---------------------------------------------------
    Verb("hide_process", STAGE, "",
         "make the helper non-dumpable, so that nothing inside can ptrace or read it",
         does=(HIDE,)),
    Verb("open_handshake", STAGE, "directory:str gate:out proof:out",
         "make and open the two FIFOs of the start handshake in the state directory",
         calls="mkfifoat openat", leaves="state directory", undo="remove_state", after="hide_process"),
    Verb("open_tree", STAGE, "path:str recursive:u32 shared:u32 nofollow:u32 tree:out",
         "clone the mounts at a host path (the root file system, a bind source), detached; they are slaves "
         "of the host's unless `shared`, when the host sees what is mounted there; `nofollow` takes a "
         "symbolic link at the path for what it is",
         calls="open_tree mount_setattr", after="hide_process", once=False),
    Verb("open_filesystem", STAGE, "fstype:str source:str flags:u32 options:strs set:u64 tree:out",
         "make a mount of a file system (an overlay, a disk) that is attached nowhere yet; with `flags` by "
         "mount(2), which takes one long option of all",
         calls="fsopen fsconfig fsmount clone3 mount open_tree wait4 mount_setattr", after="hide_process",
         once=False),
    Verb("enter_view", STAGE, "",
         "see the host's mounts as a user namespace does: what they forbid is locked in every clone "
         "(mount_namespaces(7))",
         calls="openat socketpair clone3 prctl setns wait4", after="hide_process open_filesystem"),
    Verb("leave_view", STAGE, "", "see the host's mounts as the caller does again",
         calls="setns", after="enter_view open_tree"),
    Verb("open_device", STAGE, "path:str kind:u32 major:u32 minor:u32 device:out",
         "clone a host device node to bind, after checking that it is the device it claims to be, `kind` "
         "being S_IFCHR or S_IFBLK",
         calls="openat fstat open_tree mount_setattr", after="hide_process", once=False),
    Verb("open_cgroup", STAGE, "path:str cgroup:out", "open the cgroup that init will be born in",
         does=(Open("path", "O_RDONLY | O_DIRECTORY | O_CLOEXEC", "cgroup"),),
         after="make_cgroup make_scope hide_process"),
    Verb("allow_devices", STAGE, "cgroup:slot program:bytes",
         "load the device program and attach it to the cgroup, in place of one of ours that is there "
         "(BPF_PROG_TYPE_CGROUP_DEVICE)",
         calls="bpf", after="open_cgroup"),
    Verb("open_namespace", STAGE, "path:str kind:u32 namespace:out",
         "open a namespace that exists, after checking that it is of the kind it should be (CLONE_NEW…)",
         calls="openat fstatfs ioctl", after="hide_process", once=False),
    Verb("open_proc", STAGE, "proc:out",
         "make a procfs that is mounted nowhere, to write to; where that is refused, the host's, checked",
         calls="fsopen fsconfig fsmount openat fstatfs fstat", after="hide_process"),
    Verb("make_mapping", STAGE, "proc:slot uids:str gids:str mapping:out",
         "make a user namespace with mappings of users and groups, in which nobody is",
         calls="socketpair clone3 prctl openat2 write openat wait4", after="open_proc", once=False),
    Verb("map_ids", STAGE, "tree:slot mapping:slot recursive:u32",
         "show the files of a mount that was never attached with other owners (MOUNT_ATTR_IDMAP)",
         does=(Call("mount_setattr",
                    "tree, \"\", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), "
                    "(&(struct mount_attr){.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = "
                    "(uint32_t)mapping}), sizeof(struct mount_attr)", ""),),
         after="open_tree open_filesystem open_namespace make_mapping", once=False),
    Verb("set_oom_score", STAGE, "proc:slot score:str",
         "set the score by which the kernel chooses whom to kill when memory is short; init is born with it",
         does=(Write("oom_score_adj", "score"),), after="open_proc"),
    Verb("set_initial_affinity", STAGE, "cpus:bytes",
         "choose the CPUs that the process has until it is in its cgroup: bits, the lowest first",
         does=(AFFINITY,), after="hide_process"),
    Verb("drop_groups", STAGE, "",
         "have no supplementary groups from here on: in the user namespace to be joined nobody may be let "
         "change them (user_namespaces(7))",
         does=(Call("setgroups", "0, NULL", ""),), after="hide_process"),
    Verb("join_namespaces", STAGE, "init:slot namespaces:u64",
         "join the namespaces of a container, and hold its root open; the pid namespace gets the next child",
         calls="setns openat", after="open_init open_cgroup"),
    Verb("join_namespace", STAGE, "namespace:slot kind:u32",
         "join a namespace; that of pids gets the next child, that of users takes all rights on the host",
         calls="stat fstat setns",
         after="open_namespace open_handshake open_tree open_filesystem open_device open_cgroup "
               "allow_devices open_proc set_oom_score make_mapping map_ids", once=False),
    Verb("set_id_maps", STAGE, "proc:slot uids:str gids:str",
         "hold the mappings of users and groups that the clone of init writes for it",
         calls="", after="open_proc"),
    Verb("clone_init", STAGE, "namespaces:u64 cgroup:slot sharing:u32",
         "clone init as a child of the caller, in new namespaces and born in the cgroup, where there is one "
         "(clone3); with `sharing` stage stays, with all descriptors in common, until it has handed over the "
         "listener that load_seccomp gives init",
         calls="clone3 sendmsg openat2 write poll", leaves="process", undo="kill_init",
         after="open_handshake open_tree open_filesystem open_device open_cgroup allow_devices "
               "set_oom_score set_initial_affinity join_scope join_namespaces join_namespace set_id_maps"),
    Verb("kill_cgroup", STAGE, "path:str",
         "kill every process of a cgroup and wait until it is empty (cgroup.kill)",
         calls="openat write poll"),
    Verb("remove_cgroup", STAGE, "path:str parents:strs",
         "remove a cgroup with all below it, then one after the other the `parents` as far as they are empty",
         calls="unlinkat openat getdents64", after="kill_cgroup stop_scope"),
    # -- init: the helper, inside -----------------------------------------------------------------------
    Verb("set_affinity", INIT, "cpus:bytes",
         "choose the CPUs of the process among those of its cgroup: bits, the lowest first; since Linux 6.2 "
         "those that the caller once chose for itself would count for ever",
         does=(AFFINITY,), after="clone_init"),
    Verb("join_cgroup_namespace", INIT, "init:slot",
         "join the cgroup namespace of a container: only after birth, for it hides the way to the cgroup",
         does=(Call("setns", "init, CLONE_NEWCGROUP", "cgroup"),), after="clone_init"),
    Verb("make_time_namespace", INIT, "proc:slot offsets:str",
         "make a time namespace with offsets of its clocks (timens_offsets), and enter it",
         calls="unshare readlinkat openat2 openat write setns", after="clone_init open_proc"),
    Verb("become_root", INIT, "namespaces:u64",
         "become the root of the user namespace, who owns what is made from now on: first the new "
         "`namespaces` whose files belong to their maker",
         does=(Call("setresgid", "0, 0, 0", ""), Call("setresuid", "0, 0, 0", ""),
               Call("unshare", "namespaces", ""), HIDE),
         after="clone_init join_cgroup_namespace make_time_namespace"),
    Verb("label_keyring", INIT, "proc:slot label:str",
         "tell SELinux which label the keyring gets that is made next; execve ends that",
         does=(Write("attr/keycreate", "label"),), after="clone_init become_root"),
    Verb("join_keyring", INIT, "name:str",
         "join a new session keyring, so that the caller's keys stay outside",
         calls="keyctl", after="clone_init become_root label_keyring"),
    Verb("set_link_up", INIT, "name:str", "bring a network interface up (the loopback of a new namespace)",
         calls="socket ioctl", after="clone_init", once=False),
    Verb("set_propagation", INIT, "flags:u32",
         "set the propagation of the whole inherited mount tree, so that nothing we mount reaches the host",
         does=(Call("mount", 'NULL, "/", NULL, flags, NULL', "/"),), after="clone_init"),
    Verb("attach_root", INIT, "root:slot set:u64 clear:u64 rset:u64 rclear:u64 propagation:u32s",
         "attach the root file system that stage opened, or what is mounted over it, with the attributes and "
         "the propagations asked for; it is the root from there on",
         calls="statx mount_setattr umount2 move_mount", after="set_propagation", once=False),
    Verb("mount", INIT,
         "fstype:str source:str target:str flags:u32 options:strs set:u64 propagation:u32s plain:u32 "
         "keep:u32",
         "mount a new file system in the root; with `flags` by mount(2), which takes one long option of all; "
         "`plain` refuses any symbolic link in the target (proc, sysfs); a tmpfs may `keep` of the directory "
         "that was there its mode (1) and what is in it (2)",
         calls="fsopen fsconfig fsmount clone3 mount open_tree wait4 openat2 mkdirat statx fchmodat "
               "mount_setattr move_mount getdents64 sendfile symlinkat mknodat fchownat fsetxattr "
               "utimensat",
         after="attach_root", once=False),
    Verb("attach", INIT,
         "tree:slot target:str link:u32 set:u64 clear:u64 rset:u64 rclear:u64 propagation:u32s",
         "attach a detached mount at a target in the root (a bind mount), made if missing, with the "
         "attributes and then, one after the other, the propagations asked for; `link` 1 takes a symbolic "
         "link at the target for what it is, 2 makes of a mount of a link a link at the target",
         calls="openat2 mkdirat mknodat mount_setattr move_mount statx readlinkat symlinkat",
         after="attach_root", once=False),
    Verb("remount", INIT,
         "target:str bind:u32 options:strs drop:u64 set:u64 clear:u64 rset:u64 rclear:u64 propagation:u32s",
         "change the mount that is at a target in the root and, unless `bind`, the options of its file "
         "system; of the attributes to `drop`, which nobody named, those stay that are locked",
         calls="openat2 statx fspick fsconfig mount_setattr", after="attach_root", once=False),
    Verb("unmount", INIT, "directory:str name:str",
         "take away what was mounted last on a `name` in a directory, with all below it; no symbolic link is "
         "followed, neither to the directory nor at the name",
         calls="openat2 fchdir umount2", after="clone_init become_root", once=False),
    Verb("make_device", INIT, "path:str kind:u32 major:u32 minor:u32 mode:u32 uid:u32 gid:u32",
         "make a device node, `kind` being S_IFCHR, S_IFBLK or S_IFIFO; one that is there and matches is "
         "kept, another is an error",
         calls="openat2 mkdirat mknodat fchownat fchmodat fstat", after="attach_root", once=False),
    Verb("make_symlink", INIT, "target:str path:str", "make a symbolic link; the same one may be there",
         calls="openat2 symlinkat readlinkat unlinkat", after="attach_root", once=False),
    Verb("make_directory", INIT, "path:str mode:u32",
         "make a directory and those above it where they are missing",
         calls="openat2 mkdirat", after="attach_root", once=False),
    Verb("make_console", INIT, "columns:u32 rows:u32 bind:u32 console:out terminal:out",
         "open a terminal pair of the container's devpts, size it, and `bind` its end on /dev/console",
         calls="openat2 ioctl fstat open_tree mknodat move_mount", after="attach_root"),
    Verb("run_hook_inside", INIT,
         "kind:str number:u32 path:str args:strs env:strs timeout:u32 state:bytes",
         "run a hook in the namespaces of the container: `state`, to which the pid is added in front, is its "
         "standard input; 0 is no `timeout` (seconds)",
         calls="memfd_create write pipe2 clone setpgid dup2 close_range execve poll read wait4 kill",
         after="clone_init", once=False),
    Verb("pivot_root", INIT, "stay:u32",
         "make the root file system the root, and let go of the old one; with `stay`, for an initramfs that "
         "has no pivot_root, the old one stays below, without its procfs and sysfs",
         calls="pivot_root fchdir mount umount2 chroot chdir",
         after="attach_root mount attach remount make_device make_symlink make_directory make_console"),
    Verb("new_session", INIT, "", "start a session of its own, without a controlling terminal",
         does=(Call("setsid", "", ""),), after="pivot_root"),
    Verb("take_terminal", INIT, "terminal:slot owner:u32",
         "make the terminal the controlling one and standard input, output and error; give it to `owner`",
         does=(Call("ioctl", "terminal, TIOCSCTTY, 0", "/dev/console"),
               Call("fchown", "terminal, owner, -1", "/dev/console"),
               *(Call("dup3", f"terminal, {fd}, 0", "/dev/console") for fd in range(3))),
         after="new_session make_console send_console"),
    Verb("set_root_readonly", INIT, "", "make the mount of the root read-only",
         calls="mount_setattr",
         after="pivot_root make_console mount attach remount make_device make_symlink make_directory",
         once=False),
    Verb("set_readonly", INIT, "path:str",
         "make the mount at a path read-only, not those below it: a tmpfs that was written to while it was "
         "set up",
         calls="openat2 mount_setattr",
         after="pivot_root make_console mount attach remount make_device make_symlink make_directory",
         once=False),
    Verb("set_hostname", INIT, "name:str", "set the host name of the UTS namespace",
         does=(Call("sethostname", "name, strlen(name)", "name"),), after="pivot_root"),
    Verb("set_domainname", INIT, "name:str", "set the NIS domain name of the UTS namespace",
         does=(Call("setdomainname", "name, strlen(name)", "name"),), after="pivot_root"),
    Verb("set_selinux", INIT, "proc:slot label:str",
         "tell SELinux which label the program gets at execve",
         does=(Write("attr/exec", "label"),), after="pivot_root"),
    Verb("set_apparmor", INIT, "proc:slot change:str",
         "tell AppArmor which profile the program gets at execve; `change` is what attr/apparmor/exec takes",
         does=(Write("attr/apparmor/exec", "change"),), after="pivot_root"),
    Verb("set_sysctl", INIT, "proc:slot path:str value:str",
         "set a kernel parameter of a namespace of the container; `path` is below /proc",
         does=(Write("path", "value"),), after="pivot_root set_hostname set_domainname", once=False),
    Verb("readonly_path", INIT, "path:str below:str",
         "make what is at a path read-only by a mount of itself; absent is fine; `below` is the mount point "
         "of the procfs or sysfs that it must belong to, if any",
         calls="openat2 fstatfs open_tree mount_setattr move_mount", after="pivot_root", once=False),
    Verb("mask_path", INIT, "path:str below:str null:slot",
         "hide a path: a file behind /dev/null, a directory behind an empty read-only tmpfs; absent is fine; "
         "`below` as in readonly_path",
         calls="openat2 fstatfs statx open_tree move_mount fsopen fsconfig fsmount",
         after="pivot_root readonly_path", once=False),
    Verb("set_root_propagation", INIT, "flags:u32",
         "set the propagation of the mount of the root, for mount namespaces that are made inside",
         does=(Call("mount", 'NULL, "/", NULL, flags, NULL', "/"),),
         after="pivot_root readonly_path mask_path"),
    Verb("forbid_new_privileges", INIT, "", "set no_new_privs: execve gives no privileges any more",
         does=(Call("prctl", "PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0", "PR_SET_NO_NEW_PRIVS"),),
         after="pivot_root readonly_path mask_path set_hostname set_domainname set_sysctl "
               "take_terminal set_apparmor set_selinux"),
    Verb("set_scheduler", INIT,
         "policy:u32 flags:u64 nice:i32 priority:u32 runtime:u64 deadline:u64 period:u64",
         "set how the program gets time of the CPUs",
         does=(Call("sched_setattr",
                    "0, (&(struct sched_attr){sizeof(struct sched_attr), policy, flags, nice, "
                    "priority, runtime, deadline, period, 0, 0}), 0", ""),),
         after="pivot_root new_session forbid_new_privileges"),
    Verb("set_io_priority", INIT, "kind:u32 priority:u32",
         "set the class (IOPRIO_CLASS_…) and the priority in it by which the program reads and writes",
         does=(Call("ioprio_set", "IOPRIO_WHO_PGRP, 0, IOPRIO_PRIO_VALUE(kind, priority)",
                    ""),),
         after="new_session forbid_new_privileges"),
    Verb("set_personality", INIT, "domain:u32", "set the execution domain, which uname(2) tells of",
         does=(Call("personality", "domain", ""),), after="pivot_root forbid_new_privileges"),
    Verb("set_memory_policy", INIT, "mode:u32 flags:u32 nodes:bytes",
         "set from which memory nodes the program gets its memory; `nodes` are bits, the lowest first",
         # the kernel takes one off the number of bits (get_nodes)
         does=(Call("set_mempolicy", "mode | flags, nodes.data, nodes.length * 8 + 1", ""),),
         after="pivot_root forbid_new_privileges"),
    Verb("enter_cwd", INIT, "path:str", "enter the working directory and verify that it lies inside the root",
         calls="openat2 fchdir getcwd", after="pivot_root mask_path forbid_new_privileges"),
    Verb("set_rlimit", INIT, "resource:u32 soft:u64 hard:u64", "set a resource limit",
         does=(Call("prlimit64", "0, resource, ((uint64_t[]){soft, hard}), NULL", ""),),
         after="enter_cwd", once=False),
    Verb("own_stdio", INIT, "uid:u32", "give standard input, output and error to the user of the program",
         calls="fstat fchown", after="enter_cwd take_terminal"),
    Verb("drop_bounding", INIT, "keep:u64", "drop every capability from the bounding set but those kept",
         calls="prctl", after="set_rlimit own_stdio enter_cwd forbid_new_privileges set_root_readonly"),
    Verb("set_groups", INIT, "groups:u32s", "set the supplementary groups, also to none",
         does=(Call("setgroups", "groups.count, groups.values", ""),),
         after="set_rlimit own_stdio enter_cwd"),
    Verb("set_ids", INIT, "uid:u32 gid:u32", "become the user and group of the program, keeping capabilities",
         does=(Call("prctl", "PR_SET_KEEPCAPS, 1, 0, 0, 0", "PR_SET_KEEPCAPS"),
               Call("setresgid", "gid, gid, gid", ""), Call("setresuid", "uid, uid, uid", ""), HIDE,
               Call("prctl", "PR_SET_KEEPCAPS, 0, 0, 0, 0", "PR_SET_KEEPCAPS")),
         after="drop_bounding set_groups"),
    Verb("set_capabilities", INIT, "effective:u64 permitted:u64 inheritable:u64",
         "set the capability sets of the process",
         does=(Call("capset",
                    "((uint32_t[]){_LINUX_CAPABILITY_VERSION_3, 0}), "
                    "((uint32_t[]){effective, permitted, inheritable, "
                    "effective >> 32, permitted >> 32, inheritable >> 32})", ""),), after="set_ids"),
    Verb("raise_ambient", INIT, "capabilities:u64", "clear the ambient set and raise those asked for",
         calls="prctl", after="set_capabilities"),
    Verb("set_umask", INIT, "mask:i32", "set the file mode creation mask; -1 is the one the caller had",
         does=(Call("umask", "mask < 0 ? (int)helper.umask : mask & 0777", ""),),
         after="pivot_root set_rlimit own_stdio"),
    Verb("find_home", INIT, "uid:u32",
         "look the user's home directory up in the container's /etc/passwd for HOME",
         calls="openat2 read", after="pivot_root"),
    Verb("find_program", INIT, "name:str search:str uid:u32 gid:u32",
         "find the program along PATH before create succeeds, as the user `uid` and the group `gid` that "
         "will run it",
         calls="setfsgid setfsuid faccessat2 stat", after="enter_cwd set_groups"),
    Verb("load_seccomp", INIT, "program:bytes flags:u32 rules:u32 origin:str listener:out",
         "load the filter of system calls (SECCOMP_SET_MODE_FILTER) with the flags of seccomp(2); `rules` "
         "and `origin` only tell of it; the descriptor of a `listener` reaches the host by a clone_init that "
         "is sharing",
         calls="prctl rt_sigaction rt_sigprocmask seccomp", after="close_descriptors find_program set_umask"),
    Verb("close_descriptors", INIT, "preserve:u32 gate:slot proof:slot",
         "close every descriptor above 2 + `preserve` but those of the handshake, if any (CVE-2024-21626)",
         calls="close_range", after="enter_cwd take_terminal set_root_readonly"),
    Verb("await_start", INIT, "gate:slot proof:slot",
         "report that the container is created, then wait for a byte through the gate",
         calls="write prctl read",  # and close, where there is no filter
         after="load_seccomp find_program find_home close_descriptors set_umask raise_ambient "
               "set_capabilities drop_bounding set_rlimit own_stdio new_session"),
    Verb("exec", INIT, "args:strs env:strs",
         "write the proof and execute the program; without await_start the proof goes to the control socket",
         calls="prctl write execve",
         after="await_start load_seccomp find_program find_home close_descriptors set_umask"),
)  # fmt: skip
