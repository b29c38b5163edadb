/* Stands between SQLite and the disk and writes down what happens to files whose name matches: writes, cuts, removals, syncs; and what is said on standard output.
   A record: kind (w t u s d a), name length, offset, size as 8 bytes each; the name; the data. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int out = -1;

static ssize_t plain_write(int fd, const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    return real(fd, data, size);
}

static int name_of(int fd, char *name, size_t room) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, room - 1);
    if (n < 0) return 0;
    name[n] = 0;
    return strstr(name, ".db") && !strstr(name, ".db.") && !strstr(name, "-shm");
}

static void note(char kind, const char *name, int64_t offset, const void *data, int64_t size) {
    const char *to = getenv("RECORD");
    if (!to) return;
    if (out < 0) out = open(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int64_t head[4] = {kind, (int64_t)strlen(name), offset, size};
    plain_write(out, head, sizeof head);
    plain_write(out, name, strlen(name));
    if (data) plain_write(out, data, size);
}

#define NAMED(fd) char name[4096]; int ours = name_of(fd, name, sizeof name)

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    ssize_t n = real(fd, data, size, at);
    NAMED(fd);
    if (ours && n > 0) note('w', name, at, data, n);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

ssize_t write(int fd, const void *data, size_t size) {
    NAMED(fd);
    int64_t at = ours ? lseek64(fd, 0, SEEK_CUR) : 0;
    ssize_t n = plain_write(fd, data, size);
    if (ours && n > 0) note('w', name, at, data, n);
    if (fd == 1 && n > 0) note('a', "", 0, data, n);
    return n;
}

int ftruncate64(int fd, off64_t size) {
    static int (*real)(int, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "ftruncate64");
    int rc = real(fd, size);
    NAMED(fd);
    if (ours && rc == 0) note('t', name, size, 0, 0);
    return rc;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int unlink(const char *path) {
    static int (*real)(const char *);
    if (!real) real = dlsym(RTLD_NEXT, "unlink");
    int rc = real(path);
    if (rc == 0 && strstr(path, ".db") && !strstr(path, ".db.")) note('u', path, 0, 0, 0);
    return rc;
}

static int synced(int fd, int rc) {
    struct stat about;
    NAMED(fd);
    if (rc == 0 && fstat(fd, &about) == 0 && S_ISDIR(about.st_mode)) note('d', "", 0, 0, 0);
    if (ours && rc == 0) note('s', name, 0, 0, 0);
    return rc;
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return synced(fd, real(fd));
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    return synced(fd, real(fd));
}
