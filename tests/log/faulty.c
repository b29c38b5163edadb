/* Stands between SQLite and the disk: says each sync, fails the n-th call of a kind, on files whose name matches. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int seen, failed;

static int ours(int fd) {
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, sizeof name - 1);
    if (n < 0) return 0;
    name[n] = 0;
    return strstr(name, ".db") && !strstr(name, ".db.") && !strstr(name, "-shm");
}

static int fails(const char *kind) {
    const char *what = getenv("FAULTY_CALL"), *nth = getenv("FAULTY_NTH");
    if (!what || strcmp(what, kind)) return 0;
    if (++seen != atoi(nth)) return 0;
    failed = 1;
    errno = getenv("FAULTY_ERRNO") ? atoi(getenv("FAULTY_ERRNO")) : EIO;
    return 1;
}

static void tell(const char *text) {
    if (getenv("FAULTY_TELL")) { ssize_t ignored = write(1, text, strlen(text)); (void)ignored; }
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    if (ours(fd) && fails("sync")) { tell("failed sync\n"); return -1; }
    int rc = real(fd);
    if (ours(fd)) tell("sync\n");
    return rc;
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    if (ours(fd) && fails("sync")) { tell("failed sync\n"); return -1; }
    int rc = real(fd);
    if (ours(fd)) tell("sync\n");
    return rc;
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off_t at) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    if (ours(fd) && fails("write")) { tell("failed write\n"); return -1; }
    return real(fd, buf, n, at);
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t at) { return pwrite64(fd, buf, n, at); }

ssize_t pread64(int fd, void *buf, size_t n, off_t at) {
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    if (ours(fd) && fails("read")) { tell("failed read\n"); return -1; }
    return real(fd, buf, n, at);
}

ssize_t pread(int fd, void *buf, size_t n, off_t at) { return pread64(fd, buf, n, at); }
