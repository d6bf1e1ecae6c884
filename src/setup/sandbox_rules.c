/* SPDX-License-Identifier: Apache-2.0 */
#include "setup/sandbox_rules.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/util.h"

#ifndef NETLINK_SOCK_DIAG
#define NETLINK_SOCK_DIAG 4
#endif

#define INT_BITS UINT64_C(0xffffffff)

/* Conditions: argument `n` as an int equals `v`; has none, all of the bits `m`. */
#define IS(n, v)                                                       \
	{                                                              \
		.index = (n), .mask = INT_BITS, .value = (uint32_t)(v) \
	}
#define WITHOUT(n, m)                                 \
	{                                             \
		.index = (n), .mask = (m), .value = 0 \
	}
#define WITH(n, m)                                      \
	{                                               \
		.index = (n), .mask = (m), .value = (m) \
	}
#define IS_NULL(n)                                           \
	{                                                    \
		.index = (n), .mask = UINT64_MAX, .value = 0 \
	}

/* Opening by a path that starts at the root, for reading: no descriptor of a folder serves as the
 * start, and none is made that could (O_PATH). */
#define NOT_FOR_OPEN (O_ACCMODE | O_CREAT | O_TRUNC | O_DIRECTORY | 010000000 /* O_PATH */)

/* The agent opens one file, whose name lies at one place, in one way. O_LARGEFILE is the C
 * library's. */
#define THAT_NAME(n)                                                        \
	{                                                                   \
		.index = (n), .mask = UINT64_MAX, .value = RULE_RESOLV_CONF \
	}
#define ONLY_FOR_READING \
	WITHOUT(2, ~(uint32_t)(O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_LARGEFILE))

/* s390's mmap(2) has one argument, the address of a structure. */
#ifdef __s390__
#define NOT_EXECUTABLE    \
	{                 \
		.mask = 0 \
	}
#else
#define NOT_EXECUTABLE WITHOUT(2, PROT_EXEC)
#endif

#define RELAY     RULE_RELAY
#define AGENT     RULE_AGENT
#define BOTH      (RULE_RELAY | RULE_AGENT)
#define SANITIZER RULE_SANITIZER
#define CAPTURE   RULE_CAPTURE
#define UNIX      RULE_UNIX

const char sandbox_resolv_conf[] = "/etc/resolv.conf";

const struct sandbox_rule sandbox_allowed[] = {
	/* Waiting. */
	{"epoll_wait", BOTH, {}, "the loop's turn"},
	{"epoll_pwait", BOTH, {}, "the loop's turn where epoll_wait does not exist"},
	{"epoll_ctl", RELAY, {}, "the loop's interest sets"},
	{"poll", BOTH, {}, "log lines ask whether they would block; the agent waits"},
	{"ppoll", BOTH, {}, "poll() where poll does not exist"},
	{"ppoll_time64", BOTH, {}, "poll() on 32 bits"},
	{"restart_syscall", BOTH, {}, "poll() after SIGSTOP and SIGCONT"},

	/* Bytes. */
	{"read", BOTH, {}, "tap, signalfd, resolv.conf, exit-fd, API clients"},
	{"readv", RELAY, {}, "frames of the tap with their header"},
	{"write", BOTH, {}, "tap, ready-fd, log lines"},
	{"writev", RELAY, {}, "frames to the tap with their header; libc's standard error"},
	{"close", BOTH, {}, "sockets that have ended"},
	{"splice", RELAY, {IS_NULL(1), IS_NULL(3)}, "published ports: bulk, through pipes"},
	{"pipe2", RELAY, {IS(1, O_CLOEXEC | O_NONBLOCK)}, "pipes for splice()"},
	{"fcntl", RELAY, {IS(1, F_SETPIPE_SZ)}, "pipes for splice() hold more"},
	{"fcntl64", RELAY, {IS(1, F_SETPIPE_SZ)}, "fcntl() on 32 bits"},

	/* Sockets. */
	{"socket", RELAY, {IS(0, AF_INET)}, "host sockets: TCP, UDP, ping"},
	{"socket", RELAY, {IS(0, AF_INET6)}, "host sockets: TCP, UDP, ping"},
#ifndef __i386__ /* socketcall(2) there, which is allowed as a whole */
	{"socket", RELAY, {IS(0, AF_UNIX)}, "if_nametoindex() goes on with AF_INET", EAFNOSUPPORT},
#endif
	{"socket", AGENT, {IS(0, AF_INET)}, "sockets of the container's namespace"},
	{"socket", AGENT, {IS(0, AF_INET6)}, "sockets of the container's namespace"},
	{"socket", AGENT, {IS(0, AF_NETLINK), IS(2, NETLINK_SOCK_DIAG)},
		"sock_diag(7), to see the container's listeners"},
	{"socket", UNIX, {IS(0, AF_UNIX), IS(1, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)},
		"unix sockets as the guest of a published port"},
	{"connect", UNIX, {IS(2, sizeof(struct sockaddr_un))}, "likewise"},
	{"bind", RELAY, {}, "published ports, outbound addresses"},
	{"connect", RELAY, {}, "connections of the container"},
	{"listen", RELAY, {}, "published ports"},
	{"accept", RELAY, {}, "clients of published ports (libslirp)"},
	{"accept4", RELAY, {}, "clients of published ports and of the API"},
	{"getsockname", RELAY, {}, "what a passed socket is bound to; libslirp's port"},
	{"getpeername", RELAY, {}, "who a client is; does a connection stand"},
	{"getsockopt", BOTH, {}, "SO_ERROR after connect"},
	{"setsockopt", BOTH, {}, "TCP_NODELAY, SO_REUSEADDR, IP_TTL and the like"},
	{"shutdown", RELAY, {}, "half-closed connections"},
	{"recv", RELAY, {}, "recv() on architectures that have it"},
	{"send", RELAY, {}, "send() on architectures that have it"},
	{"recvfrom", RELAY, {}, "TCP and UDP from the host"},
	{"sendto", RELAY, {}, "TCP and UDP to the host"},
	{"recvmsg", BOTH, {}, "messages with descriptors; urgent data; UDP"},
	{"sendmsg", BOTH, {}, "messages to the agent; replies with descriptors; UDP"},
	{"recvmmsg", RELAY, {IS(3, MSG_DONTWAIT), IS_NULL(4)}, "batches of UDP from the host"},
	{"recvmmsg_time64", RELAY, {IS(3, MSG_DONTWAIT), IS_NULL(4)}, "recvmmsg() on 32 bits"},
	{"sendmmsg", RELAY, {IS(3, MSG_DONTWAIT | MSG_NOSIGNAL)}, "batches of UDP to the host"},
	{"ioctl", RELAY, {IS(1, FIONREAD)}, "libslirp asks how long the next datagram is"},
	{"ioctl", RELAY, {IS(1, SIOCGIFFLAGS)}, "is the namespace's lo up"},
	{"ioctl", RELAY, {IS(1, SIOCOUTQ)}, "at the end: has the peer all that was sent"},
	{"ioctl", RELAY, {IS(1, SIOCGIFINDEX)}, "the scope of an IPv6 nameserver (libslirp)"},
	{"ioctl", RELAY, {IS(1, TCGETS)}, "GLib asks whether standard error is a terminal"},
	{"ioctl", RELAY, {IS(1, TUNSETOFFLOAD)}, "a persistent tap is left without offloads"},
	{"ioctl", RELAY, {IS(1, TUNSETVNETHDRSZ)}, "a persistent tap is left without headers"},
	{"fcntl", BOTH, {IS(1, F_GETFL)}, "making a descriptor non-blocking"},
	{"fcntl", BOTH, {IS(1, F_SETFL)}, "making a descriptor non-blocking"},
	{"fcntl", BOTH, {IS(1, F_GETFD)}, "making a descriptor close-on-exec"},
	{"fcntl", BOTH, {IS(1, F_SETFD)}, "making a descriptor close-on-exec"},
	{"fcntl64", BOTH, {IS(1, F_GETFL)}, "fcntl() on 32 bits"},
	{"fcntl64", BOTH, {IS(1, F_SETFL)}, "fcntl() on 32 bits"},
	{"fcntl64", BOTH, {IS(1, F_GETFD)}, "fcntl() on 32 bits"},
	{"fcntl64", BOTH, {IS(1, F_SETFD)}, "fcntl() on 32 bits"},
#ifdef __i386__
	/* One call for all of the above; its arguments lie in memory, out of a filter's sight. */
	{"socketcall", BOTH, {}, "glibc's way to all socket calls on i386"},
#endif

	/* Files: resolv.conf and the API socket's name. */
	{"openat", RELAY, {IS(0, AT_FDCWD), WITHOUT(2, NOT_FOR_OPEN)},
		"libslirp reads resolv.conf; the relay, where there is no agent"},
	{"open", RELAY, {WITHOUT(1, NOT_FOR_OPEN)}, "openat() of musl"},
	{"openat", AGENT, {THAT_NAME(1), ONLY_FOR_READING}, "resolv.conf for the relay"},
	{"newfstatat", AGENT, {WITH(3, AT_EMPTY_PATH)}, "fstat(): is resolv.conf a file"},
	{"fstat", AGENT, {}, "is resolv.conf a file"},
	{"fstat64", AGENT, {}, "is resolv.conf a file, on 32 bits"},
	{"fstatat64", AGENT, {WITH(3, AT_EMPTY_PATH)}, "fstat() on 32 bits"},
	{"statx", AGENT, {WITH(2, AT_EMPTY_PATH)}, "fstat() with 64-bit times on 32 bits"},
	{"newfstatat", RELAY, {}, "libslirp watches resolv.conf; is the API socket still ours"},
	{"stat", RELAY, {}, "stat() of musl and of older glibc"},
	{"lstat", RELAY, {}, "lstat() of musl and of older glibc"},
	{"fstat", RELAY, {}, "libc's streams"},
	{"stat64", RELAY, {}, "stat() on 32 bits"},
	{"lstat64", RELAY, {}, "lstat() on 32 bits"},
	{"fstat64", RELAY, {}, "libc's streams on 32 bits"},
	{"fstatat64", RELAY, {}, "fstatat() on 32 bits"},
	{"statx", RELAY, {}, "stat() with 64-bit times on 32 bits"},
	{"lseek", RELAY, {}, "libc closes a stream that it read"},
	{"_llseek", RELAY, {}, "lseek() on 32 bits"},
	{"unlinkat", RELAY, {}, "the API socket's name, at exit"},

	/* Without a capture no descriptor but perhaps the log's is of a file to be emptied. */
	{"ftruncate", CAPTURE, {}, "a file of --pcap begins anew, or loses half a frame"},
	{"ftruncate64", CAPTURE, {}, "ftruncate() on 32 bits"},

	/* Memory: never executable. */
	{"brk", BOTH, {}, "malloc"},
#ifndef __i386__
	{"mmap", BOTH, {NOT_EXECUTABLE}, "malloc, libc's streams"},
#endif
	{"mmap2", BOTH, {WITHOUT(2, PROT_EXEC)}, "mmap() on 32 bits"},
	{"munmap", BOTH, {}, "free"},
	{"mremap", BOTH, {}, "realloc"},
	{"mprotect", BOTH, {WITHOUT(2, PROT_EXEC)}, "malloc"},
	{"madvise", BOTH, {}, "malloc gives memory back"},
	{"futex", BOTH, {}, "locks of libc, in an abort"},
	{"futex_time64", BOTH, {}, "futex() on 32 bits"},
	{"getrandom", BOTH, {}, "seeds of hash tables, port numbers"},

	/* Time, where the vdso does not do. */
	{"clock_gettime", BOTH, {}, "the loop's clock"},
	{"sysinfo", RELAY, {}, "qsort of many rules or listeners asks how much memory there is"},
	{"clock_gettime64", BOTH, {}, "the loop's clock on 32 bits"},
	{"gettimeofday", BOTH, {}, "time of day"},
	{"time", BOTH, {}, "time of day"},

	/* Signals and ends. */
	{"rt_sigaction", BOTH, {}, "abort"},
	{"rt_sigprocmask", BOTH, {}, "abort"},
	{"rt_sigreturn", BOTH, {}, "the handler of refused calls"},
	{"sigreturn", BOTH, {}, "the handler of refused calls on 32 bits"},
	{"getpid", BOTH, {}, "abort"},
	{"gettid", BOTH, {}, "abort"},
	{"tgkill", BOTH, {IS(0, RULE_OWN_PID)}, "abort"},
	{"wait4", RELAY, {}, "the agent has ended"},
	{"waitid", RELAY, {}, "the agent has ended"},
	{"waitpid", RELAY, {}, "wait4() on i386"},
	{"prlimit64", RELAY, {IS(0, 0), IS_NULL(2)}, "how many descriptors there may be"},
	{"ugetrlimit", RELAY, {}, "prlimit() on 32 bits"},
	{"getrlimit", RELAY, {}, "prlimit() of older libcs"},
	{"exit_group", BOTH, {}, "the end"},
	{"exit", BOTH, {}, "the end"},

	/* What the sanitizers' runtime does while it watches, reports, and looks for leaks. */
	{"clone", SANITIZER, {}, "LeakSanitizer's tracer; the symbolizer"},
	{"fork", SANITIZER, {}, "the symbolizer"},
	{"vfork", SANITIZER, {}, "the symbolizer"},
	{"execve", SANITIZER, {}, "the symbolizer"},
	{"ptrace", SANITIZER, {}, "LeakSanitizer stops the process to look for pointers"},
	{"prctl", SANITIZER, {}, "LeakSanitizer makes itself traceable; names of mappings"},
	{"sigaltstack", SANITIZER, {}, "handler of stack overflows"},
	{"sched_yield", SANITIZER, {}, "locks"},
	{"sched_getaffinity", SANITIZER, {}, "number of processors"},
	{"openat", SANITIZER, {}, "/proc/self/maps"},
	{"open", SANITIZER, {}, "/proc/self/maps"},
	{"readlink", SANITIZER, {}, "/proc/self/exe"},
	{"readlinkat", SANITIZER, {}, "/proc/self/exe"},
	{"getdents64", SANITIZER, {}, "/proc/self/task"},
	{"stat", SANITIZER, {}, "the symbolizer's files"},
	{"newfstatat", SANITIZER, {}, "the symbolizer's files"},
	{"fstat", SANITIZER, {}, "the symbolizer's files"},
	{"statx", SANITIZER, {}, "the symbolizer's files"},
	{"lseek", SANITIZER, {}, "the symbolizer's files"},
	{"access", SANITIZER, {}, "the symbolizer's files"},
	{"faccessat", SANITIZER, {}, "the symbolizer's files"},
	{"pipe2", SANITIZER, {}, "probing whether memory is readable"},
	{"pipe", SANITIZER, {}, "probing whether memory is readable"},
	{"dup2", SANITIZER, {}, "the symbolizer"},
	{"ioctl", SANITIZER, {}, "is standard error a terminal"},
	{"kill", SANITIZER, {}, "LeakSanitizer's tracer"},
	{"tgkill", SANITIZER, {}, "LeakSanitizer's tracer"},
	{"wait4", SANITIZER, {}, "LeakSanitizer's tracer"},
	{"getppid", SANITIZER, {}, "LeakSanitizer's tracer"},
	{"geteuid", SANITIZER, {}, "report files"},
	{"getuid", SANITIZER, {}, "report files"},
	{"uname", SANITIZER, {}, "address ranges"},
	{"getrlimit", SANITIZER, {}, "stack limits"},
	{"prlimit64", SANITIZER, {}, "stack limits, core size"},
	{"mmap", SANITIZER, {}, "shadow memory"},
	{"mprotect", SANITIZER, {}, "shadow memory"},
	{"writev", SANITIZER, {}, "reports"},
};

const size_t n_sandbox_allowed = ARRAY_SIZE(sandbox_allowed);

/* A short list, since each entry costs start-up time; what is not here is refused all the same. */
const char *const sandbox_fatal[] = {
	/* Other programs and processes: the relay is one thread and starts none. */
	"execve",
	"execveat",
	"fork",
	"vfork",
	"clone",
	"clone3",
	"ptrace",
	"process_vm_readv",
	"process_vm_writev",
	"pidfd_getfd",
	/* Namespaces, roots and mounts, and ways to files that are none of them. */
	"setns",
	"unshare",
	"mount",
	"umount",
	"umount2",
	"pivot_root",
	"chroot",
	"fchdir",
	"open_tree",
	"move_mount",
	"fsopen",
	"fsmount",
	"fsconfig",
	"fspick",
	"mount_setattr",
	"open_by_handle_at",
	"name_to_handle_at",
	/* Who we are. */
	"setuid",
	"setgid",
	"setreuid",
	"setregid",
	"setresuid",
	"setresgid",
	"setgroups",
	"setuid32",
	"setgid32",
	"setreuid32",
	"setregid32",
	"setresuid32",
	"setresgid32",
	"setgroups32",
	"capset",
	/* The kernel itself, and its corners where most holes were. */
	"init_module",
	"finit_module",
	"delete_module",
	"kexec_load",
	"kexec_file_load",
	"reboot",
	"swapon",
	"bpf",
	"perf_event_open",
	"userfaultfd",
	"keyctl",
	"io_uring_setup",
	"io_uring_enter",
	"io_uring_register",
};

const size_t n_sandbox_fatal = ARRAY_SIZE(sandbox_fatal);
