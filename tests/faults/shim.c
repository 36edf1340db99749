/* LD_PRELOAD: calls of the C library that fail, are cut short, or kill the program.
 *
 * FAULT_CALL     read, write, fsync or rename
 * FAULT_N        the first call that is disturbed, counted per process from 1
 * FAULT_DO       an errno (every call from the Nth on), "short" (every call: half the bytes), "eintr" (every second
 *                call), or "kill", "killafter", "term" (the Nth call)
 * FAULT_PROGRAM  only in programs with this in their command line
 * FAULT_UNDER    only for files in this folder, for standard input and output, and for pipes that are read or written
 *                in parts
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *call = "", *what = "", *under = "";
static long first;
static int on;

__attribute__((constructor)) static void start(void) {
    char line[4096] = "";
    int fd = open("/proc/self/cmdline", O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    if (fd >= 0) close(fd);
    for (ssize_t i = 0; i < n; i++)
        if (!line[i]) line[i] = ' ';
    const char *program = getenv("FAULT_PROGRAM");
    if (!getenv("FAULT_CALL") || (program && !strstr(line, program))) return;
    call = getenv("FAULT_CALL");
    what = getenv("FAULT_DO");
    under = getenv("FAULT_UNDER");
    first = atol(getenv("FAULT_N"));
    on = 1;
}

static int concerned(int fd) {
    char link[64], path[4096];
    if (fd == 2) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    int pipe = !strncmp(path, "pipe:", 5) && (fd < 2 || !strcmp(what, "short") || !strcmp(what, "eintr"));
    return pipe || !strncmp(path, under, strlen(under));
}

/* 0: go on; 1: half of it; 2: kill afterwards; -1: fail, errno is set. */
static int disturbed(const char *name, int fd) {
    static long count;
    int before = errno;
    if (!on || strcmp(call, name) || (fd >= 0 && !concerned(fd))) {
        errno = before;
        return 0;
    }
    long n = __sync_add_and_fetch(&count, 1);
    errno = before;
    if (!strcmp(what, "short")) return 1;
    if (!strcmp(what, "eintr")) return n % 2 ? (errno = EINTR, -1) : 0;
    if (n < first) return 0;
    if (n == first && !strcmp(what, "kill")) kill(getpid(), SIGKILL);
    if (n == first && !strcmp(what, "term")) kill(getpid(), SIGTERM);
    if (!strcmp(what, "killafter")) return n == first ? 2 : 0;
    if (atoi(what)) return errno = atoi(what), -1;
    return 0;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define DISTURB(kind, fd, half, run)                  \
    int d = disturbed(kind, fd);                      \
    if (d < 0) return -1;                             \
    if (d == 1) half;                                 \
    if (d == 2) { run; kill(getpid(), SIGKILL); }     \
    return run

ssize_t read(int fd, void *p, size_t n) { REAL(read); DISTURB("read", fd, n = n > 1 ? n / 2 : n, real(fd, p, n)); }
ssize_t pread64(int fd, void *p, size_t n, off64_t o) {
    REAL(pread64); DISTURB("read", fd, n = n > 1 ? n / 2 : n, real(fd, p, n, o));
}
ssize_t write(int fd, const void *p, size_t n) {
    REAL(write); DISTURB("write", fd, n = n > 1 ? n / 2 : n, real(fd, p, n));
}
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t o) {
    REAL(pwrite64); DISTURB("write", fd, n = n > 1 ? n / 2 : n, real(fd, p, n, o));
}
ssize_t writev(int fd, const struct iovec *v, int n) { REAL(writev); DISTURB("write", fd, n = 1, real(fd, v, n)); }
int fsync(int fd) { REAL(fsync); DISTURB("fsync", fd, , real(fd)); }
int fdatasync(int fd) { REAL(fdatasync); DISTURB("fsync", fd, , real(fd)); }
int rename(const char *a, const char *b) { REAL(rename); DISTURB("rename", -1, , real(a, b)); }
int renameat(int c, const char *a, int d_, const char *b) {
    REAL(renameat); DISTURB("rename", -1, , real(c, a, d_, b));
}
int renameat2(int c, const char *a, int d_, const char *b, unsigned f) {
    REAL(renameat2); DISTURB("rename", -1, , real(c, a, d_, b, f));
}
