"""The verb table: every operation a plan can name, written once.

``python -m ocirun.plan.generate`` makes from it the C enum and decoder of the helper, the constructors in
``steps.py``, the facts the linter uses and the page docs/verbs.md.  Nothing on the hot path imports this.

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


class Verb:
    """One row: who performs it, what it takes and fills, what undoes it, the system calls it makes."""

    __slots__ = ("actor", "after", "args", "calls", "doc", "leaves", "name", "once", "undo")

    def __init__(
        self,
        name: str,
        actor: str,
        args: str,
        doc: str,
        *,
        calls: str,
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
        self.calls = tuple(calls.split())
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
    Verb("make_cgroup", HOST, "mount:str path:str parents:u32",
         "make the cgroup `path` below the cgroup2 mount, and what is missing above it; `parents` "
         "directories above it are ours and go with it when they are empty",
         calls="mkdir", leaves="cgroup", undo="remove_cgroup"),
    Verb("set_cgroup", HOST, "path:str writes:strs needed:u32",
         "write to a file of a cgroup: `writes` are files and values in turn, and the first file that is "
         "there is written; unless `needed` a refusal is passed over",
         calls="openat write", after="make_cgroup", once=False),
    Verb("open_init", HOST, "pid:u32 start:str init:out",
         "open the init of a running container by its pid, after checking its start time against reuse",
         calls="pidfd_open openat read", after="hide_process"),
    Verb("send_console", HOST, "console:slot",
         "hand the master of the terminal to the console socket, or keep it for a foreground run",
         calls="sendmsg", after="make_console"),
    Verb("run_hook", HOST, "kind:str number:u32 path:str",
         "run a hook of the runtime namespace to its end; the state of the container is its standard input",
         calls="clone execve wait4", after="clone_init", once=False),
    # -- stage: the helper, outside, still privileged ---------------------------------------------------
    Verb("hide_process", STAGE, "",
         "make the helper non-dumpable, so that nothing inside can ptrace or read it",
         calls="prctl"),
    Verb("open_handshake", STAGE, "directory:str gate:out proof:out",
         "make and open the two FIFOs of the start handshake in the state directory",
         calls="mkfifoat openat", leaves="state directory", undo="remove_state", after="hide_process"),
    Verb("open_tree", STAGE, "path:str recursive:u32 tree:out",
         "clone the mounts at a host path (the root file system, a bind source), detached and slaves of "
         "the host's",
         calls="open_tree mount_setattr", after="hide_process", once=False),
    Verb("open_filesystem", STAGE, "fstype:str source:str options:strs set:u64 tree:out",
         "make a mount of a file system (an overlay, a disk) that is attached nowhere yet",
         calls="fsopen fsconfig fsmount", after="hide_process", once=False),
    Verb("open_device", STAGE, "path:str major:u32 minor:u32 device:out",
         "clone a host device node to bind, after checking that it is the character device it claims to be",
         calls="openat fstat open_tree mount_setattr", after="hide_process", once=False),
    Verb("open_cgroup", STAGE, "path:str cgroup:out", "open the cgroup that init will be born in",
         calls="openat", after="make_cgroup hide_process"),
    Verb("allow_devices", STAGE, "cgroup:slot program:bytes",
         "load the device program and attach it to the cgroup (BPF_PROG_TYPE_CGROUP_DEVICE)",
         calls="bpf", after="open_cgroup"),
    Verb("open_namespace", STAGE, "path:str kind:u32 namespace:out",
         "open a namespace that exists, after checking that it is of the kind it should be (CLONE_NEW…)",
         calls="openat fstatfs ioctl", after="hide_process", once=False),
    Verb("open_proc", STAGE, "proc:out",
         "make a procfs that is mounted nowhere, to write to; where that is refused, the host's, checked",
         calls="fsopen fsconfig fsmount openat fstatfs fstat", after="hide_process"),
    Verb("set_oom_score", STAGE, "proc:slot score:str",
         "set the score by which the kernel chooses whom to kill when memory is short; init is born with it",
         calls="readlinkat openat2 write", after="open_proc"),
    Verb("join_namespaces", STAGE, "init:slot namespaces:u64",
         "join the namespaces of a container, and hold its root open; the pid namespace gets the next child",
         calls="setns openat", after="open_init open_cgroup"),
    Verb("join_namespace", STAGE, "namespace:slot kind:u32",
         "join a namespace; that of pids gets the next child, that of users takes all rights on the host",
         calls="stat fstat setns",
         after="open_namespace open_handshake open_tree open_filesystem open_device open_cgroup "
               "allow_devices open_proc set_oom_score", once=False),
    Verb("set_id_maps", STAGE, "proc:slot uids:str gids:str",
         "hold the mappings of users and groups that the clone of init writes for it",
         calls="", after="open_proc"),
    Verb("clone_init", STAGE, "namespaces:u64 cgroup:slot",
         "clone init as a child of the caller, in new namespaces and born in the cgroup (clone3)",
         calls="clone3 sendmsg openat2 write", leaves="process", undo="kill_init",
         after="open_handshake open_tree open_filesystem open_device open_cgroup allow_devices "
               "set_oom_score join_namespaces join_namespace set_id_maps"),
    Verb("kill_cgroup", STAGE, "path:str",
         "kill every process of a cgroup and wait until it is empty (cgroup.kill)",
         calls="openat write poll"),
    Verb("remove_cgroup", STAGE, "path:str parents:u32",
         "remove a cgroup with all below it, and up to `parents` empty directories above",
         calls="unlinkat openat getdents64", after="kill_cgroup"),
    # -- init: the helper, inside -----------------------------------------------------------------------
    Verb("join_cgroup_namespace", INIT, "init:slot",
         "join the cgroup namespace of a container: only after birth, for it hides the way to the cgroup",
         calls="setns", after="clone_init"),
    Verb("make_time_namespace", INIT, "proc:slot offsets:str",
         "make a time namespace with offsets of its clocks (timens_offsets), and enter it",
         calls="unshare readlinkat openat2 openat write setns", after="clone_init open_proc"),
    Verb("become_root", INIT, "namespaces:u64",
         "become the root of the user namespace, who owns what is made from now on: first the new "
         "`namespaces` whose files belong to their maker",
         calls="setresgid setresuid prctl unshare",
         after="clone_init join_cgroup_namespace make_time_namespace"),
    Verb("join_keyring", INIT, "name:str",
         "join a new session keyring, so that the caller's keys stay outside",
         calls="keyctl", after="clone_init become_root"),
    Verb("set_link_up", INIT, "name:str", "bring a network interface up (the loopback of a new namespace)",
         calls="socket ioctl", after="clone_init", once=False),
    Verb("set_propagation", INIT, "flags:u32",
         "set the propagation of the whole inherited mount tree, so that nothing we mount reaches the host",
         calls="mount", after="clone_init"),
    Verb("attach_root", INIT, "root:slot set:u64 clear:u64 rset:u64 rclear:u64",
         "attach the root file system that stage opened, with the attributes asked for, and hold it open",
         calls="mount_setattr move_mount", after="set_propagation"),
    Verb("mount", INIT,
         "fstype:str source:str target:str options:strs set:u64 propagation:u32 plain:u32",
         "mount a new file system in the root; `plain` refuses any symbolic link in the target (proc, "
         "sysfs); a tmpfs without a mode takes the one of the directory that was there",
         calls="fsopen fsconfig fsmount openat2 mkdirat mount_setattr move_mount",
         after="attach_root", once=False),
    Verb("attach", INIT,
         "tree:slot target:str set:u64 clear:u64 rset:u64 rclear:u64 propagation:u32",
         "attach a detached mount at a target in the root (a bind mount), made if missing, with the "
         "attributes and then the propagation asked for",
         calls="openat2 mkdirat mknodat mount_setattr move_mount fstat", after="attach_root", once=False),
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
         after="attach_root mount attach make_device make_symlink make_directory make_console"),
    Verb("new_session", INIT, "", "start a session of its own, without a controlling terminal",
         calls="setsid", after="pivot_root"),
    Verb("take_terminal", INIT, "terminal:slot owner:u32",
         "make the terminal the controlling one and standard input, output and error; give it to `owner`",
         calls="ioctl fchown dup3", after="new_session make_console send_console"),
    Verb("set_root_readonly", INIT, "", "make the mount of the root read-only",
         calls="mount_setattr",
         after="pivot_root make_console mount attach make_device make_symlink make_directory"),
    Verb("set_readonly", INIT, "path:str",
         "make the mount at a path read-only, not those below it: a tmpfs that was written to while it was "
         "set up",
         calls="openat2 mount_setattr",
         after="pivot_root make_console mount attach make_device make_symlink make_directory", once=False),
    Verb("set_hostname", INIT, "name:str", "set the host name of the UTS namespace",
         calls="sethostname", after="pivot_root"),
    Verb("set_domainname", INIT, "name:str", "set the NIS domain name of the UTS namespace",
         calls="setdomainname", after="pivot_root"),
    Verb("set_sysctl", INIT, "proc:slot path:str value:str",
         "set a kernel parameter of a namespace of the container; `path` is below /proc",
         calls="openat2 write", after="pivot_root set_hostname set_domainname", once=False),
    Verb("readonly_path", INIT, "path:str",
         "make what is at a path read-only by a mount of itself; absent is fine",
         calls="openat2 open_tree mount_setattr move_mount", after="pivot_root", once=False),
    Verb("mask_path", INIT, "path:str null:slot",
         "hide a path: a file behind /dev/null, a directory behind an empty read-only tmpfs; absent is fine",
         calls="openat2 fstat open_tree move_mount fsopen fsconfig fsmount",
         after="pivot_root readonly_path", once=False),
    Verb("forbid_new_privileges", INIT, "", "set no_new_privs: execve gives no privileges any more",
         calls="prctl", after="pivot_root readonly_path mask_path set_hostname set_domainname set_sysctl "
                             "take_terminal"),
    Verb("enter_cwd", INIT, "path:str", "enter the working directory and verify that it lies inside the root",
         calls="openat2 fchdir getcwd", after="pivot_root mask_path forbid_new_privileges"),
    Verb("set_rlimit", INIT, "resource:u32 soft:u64 hard:u64", "set a resource limit",
         calls="prlimit64", after="enter_cwd", once=False),
    Verb("own_stdio", INIT, "uid:u32", "give standard input, output and error to the user of the program",
         calls="fstat fchown", after="enter_cwd take_terminal"),
    Verb("drop_bounding", INIT, "keep:u64", "drop every capability from the bounding set but those kept",
         calls="prctl", after="set_rlimit own_stdio enter_cwd forbid_new_privileges set_root_readonly"),
    Verb("set_groups", INIT, "groups:u32s", "set the supplementary groups, also to none", calls="setgroups",
         after="drop_bounding"),
    Verb("set_ids", INIT, "uid:u32 gid:u32", "become the user and group of the program, keeping capabilities",
         calls="prctl setresgid setresuid", after="drop_bounding set_groups"),
    Verb("set_capabilities", INIT, "effective:u64 permitted:u64 inheritable:u64",
         "set the capability sets of the process", calls="capset", after="set_ids"),
    Verb("raise_ambient", INIT, "capabilities:u64", "clear the ambient set and raise those asked for",
         calls="prctl", after="set_capabilities"),
    Verb("set_umask", INIT, "mask:i32", "set the file mode creation mask; -1 is the one the caller had",
         calls="umask", after="set_ids pivot_root"),
    Verb("find_home", INIT, "uid:u32",
         "look the user's home directory up in the container's /etc/passwd for HOME",
         calls="openat2 read", after="pivot_root"),
    Verb("find_program", INIT, "name:str search:str",
         "find the program along PATH, as the user that will run it, before create succeeds",
         calls="faccessat2 stat", after="enter_cwd set_ids set_capabilities"),
    Verb("close_descriptors", INIT, "preserve:u32",
         "close every descriptor above 2 + `preserve` but those of the handshake (CVE-2024-21626)",
         calls="close_range", after="enter_cwd take_terminal set_root_readonly"),
    Verb("await_start", INIT, "gate:slot proof:slot",
         "report that the container is created, then wait for a byte through the gate",
         calls="sendmsg prctl read close",
         after="find_program find_home close_descriptors set_umask raise_ambient set_capabilities "
               "drop_bounding set_rlimit own_stdio new_session"),
    Verb("exec", INIT, "args:strs env:strs",
         "write the proof and execute the program; without await_start the proof goes to the control socket",
         calls="prctl write execve", after="await_start find_program find_home close_descriptors set_umask"),
)  # fmt: skip
