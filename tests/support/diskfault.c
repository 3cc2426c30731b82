/* Preloaded into a process, makes its file calls below one directory fail, as long as a control file says so.
 *
 * The control file (named by DISKFAULT_CONTROL) holds a C int, the errno or 0, and after it the directory's path. It is
 * mapped, so that a test can change it at any time. Only calls that write fail, but with EIO those that read as well.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

struct control { volatile int error; char directory[1020]; };
static struct control *control;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DISKFAULT_CONTROL");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *page = mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) control = page;
    close(fd);
}

static int concerns(const char *path) {
    return path && strncmp(path, control->directory, strlen(control->directory)) == 0;
}

static int broken(const char *path, int writes) {
    if (!control || !control->error || (!writes && control->error != EIO) || !concerns(path)) return 0;
    errno = control->error;
    return 1;
}

static int broken_fd(int fd, int writes) {
    char link[64], path[1024];
    if (!control || !control->error) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return broken(path, writes);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRITES(flags) (((flags) & O_ACCMODE) != O_RDONLY || ((flags) & O_CREAT))

#define OPEN(name)                                                      \
    int name(const char *path, int flags, ...) {                        \
        va_list rest; va_start(rest, flags);                            \
        mode_t mode = va_arg(rest, mode_t); va_end(rest);               \
        return broken(path, WRITES(flags)) ? -1 : REAL(name)(path, flags, mode); }
OPEN(open)
OPEN(open64)
#define OPENAT(name)                                                    \
    int name(int at, const char *path, int flags, ...) {                \
        va_list rest; va_start(rest, flags);                            \
        mode_t mode = va_arg(rest, mode_t); va_end(rest);               \
        return broken(path, WRITES(flags)) ? -1 : REAL(name)(at, path, flags, mode); }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t size) {
    return broken_fd(fd, 1) ? -1 : REAL(write)(fd, data, size); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return broken_fd(fd, 1) ? -1 : REAL(pwrite)(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return broken_fd(fd, 1) ? -1 : REAL(pwrite64)(fd, data, size, at); }
ssize_t read(int fd, void *data, size_t size) {
    return broken_fd(fd, 0) ? -1 : REAL(read)(fd, data, size); }
ssize_t pread(int fd, void *data, size_t size, off_t at) {
    return broken_fd(fd, 0) ? -1 : REAL(pread)(fd, data, size, at); }
ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    return broken_fd(fd, 0) ? -1 : REAL(pread64)(fd, data, size, at); }
int fsync(int fd) { return broken_fd(fd, 1) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return broken_fd(fd, 1) ? -1 : REAL(fdatasync)(fd); }
int ftruncate(int fd, off_t size) { return broken_fd(fd, 1) ? -1 : REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { return broken_fd(fd, 1) ? -1 : REAL(ftruncate64)(fd, size); }
int rename(const char *old, const char *new) { return broken(new, 1) ? -1 : REAL(rename)(old, new); }
int link(const char *old, const char *new) { return broken(new, 1) ? -1 : REAL(link)(old, new); }
int mkdir(const char *path, mode_t mode) { return broken(path, 1) ? -1 : REAL(mkdir)(path, mode); }
int unlink(const char *path) {
    /* Where there is no room, there is room to delete. */
    return control && control->error != ENOSPC && broken(path, 1) ? -1 : REAL(unlink)(path); }
