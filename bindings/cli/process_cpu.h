/*
 * CPU time of processes.
 */
#ifndef BINDINGS_CLI_PROCESS_CPU_H
#define BINDINGS_CLI_PROCESS_CPU_H

#include <stdint.h>

/* The CPU time that all threads of a process have used so far; -1 where it cannot be read. */
int process_cpu_ns(uint64_t pid, uint64_t *ns);

/* The same of the calling process, ended threads included. */
uint64_t process_own_cpu_ns(void);

#endif
