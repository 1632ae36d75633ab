/* Memory that outlives a call: buffers that grow and are used again. */
#ifndef QSPLAT_WORKSPACE_H
#define QSPLAT_WORKSPACE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    void *data;
    size_t size;
} Buffer;

enum {
    KEYS, KEYS_B, ORDER, ORDER_B, COUNTS,  /* binning.c */
    PACKS, AREAS, SLOTS_BEGIN,             /* per splat: packed, tiles that it reaches, its first slot */
    TILES, STARTS, LISTS,                  /* splats per tile and thread; starts of the tiles' lists; the lists */
    DONE, SLOTS, PLANES,                   /* splats composited per tile; sums per pair; planes per thread */
    SLOPES, ROWS, ROW_SUMS,                /* photometric.c: slopes per pixel; rows per thread; sums per row */
    BUFFERS
};

typedef struct {
    Buffer buffers[BUFFERS];
    int64_t seen;   /* splats that reach the window */
    uint32_t pairs; /* (splat, tile) */
    int failed;
} Workspace;

/* Space in a buffer of the workspace; sets `failed` when there is none. */
void *reserve(Workspace *work, int which, size_t size);

#endif
