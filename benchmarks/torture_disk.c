/* A disk and a clock that behave badly, for torture_resources.py: cc -shared -fPIC -O2 -o torture_disk.so torture_disk.c -ldl
 *
 * TORTURE_ROOT         the folder that is on the bad disk
 * TORTURE_READ_ONLY    a file; while it is there, the disk is read-only
 * TORTURE_SLOW_MS      every open, flush and rename there takes up to so long
 * TORTURE_CLOCK        seconds by which the time of day jumps, forth and back, at every 64th question
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int there(const char *path) {
    const char *root = getenv("TORTURE_ROOT");
    return root && path && !strncmp(path, root, strlen(root));
}

static int of_handle(int handle) {
    char name[64], path[PATH_MAX];
    snprintf(name, sizeof name, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(name, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return there(path);
}

static int refused(void) {
    const char *flag = getenv("TORTURE_READ_ONLY");
    if (!flag || faccessat(AT_FDCWD, flag, F_OK, 0)) return 0;
    errno = EROFS;
    return 1;
}

static void slow(void) {
    const char *most = getenv("TORTURE_SLOW_MS");
    static unsigned draw = 1;
    if (most) usleep(rand_r(&draw) % (1 + 1000 * atoi(most)));
}

static int opened(int (*next)(int, const char *, int, ...), int folder, const char *path, int flags, mode_t mode) {
    if (there(path)) {
        slow();
        if (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC) && refused()) return -1;
    }
    return next(folder, path, flags, mode);
}

#define MODE(flags, mode) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

int open(const char *path, int flags, ...) { MODE(flags, mode) return opened(NEXT(openat), AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode) return opened(NEXT(openat64), AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags, mode) return opened(NEXT(openat), folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags, mode) return opened(NEXT(openat64), folder, path, flags, mode); }

ssize_t write(int handle, const void *content, size_t size) {
    if (getenv("TORTURE_READ_ONLY") && of_handle(handle) && refused()) return -1;
    return NEXT(write)(handle, content, size);
}

int fsync(int handle) {
    if (of_handle(handle)) slow();
    return NEXT(fsync)(handle);
}

int ftruncate(int handle, off_t size) { return of_handle(handle) && refused() ? -1 : NEXT(ftruncate)(handle, size); }
int mkdir(const char *path, mode_t mode) { return there(path) && refused() ? -1 : NEXT(mkdir)(path, mode); }
int unlink(const char *path) { return there(path) && refused() ? -1 : NEXT(unlink)(path); }
int rmdir(const char *path) { return there(path) && refused() ? -1 : NEXT(rmdir)(path); }
int unlinkat(int folder, const char *path, int flags) {
    return (there(path) || of_handle(folder)) && refused() ? -1 : NEXT(unlinkat)(folder, path, flags);
}

int rename(const char *from, const char *to) {
    if (there(from)) {
        slow();
        if (refused()) return -1;
    }
    return NEXT(rename)(from, to);
}

static long jumped(void) {
    static unsigned asked = 0;
    const char *jump = getenv("TORTURE_CLOCK");
    return jump && ++asked / 64 % 2 ? atol(jump) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int code = NEXT(clock_gettime)(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += jumped();
    return code;
}

int gettimeofday(struct timeval *now, void *zone) {
    int code = NEXT(gettimeofday)(now, zone);
    now->tv_sec += jumped();
    return code;
}

time_t time(time_t *kept) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (kept) *kept = now.tv_sec;
    return now.tv_sec;
}
