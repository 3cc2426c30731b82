/* Preloaded into processes, makes their clocks run faster, all by the same time: an hour of theirs takes minutes.
 *
 * FASTCLOCK holds four whole numbers: how many times as fast, the real time (CLOCK_REALTIME, ns) at which it begins,
 * the time that the processes see then, and CLOCK_MONOTONIC (ns) at that moment, which goes on from there. Waits end as
 * much earlier. Times of files count in the same way if they were written since then; older ones are left alone, as are
 * the clocks of CPU time.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
typedef long long ns;
static ns rate = 1, real_begin, seen_begin, monotonic_begin;

__attribute__((constructor)) static void begin(void) {
    const char *told = getenv("FASTCLOCK");
    if (told) sscanf(told, "%lld %lld %lld %lld", &rate, &real_begin, &seen_begin, &monotonic_begin);
}

static ns joined(const struct timespec *at) { return at->tv_sec * SECOND + at->tv_nsec; }
static struct timespec parted(ns at) { return (struct timespec){at / SECOND, at % SECOND}; }

/* -1: a clock of CPU time, which stays as it is. */
static int is_monotonic(clockid_t clock) {
    switch (clock) {
    case CLOCK_REALTIME: case CLOCK_REALTIME_COARSE: case CLOCK_TAI: return 0;
    case CLOCK_MONOTONIC: case CLOCK_MONOTONIC_RAW: case CLOCK_MONOTONIC_COARSE: case CLOCK_BOOTTIME: return 1;
    default: return -1;
    }
}

static ns seen(int monotonic, ns real) {
    return monotonic ? monotonic_begin + (real - monotonic_begin) * rate : seen_begin + (real - real_begin) * rate;
}

static ns real(int monotonic, ns at) {
    return monotonic ? monotonic_begin + (at - monotonic_begin) / rate : real_begin + (at - seen_begin) / rate;
}

#define REAL(name) ({ static __typeof__(&name) found; if (!found) found = (__typeof__(&name))dlsym(RTLD_NEXT, #name); found; })

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = REAL(clock_gettime)(clock, at), monotonic = is_monotonic(clock);
    if (!failed && monotonic >= 0) *at = parted(seen(monotonic, joined(at)));
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *at = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

/* Waits for so long. Milliseconds are rounded up, as a wait of none would be tried again at once. */

static int shorter(int milliseconds) {
    return milliseconds <= 0 ? milliseconds : (int)((milliseconds + rate - 1) / rate);
}

int epoll_wait(int set, struct epoll_event *events, int most, int timeout) {
    return REAL(epoll_wait)(set, events, most, shorter(timeout));
}

int epoll_pwait(int set, struct epoll_event *events, int most, int timeout, const sigset_t *mask) {
    return REAL(epoll_pwait)(set, events, most, shorter(timeout), mask);
}

int poll(struct pollfd *files, nfds_t count, int timeout) { return REAL(poll)(files, count, shorter(timeout)); }

int select(int count, fd_set *restrict in, fd_set *restrict out, fd_set *restrict odd, struct timeval *restrict wait) {
    struct timeval part;
    if (wait) {
        ns microseconds = (wait->tv_sec * 1000000LL + wait->tv_usec) / rate;
        part = (struct timeval){microseconds / 1000000, microseconds % 1000000};
    }
    return REAL(select)(count, in, out, odd, wait ? &part : NULL);
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wait, struct timespec *rest) {
    int monotonic = is_monotonic(clock);
    struct timespec part = *wait;
    if (monotonic >= 0) part = parted(flags & TIMER_ABSTIME ? real(monotonic, joined(wait)) : joined(wait) / rate);
    int failed = REAL(clock_nanosleep)(clock, flags, &part, rest);
    if (failed && rest && monotonic >= 0 && !(flags & TIMER_ABSTIME)) *rest = parted(joined(rest) * rate);
    return failed;
}

int nanosleep(const struct timespec *wait, struct timespec *rest) {
    struct timespec part = parted(joined(wait) / rate);
    int failed = REAL(nanosleep)(&part, rest);
    if (failed && rest) *rest = parted(joined(rest) * rate);
    return failed;
}

int usleep(useconds_t microseconds) { return REAL(usleep)(microseconds / rate); }

/* Waits until a time. */

static struct timespec until(int monotonic, const struct timespec *at) { return parted(real(monotonic, joined(at))); }

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict at) {
    struct timespec end = until(0, at);
    return REAL(sem_timedwait)(semaphore, &end);
}

int sem_clockwait(sem_t *restrict semaphore, clockid_t clock, const struct timespec *restrict at) {
    struct timespec end = until(is_monotonic(clock), at);
    return REAL(sem_clockwait)(semaphore, clock, &end);
}

int pthread_cond_clockwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, clockid_t clock,
                           const struct timespec *restrict at) {
    struct timespec end = until(is_monotonic(clock), at);
    return REAL(pthread_cond_clockwait)(condition, mutex, clock, &end);
}

/* So short are waits of threads for each other (for Python's interpreter: 5 ms). They stay as they are: if they woke up
 * so many times as often, that would cost CPU. */
#define SHORT (SECOND / 20)

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict at) {
    static __typeof__(&pthread_cond_timedwait) found;
    if (!found) found = (__typeof__(found))dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!found) found = (__typeof__(found))dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    /* Which clock it is was told when the condition was made: no machine has been up for 25 years. */
    int monotonic = at->tv_sec < 25 * 365 * 86400;
    struct timespec now, end = until(monotonic, at);
    REAL(clock_gettime)(monotonic ? CLOCK_MONOTONIC : CLOCK_REALTIME, &now);
    ns wait = (joined(&end) - joined(&now)) * rate;
    if (wait > 0 && wait < SHORT) end = parted(joined(&now) + wait);
    return found(condition, mutex, &end);
}

/* Times of files. */

static void fake_times(struct stat *status) {
    struct timespec *times[] = {&status->st_atim, &status->st_mtim, &status->st_ctim};
    for (int i = 0; i < 3; i++)
        if (joined(times[i]) >= real_begin) *times[i] = parted(seen(0, joined(times[i])));
}

#define STAT(name, parameters, arguments)                       \
    int name parameters {                                       \
        int failed = REAL(name) arguments;                      \
        if (!failed) fake_times((struct stat *)status);         \
        return failed; }
STAT(stat, (const char *restrict path, struct stat *restrict status), (path, status))
STAT(stat64, (const char *restrict path, struct stat64 *restrict status), (path, status))
STAT(lstat, (const char *restrict path, struct stat *restrict status), (path, status))
STAT(lstat64, (const char *restrict path, struct stat64 *restrict status), (path, status))
STAT(fstat, (int fd, struct stat *status), (fd, status))
STAT(fstat64, (int fd, struct stat64 *status), (fd, status))
STAT(fstatat, (int at, const char *restrict path, struct stat *restrict status, int flags), (at, path, status, flags))
STAT(fstatat64, (int at, const char *restrict path, struct stat64 *restrict status, int flags),
     (at, path, status, flags))

/* What libraries call that were built for a glibc before 2.33. */
#define OLD(name, now, place, type) int name(int version, place, type *status) { (void)version; return now; }
OLD(__xstat, stat(path, status), const char *path, struct stat)
OLD(__lxstat, lstat(path, status), const char *path, struct stat)
OLD(__fxstat, fstat(fd, status), int fd, struct stat)
OLD(__xstat64, stat64(path, status), const char *path, struct stat64)
OLD(__lxstat64, lstat64(path, status), const char *path, struct stat64)
OLD(__fxstat64, fstat64(fd, status), int fd, struct stat64)

static const struct timespec *real_times(const struct timespec given[2], struct timespec times[2]) {
    if (!given) return NULL;
    for (int i = 0; i < 2; i++) {
        times[i] = given[i];
        if (given[i].tv_nsec < SECOND && joined(&given[i]) >= seen_begin)  /* not UTIME_NOW, not UTIME_OMIT */
            times[i] = parted(real(0, joined(&given[i])));
    }
    return times;
}

int futimens(int fd, const struct timespec given[2]) {
    struct timespec times[2];
    return REAL(futimens)(fd, real_times(given, times));
}

int utimensat(int at, const char *path, const struct timespec given[2], int flags) {
    struct timespec times[2];
    return REAL(utimensat)(at, path, real_times(given, times), flags);
}
