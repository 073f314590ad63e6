#include "bindings/cli/process_cpu.h"

#include <dirent.h>
#include <stdio.h>
#include <time.h>

enum { PATH_SIZE = 320, NS_PER_S = 1000000000 };

/* The first number of schedstat is the time on a CPU, in ns; /proc/PID/stat has only ticks. */
static int thread_ns(uint64_t pid, const char *thread, uint64_t *ns)
{
    char path[PATH_SIZE];
    unsigned long long read = 0;
    snprintf(path, sizeof(path), "/proc/%llu/task/%s/schedstat", (unsigned long long)pid, thread);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    int found = fscanf(file, "%llu", &read); // NOLINT(cert-err34-c): the kernel wrote it
    fclose(file);
    *ns = read;
    return found == 1 ? 0 : -1;
}

int process_cpu_ns(uint64_t pid, uint64_t *ns)
{
    char path[PATH_SIZE];
    int result = -1;
    snprintf(path, sizeof(path), "/proc/%llu/task", (unsigned long long)pid);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return -1;
    *ns = 0;
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        uint64_t one;
        if (entry->d_name[0] == '.' || thread_ns(pid, entry->d_name, &one) != 0)
            continue;
        *ns += one;
        result = 0;
    }
    closedir(directory);
    return result;
}

uint64_t process_own_cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}
