/* Preloaded into a server: fsync and fdatasync of paths that hold the text LOST_FSYNC do nothing and say that all is well. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int lost(int fd) {
    const char *text = getenv("LOST_FSYNC");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!text || length < 0) return 0;
    path[length] = 0;
    return strstr(path, text) != NULL;
}

int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return lost(fd) ? 0 : real(fd);
}

int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return lost(fd) ? 0 : real(fd);
}
