/* A disk that forgets, counts and fails, for one folder: loaded before the C library of a server (LD_PRELOAD).
 *
 * FAULTS_FOLDER   whose database is watched: bester.db, bester.db-wal, bester.db-journal. The -shm is never on a disk, and
 *                 the receipts, which are written once a second, may be lost
 * FAULTS_DURABLE  where a copy is kept of what a loss of power would leave: what was written comes there when it is
 *                 synced, and not before
 * FAULTS_FAIL_AT  this sync, counted from 1, fails with EIO; what it should have brought to the disk is then never
 *                 brought there by a later one, because Linux takes the pages for clean
 * FAULTS_SYNC_US  how long a sync takes at least, as one of a real disk does
 * FAULTS_COUNTS   a file of 8 numbers of 8 bytes: syncs, writes, bytes written, syncs that failed,
 *                 and of those the ones of the log
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 16
#define NAME 128
#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

struct range { off_t at; off_t size; };
struct file {
    char name[NAME];
    ino_t inode;
    int fresh; /* it is another file than the one of this name that is durable */
    int cut;   /* it was made shorter */
    size_t count, room;
    struct range *ranges;
};

static struct file files[FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t *counts, nowhere[8];
static const char *folder, *durable;
static uint64_t fail_at, sync_us;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_COUNTS"), *number = getenv("FAULTS_FAIL_AT");
    folder = getenv("FAULTS_FOLDER");
    durable = getenv("FAULTS_DURABLE");
    fail_at = number ? strtoull(number, NULL, 10) : 0;
    number = getenv("FAULTS_SYNC_US");
    sync_us = number ? strtoull(number, NULL, 10) : 0;
    counts = nowhere;
    if (path) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        void *found = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof nowhere, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (found != MAP_FAILED) counts = found;
        if (fd >= 0) close(fd);
    }
}

/* Whether a path is one that is watched; its name within the folder. */
static const char *watched(const char *path) {
    size_t size = folder ? strlen(folder) : 0, length;
    const char *name;
    if (!size || strncmp(path, folder, size) || path[size] != '/') return NULL;
    name = path + size + 1;
    length = strlen(name);
    if (strchr(name, '/') || length >= NAME) return NULL;
    if (!strcmp(name, "bester.db") || !strcmp(name, "bester.db-wal") || !strcmp(name, "bester.db-journal")) return name;
    return NULL;
}

static const char *name_of(int fd, char *path, size_t room) {
    char link[64];
    ssize_t size;
    if (!folder) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, room - 1);
    if (size <= 0) return NULL;
    path[size] = 0;
    return watched(path);
}

/* The record of a file, made where there is none. Called with the lock. */
static struct file *record(int fd, const char *name) {
    struct stat found;
    struct file *file;
    for (file = files; file < files + FILES && file->name[0]; file++)
        if (!strcmp(file->name, name)) break;
    if (file == files + FILES || fstat(fd, &found)) abort();
    if (!file->name[0]) {
        strcpy(file->name, name);
        file->inode = found.st_ino;
    }
    if (file->inode != found.st_ino) {
        file->inode = found.st_ino;
        file->fresh = 1;
        file->count = 0;
    }
    return file;
}

static void note(int fd, off_t at, off_t size) {
    char path[4096];
    const char *name = size > 0 ? name_of(fd, path, sizeof path) : NULL;
    struct file *file;
    struct range *last;
    if (!name) return;
    __atomic_add_fetch(counts + 1, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(counts + 2, (uint64_t) size, __ATOMIC_RELAXED);
    if (!durable) return;
    pthread_mutex_lock(&lock);
    file = record(fd, name);
    last = file->count ? file->ranges + file->count - 1 : NULL;
    if (last && last->at + last->size == at) {
        last->size += size;
    } else {
        if (file->count == file->room) {
            file->room = file->room ? 2 * file->room : 64;
            file->ranges = realloc(file->ranges, file->room * sizeof *file->ranges);
            if (!file->ranges) abort();
        }
        file->ranges[file->count++] = (struct range) {at, size};
    }
    pthread_mutex_unlock(&lock);
}

/* Brings to the copy what was written since the last time. Called with the lock. */
static void keep(int fd, struct file *file) {
    char path[4096], buffer[65536];
    struct stat found;
    int copy;
    snprintf(path, sizeof path, "%s/%s", durable, file->name);
    copy = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (copy < 0 || fstat(fd, &found)) abort();
    if (file->fresh && REAL(ftruncate64)(copy, 0)) abort();
    for (size_t n = 0; n < file->count; n++) {
        off_t at = file->ranges[n].at, end = at + file->ranges[n].size;
        while (at < end) {
            size_t size = end - at < (off_t) sizeof buffer ? (size_t) (end - at) : sizeof buffer;
            ssize_t got = pread64(fd, buffer, size, at);
            if (got <= 0) break; /* it was cut off since */
            if (REAL(pwrite64)(copy, buffer, (size_t) got, at) != got) abort();
            at += got;
        }
    }
    if (file->cut && REAL(ftruncate64)(copy, found.st_size)) abort();
    file->count = 0;
    file->fresh = file->cut = 0;
    close(copy);
}

static int sync_of(int fd, int (*real)(int)) {
    char path[4096];
    const char *name = name_of(fd, path, sizeof path);
    struct file *file;
    int result = 0;
    if (!name) return real(fd);
    if (sync_us) usleep((useconds_t) sync_us);
    pthread_mutex_lock(&lock);
    if (__atomic_add_fetch(counts, 1, __ATOMIC_RELAXED) == fail_at) {
        __atomic_add_fetch(counts + 3, 1, __ATOMIC_RELAXED);
        if (strstr(name, ".db-")) __atomic_add_fetch(counts + 4, 1, __ATOMIC_RELAXED);
        if (durable) record(fd, name)->count = 0;
        errno = EIO;
        result = -1;
    } else if (durable) {
        file = record(fd, name);
        keep(fd, file); /* the real disk need not be asked: the copy is what a cut leaves */
    } else {
        result = real(fd);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return sync_of(fd, REAL(fsync)); }
int fdatasync(int fd) { return sync_of(fd, REAL(fdatasync)); }

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    ssize_t done = REAL(pwrite)(fd, data, size, at);
    note(fd, at, done);
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    ssize_t done = REAL(pwrite64)(fd, data, size, at);
    note(fd, at, done);
    return done;
}

ssize_t write(int fd, const void *data, size_t size) {
    char path[4096];
    int saved;
    ssize_t done = REAL(write)(fd, data, size);
    saved = errno;
    if (done > 0 && name_of(fd, path, sizeof path)) note(fd, lseek(fd, 0, SEEK_CUR) - done, done);
    errno = saved;
    return done;
}

static int truncate_of(int fd, off_t size, int (*real)(int, off_t)) {
    char path[4096];
    const char *name = name_of(fd, path, sizeof path);
    int result = real(fd, size);
    if (name && durable && !result) {
        pthread_mutex_lock(&lock);
        record(fd, name)->cut = 1;
        pthread_mutex_unlock(&lock);
    }
    return result;
}

int ftruncate(int fd, off_t size) { return truncate_of(fd, size, REAL(ftruncate)); }
int ftruncate64(int fd, off64_t size) { return truncate_of(fd, size, REAL(ftruncate64)); }

int unlink(const char *path) {
    char real[4096], copy[4096];
    const char *name = realpath(path, real) ? watched(real) : NULL;
    int result = REAL(unlink)(path);
    if (name && durable && !result) {
        pthread_mutex_lock(&lock);
        snprintf(copy, sizeof copy, "%s/%s", durable, name);
        REAL(unlink)(copy);
        for (struct file *file = files; file < files + FILES && file->name[0]; file++)
            if (!strcmp(file->name, name)) file->count = 0, file->inode = 0;
        pthread_mutex_unlock(&lock);
    }
    return result;
}
