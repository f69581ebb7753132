/* Kills this process outright at the N-th call through which it makes anything durable or visible: writes below a directory
 * (a SQLite file and its log), or what is sent to a port (a PostgreSQL server). Loaded before the C library by the test.
 *
 * BELLWETHER_TEST_KILL_UNDER  the directory, or
 * BELLWETHER_TEST_KILL_PORT   the port
 * BELLWETHER_TEST_KILL_AT     N, from 1
 * BELLWETHER_TEST_KILL_AFTER  set: after the call was carried out, else before
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long at = -1;
static int after, port;
static char under[512];
static long seen;

__attribute__((constructor)) static void begin(void) {
    const char *n = getenv("BELLWETHER_TEST_KILL_AT");
    const char *directory = getenv("BELLWETHER_TEST_KILL_UNDER");
    const char *number = getenv("BELLWETHER_TEST_KILL_PORT");
    at = n ? atol(n) : -1;
    after = getenv("BELLWETHER_TEST_KILL_AFTER") != NULL;
    port = number ? atoi(number) : 0;
    if (directory) snprintf(under, sizeof under, "%s/", directory);
}

static int is_watched(int fd) {
    if (port) {
        struct sockaddr_in peer;
        socklen_t size = sizeof peer;
        return getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.sin_family == AF_INET &&
               ntohs(peer.sin_port) == port;
    }
    char link[64], path[1024];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0 || !under[0]) return 0;
    path[length] = 0;
    return strncmp(path, under, strlen(under)) == 0;
}

/* 1 when the call is the one. */
static int counts(int fd) {
    if (at < 0 || !is_watched(fd)) return 0;
    return __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST) == at;
}

static void end(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define PASS(type, name, fd, ...)               \
    do {                                        \
        int mine = counts(fd);                  \
        if (mine && !after) end();              \
        type result = REAL(name)(__VA_ARGS__);  \
        if (mine) end();                        \
        return result;                          \
    } while (0)

ssize_t write(int fd, const void *data, size_t size) { PASS(ssize_t, write, fd, fd, data, size); }
ssize_t writev(int fd, const struct iovec *parts, int count) { PASS(ssize_t, writev, fd, fd, parts, count); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t place) { PASS(ssize_t, pwrite, fd, fd, data, size, place); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t place) { PASS(ssize_t, pwrite64, fd, fd, data, size, place); }
int fsync(int fd) { PASS(int, fsync, fd, fd); }
int fdatasync(int fd) { PASS(int, fdatasync, fd, fd); }
int ftruncate(int fd, off_t size) { PASS(int, ftruncate, fd, fd, size); }
int ftruncate64(int fd, off64_t size) { PASS(int, ftruncate64, fd, fd, size); }
ssize_t send(int fd, const void *data, size_t size, int flags) { PASS(ssize_t, send, fd, fd, data, size, flags); }
ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length) {
    PASS(ssize_t, sendto, fd, fd, data, size, flags, to, length);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) { PASS(ssize_t, sendmsg, fd, fd, message, flags); }
