/* A team of threads that runs one function together, and lives as long as that call: nothing survives to be broken by
 * fork() or to spin beside another thread pool. */
#ifndef QSPLAT_PARALLEL_H
#define QSPLAT_PARALLEL_H

#include <stdatomic.h>
#include <stdint.h>

#define MAX_THREADS 256

typedef struct {
    int size; /* threads that take part; fixed before the function starts */
    _Atomic int arrived, phase;
} Team;

typedef void (*TeamFunction)(void *argument, Team *team, int rank);

/* Run `function` with ranks 0 .. size-1 on at most `threads` threads, the caller's being rank 0. */
void team_run(int threads, TeamFunction function, void *argument);

/* Wait until the whole team is here. What was written before is visible after. */
void team_barrier(Team *team);

/* Start of the share of `rank` in `count` things; the share ends where the next begins. */
static inline int64_t share(const Team *team, int rank, int64_t count) {
    return count * rank / team->size;
}

#endif
