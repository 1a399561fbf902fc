/* A wall clock that can be set: preloaded, it adds the seconds that the file CLOCK_OFFSET begins with. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *seconds;

int
clock_gettime(clockid_t which, struct timespec *now)
{
    if (!seconds) {
        const char *path = getenv("CLOCK_OFFSET");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *map = file < 0 ? MAP_FAILED : mmap(0, sizeof *seconds, PROT_READ, MAP_SHARED, file, 0);
        static const long long none;
        seconds = map == MAP_FAILED ? &none : map;
        if (file >= 0)
            close(file);
    }
    int result = (int)syscall(SYS_clock_gettime, which, now);
    if (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)
        now->tv_sec += *seconds;
    return result;
}
