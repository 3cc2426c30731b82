/* Preloaded into a process, makes every nth call of one kind fail, as long as a control file says so.
 *
 * The control file (named by NTHFAULT_CONTROL) holds three C ints and is mapped, so that a test can change it at any
 * time: the kind (0 none, 1 a file descriptor, 2 a thread, 3 memory), n, and how many calls have failed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NONE, DESCRIPTOR, THREAD, MEMORY };
#define LARGE (256 * 1024)
struct control { volatile int kind; volatile int every; atomic_int failed; };
static struct control *control;
static atomic_int calls;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("NTHFAULT_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *page = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page != MAP_FAILED) control = page;
}

static int fails(int kind) {
    if (!control || control->kind != kind || control->every <= 0) return 0;
    if (atomic_fetch_add(&calls, 1) % control->every != control->every - 1) return 0;
    atomic_fetch_add(&control->failed, 1);
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define NO_DESCRIPTOR if (fails(DESCRIPTOR)) { errno = EMFILE; return -1; }

#define OPEN(name)                                                      \
    int name(const char *path, int flags, ...) {                        \
        va_list rest; va_start(rest, flags);                            \
        mode_t mode = va_arg(rest, mode_t); va_end(rest);               \
        NO_DESCRIPTOR                                                   \
        return REAL(name)(path, flags, mode); }
OPEN(open)
OPEN(open64)
#define OPENAT(name)                                                    \
    int name(int at, const char *path, int flags, ...) {                \
        va_list rest; va_start(rest, flags);                            \
        mode_t mode = va_arg(rest, mode_t); va_end(rest);               \
        NO_DESCRIPTOR                                                   \
        return REAL(name)(at, path, flags, mode); }
OPENAT(openat)
OPENAT(openat64)
int socket(int domain, int type, int protocol) { NO_DESCRIPTOR return REAL(socket)(domain, type, protocol); }
int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    NO_DESCRIPTOR return REAL(accept4)(fd, address, size, flags); }

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    if (fails(THREAD)) return EAGAIN;
    return REAL(pthread_create)(thread, attributes, start, argument); }

/* Small amounts are had from what the process holds already. */
void *malloc(size_t size) {
    static void *(*real)(size_t);
    if (!real) real = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    if (size >= LARGE && fails(MEMORY)) { errno = ENOMEM; return NULL; }
    return real(size); }
int posix_memalign(void **place, size_t alignment, size_t size) {
    if (size >= LARGE && fails(MEMORY)) return ENOMEM;
    return REAL(posix_memalign)(place, alignment, size); }
