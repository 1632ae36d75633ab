#include "parallel.h"

#include <pthread.h>
#include <time.h>

#define SPINS 2000 /* tens of microseconds; on a busy machine, waiting longer would keep others from working */

typedef struct {
    Team team;
    TeamFunction function;
    void *argument;
    _Atomic int started; /* 1 once team.size is known */
    _Atomic int ranks;
} Call;

static void pause_briefly(int *spins) {
    if (++*spins < SPINS) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    } else {
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
}

static void *member(void *pointer) {
    Call *call = pointer;
    int rank = atomic_fetch_add(&call->ranks, 1), spins = 0;
    while (!atomic_load_explicit(&call->started, memory_order_acquire)) pause_briefly(&spins);
    call->function(call->argument, &call->team, rank);
    return NULL;
}

void team_run(int threads, TeamFunction function, void *argument) {
    pthread_t handles[MAX_THREADS];
    Call call = {.function = function, .argument = argument, .ranks = 1};
    int created = 0;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    while (created < threads - 1 && pthread_create(&handles[created], NULL, member, &call) == 0) created++;
    call.team.size = created + 1;
    atomic_store_explicit(&call.started, 1, memory_order_release);
    function(argument, &call.team, 0);
    for (int i = 0; i < created; i++) pthread_join(handles[i], NULL);
}

void team_barrier(Team *team) {
    int phase = atomic_load_explicit(&team->phase, memory_order_relaxed), spins = 0;
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == team->size - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
        return;
    }
    while (atomic_load_explicit(&team->phase, memory_order_acquire) == phase) pause_briefly(&spins);
}
